"""The report of a run: one HTML page, and the numbers on it.

`sections/<domain>.py` says what a domain shows, as data (`content.py`); `page.py` renders it with one template.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from ddmi import evaluation
from ddmi.base.errors import UserError
from ddmi.base.progress import working
from ddmi.base.storage import aside, read_json
from ddmi.config import load
from ddmi.domains import name_of
from ddmi.evaluation import Protocol, nfe
from ddmi.pretrained import data_of
from ddmi.report import overview, page, sections, tables, words
from ddmi.report.numbers import Numbers

log = logging.getLogger(__name__)


def write(run: str | Path, data: str | Path | None = None, protocol: Protocol | None = None) -> Path:
    """Write `report.html` and `metrics.json` into a run folder.

    The page is one file: images, style and charts are inside, and it opens without a network. Every number on it is in
    metrics.json. A domain without sections of its own has a page of curves and metrics.

    Args:
        data: None for what the run was trained on.
        protocol: how the samples are generated.

    Returns:
        The path of the page.

    Raises:
        UserError: no run there, or no data. WorkError: the page cannot be written.
    """
    began = time.monotonic()
    folder = Path(run)
    if not folder.is_dir():
        raise UserError(f"{folder} is no run folder: name one that ddmi train made")
    data = data_of(folder, data)
    evaluated = evaluation.prepare(folder, data, protocol)
    target = folder / "report.html"
    if not evaluated.processes.main:
        return target
    results = evaluation.evaluate(evaluated)
    if (folder / "metrics.json").is_file():
        results |= evaluation.richer(read_json(folder / "metrics.json"), results)
    config = evaluated.pipe.config
    numbers, domain = Numbers(results), name_of(config.domain)
    with working("rendering the page"):
        overview.collect(folder, evaluated, numbers)
        scene = sections.find(domain)(evaluated, numbers)
        own = [section for section in scene.sections() if section is not None]
        numbers.put("report/seconds", round(time.monotonic() - began, 1))
        table = nfe.stored(folder / "metrics.json", evaluated)
        if table is not None:
            numbers.put(nfe.KEY, table)
        names = [name for name in evaluation.metrics_of(config.domain) if name in results]
        last = [*tables.nfe_sections(numbers), overview.metrics(numbers, names, domain)]
        whole = page.assemble(
            f"{config.name} · report",
            overview.header(evaluated, numbers, scene.hero()),
            [overview.curves(folder, numbers), *own, *last],
            overview.reproduction(folder, data, evaluated, numbers, scene.credits()),
        )
    evaluation.write(numbers.plain, folder / "metrics.json")
    with aside(target) as scratch:
        scratch.write_text(whole, encoding="utf-8")
    log.info("%s: %.1f MB in %.0f s", target, len(whole) / 1e6, time.monotonic() - began)
    return target


def headlines(run: str | Path) -> list[str]:
    """The numbers that sum a run up, a line each, from its metrics.json."""
    folder = Path(run)
    numbers = Numbers(read_json(folder / "metrics.json"))
    found = words.headlines(name_of(load(folder / "config.json").domain), numbers)
    return [f"{label}: {''.join(map(str, value))}" for label, value in found]


__all__ = ["headlines", "write"]
