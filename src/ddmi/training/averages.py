"""Averages of weights over a training: one as it goes, and those of other lengths, made afterwards."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ddmi.base.errors import UserError
from ddmi.base.storage import aside, load_tensors, save_tensors

log = logging.getLogger(__name__)

SNAPSHOTS = 16
"""Times of a training, evenly spaced, at which the averages of `diffusion.ema_lengths` are stored."""
LENGTHS = (0.03, 0.04, 0.05, 0.06, 0.07, 0.085, 0.1, 0.12, 0.14, 0.17, 0.2)
"""What is tried afterwards: of snapshots of the lengths 0.05 and 0.1 their profiles are made up to 4 %."""

Weights = tuple[Tensor, ...] | list[Tensor]


@dataclass(frozen=True)
class Average:
    """Exponential moving average with a warm-up: decay (1 + n) / (10 + n) until it reaches the wanted one."""

    decay: float

    @torch.no_grad()
    def __call__(self, averaged: Weights, current: Weights, seen: Tensor | int) -> None:
        """The `multi_avg_fn` of torch's AveragedModel."""
        n = float(seen)
        decay = min(self.decay, (1 + n) / (10 + n))
        torch._foreach_lerp_(averaged, current, 1 - decay)


@dataclass(frozen=True)
class PowerAverage:
    """Average in which step i counts as i^exponent (Karras et al. 2024, arXiv:2312.02696, section 3): its length grows
    with the training.
    """

    exponent: float

    @torch.no_grad()
    def __call__(self, averaged: Weights, current: Weights, seen: Tensor | int) -> None:
        """The `multi_avg_fn` of torch's AveragedModel."""
        decay = (1 - 1 / float(seen)) ** (self.exponent + 1)
        torch._foreach_lerp_(averaged, current, 1 - decay)


def averaged(model: nn.Module, rule: Average | PowerAverage) -> AveragedModel:
    """The average of a model that is about to be trained."""
    found = AveragedModel(model, multi_avg_fn=rule)
    found.update_parameters(model)  # the first update copies
    return found


def exponent_of(length: float) -> float:
    """The exponent g of an average whose weights have this standard deviation, as a share of the training.

    length^2 = (g + 1) / ((g + 2)^2 (g + 3)), of which the largest root is wanted.
    """
    inverse = length**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def profile(exponent: float, step: int, steps: int) -> np.ndarray:
    """How much each of the steps 1 .. `steps` counts in the average after `step` of them: what `PowerAverage` comes to,
    (i^(g + 1) - (i - 1)^(g + 1)) / step^(g + 1), and 0 for later steps.
    """
    return np.diff((np.minimum(np.arange(steps + 1), step) / step) ** (exponent + 1))


def coefficients(lengths: Sequence[float], stored: Sequence[int], steps: int, length: float) -> np.ndarray:
    """The combination (len(stored), len(lengths)) of averages of these lengths, stored after these steps, that is
    nearest to the average of another length over all `steps`, by least squares of their profiles.
    """
    basis = np.stack([profile(exponent_of(k), step, steps) for step in stored for k in lengths], axis=1)
    found = np.linalg.lstsq(basis, profile(exponent_of(length), steps, steps), rcond=None)[0]
    return (found / found.sum()).reshape(len(stored), len(lengths))  # weights that never change stay as they are


class Snapshots:
    """Averages of several lengths, stored from time to time in a folder of checkpoints."""

    def __init__(self, folder: Path, stage: str, lengths: Sequence[float], steps: int) -> None:
        self.folder, self.stage, self.lengths = folder, stage, lengths
        self.times = sorted({max(1, steps * k // SNAPSHOTS) for k in range(1, SNAPSHOTS + 1)}) if lengths else []

    def stored(self) -> list[Path]:
        """The files up to the end of the training, oldest first."""
        found = sorted(self.folder.glob(f"{self.stage}-averages-*.safetensors"))
        return [path for path in found if int(path.stem.rpartition("-")[2]) <= self.times[-1]] if self.times else []

    def store(self, time: int, averages: Sequence[AveragedModel]) -> None:
        """Write the averages, in half precision, if this is one of the times."""
        if time not in self.times:
            return
        kept = [average.get_submodule("module") for average in averages]
        tensors = {f"{k}.{name}": p.half() for k, one in enumerate(kept) for name, p in one.named_parameters()}
        with aside(self.folder / f"{self.stage}-averages-{time:08d}.safetensors") as scratch:
            save_tensors({**tensors, "steps": averages[0].n_averaged - 1}, scratch)

    def combine(self, model: nn.Module, length: float) -> None:
        """Give a model the weights of the average of this length over the whole training.

        Raises:
            UserError: a file is missing or damaged.
        """
        there = [load_tensors(path) for path in self.stored()]
        counts = [int(tensors["steps"]) for tensors in there]
        found = coefficients(self.lengths, counts, counts[-1], length)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.zero_()
                for share, tensors in zip(found, there, strict=True):
                    for k, weight in enumerate(share):
                        if (stored := tensors.get(f"{k}.{name}")) is None or stored.shape != parameter.shape:
                            raise UserError(f"{self.folder}: averages of {self.stage} are of another network")
                        parameter.add_(stored.to(parameter), alpha=float(weight))


def best(kept: nn.Module, snapshots: Snapshots, loss: Callable[[nn.Module], float]) -> nn.Module:
    """The average with the least loss: the one that was kept, or one of `LENGTHS` made of snapshots; the choice is
    logged.
    """
    losses = {0.0: loss(kept.eval())}
    trial = copy.deepcopy(kept)
    for length in LENGTHS:
        snapshots.combine(trial, length)
        losses[length] = loss(trial)
    chosen = min(losses, key=lambda length: losses[length])
    listed = ", ".join(f"{length:g}: {losses[length]:.5f}" for length in LENGTHS)
    log.warning("held-out loss by length of the average: %s; of ema_decay %.5f", listed, losses[0.0])
    if not chosen:
        return kept
    snapshots.combine(trial, chosen)
    return trial
