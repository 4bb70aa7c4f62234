"""Running a domain's metrics on a run, every number with its protocol."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddmi.domains.base import Dataset, Evidence
from ddmi.errors import UserError, unknown
from ddmi.field import Field
from ddmi.pipeline import DDMIPipeline
from ddmi.sampling import DEFAULT_STEPS
from ddmi.storage import aside, read_json, write_json
from ddmi.training.progress import Bar


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How the samples that are judged were drawn."""

    samples: int = 256
    seed: int = 0
    sampler: str = "dpm"
    steps: int = 25
    guidance_scale: float | None = None


@dataclass(frozen=True)
class Judged:
    """A run's model with its data and samples, ready for metrics and for a report."""

    pipe: DDMIPipeline
    train: Dataset
    held_out: Dataset
    samples: list[Field]
    protocol: dict[str, Any]
    asked: dict[str, Any]
    """What the samples were asked for, as the pipeline takes it: {"text": prompts}, {"label": classes} or nothing."""

    def reconstruct(self, dataset: Dataset, indices: Sequence[int]) -> list[Field]:
        """Fields of the posteriors' modes of these items."""
        fields: list[Field] = []
        for start in range(0, len(indices), 64):
            x = dataset.inputs(indices[start : start + 64]).to(self.pipe.device)
            fields += self.pipe.decode(self.pipe.posterior_modes(x))
        return fields


def judge(path: str | Path, data: str | Path | None = None, protocol: Protocol | None = None) -> Judged:
    """Load a run, open its data and draw the samples that metrics look at.

    A model with text or classes is asked for the captions or labels of training items, drawn at random.
    """
    protocol = protocol or Protocol()
    pipe = DDMIPipeline.from_pretrained(path)
    train = pipe.config.domain.dataset(data, "train")
    held_out = pipe.config.domain.dataset(data, "test")
    samples: list[Field] = []
    asked: dict[str, Any] = {}
    began = time.monotonic()
    if pipe.diffusion is not None:
        order = _conditions(train, protocol)
        if pipe.config.diffusion.condition == "text" and train.captions is not None:
            asked["text"] = [train.captions[i] for i in order]
        elif pipe.config.diffusion.condition == "class" and train.labels is not None:
            asked["label"] = [train.labels[i] for i in order]
        with Bar("samples", protocol.samples) as bar:
            samples = pipe(
                protocol.samples,
                protocol.seed,
                sampler=protocol.sampler,
                steps=protocol.steps,
                guidance_scale=protocol.guidance_scale,
                progress=lambda done, _: bar.advance(done),
                **asked,
            )
    own = pipe.config.diffusion.guidance_scale
    about = {
        "samples": len(samples),
        "seed": protocol.seed,
        "sampler": protocol.sampler,
        "steps": protocol.steps or DEFAULT_STEPS.get(protocol.sampler, 0),
        "guidance_scale": own if protocol.guidance_scale is None else protocol.guidance_scale,
        "condition": pipe.config.diffusion.condition,
        "weights": f"EMA of decay {pipe.config.diffusion.ema_decay:g}"
        if pipe.config.diffusion.ema_decay
        else "last step",
        "sampling_seconds": round(time.monotonic() - began, 2),
        "device": str(pipe.device),
    }
    return Judged(pipe, train, held_out, samples, about, asked)


def _conditions(train: Dataset, protocol: Protocol) -> list[int]:
    """Items whose conditions the samples are asked for."""
    from ddmi.randomness import generator

    order = train.epoch(generator(protocol.seed, "conditions"))
    return [order[i % len(order)] for i in range(protocol.samples)]


def evaluate(judged: Judged, names: Sequence[str] | None = None) -> dict[str, Any]:
    """The metrics of the run's domain (all, or those named), each with its protocol and the seconds it took.

    Raises:
        UserError: a metric that the domain does not have; allowed ones are named.
    """
    available = judged.pipe.config.domain.metrics()
    for name in names or ():
        if name not in available:
            raise unknown("metric", name, available)
    evidence = Evidence(judged.train, judged.held_out, judged.reconstruct, judged.samples, int(judged.protocol["seed"]))
    results: dict[str, Any] = {"preset": judged.pipe.config.name, "sampling": judged.protocol}
    for name in names or available:
        began = time.monotonic()
        found = available[name](evidence)
        if found:
            results[name] = {**found, "seconds": round(time.monotonic() - began, 2)}
    return results


def write(results: dict[str, Any], path: str | Path) -> None:
    """Add the results to a metrics file; what it holds under other names stays."""
    path = Path(path)
    if path.suffix != ".json":
        raise UserError(f"{path}: metrics are written as .json")
    before = read_json(path) if path.exists() else {}
    with aside(path) as scratch:
        write_json({**before, **results}, scratch)


__all__ = ["Judged", "Protocol", "evaluate", "judge", "write"]
