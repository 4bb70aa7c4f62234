"""What the reports of all domains share: a run, its data and samples, and sections that differ in renderings alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields as settings_of
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ddmi.base.randomness import generator
from ddmi.domains import name_of
from ddmi.field import Field
from ddmi.model.sampling import SamplingConfig
from ddmi.report import words
from ddmi.report.content import Block, Figure, Inline, Row, Section, full
from ddmi.report.numbers import Numbers

if TYPE_CHECKING:
    from ddmi.evaluation import Evaluated

CREDITS = "credits.jsonl"
"""Beside prepared meshes: {"model", "creator", "license", ...} a line."""
HERO, ACROSS, EACH, PROMPTS = 6, 8, 2, 3
"""Samples at the top of a page, figures in a row, samples of a prompt, and prompts that are shown."""
GUIDANCE = (1.0, 3.0, 6.0)
PARTS = 2
"""Fields of which each scale of basis fields is shown."""


class Scene:
    """A run of a domain, and the numbers of its page.

    A domain's class says how a field is shown in small (`show`), and lists its sections.
    """

    sheet, between = 16, 8
    """Samples that are shown, and fields between two of them."""
    own_prompts: Sequence[str] = ()
    """Prompts for data that is known beforehand; without any, the first captions of the data."""

    def __init__(self, evaluated: Evaluated, numbers: Numbers) -> None:
        self.evaluated, self.numbers = evaluated, numbers
        self.domain: Any = evaluated.pipe.config.domain
        self.train: Any = evaluated.train
        self.held_out: Any = evaluated.held_out
        self.samples = evaluated.samples
        self._shown: dict[int, Figure] = {}

    def show(self, field: Field, alt: str, caption: Inline = "") -> Figure:
        """A field among many."""
        raise NotImplementedError

    def moving(self, field: Field, alt: str, caption: Inline) -> Figure:
        """A sample among many, which may turn or play."""
        return self.show(field, alt, caption)

    def sections(self) -> Iterator[Section | None]:
        """The sections that this run has something to show in, in their order."""
        yield from ()

    def section(self, key: str, blocks: Sequence[Block] = (), **values: Any) -> Section:
        """A section with the texts of this domain."""
        return words.section(key, self.numbers, blocks, name_of(self.domain), **values)

    def part(self, field: Field, whole: Field, place: str, alt: str, name: str) -> Figure:
        """A field of some scales of basis fields alone, compared with all of them; numbers are put at `place`."""
        raise NotImplementedError

    @cached_property
    def subjects(self) -> list[int]:
        """Held-out items in an order drawn by the seed."""
        return self.shuffled(len(self.held_out))

    def first(self, count: int) -> list[Field]:
        """The first samples; before stage 2, the first reconstructions of held-out items."""
        return [*self.samples[:count]] or self.evaluated.reconstruct(self.held_out, self.subjects[:count])

    @property
    def anything(self) -> bool:
        """Whether there is a field to show at all."""
        return bool(len(self.samples) or self.subjects)

    @property
    def which(self) -> str:
        """What the first of these fields is."""
        if len(self.samples):
            return "Sample 0"
        return f"The reconstruction of “{self.name(self.held_out, self.subjects[0])}”"

    def name(self, dataset: Any, index: int) -> str:
        """The caption of an item, else its name in its source."""
        caption = dataset.captions[index] if dataset.captions else ""
        return caption or dataset.names[index % len(dataset.names)]

    def prompt(self, sample: int) -> str:
        """What sample k was conditioned on, "" where nothing was."""
        if "label" in self.evaluated.asked:
            return self.train.classes[self.evaluated.asked["label"][sample]]
        return self.evaluated.asked["text"][sample] if "text" in self.evaluated.asked else ""

    def sample(self, k: int) -> Figure:
        """Sample k among many, rendered once."""
        if k not in self._shown:
            alt = f"sample {k}: {self.prompt(k)}".rstrip(": ")
            self._shown[k] = self.moving(self.samples[k], alt, self.prompt(k))
        return self._shown[k]

    def settings(self) -> dict[str, Any]:
        """Arguments of the pipeline that generated the samples, but for their conditions."""
        protocol = self.evaluated.protocol
        return {field.name: protocol[field.name] for field in settings_of(SamplingConfig) if field.name in protocol}

    def shuffled(self, count: int) -> list[int]:
        """0 ... count - 1 in an order drawn by the seed."""
        seed = int(self.evaluated.protocol["seed"])
        return torch.randperm(count, generator=generator(seed, "report")).tolist()

    def hero(self) -> list[Block]:
        """The first samples; reconstructions have no place here."""
        count = min(HERO, len(self.samples))
        return [full([self.sample(k) for k in range(count)], HERO)] if count else []

    def samples_section(self, **values: Any) -> Section:
        """Samples in the order in which they were generated."""
        row = full([self.sample(k) for k in range(min(self.sheet, len(self.samples)))], ACROSS)
        below = " Below each is its condition, drawn at random from training." if self.evaluated.asked else ""
        last, seed = len(row.figures) - 1, self.evaluated.protocol["seed"]
        return self.section("samples", [row], last=last, seed=seed, below=below, **values)

    def prompts_section(self) -> Section | None:
        """Samples of a few prompts or classes, guidance along a row; None for a model without condition."""
        condition = self.evaluated.pipe.config.diffusion.condition
        kind: str = "label" if condition == "class" else "text"
        captions = self.own_prompts or self.held_out.captions or self.train.captions or []
        texts = [*dict.fromkeys(filter(None, captions))]
        every: dict[str, Sequence[Any]] = {"class": range(len(self.train.classes)), "text": texts}
        values = every.get(condition, ())[:PROMPTS]
        if not values:
            return None
        options = {**self.settings(), kind: [value for value in values for _ in range(EACH)]}
        fields = [
            self.evaluated.pipe(EACH * len(values), first=len(self.samples), **{**options, "guidance_scale": scale})
            for scale in GUIDANCE
        ]
        rows: list[Block] = []
        for k, value in enumerate(values):
            title = self.train.classes[value] if kind == "label" else value
            shown = [
                self.show(several[k * EACH + i], f"{title}, guidance {scale:g}, sample {i}", f"guidance {scale:g}")
                for scale, several in zip(GUIDANCE, fields, strict=True)
                for i in range(EACH)
            ]
            rows.append(Row(shown, len(shown), title + (self._known(value) if kind == "text" else "")))
        return self.section("prompts", rows, each=EACH, kind="prompt" if kind == "text" else "class")

    def _known(self, caption: str) -> str:
        parts = {"seen in training": self.train, "held out": self.held_out}
        every = {part: [data.captions or [], *(data.phrasings or [])] for part, data in parts.items()}
        where = [part for part, several in every.items() if any(caption in texts for texts in several)]
        return f" (a caption of the data, {' and '.join(where)})" if where else " (no caption of the data)"

    def interpolation_section(self) -> Section | None:
        """Between the latents of two samples; None where there is but one."""
        if len(self.samples) < 2:
            return None
        pipe = self.evaluated.pipe
        z = pipe.latents(2, **self.settings(), **{kind: values[:2] for kind, values in self.evaluated.asked.items()})
        shown = []
        for k, field in enumerate(pipe.interpolate(z[:1], z[1:], self.between)):
            share = f"{k / (self.between - 1):.2f}"
            shown.append(self.show(field, f"between samples 0 and 1: {share}", share))
        return self.section("interpolation", [Row(shown, len(shown))])

    def basis_section(self, more: Sequence[Block] = ()) -> Section | None:
        """The first fields with some scales of basis fields alone (Fig. 7); None where there is but one scale."""
        fields = self.first(PARTS)
        count = fields[0].scales
        if count < 2:
            return None
        kept = {f"scales 1 to {k}": tuple(range(k)) for k in range(count - 1, 1, -1)}
        kept |= {f"scale {k + 1} alone": (k,) for k in range(count)}
        rows: list[Block] = []
        for k, field in enumerate(fields):
            parts = {"all scales": field, **{name: field.isolated(*scales) for name, scales in kept.items()}}
            at = f"report/basis_fields/{k}"
            shown = [self.part(part, field, f"{at}/{name}", f"field {k}, {name}", name) for name, part in parts.items()]
            rows.append(Row(shown, len(shown)))
        return self.section("basis", [*rows, *more])

    def neighbours(self) -> list[int]:
        """The nearest training item of each sample by the metric; [] where it was not measured on these samples."""
        found = self.numbers.get("memorisation/neighbours")
        taken = self.numbers.get("memorisation/protocol/sampling") or {}
        now = json.loads(json.dumps(self.settings()))  # as a file has it
        same = all(taken.get(key) == value for key, value in now.items())
        return list(found)[: len(self.samples)] if found and same else []

    def credits(self) -> list[str]:
        """Whose data the page shows."""
        return []


def makers(root: Path) -> list[str]:
    """Who made the models of a prepared folder, a line for each licence; [] where the folder does not say."""
    path = root / CREDITS
    if not path.is_file():
        return []
    found: dict[str, set[str]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            maker = row.get("creator") or row.get("source") or row.get("model", "")
            found.setdefault(row.get("license", ""), set()).add(maker)
    data = {name: f"Models in the data, {name}" if name else "Models in the data" for name in sorted(found)}
    return [f"{about}: {', '.join(sorted(found[name]))}." for name, about in data.items()]
