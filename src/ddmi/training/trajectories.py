"""Trajectories of the guided denoiser, which its flow map learns from: made in batches, kept on disk, made anew."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ddmi.base.errors import UserError
from ddmi.base.planes import cells
from ddmi.base.processes import Processes
from ddmi.base.progress import working
from ddmi.base.randomness import derive, normal, uniform
from ddmi.base.storage import aside, load_tensors, save_tensors
from ddmi.config import TrainingConfig
from ddmi.model.diffusion import Diffusion, Guidance, dropped
from ddmi.model.flow import STEPS, grid, trajectory
from ddmi.model.unet import Condition
from ddmi.training.latents import Conditions

log = logging.getLogger(__name__)

CHUNK = 32
"""Trajectories that are made together, and that share a file."""
JUMPS = [(i, j) for j in range(STEPS + 1) for i in range(j)]
"""From state i to the less noisy state j."""
SAMPLED = [(i, i + STEPS // steps) for steps in (1, 2, 4) for i in range(0, STEPS, STEPS // steps)]
"""The jumps of one, two and four steps: half of the training."""


@dataclass(frozen=True)
class JumpBatch:
    """Pairs of states of trajectories, at times t and s < t, and the condition of each."""

    start: Float[Tensor, "b c l"]
    end: Float[Tensor, "b c l"]
    t: Float[Tensor, "b"]
    s: Float[Tensor, "b"]
    condition: Condition | None

    def to(self, device: torch.device | str) -> JumpBatch:
        """The same on another device."""
        condition = None if self.condition is None else self.condition.to(device)
        start, end, t, s = (part.to(device) for part in (self.start, self.end, self.t, self.s))
        return JumpBatch(start, end, t, s, condition)


class Trajectories:
    """Batches of jumps.

    Trajectories are made in rounds: as many as have space are trained on, then replaced by the next. Trajectory k is
    that of sample k of a seed of its own, so that a resumed run makes the same ones. Every process makes a share, and
    reads all.

    Args:
        conditions: of the training data, which has so many items.
        folder: for the files. key: names the denoiser, its guidance and the data.
    """

    def __init__(
        self,
        teacher: Diffusion,
        guidance: Guidance,
        conditions: Conditions,
        items: int,
        folder: Path,
        key: str,
        training: TrainingConfig,
        processes: Processes,
    ) -> None:
        self.teacher, self.guidance, self.processes = teacher, guidance, processes
        self.conditions, self.items = conditions, items
        self.seed, self.times = training.seed, grid(teacher.config).float()
        batch, uses = training.diffusion_batch, training.trajectory_uses
        self.visits = training.distillation_steps * batch
        size = 2 * (STEPS + 1) * teacher.channels * cells(teacher.layout)
        space = training.trajectory_megabytes * 10**6 // size
        self.count = max(batch, min(space, -(-self.visits // uses)))
        self.length = -(-self.count * uses // batch) * batch  # visits of a round
        self.uses, self.folder = uses, folder / f"trajectories-{key}-{self.count}"
        self.round, self.states = -1, torch.empty(0)
        self.told: Condition | None = None
        self.remove(but=self.folder)

    def remove(self, but: Path | None = None) -> None:
        """Free the space on disk, also that of trajectories that other settings have left."""
        if self.processes.main:
            for folder in self.folder.parent.glob("trajectories-*"):
                if folder != but:
                    shutil.rmtree(folder)

    def epoch(self, generator: torch.Generator) -> Sequence[int]:
        """All visits of the stage: which trajectory a visit is to, its seed says."""
        return range(self.visits)

    def batch(self, indices: Sequence[int], choice: torch.Generator, seeds: Sequence[int]) -> JumpBatch:
        """The jumps of these visits, all of one round."""
        self._open(indices[0] // self.length)
        slots = torch.tensor([derive("trajectory", seed) % len(self.states) for seed in seeds])
        kinds = [SAMPLED if derive("kind", seed) % 2 else JUMPS for seed in seeds]
        pairs = [jumps[derive("jump", seed) % len(jumps)] for jumps, seed in zip(kinds, seeds, strict=True)]
        i, j = torch.tensor(pairs).T
        condition = None if self.told is None else self.told.take(slots)
        start, end = (self.states[slots, place].float() for place in (i, j))
        return JumpBatch(start, end, self.times[i], self.times[j], condition)

    def _open(self, number: int) -> None:
        """Have the trajectories of a round in memory, made where they are missing."""
        if number == self.round:
            return
        left = -(-(self.visits - number * self.length) // self.uses)  # the last round may need fewer
        first = number * self.count
        last = first + min(self.count, left)
        chunks = [range(k, min(k + CHUNK, last)) for k in range(first, last, CHUNK)]
        for chunk in chunks[self.processes.rank :: self.processes.count]:
            with working("trajectories", f"{chunk.start - first} of {last - first}"):
                self._make(chunk)
        self.processes.wait()
        wanted = {self._path(chunk) for chunk in chunks}
        self.states = torch.cat([load_tensors(self._path(chunk))["states"] for chunk in chunks])
        self.told = self._told(self._seeds(range(first, last)))
        self.round = number
        self.processes.wait()
        if self.processes.main:
            for path in self.folder.iterdir():
                if path not in wanted:
                    path.unlink()

    def _path(self, chunk: range) -> Path:
        return self.folder / f"{chunk.start:08d}.safetensors"

    def _seeds(self, numbers: Sequence[int]) -> list[int]:
        return [derive(self.seed, "trajectory", number) for number in numbers]

    def _told(self, seeds: Sequence[int]) -> Condition | None:
        """The conditions of trajectories: those of random training items, or none as often as in training."""
        condition = self.conditions.take([derive("item", seed) % self.items for seed in seeds], seeds)
        null = self.teacher.null(len(seeds))
        if condition is None or null is None:
            return condition
        keep = uniform(seeds, "condition") >= self.teacher.config.condition_dropout
        return dropped(condition, null.to("cpu"), keep)

    def _make(self, chunk: range) -> None:
        """Write the states (b, STEPS + 1, c, l) of these trajectories, if they are not there and whole."""
        path, seeds = self._path(chunk), self._seeds(chunk)
        if path.exists():
            try:
                if len(load_tensors(path)["states"]) == len(chunk):
                    return
            except UserError as error:
                log.warning("%s; its trajectories are made again", error)
        device, condition = self.teacher.mean.device, self._told(seeds)
        noise = normal((self.teacher.channels, cells(self.teacher.layout)), seeds, "noise").to(device)
        condition = None if condition is None else condition.to(device)
        states = trajectory(self.teacher, noise, condition, self.guidance)
        with aside(path) as scratch:
            save_tensors({"states": states.transpose(0, 1).half().cpu()}, scratch, {"trajectories": str(chunk)})
