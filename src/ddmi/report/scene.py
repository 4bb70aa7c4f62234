"""What the sections of a domain share: the run, and what of it several of them show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import torch

from ddmi.base.randomness import generator
from ddmi.domains.base import Dataset, Domain
from ddmi.field import Field
from ddmi.report.numbers import Numbers

if TYPE_CHECKING:
    from ddmi.evaluation import Evaluated

D = TypeVar("D", bound=Domain)
S = TypeVar("S", bound=Dataset)
K = TypeVar("K", bound="Kept")


@dataclass(frozen=True)
class Scene(Generic[D, S]):
    """An evaluated run of a domain, and the numbers of its page."""

    evaluated: Evaluated
    numbers: Numbers

    @property
    def domain(self) -> D:
        """The run's domain."""
        return self.evaluated.pipe.config.domain  # type: ignore[return-value]

    @property
    def train(self) -> S:
        """The training data."""
        return self.evaluated.train  # type: ignore[return-value]

    @property
    def held_out(self) -> S:
        """The held-out data."""
        return self.evaluated.held_out  # type: ignore[return-value]

    @property
    def samples(self) -> Sequence[Field]:
        """The samples that were evaluated."""
        return self.evaluated.samples

    def name(self, dataset: S, index: int) -> str:
        """The caption of an item, else its name in its source."""
        caption = dataset.captions[index] if dataset.captions else ""
        return caption or dataset.names[index % len(dataset.names)]

    def asked(self, sample: int) -> str:
        """What sample k was asked for, "" where nothing was."""
        if "label" in self.evaluated.asked:
            return self.train.classes[self.evaluated.asked["label"][sample]]
        return self.evaluated.asked["text"][sample] if "text" in self.evaluated.asked else ""

    def told(self, sample: int) -> str:
        """Which sample, and what it was asked for, in plain words."""
        return f"sample {sample}: {self.asked(sample)}".rstrip(": ")

    def settings(self) -> dict[str, Any]:
        """Arguments of the pipeline as the evaluated samples were drawn, but for what they were asked for."""
        protocol = self.evaluated.protocol
        kept = ("sampler", "steps", "guidance_scale", "tolerance")
        return {"seed": int(protocol["seed"]), **{name: protocol[name] for name in kept if name in protocol}}

    def sampled(self, count: int) -> dict[str, Any]:
        """Arguments of the pipeline that draw its first samples again."""
        return {**self.settings(), **{kind: values[:count] for kind, values in self.evaluated.asked.items()}}

    def shuffled(self, count: int) -> list[int]:
        """0 ... count - 1 in an order drawn by the seed."""
        seed = int(self.evaluated.protocol["seed"])
        return torch.randperm(count, generator=generator(seed, "report")).tolist()


class Kept:
    """What is made once for a run though its hero and a section both show it."""

    _waiting: ClassVar[dict[int, Any]] = {}

    def __init__(self, evaluated: Evaluated) -> None:
        self.evaluated = evaluated

    @classmethod
    def of(cls: type[K], evaluated: Evaluated, *, last: bool = False) -> K:
        """That of a run, kept from one part of the page to the next; `last` lets go of it."""
        found = cls._waiting.pop(id(evaluated), None) or cls(evaluated)  # it holds the run, so its id is no other's
        if not last:
            cls._waiting[id(evaluated)] = found
        return found
