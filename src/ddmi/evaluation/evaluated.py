"""A run's model with its data and samples, ready for metrics and for a report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ddmi.base.errors import UserError
from ddmi.base.processes import Processes, launched
from ddmi.base.progress import working
from ddmi.base.randomness import generator
from ddmi.base.storage import MANIFEST, digest
from ddmi.domains.base import Dataset, Evidence
from ddmi.evaluation.samples import BATCH, BATCHES, draw
from ddmi.field import Field
from ddmi.model.sampling import SamplingConfig, scheduler
from ddmi.pipeline import DDMIPipeline
from ddmi.pretrained import data_of


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How the evaluated samples are drawn, and what metrics look at them with.

    Args:
        sampling: how; its seed is also that of whatever metrics draw.
        features: the feature network of metrics, by name or by the file of its weights.
        neighbours: k of precision and recall.
        evaluators: other networks that metrics look with: (name, file, folder or hub id).
        size: of the samples and real items for metrics that can be taken at any size; 0: the domain's own.
        limit: real items of each part for these metrics, at most; 0: no limit.
    """

    samples: int = 256
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    features: str = "efficientnet-lite0"
    neighbours: int = 3
    evaluators: tuple[tuple[str, str], ...] = ()
    size: int = 0
    limit: int = 0


@dataclass(frozen=True)
class Evaluated:
    """A model, its data, and samples; none of these before stage 2, and in what `opened` gives."""

    pipe: DDMIPipeline
    train: Dataset
    held_out: Dataset
    samples: Sequence[Field]
    protocol: dict[str, Any]
    asked: dict[str, Any]
    """What the samples were asked for, as the pipeline takes it: {"text": prompts}, {"label": classes} or nothing."""
    conditions: Sequence[int] = ()
    """The training items whose captions or labels these are."""
    cache: Path | None = None
    """Where samples and features of the data are kept; None for a model without a run folder that can be written."""
    weights: str = ""
    """Digest of the model."""
    processes: Processes = field(default_factory=Processes)
    looked: Protocol = field(default_factory=Protocol)
    """What metrics look with."""

    def reconstruct(self, dataset: Dataset, indices: Sequence[int]) -> list[Field]:
        """Fields of the posteriors' modes of these items."""
        fields: list[Field] = []
        for start in range(0, len(indices), 64):
            x = dataset.inputs(indices[start : start + 64]).to(self.pipe.device)
            fields += self.pipe.decode(self.pipe.posterior_modes(x))
        return fields

    @property
    def evidence(self) -> Evidence:
        """What metrics may look at."""
        return Evidence(
            train=self.train,
            held_out=self.held_out,
            reconstruct=self.reconstruct,
            samples=self.samples,
            seed=self.looked.sampling.seed,
            asked=self.conditions,
            draw=self.draw if self.asked.get("text") else None,
            features=self.looked.features,
            neighbours=self.looked.neighbours,
            size=self.looked.size,
            limit=self.looked.limit,
            evaluators=dict(self.looked.evaluators),
            cache=self.cache,
            device=str(self.pipe.device),
        )

    def draw(self, texts: Sequence[str], first: int = 0) -> list[Field]:
        """Samples `first`, `first + 1`, ... of the protocol's seed, one for each text, drawn as the others were."""
        return self.pipe(len(texts), text=texts, first=first, batch_size=BATCH, sampling=self.looked.sampling)

    def drawn(self, protocol: Protocol) -> Evaluated:
        """The same with samples of this protocol; without any where the model has no denoiser yet.

        A model with text or classes is prompted with the captions or labels of training items, chosen at random.
        """
        pipe, kind, sampling = self.pipe, self.pipe.config.diffusion.condition, protocol.sampling
        order = self.train.epoch(generator(sampling.seed, "conditions"))
        order = [order[i % len(order)] for i in range(protocol.samples)]
        asked: dict[str, Any] = {}
        if pipe.diffusion is not None and kind == "text" and self.train.captions is not None:
            asked["text"] = [self.train.captions[i] for i in order]
        elif pipe.diffusion is not None and kind == "class" and self.train.labels is not None:
            asked["label"] = [self.train.labels[i] for i in order]
        settings = {"seed": sampling.seed, **sampling.told(pipe.config.diffusion)}
        decay = pipe.config.diffusion.ema_decay
        about = {"samples": 0, **settings, "condition": kind}
        about["weights"] = f"EMA of decay {decay:g}" if decay else "last step"
        samples: Sequence[Field] = []
        if pipe.diffusion is not None:
            # A text encoder and schedulers are loaded at their first use, which is no part of the sampling time.
            pipe.condition(1, **{name: values[:1] for name, values in asked.items()})
            if settings["sampler"] in ("dpm", "unipc", "heun"):
                scheduler(pipe.diffusion, settings["sampler"])

            def latents(first: int, number: int) -> tuple[Any, list[int]]:
                rows = {name: values[first : first + number] for name, values in asked.items()}
                z = pipe.latents(number, first=first, batch_size=number, sampling=sampling, **rows)
                return z, pipe.last_evaluations

            named = {"model": self.weights, **settings, **asked}
            batch = BATCHES.get(pipe.device.type, BATCH)
            samples = draw(latents, pipe.decode, protocol.samples, named, self.cache, self.processes, batch)
            about |= {
                "samples": len(samples),
                "evaluations": samples.evaluations,
                "sampling_seconds": round(samples.seconds, 2),
                "samples_per_second": round(len(samples) / max(samples.seconds, 1e-6), 3),
            }
        about |= {"processes": self.processes.count, "device": str(pipe.device)}
        conditions = order if asked else ()
        return replace(self, samples=samples, protocol=about, asked=asked, conditions=conditions, looked=protocol)


def prepare(path: str | Path, data: str | Path | None = None, protocol: Protocol | None = None) -> Evaluated:
    """Load a run, open its data and draw the samples that metrics look at.

    Under torchrun every process draws a share, and each sample is what one process alone would have drawn; the first
    process then has all of them to evaluate.
    """
    with working("loading the model and its data"):
        found = opened(path, data)
    return found.drawn(protocol or Protocol())


def opened(path: str | Path, data: str | Path | None = None, *, denoiser: bool = False) -> Evaluated:
    """A run and its data, without samples yet. Without `data`, that which the run was trained on.

    Raises:
        UserError: no model there, no data, or no denoiser where `denoiser` asks for one.
    """
    processes = launched()
    pipe = DDMIPipeline.from_pretrained(path, device=processes.device)
    if denoiser and pipe.diffusion is None:
        raise UserError(f"{path} has no denoiser yet: train its second stage (--stage diffusion) first")
    source = pipe.config.domain.open(data_of(path, data))
    domain = pipe.config.domain.fitted(source)
    train, held_out = domain.dataset(source, "train"), domain.dataset(source, "test")
    assert pipe.folder is not None
    run, weights = Path(path), digest(pipe.folder / MANIFEST)
    kept = (run / "model").is_dir() and os.access(run, os.W_OK)
    cache = run / "cache" if kept else None
    return Evaluated(pipe, train, held_out, [], {}, {}, cache=cache, weights=weights, processes=processes)
