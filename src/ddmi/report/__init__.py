"""The report of a run: one HTML page, and the numbers on it."""

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
from ddmi.report import frame, page, sections, tables
from ddmi.report.numbers import Numbers

log = logging.getLogger(__name__)


def write(run: str | Path, data: str | Path | None = None, protocol: Protocol | None = None) -> Path:
    """Write `report.html` and `metrics.json` into a run folder.

    The page is one file: pictures, style and plots are inside, and it opens without a network. Every number on it is in
    metrics.json. What it shows of a domain comes from `sections/<domain>`; a domain without one still has a page.

    Args:
        data: None for what the run was trained on.
        protocol: how the samples are drawn.

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
    names = [name for name in evaluation.metrics_of(evaluated.pipe.config.domain) if name in results]
    numbers = Numbers(results)
    with working("rendering the page"):
        frame.collect(folder, evaluated, numbers)
        part = sections.find(name_of(evaluated.pipe.config.domain))
        hero = part.hero(evaluated)
        own = part.sections(evaluated, numbers)
    numbers.put("report/seconds", round(time.monotonic() - began, 1))
    table = nfe.stored(folder / "metrics.json", evaluated)
    if table is not None:
        numbers.put(nfe.KEY, table)
    whole = page.assemble(
        f"{evaluated.pipe.config.name} · report",
        frame.header(evaluated, numbers, part.HEADLINES, hero),
        [frame.curves(folder, numbers), *own, *tables.nfe_sections(numbers), frame.metrics(numbers, names, part)],
        frame.footer(folder, data, evaluated, numbers, part.credits(evaluated)),
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
    part = sections.find(name_of(load(folder / "config.json").domain))
    return [numbers.headline(found) for found in part.HEADLINES if numbers.get(found.path) is not None]


__all__ = ["headlines", "write"]
