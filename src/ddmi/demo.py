"""Demonstrations: a small model of a domain, trained, sampled and reported in some minutes on a processor."""

from __future__ import annotations

import logging
from pathlib import Path

from rich.console import Console

from ddmi import presets, report
from ddmi.errors import unknown
from ddmi.evaluation import Protocol
from ddmi.training.run import train

log = logging.getLogger(__name__)

PRESETS = {"image": "emoji-32"}
"""Domain -> preset; its data comes with the installed packages."""


def run(
    domain: str = "image",
    out: str | Path | None = None,
    *,
    max_minutes: float | None = None,
    protocol: Protocol | None = None,
) -> Path:
    """Train the demonstration of a domain, or go on with it, and write its report.

    Args:
        out: the run folder; None for `runs/demo-<domain>`.
        max_minutes: stop training after so long; the report then shows how far it came.
        protocol: how the samples of the report are drawn.

    Returns:
        The path of the page; the run folder when training was interrupted.

    Raises:
        UserError: no such demonstration, or the folder holds another run.
    """
    if domain not in PRESETS:
        raise unknown("demo", domain, PRESETS)
    folder = Path(out) if out is not None else Path("runs") / f"demo-{domain}"
    finished = train(presets.find(PRESETS[domain]), folder, resume=True, max_minutes=max_minutes)
    if not finished:
        log.warning("%s: training stopped before its end; the same command goes on with it", folder)
        if max_minutes is None:  # somebody stopped it, who wants no report now
            return folder
    page = report.write(folder, protocol=protocol)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for line in report.headlines(folder):
        console.print(line, markup=False)
    console.print(f"the report: {page}", markup=False)
    return page
