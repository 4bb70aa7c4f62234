"""Demonstrations: a small model of a domain, trained, sampled and reported in some minutes on a CPU."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ddmi import presets, report
from ddmi.config import Config, load
from ddmi.evaluation import Protocol
from ddmi.training.estimate import steps
from ddmi.training.run import train

log = logging.getLogger(__name__)


MOST = 6.0
"""At most so many times the steps of the preset."""


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
        protocol: how the samples of the report are drawn; None for the demonstration's own.

    Returns:
        The path of the page; the run folder when training was interrupted, or the time was up before its first step.

    Raises:
        UserError: no such demonstration, or the folder holds another run.
    """
    shown = presets.demo(domain)
    folder = Path(out) if out is not None else Path("runs") / f"demo-{domain}"
    started = (folder / "config.json").exists()
    config = load(folder / "config.json") if started else paced(shown.config, shown.minutes)
    finished = train(config, folder, resume=True, max_minutes=max_minutes)
    if not finished:
        log.warning("%s: training stopped before its end; the same command goes on with it", folder)
        stopped = max_minutes is None  # by somebody who wants no report now
        if stopped or not (folder / "model").is_dir():
            return folder
    page = report.write(folder, protocol=protocol or Protocol(samples=shown.samples))
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for line in report.headlines(folder):
        console.print(line, markup=False)
    console.print(f"the report: {page}", markup=False)
    return page


def paced(config: Config, minutes: float) -> Config:
    """The configuration with as many steps of stage 2 as this machine does in some minutes.

    Never fewer than it has, and at most `MOST` times as many; rounded to hundreds.
    """
    step = steps(config)["diffusion"]
    least = config.training.diffusion_steps
    count = int(60 * minutes / max(step.seconds, 1e-3)) // 100 * 100
    count = min(max(count, least), int(MOST * least))
    return replace(config, training=replace(config.training, diffusion_steps=count))
