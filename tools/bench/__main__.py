"""The command: which stages, with how many threads, and where the table goes."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import tools.bench
from ddmi.base.storage import aside, write_json
from tools.bench.measure import Row, peak_bytes
from tools.bench.points import plot, points
from tools.bench.presets import presets
from tools.bench.rendering import product, readout, streaming
from tools.bench.sampling import batches, sampling
from tools.bench.shapes import meshes, queries, shapes
from tools.bench.start import first, start
from tools.bench.training import autoencoder, diffusion, memory, recomputation
from tools.bench.video import clips, frames
from tools.bench.views import pictures, rays

SHORT = (
    product,
    autoencoder,
    diffusion,
    presets,
    readout,
    sampling,
    batches,
    shapes,
    queries,
    meshes,
    clips,
    frames,
    rays,
    pictures,
    start,
    first,
)
LONG = (streaming, memory, recomputation, points)
"""Minutes each: only when they are named."""
STAGES: dict[str, Callable[[bool], Iterator[Row]]] = {stage.__name__: stage for stage in (*SHORT, *LONG)}


def measured(stage: str, quick: bool, threads: int) -> list[Row]:
    """The rows of one stage, measured in a process of its own, with its peak memory."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    call = [sys.executable, "-m", "tools.bench", "--worker", stage, *(["--quick"] if quick else [])]
    done = subprocess.run(call, env=environment, capture_output=True, text=True)
    if done.returncode:
        return [{"stage": stage, "error": (done.stderr.strip().splitlines() or ["no message"])[-1]}]
    return json.loads(done.stdout.splitlines()[-1])


def worker(stage: str, quick: bool) -> None:
    """Measure here, and print the rows as one line of JSON."""
    rows = [{"peak_bytes": peak_bytes(), **row} for row in STAGES[stage](quick)]
    sys.stdout.write(json.dumps(rows) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table, and write JSON and a figure where asked."""
    about = (tools.bench.__doc__ or "").split("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=about)
    short, long = (", ".join(stage.__name__ for stage in group) for group in (SHORT, LONG))
    parser.add_argument("--stages", default="", metavar="A,B", help=f"{short} (all of these by default); {long} (long)")
    parser.add_argument("--quick", action="store_true", help="smaller pictures and fewer runs")
    parser.add_argument("--threads", type=int, default=1, help="threads of a process (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="where the stage `points` draws its plot")
    parser.add_argument("--worker", choices=STAGES, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.worker:
        worker(given.worker, given.quick)
        return 0
    names = [name.strip() for name in given.stages.split(",") if name.strip()] or [stage.__name__ for stage in SHORT]
    if unknown := [name for name in names if name not in STAGES]:
        parser.error(f"unknown stage {unknown[0]!r}: allowed are {', '.join(STAGES)}")
    if given.figure and "points" not in names:
        parser.error("--figure draws the stage points: add --stages points")
    if given.figure and importlib.util.find_spec("matplotlib") is None:
        parser.error("--figure needs matplotlib, which is not installed")
    for target in (given.json, given.figure):
        if target is not None and not target.absolute().parent.is_dir():
            parser.error(f"{target.absolute().parent} is no folder")

    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 150)
    table = Table("stage", title=f"{given.threads} thread{'s' * (given.threads > 1)}, shares of the product rate")
    for column in ("seconds", "rate", "share", "peak memory", "PSNR to fp32"):
        table.add_column(column, justify="right")
    rows = []
    for name in names:
        with console.status(name):
            found = measured(name, given.quick, given.threads)
        rows += found
        for row in found:
            table.add_row(*_cells(row))
    console.print(table)
    if given.json:
        about_run = {"threads": given.threads, "quick": given.quick, "rows": rows}
        with aside(given.json) as scratch:
            write_json(about_run, scratch)
    failed = any("error" in row for row in rows)
    if given.figure and not failed:
        plot(rows, given.figure)
    return int(failed)


def _cells(row: Row) -> list[str]:
    if "error" in row:
        return [row["stage"], f"failed: {row['error']}"]
    return [
        row["stage"],
        f"{row['seconds']:.3f}" if "seconds" in row else "",
        row.get("rate", ""),
        f"{row['share']:.0%}" if "share" in row else "",
        f"{row['peak_bytes'] / 1e6:.0f} MB",
        f"{row['psnr']:.1f} dB" if "psnr" in row else "",
    ]


if __name__ == "__main__":
    sys.exit(main())
