"""What the image sections share: the run, and pictures of its fields and of its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from ddmi.domains.image import Image, PictureDataset
from ddmi.field import Field
from ddmi.randomness import generator
from ddmi.report.numbers import Numbers

if TYPE_CHECKING:
    from PIL import Image as Pictures

    from ddmi.evaluation import Judged


@dataclass(frozen=True)
class Scene:
    """A judged run of the image domain, and the numbers of its page."""

    judged: Judged
    numbers: Numbers

    @property
    def domain(self) -> Image:
        """The run's domain."""
        return self.judged.pipe.config.domain  # type: ignore[return-value]

    @property
    def train(self) -> PictureDataset:
        """The training pictures."""
        return self.judged.train  # type: ignore[return-value]

    @property
    def held_out(self) -> PictureDataset:
        """The held-out pictures."""
        return self.judged.held_out  # type: ignore[return-value]

    @property
    def samples(self) -> Sequence[Field]:
        """The samples that were judged."""
        return self.judged.samples

    @property
    def base(self) -> int:
        """Pixels a side of what the encoder sees: the size called 1x."""
        return self.domain.resolution

    @property
    def shown(self) -> int:
        """Pixels a side of a picture among many."""
        return 128 if self.base <= 128 else 256

    @property
    def exact(self) -> bool:
        """Whether the true pictures can be drawn at any size."""
        return self.held_out.source.smallest is None

    def sizes(self, scales: Sequence[int]) -> dict[int, int]:
        """Scale -> pixels, of the scales at which the true pictures are known; always 1."""
        known = self.held_out.source.smallest
        return {s: s * self.base for s in scales if s == 1 or known is None or s * self.base <= known}

    def true(self, dataset: PictureDataset, index: int, size: int) -> Pictures.Image:
        """A picture of the data."""
        from PIL import Image as Pictures

        return Pictures.fromarray(dataset.pixels(index, size))

    def name(self, dataset: PictureDataset, index: int) -> str:
        """The caption of a picture, else its name in its source."""
        caption = dataset.captions[index] if dataset.captions else ""
        return caption or dataset.names[index % len(dataset.names)]

    def caption(self, sample: int) -> str:
        """What sample k was asked for, "" where nothing was."""
        if "label" in self.judged.asked:
            return self.train.classes[self.judged.asked["label"][sample]]
        return self.judged.asked["text"][sample] if "text" in self.judged.asked else ""

    def sampled(self, count: int) -> dict[str, Any]:
        """Arguments of the pipeline that draw its first samples again, or others as they were drawn."""
        protocol = self.judged.protocol
        return {
            "seed": int(protocol["seed"]),
            "sampler": protocol["sampler"],
            "steps": protocol["steps"],
            "guidance_scale": protocol["guidance_scale"],
            **{kind: values[:count] for kind, values in self.judged.asked.items()},
        }

    @cached_property
    def subjects(self) -> list[int]:
        """One held-out picture of each subject, in an order drawn by the seed."""
        firsts = [group[0] for group in self.held_out.groups]
        order = torch.randperm(len(firsts), generator=generator(int(self.judged.protocol["seed"]), "report"))
        return [firsts[i] for i in order.tolist()]
