"""A domain that the package has never heard of: sounds of one axis, on one plane, without a sampling period."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch
from torch import Tensor, nn

from ddmi.base.coordinates import axis
from ddmi.base.errors import UserError
from ddmi.base.planes import Layout, Plane, Planes
from ddmi.base.randomness import generator
from ddmi.config import Config
from ddmi.domains.base import Batch, Domain, Evidence, Formats, Metrics, Score, Split
from ddmi.model.encoders.base import Encoder
from ddmi.model.losses import gaussian
from ddmi.model.signal import Signal
from ddmi.presets import Demo


@dataclass(frozen=True, eq=False)
class Sound:
    """What a wave renders to."""

    values: np.ndarray

    def save(self, path: str | Path, /) -> None:
        if Path(path).suffix != ".npy":
            raise UserError(f"{path}: a wave is saved as .npy")
        np.save(path, self.values)


@dataclass(frozen=True, kw_only=True)
class Listened(Batch):
    """A batch with names of its own: training needs `x` and `seeds` alone."""

    moments: Tensor
    heard: Tensor


@dataclass(frozen=True, kw_only=True)
class Wave(Domain[Sound, "Waves"]):
    """sin(2 pi f x + p) of random frequency and phase, seen at `samples` points, asked at random ones."""

    samples: int = 16
    waves: int = 12

    formats = Formats(files=(".npy",))

    @property
    def layout(self) -> Layout:
        return (Plane(name="x", axes=(0,), size=(self.samples // 2,)),)

    def encoder(self) -> WaveEncoder:
        return WaveEncoder(self.samples)

    def head(self, width: int) -> nn.Module:
        return WaveHead(width)

    def open(self, path: str | Path | None) -> range:
        if path is not None:
            raise UserError(f"--data {path}: waves come with the domain")
        return range(2 + self.waves)

    def dataset(self, source: range, split: Split) -> Waves:
        return Waves(self, source[:2] if split == "test" else source[2:])

    def likelihood(self, signal: Signal, batch: Listened) -> Score:
        return Score(gaussian(signal(batch.moments), batch.heard))

    def render(self, field: Any, size: int = 64) -> Sound:
        return Sound(field(axis(size)[:, None])[:, 0].detach().numpy())

    def metrics(self) -> Metrics:
        return Metrics({"error": self._error})

    def _error(self, evidence: Evidence[Waves]) -> dict[str, Any]:
        held_out = evidence.held_out
        fields = evidence.reconstruct(held_out, range(len(held_out)))
        at = axis(64)
        errors = [(f(at[:, None])[:, 0] - held_out.value(i, at)).square().mean() for i, f in enumerate(fields)]
        return {"mean_squared_error": float(torch.stack(errors).mean())}


def config(**training: Any) -> Config:
    """A run of some seconds."""
    readout = replace(tiny.AUTOENCODER.readout, width=24)
    settings = {"autoencoder_steps": 60, "diffusion_steps": 20, "batch_size": 12, "checkpoint_every": 100}
    whole = tiny.config(Wave(), **{**settings, "autoencoder_learning_rate": 5e-3, "warmup_steps": 10, **training})
    return replace(whole, name="wave", autoencoder=replace(whole.autoencoder, readout=readout))


def demo() -> Demo:
    """What `ddmi demo` shows of it."""
    return Demo(config=config(), minutes=0.0, samples=2)


class WaveEncoder(Encoder):
    width = 12

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.shape = (1, samples)
        self.layers = nn.Sequential(nn.Conv1d(1, 12, 5, 2, 2), nn.GELU(), nn.Conv1d(12, 12, 3, padding=1))

    def forward(self, x: Tensor) -> Planes:
        return {"x": self.layers(x)[:, :, None]}  # (b, c, 1, samples / 2)


class WaveHead(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)

    def forward(self, features: Tensor, extras: Tensor | None = None) -> Tensor:
        return self.linear(features)


class Waves:
    captions, phrasings, labels = None, None, None

    def __init__(self, domain: Wave, numbers: range) -> None:
        self.domain = domain
        self.names, self.classes = [f"wave {k}" for k in numbers], []
        draws = [torch.rand(2, generator=generator("wave", k)) for k in numbers]
        self.frequency, self.phase = (torch.stack(draws) * torch.tensor([1.0, 6.28])).T

    def __len__(self) -> int:
        return len(self.phase)

    def value(self, index: int, x: Tensor) -> Tensor:
        return torch.sin(2 * torch.pi * self.frequency[index] * x + self.phase[index])

    def epoch(self, generator: torch.Generator) -> list[int]:
        return torch.randperm(len(self), generator=generator).tolist()

    def inputs(self, indices: Sequence[int]) -> Tensor:
        return torch.stack([self.value(i, axis(self.domain.samples)) for i in indices])[:, None]

    def batch(self, indices: Sequence[int], choice: torch.Generator, seeds: Sequence[int]) -> Listened:
        at = [2 * torch.rand(32, generator=generator(seed, "points")) - 1 for seed in seeds]
        targets = torch.stack([self.value(i, x) for i, x in zip(indices, at, strict=True)])[:, :, None]
        moments = torch.stack(at)[:, :, None]
        return Listened(x=self.inputs(indices), seeds=tuple(seeds), moments=moments, heard=targets)
