"""How many steps of each stage fit into a given time, by what steps, batches and encoding take on this machine."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from ddmi.base.progress import working
from ddmi.config import Config, TrainingConfig
from ddmi.domains.base import Dataset
from ddmi.model.flow import STEPS
from ddmi.training import estimate
from ddmi.training.batches import Batches

log = logging.getLogger(__name__)

STAGES = {
    "autoencoder": "autoencoder_steps",
    "decoder": "decoder_steps",
    "diffusion": "diffusion_steps",
    "distillation": "distillation_steps",
}
"""Stage -> the setting of its steps, in their order."""
LEAST = 50
"""Steps that a stage takes at least, whatever the time: a plan always ends with a model that samples."""
SHARE = 0.9
"""Of the time, what is planned for; the rest is for previews and checkpoints."""
TIMED = 16
"""Items whose encoding is timed."""


@dataclass(frozen=True)
class Costs:
    """Seconds on this machine: of a step of each stage, and of encoding all data for the later stages."""

    steps: Mapping[str, float]
    encoding: float


@working("timing steps, data and encoding")
def costs(config: Config, dataset: Dataset) -> Costs:
    """What the stages of a configuration cost here, on this data."""
    training, diffusion = config.training, config.diffusion
    seconds = {name: step.seconds for name, step in estimate.steps(config).items()}
    batches = Batches(dataset, "autoencoder", training.seed, training.batch_size, training.accumulation, 0, 1)
    loading = 0.0 if training.workers else estimate.seconds(lambda: batches[0])
    autoencoder, _ = estimate.networks(config, "cuda" if torch.cuda.is_available() else "cpu")
    device, items = next(autoencoder.parameters()).device, range(min(TIMED, len(dataset)))

    @torch.no_grad()
    def encode() -> None:
        autoencoder.encode(dataset.inputs(items).to(device))

    first, second = seconds["autoencoder"] + loading, seconds["diffusion"]
    # A trajectory of the denoiser is STEPS evaluations, twice as many with guidance, each a third of a training step.
    share = STEPS * (2 if diffusion.guidance_scale != 1 else 1) / (3 * training.trajectory_uses)
    steps = {"autoencoder": first, "decoder": first, "diffusion": second, "distillation": second * (1 + share)}
    return Costs(steps, estimate.seconds(encode, repeats=1) * len(dataset) / len(items))


def ahead(training: TrainingConfig, first: str) -> dict[str, int]:
    """The stages from `first` on that have steps, and how many."""
    names = list(STAGES)[list(STAGES).index(first) :]
    return {name: steps for name in names if (steps := getattr(training, STAGES[name]))}


def fitted(training: TrainingConfig, costs: Costs, seconds: float, first: str = "autoencoder") -> TrainingConfig:
    """The settings with as many steps of the stages from `first` on as fit: the given numbers times one factor."""
    given = ahead(training, first)
    whole = sum(costs.steps[name] * steps for name, steps in given.items())
    factor = max(0.0, SHARE * seconds - _encoding(costs, first)) / whole
    planned: dict[str, Any] = {STAGES[name]: max(LEAST, int(factor * steps)) for name, steps in given.items()}
    return replace(training, **planned)


def _encoding(costs: Costs, first: str) -> float:
    return 0.0 if first == "distillation" else costs.encoding


class Plan:
    """The plan of a training that ends at a deadline (of `time.monotonic`). Later stages are planned anew, for the time
    that is left, with the speed that the earlier ones had.
    """

    def __init__(self, costs: Costs, deadline: float) -> None:
        self.costs, self.deadline = costs, deadline
        self.expected = self.began = 0.0

    def __call__(self, training: TrainingConfig, first: str = "autoencoder") -> TrainingConfig:
        """The settings with the steps of the stages from `first` on, which is about to begin; they are logged."""
        now = time.monotonic()
        if self.expected:
            slower = (now - self.began) / self.expected
            self.costs = Costs({name: slower * s for name, s in self.costs.steps.items()}, slower * self.costs.encoding)
        training = fitted(training, self.costs, self.deadline - now, first)
        minutes = {name: steps * self.costs.steps[name] / 60 for name, steps in ahead(training, first).items()}
        parts = [f"{name} {getattr(training, STAGES[name]):,} steps, {m:.1f} min" for name, m in minutes.items()]
        parts.insert(0, f"encoding {_encoding(self.costs, first) / 60:.1f} min")
        log.warning("plan for %.1f minutes: %s", (self.deadline - now) / 60, "; ".join(parts))
        before = {"autoencoder": ("autoencoder", "decoder"), "diffusion": ("diffusion",)}.get(first, ())
        self.expected = 60 * sum(minutes.get(name, 0.0) for name in before)
        self.expected += _encoding(self.costs, first) if first == "diffusion" else 0.0
        self.began = now
        return training
