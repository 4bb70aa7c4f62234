"""Whether a prompt that names an attribute gets it."""

from __future__ import annotations

from ddmi.report.page import Section
from ddmi.report.sections.shape.scene import Scene
from ddmi.report.words import words

PLACE = "attributes"


def section(scene: Scene) -> Section | None:
    """A bar for each attribute, with chance and the test's own accuracy; None where it was not measured."""
    numbers = scene.numbers
    found = numbers.get(PLACE)
    measured = found if isinstance(found, dict) else {}
    bars = []
    for name in [n for n, v in measured.items() if isinstance(v, dict) and isinstance(v.get("share"), int | float)]:
        at = f"{PLACE}/{name}"
        marks = [
            f'<u class="{key}" style="left:{_percent(measured[name][key])}"></u>'
            for key in ("chance", "test")
            if isinstance(measured[name].get(key), int | float)
        ]
        bars.append(
            f'<dt>{words(name)}</dt><dd><span class="bar"><i style="width:{_percent(measured[name]["share"])}"></i>'
            f"{''.join(marks)}</span><b>{numbers.show(f'{at}/share', '.0%')}</b>"
            f"<small>chance {numbers.show(f'{at}/chance', '.0%')}, "
            f"the test itself {numbers.show(f'{at}/test', '.0%')}</small></dd>"
        )
    if not bars:
        return None
    lead = (
        "Prompts that name an attribute, and the share of them whose sample has it, by a geometric test of the shape. "
        "The first mark is chance: the same samples with prompts of one another. The second is how often the test is "
        "right on true pieces; more cannot be expected."
    )
    body = f'<dl class="bars">{"".join(bars)}</dl>'
    return Section("attributes", "Asked for, and got", lead, body, "Attributes")


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%"
