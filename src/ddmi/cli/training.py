"""Commands that train, and what makes their data."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddmi.base.errors import UserError, check_positive, unknown
from ddmi.base.interruption import STATUS
from ddmi.base.storage import MANIFEST
from ddmi.base.terminal import rank, say, table
from ddmi.cli import reading
from ddmi.cli.options import Data, Preset, Settings

if TYPE_CHECKING:
    from ddmi.data.preparation import Summary

log = logging.getLogger(__name__)

STAGES = ("autoencoder", "diffusion", "distillation", "all")
PREPARED = ("shapes", "views")


def train(
    preset: Preset,
    data: Data = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="RUN", help="The run folder.")] = None,
    stage: Annotated[str, typer.Option(help="autoencoder, diffusion, distillation or all.")] = "all",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    max_minutes: Annotated[
        float | None, typer.Option(help="Stop after so long, loading included, with a checkpoint.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Plan all stages for so long on this machine, instead of the preset's steps.")
    ] = None,
    settings: Settings = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the configuration, and do nothing.")] = False,
) -> None:
    """Train a preset on data into a run folder.

    With `--stage distillation` a run folder, or a model folder whose copy goes into --out, takes the preset's place.
    """
    began = time.monotonic()
    from ddmi import config as configuration
    from ddmi.cli.rendering import check_folder

    if stage not in STAGES:
        raise unknown("value of --stage", stage, STAGES)
    check_positive("--max-minutes", max_minutes)
    check_positive("--minutes", minutes)
    if minutes is not None and (max_minutes is not None or stage != "all"):
        raise UserError("--minutes plans all stages to their end: leave out --max-minutes and --stage")
    wanted = reading.preset(preset)
    if stage == "distillation" and Path(preset).is_dir():  # of a run folder itself, or of a copy of a model folder
        out, resume = out or Path(preset), resume or out is None
    config = reading.override(configuration.begun(out, wanted) if resume and out else wanted, settings)
    if dry_run:
        say(json.dumps(configuration.to_dict(config), indent=2))
        return
    if out is None:
        raise UserError("--out is missing: name the run folder")
    check_folder(out)
    if stage == "distillation" and (Path(preset) / MANIFEST).is_file() and not (out / "model").exists() and not rank():
        from ddmi.pipeline import DDMIPipeline

        DDMIPipeline.from_pretrained(preset).save_pretrained(out / "model")
    from ddmi.training.checkpoint import find
    from ddmi.training.run import train as work

    passed = (time.monotonic() - began) / 60
    most, planned = (None if given is None else given - passed for given in (max_minutes, minutes))
    finished = work(
        config,
        out,
        data,
        stage=stage,  # type: ignore[arg-type]
        resume=resume,
        max_minutes=most,
        minutes=planned,
    )
    if not finished:
        newest = [c for part in STAGES[:3] for c in find(out / "checkpoints", part)[-1:]]
        where = f"step {newest[-1].step} of the {newest[-1].folder.name.partition('-')[0]}" if newest else "the start"
        log.warning("stopped at %s; go on with --resume", where)
    if (out / "model").is_dir():
        say(str(out / "model"))
    if not finished and (max_minutes is None or time.monotonic() < began + 60 * max_minutes):
        raise typer.Exit(STATUS)  # it was not the time: a signal


def prepare(
    kind: Annotated[str, typer.Argument(help="What to make: shapes (points), or views (photographs).")],
    sources: Annotated[
        list[Path], typer.Argument(metavar="SRC... DST", help="Meshes: folders, files, .zip or .sh3f; then the folder.")
    ],
    processes: Annotated[int, typer.Option(min=1, help="Processes that work at once.")] = 1,
    surface: Annotated[int, typer.Option(min=100, help="Points of the surface of each object.")] = 30_000,
    queries: Annotated[
        int | None, typer.Option(min=100, help="Of shapes: points of the cube, and as many near the surface; 50000.")
    ] = None,
    views: Annotated[int | None, typer.Option(min=1, help="Of views: photographs of each object; 50.")] = None,
    size: Annotated[int | None, typer.Option(min=8, help="Of views: pixels a side; 128.")] = None,
    up: Annotated[str, typer.Option(help="The axis that points up in the meshes: y or z.")] = "y",
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn at random.")] = 0,
) -> None:
    """Make training data out of meshes; the same command goes on where it was stopped."""
    from ddmi.base.progress import Bar
    from ddmi.cli.rendering import check_folder

    if kind not in PREPARED:
        raise unknown("kind of data", kind, PREPARED)
    if up not in ("y", "z"):
        raise unknown("value of --up", up, ("y", "z"))
    if len(sources) < 2:
        raise UserError(f"name what to prepare and the folder to make: ddmi prepare {kind} SRC DST")
    *found, target = sources
    check_folder(target)
    given = {"queries": queries, "views": views, "size": size}
    for name in [n for n, value in given.items() if value is not None and (n == "queries") == (kind == "views")]:
        log.warning("--%s has no effect on %s", name, kind)
    make: Callable[..., Summary]
    if kind == "shapes":
        from ddmi.data.preparation import prepare as make

        own: dict[str, Any] = {"surface": surface, "queries": queries or 50_000}
    else:
        from ddmi.domains.nerf.photography import prepare_views as make

        own = {"points": surface, "views": views or 50, "size": size or 128}
    with ExitStack() as stack:
        bars: list[Bar] = []

        def progress(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(Bar("meshes", total)))
            bars[0].advance(done)

        summary = make(found, target, processes=processes, up=up, seed=seed, progress=progress, **own)
    rows = [(name, f"{count:,}") for name, count in summary.classes.items()]
    rows += [("all", f"{len(summary.kept):,}"), ("rejected", f"{len(summary.rejected):,}")]
    say(table([("class", "objects"), *rows]))
    say(str(target))


def train_classifier(
    data: Annotated[str, typer.Argument(help="Prepared shapes in classes, or furniture (procedural).")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The weights, .safetensors.")],
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 600,
    seed: Annotated[int, typer.Option(min=0, help="Of the training.")] = 0,
    max_minutes: Annotated[float | None, typer.Option(help="Stop after so long, with a checkpoint.")] = None,
) -> None:
    """Train a classifier of voxels, the evaluator of `evaluate --judge classifier=FILE`.

    The same command goes on where it was stopped.
    """
    from ddmi.cli.rendering import check_file
    from ddmi.training import classifier

    if out.suffix != ".safetensors":
        raise UserError(f"--out {out} must end in .safetensors")
    check_file(out)
    check_positive("--max-minutes", max_minutes)
    if data == "furniture" and Path(data).is_dir():
        raise UserError("furniture may be the procedural furniture or the folder here: rename it, or say ./furniture")
    domain = reading.preset("furniture-small" if data == "furniture" else "shapenet-13").domain
    source = domain.open(None if data == "furniture" else data)
    summary = classifier.train_classifier(source, out, steps=steps, seed=seed, max_minutes=max_minutes)
    if not summary.finished:
        log.warning("stopped early; the same command goes on")
        return
    rows = [(name, f"{share:.3f}") for name, share in (summary.by_class or {}).items()]
    say(table([("class", "accuracy, held out"), *rows, ("all", f"{summary.accuracy:.3f}")]))
    say(str(out))
