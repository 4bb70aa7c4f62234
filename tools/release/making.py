"""From a recipe to a model that ships: trained in pieces, evaluated, rounded to half precision, put beside its card."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ddmi import config as configuration
from ddmi import evaluation, presets, weights
from ddmi.base.coordinates import grid
from ddmi.base.errors import UserError, check_positive, unknown
from ddmi.base.planes import dimensions
from ddmi.base.processes import launched
from ddmi.base.randomness import generator
from ddmi.base.storage import aside, read_json, write_json
from ddmi.evaluation import Protocol, nfe
from ddmi.evaluation.evaluated import opened
from ddmi.pipeline import DDMIPipeline
from ddmi.pretrained import FILES
from ddmi.report import scene
from ddmi.training.run import train
from tools.release import card
from tools.release.recipes import RECIPES, WAYS, Recipe

log = logging.getLogger(__name__)

PIECES = "pieces.json"
"""In a run folder: the stretches of time it was trained in, with machine and commit."""
FINGERPRINT = "fingerprint.json"
"""In a model folder: what `fingerprint` gave when the model was put there."""
ASKED = 4096
"""Points at which a field before and after rounding is compared."""


def make(
    name: str,
    run: Path,
    data: Path | None = None,
    *,
    target: Path | None = None,
    settings: dict[str, str] | None = None,
    max_minutes: float | None = None,
) -> Path | None:
    """Train a model that ships, or go on with it; when it is trained, judge it and write its folder.

    Args:
        run: the run folder: checkpoints, numbers, and a record of every piece of training.
        target: the model folder to write; None for the place inside the package.
        settings: dotted settings to replace, for another precision or a longer training.
        max_minutes: of this piece of training.

    Returns:
        The model folder; None where training is not finished: the same call goes on.

    Raises:
        UserError: no such model, data is missing, or the run folder holds another run.
        WorkError: training failed.
    """
    if name not in RECIPES:
        raise unknown("model", name, RECIPES)
    check_positive("--max-minutes", max_minutes)
    recipe = RECIPES[name]
    if recipe.needs and data is None:
        raise UserError(f"{name} needs data: {recipe.needs}")
    config = configuration.override(configuration.begun(run, presets.find(name)), settings or {})
    with recorded(run):
        finished = train(config, run, data, resume=True, max_minutes=max_minutes)
    if not finished:
        log.warning("not finished; the same command goes on")
        return None
    measure(recipe, run, data)
    if not launched().main:
        return None
    return ship(name, run, target or weights.ROOT / name, data)


def measure(recipe: Recipe, run: Path, data: Path | None) -> None:
    """The numbers of a card, into the run's metrics.json; rows of its table that are there already are kept."""
    target = run / "metrics.json"
    nfe.measure(opened(run, data, denoiser=True), Protocol(samples=recipe.compared), target, WAYS)
    evaluated = evaluation.prepare(run, data, Protocol(samples=recipe.samples))
    if evaluated.processes.main:
        evaluation.evaluate(evaluated, keep=lambda found: evaluation.write(found, target))


def ship(name: str, run: Path, target: Path, data: Path | None = None) -> Path:
    """Write the folder of a trained and evaluated model: weights in half precision, configuration and card.

    The folder is put in place as a whole; one that stood there stays where this fails.

    Args:
        data: the folder it was trained on, which may tell who made what is in it.

    Raises:
        UserError: the weights take more than a model that ships may.
    """
    pipe = DDMIPipeline.from_pretrained(run, device="cpu")
    makers = [] if data is None else scene.makers(data)
    with aside(target, own=(*FILES, weights.CARD, FINGERPRINT)) as scratch:
        pipe.save_pretrained(scratch, half=True)
        size = sum(path.stat().st_size for path in scratch.iterdir())
        if size > weights.LARGEST:
            raise UserError(
                f"{name} takes {size:,} bytes, at most {weights.LARGEST:,} are allowed: use smaller networks"
            )
        shipped = DDMIPipeline.from_pretrained(scratch, device="cpu")
        rounding, metrics = difference(pipe, shipped), read_json(run / "metrics.json")
        text = card.text(name, RECIPES[name], scratch, metrics, pieces(run), rounding, makers)
        (scratch / weights.CARD).write_text(text, encoding="utf-8")
        values = fingerprint(shipped, RECIPES[name]).tolist()
        write_json([round(value, 4) for value in values], scratch / FINGERPRINT)
    return target


@torch.no_grad()
def fingerprint(pipe: DDMIPipeline, recipe: Recipe) -> Float[Tensor, "n"]:
    """Values of sample 0 of seed 0, drawn in 10 steps of dpm, at 4 cell centres along each axis."""
    text = recipe.prompt if pipe.config.diffusion.condition == "text" else None
    field = pipe(1, seed=0, text=text, sampler="dpm", steps=10)[0]
    return field(grid((4,) * dimensions(pipe.config.domain.layout))).flatten()


@torch.no_grad()
def difference(before: DDMIPipeline, after: DDMIPipeline) -> dict[str, float]:
    """What rounding changes: root mean square difference over the root mean square, of latents drawn with equal noise
    and of the fields of equal latents.
    """
    drawn = [pipe.latents(4, seed=0) for pipe in (before, after)]
    places = torch.rand(ASKED, dimensions(before.config.domain.layout), generator=generator("rounding")) * 2 - 1
    values = [torch.stack([field(places) for field in pipe.decode(drawn[0])]) for pipe in (before, after)]
    return {"latents": _relative(*drawn), "fields": _relative(*values)}


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean().sqrt() / a.square().mean().sqrt())


# the record of training -----------------------------------------------------------------------------------------------


@contextmanager
def recorded(run: Path) -> Iterator[None]:
    """Append what happens inside to the run's record: when, how long, on what, and from which commit."""
    piece = {"began": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), **machine()}
    began = time.monotonic()
    try:
        yield
    finally:
        if launched().main and run.is_dir():
            done = [*pieces(run), {**piece, "seconds": round(time.monotonic() - began)}]
            with aside(run / PIECES) as scratch:
                write_json(done, scratch)


def pieces(run: Path) -> list[dict[str, Any]]:
    """The record of a run's training so far."""
    return read_json(run / PIECES) if (run / PIECES).is_file() else []


def machine() -> dict[str, Any]:
    """What computes here."""
    processes = launched().count
    if torch.cuda.is_available():
        return {"device": torch.cuda.get_device_name(), "processes": processes, "torch": torch.__version__}
    return {
        "device": _processor(),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "torch": torch.__version__,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit() -> str:
    """The commit of the source; "" outside of a repository."""
    asked = ["git", "-C", os.fspath(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
