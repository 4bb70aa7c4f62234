"""Pages of two tables: quality against function evaluations (Table 12), and the ablation (Table 8)."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from ddmi.base.storage import aside, read_json
from ddmi.evaluation import ablation, nfe
from ddmi.report import page
from ddmi.report.numbers import MISSING, Numbers
from ddmi.report.page import Section, facts
from ddmi.report.plots import Line, legend, plot
from ddmi.report.words import form, words

DIGESTS = ("model", "data")
"""Parts of a protocol that tell tables apart, and say nothing to a reader."""


def nfe_sections(numbers: Numbers) -> list[Section]:
    """Table 12 of a run, where the numbers have it."""
    rows = numbers.get(f"{nfe.KEY}/rows")
    if not rows or not rows[0]["scores"]:
        return []
    names = list(rows[0]["scores"])
    body = []
    for k, row in enumerate(rows):
        at = f"{nfe.KEY}/rows/{k}"
        cells = [numbers.show(f"{at}/scores/{name}", form(row["scores"].get(name))) for name in names]
        evaluations = numbers.show(f"{at}/evaluations", ".0f" if row["evaluations"] >= 100 else ".4g")
        rate = numbers.show(f"{at}/samples_per_second", ".3g")
        body.append([f"{escape(row['sampler'])}, {escape(nfe.way_of(row).name)}", evaluations, *cells, rate])
    head = ["sampler", "evaluations", *map(words, names), "samples/s"]
    drawn = [f"<div>{_curves(rows, name)}</div>" for name in dict.fromkeys((names[0], names[-1]))]
    lead = (
        "The same noise drawn by different samplers. One evaluation is one pass through the denoiser for one sample; "
        "with guidance it is two network calls. For the adaptive solver it is the mean over the samples."
    )
    content = f'<div class="curves">{"".join(drawn)}</div>{page.table(head, body)}{_protocol(numbers, nfe.KEY)}'
    return [Section("nfe", "Quality against function evaluations", lead, content, "Evaluations")]


def write_nfe(run: str | Path, metrics: str | Path) -> Path:
    """Write `nfe.html` beside the metrics file that holds the table; returns its path."""
    numbers = Numbers(read_json(Path(metrics)))
    (section,) = nfe_sections(numbers)
    title = f"{Path(run).name or run} · quality against function evaluations"
    return _write(Path(metrics).with_name("nfe.html"), title, section)


def write_ablation(folder: str | Path) -> Path:
    """Write `ablation.html` beside ablation.json; returns its path."""
    folder = Path(folder)
    numbers = Numbers({ablation.KEY: read_json(folder / ablation.FILE)})
    rows = numbers.get(f"{ablation.KEY}/rows")
    names = list(rows[0]["mean"])
    body = []
    for k, row in enumerate(rows):
        switches = ["yes" if row[s] else "no" for s in ("hierarchical", "coarse_to_fine")]
        name = escape(row["name"])
        if "same_network_as" in row:
            name += f" <small>(the network of {escape(row['same_network_as'])})</small>"
        cells = [_spread(numbers, f"{ablation.KEY}/rows/{k}", row, name) for name in names]
        body.append([name, *switches, *cells])
    head = ["model", "HDBF", "CFC", *map(words, names)]
    seeds = numbers.show(f"{ablation.KEY}/protocol/seeds")
    lead = (
        f"Mean and standard deviation over {seeds} seeds of training. All models had the same data, steps, batches and "
        "points a step. HDBF: a basis field of each scale instead of the finest alone. CFC: each scale enters the "
        "read-out at its own block instead of all at the first. With one basis field the second choice is none."
    )
    content = page.table(head, body) + _protocol(numbers, ablation.KEY)
    title = f"{numbers.get(f'{ablation.KEY}/protocol/preset')} · ablation"
    return _write(folder / "ablation.html", title, Section("ablation", "Parts left out", lead, content))


def _curves(rows: list[dict[str, Any]], name: str) -> str:
    """One number against evaluations, a line for each sampler."""
    lines = []
    for sampler in dict.fromkeys(row["sampler"] for row in rows):
        kept = [row for row in rows if row["sampler"] == sampler and row["scores"].get(name) is not None]
        kept.sort(key=lambda row: row["evaluations"])
        lines.append(Line(sampler, [row["evaluations"] for row in kept], [row["scores"][name] for row in kept]))
    drawn = plot(lines, "evaluations a sample", words(name), log_x=True, log_y=False, dots=True)
    return drawn + legend([escape(line.name) for line in lines])


def _spread(numbers: Numbers, at: str, row: dict[str, Any], name: str) -> str:
    mean, deviation = row["mean"].get(name), row["deviation"].get(name)
    if mean is None:
        return MISSING
    shown = numbers.show(f"{at}/mean/{name}", form(mean))
    return shown if deviation is None else f"{shown} ± {numbers.show(f'{at}/deviation/{name}', form(mean))}"


def _protocol(numbers: Numbers, key: str) -> str:
    told = [name for name in numbers.get(f"{key}/protocol") if name not in DIGESTS]
    entries = []
    for name in told:
        value = numbers.get(f"{key}/protocol/{name}")
        if isinstance(value, dict):
            entries += [(f"{name}, {k}", numbers.show(f"{key}/protocol/{name}/{k}")) for k in value]
        else:
            entries.append((name.replace("_", " "), numbers.show(f"{key}/protocol/{name}")))
    return f"<h3>How this was measured</h3>{facts(entries)}"


def _write(target: Path, title: str, section: Section) -> Path:
    whole = page.assemble(title, f"<h1>{escape(title)}</h1>", [section], "")
    with aside(target) as scratch:
        scratch.write_text(whole, encoding="utf-8")
    return target
