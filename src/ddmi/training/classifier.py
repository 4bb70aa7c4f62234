"""Training of the voxel classifier that evaluates generated shapes."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ddmi.base.errors import UserError
from ddmi.base.interruption import Interrupted, Interruption
from ddmi.base.progress import Bar
from ddmi.base.randomness import generator
from ddmi.base.storage import aside, locked, read_json, write_json
from ddmi.base.terminal import rank
from ddmi.config import TrainingConfig
from ddmi.data.shapes import ShapeSource
from ddmi.data.splits import split
from ddmi.metrics.features.voxels import VoxelClassifier, VoxelClassifierConfig, save
from ddmi.training.loop import Stage, accelerate, fit

STAGE = "classifier"
TRAINING = TrainingConfig(
    batch_size=32,
    precision="fp32",
    final_learning_rate=0.01,
    warmup_steps=50,
    weight_decay=0.05,
    checkpoint_every=100,
    keep=1,
)
LEARNING_RATE = 2e-3
NOISE = 0.01  # share of cells that are turned over in training: generated shapes have specks and holes
SHIFT = 1  # cells, along each axis


@dataclass(frozen=True)
class Summary:
    """What a training came to; `accuracy` (all held-out shapes) and `by_class` are None before it is finished."""

    finished: bool
    step: int = 0
    accuracy: float | None = None
    by_class: dict[str, float] | None = None  # of the classes that have held-out shapes


@dataclass(frozen=True)
class VoxelBatch:
    """Grids (z, y, x) of 0 and 1, and the class of each."""

    grids: Float[Tensor, "b 1 n n n"]
    labels: Int[Tensor, " b"]

    def to(self, device: torch.device | str) -> VoxelBatch:
        """The same on another device."""
        return VoxelBatch(self.grids.to(device), self.labels.to(device))


class VoxelDataset:
    """Some shapes of a source as grids, kept as packed bits: 4 KB a shape at 32 cells."""

    def __init__(self, source: ShapeSource, kept: Sequence[int], resolution: int, bar: Bar | None = None) -> None:
        labels = source.labels or []
        self.resolution = resolution
        self.labels = torch.tensor([labels[index] for index in kept])
        rows = []
        for index in kept:
            rows.append(np.packbits(source.voxels(index, resolution)))
            if bar:
                bar.advance(bar.done + 1)
        self.rows = np.stack(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def epoch(self, generator: torch.Generator) -> list[int]:
        """Every shape once."""
        return torch.randperm(len(self), generator=generator).tolist()

    def grids(self, indices: Sequence[int]) -> Bool[Tensor, "b n n n"]:
        """The grids as they are."""
        n = self.resolution
        bits = np.unpackbits(self.rows[np.asarray(indices)], axis=1, count=n**3)
        return torch.from_numpy(bits).bool().reshape(-1, n, n, n)

    def batch(self, indices: Sequence[int], choice: torch.Generator, seeds: Sequence[int]) -> VoxelBatch:
        """Grids varied by what does not change a class; row k depends on its shape and seeds[k] alone."""
        varied = [vary(grid, seed) for grid, seed in zip(self.grids(indices), seeds, strict=True)]
        return VoxelBatch(torch.stack(varied)[:, None].float(), self.labels[list(indices)])


def vary(grid: Bool[Tensor, "n n n"], seed: int) -> Bool[Tensor, "n n n"]:
    """Mirrored along x or not, moved by up to SHIFT cells along each axis, a share NOISE of its cells turned over."""
    own = generator(seed, "voxels")
    if torch.rand((), generator=own) < 0.5:
        grid = grid.flip(2)
    moves = torch.randint(-SHIFT, SHIFT + 1, (3,), generator=own).tolist()
    padded, n = F.pad(grid, [SHIFT] * 6), len(grid)  # what leaves the cube is gone
    for axis, move in enumerate(moves):
        padded = padded.narrow(axis, SHIFT - move, n)
    return padded ^ (torch.rand(grid.shape, generator=own) < NOISE)


class ClassifierObjective(nn.Module):
    """Cross-entropy of the classes."""

    def __init__(self, model: VoxelClassifier) -> None:
        super().__init__()
        self.model: nn.Module = model

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the optimiser."""
        return [{"params": list(self.model.parameters()), "lr": LEARNING_RATE}]

    def forward(self, batch: VoxelBatch, progress: float) -> dict[str, Tensor]:
        """{"cross_entropy": nats}."""
        return {"cross_entropy": F.cross_entropy(self.model(batch.grids), batch.labels)}


def train_classifier(
    source: ShapeSource,
    out: str | Path,
    *,
    steps: int = 600,
    seed: int = 0,
    resolution: int = 32,
    held_out: float = 0.1,
    max_minutes: float | None = None,
    training: TrainingConfig = TRAINING,
) -> Summary:
    """Train a voxel classifier on a source of shapes with classes, and measure it on the shapes held out.

    Checkpoints and logs are in the folder `<out>.training` until the file is written; the same call goes on from them,
    and ends with the same weights as one that was never stopped.

    Args:
        source: shapes with classes.
        out: the safetensors file, read by `ddmi.metrics.features.voxels.load_classifier`.
        held_out: share of the shapes that only the accuracy is measured on, where the source is not split already.
        max_minutes: stop after so long, with a checkpoint.

    Raises:
        UserError: shapes without classes or with one only, `out` is a folder, or the checkpoints are of other data or
            settings.
        WorkError: training diverged, or a file cannot be written.
    """
    out = Path(out)
    if source.labels is None or len(source.classes) < 2:
        raise UserError("a classifier needs shapes of two classes or more: one folder of shapes for each")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder: name a file, such as {out / 'classifier.safetensors'}")
    if steps < 1:
        raise UserError(f"steps must be at least 1, not {steps}")
    kept, evaluated = split(source, "train", held_out), split(source, "test", held_out)
    if not kept or not evaluated:
        raise UserError("a classifier needs shapes to train on and others to be evaluated by: there is one part only")

    run = out.with_name(f"{out.name}.training")
    with nullcontext() if rank() else locked(run):
        interruption = Interruption(None if max_minutes is None else time.monotonic() + 60 * max_minutes)
        training = replace(training, seed=seed)
        accelerator = accelerate(training, run)
        main = accelerator.is_main_process
        if main:
            _claim(run, source, (steps, seed, resolution, held_out, training.batch_size))
        accelerator.wait_for_everyone()
        try:
            with interruption.listening():
                with Bar("voxels", len(kept) + len(evaluated), visible=main) as bar:
                    dataset, others = (VoxelDataset(source, part, resolution, bar) for part in (kept, evaluated))
                torch.manual_seed(seed)
                model = VoxelClassifier(VoxelClassifierConfig(classes=tuple(source.classes), resolution=resolution))
                stage = Stage(STAGE, steps, training.batch_size)
                fitted = fit(ClassifierObjective(model), dataset, stage, training, run, accelerator, interruption)
        except Interrupted:
            return Summary(finished=False)
        finally:
            accelerator.end_training()
        if not fitted.finished:
            return Summary(finished=False, step=fitted.step)
        model.accuracy, by_class = accuracy(model, others)
        if main:
            save(model, out)
            shutil.rmtree(run, ignore_errors=True)
        return Summary(True, fitted.step, model.accuracy, by_class)


def accuracy(model: VoxelClassifier, dataset: VoxelDataset) -> tuple[float, dict[str, float]]:
    """The share of shapes that are named rightly: of all, and of each class that is there."""
    right = model.predict(dataset.grids(range(len(dataset)))) == dataset.labels
    by_class = {
        name: float(right[dataset.labels == k].float().mean())
        for k, name in enumerate(model.config.classes)
        if (dataset.labels == k).any()
    }
    return float(right.float().mean()), by_class


def _claim(run: Path, source: ShapeSource, settings: tuple[Any, ...]) -> None:
    """Note what the checkpoints of this folder are made with, or check that it is the same."""
    data = hashlib.sha256(repr((source.names, source.labels, source.classes)).encode()).hexdigest()
    made = {"data": data, "settings": list(settings)}
    path = run / "classifier.json"
    if path.exists():
        if read_json(path) != made:
            raise UserError(f"{run} holds a training with other data or settings: remove it, or choose another --out")
        return
    if any(run.iterdir()):  # it is removed in the end
        raise UserError(f"{run} is not empty, and not of a training: remove it, or choose another --out")
    with aside(path) as scratch:
        write_json(made, scratch)
