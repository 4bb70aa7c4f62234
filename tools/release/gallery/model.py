"""A model of the gallery: the samples that it draws, the commands that draw them again, and its files."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ddmi.base.progress import Bar
from ddmi.field import Field
from ddmi.model.sampling import SamplingConfig
from ddmi.pipeline import DDMIPipeline
from ddmi.rendering.clip import Clip
from ddmi.report.content import Row, figure
from tools.release.gallery.sheets import Cell, beside, write_clip, write_picture

T = TypeVar("T")

SEED = 0
"""Of every sample that is shown."""


def counted(title: str, items: Sequence[T]) -> Iterator[T]:
    """The items one by one, with a bar that goes on when the work on each is done."""
    with Bar(title, len(items)) as bar:
        for k, item in enumerate(items):
            yield item
            bar.advance(k + 1)


@dataclass(frozen=True)
class Shown:
    """One file of the gallery.

    Args:
        path: where it was written. words: what is to be seen, plain text.
        command: generates its samples again. row: how the page shows it.
    """

    path: Path
    words: str
    command: str
    row: Row


@dataclass(frozen=True)
class Again:
    """One command, and three lines of Python, that draw sample 0 of a model."""

    command: str
    python: str


@dataclass(frozen=True)
class Model:
    """A model, as it was asked for, and where its pictures go."""

    given: str
    pipe: DDMIPipeline
    out: Path

    @property
    def stem(self) -> str:
        """What the names of its files begin with."""
        return Path(self.given).absolute().name

    @property
    def told(self) -> bool:
        """Whether it draws from words."""
        return self.pipe.config.diffusion.condition == "text"

    def draws(self, title: str, prompts: Sequence[str], each: int) -> Iterator[tuple[str, list[Field]]]:
        """The first samples of the seed for each prompt; of a model without text as many others, named by number."""
        for k, prompt in enumerate(counted(title, prompts)):
            if self.told:
                yield prompt, self.pipe(each, SEED, text=prompt)
            else:
                numbers = range(k * each, (k + 1) * each)
                yield ", ".join(f"sample {n}" for n in numbers), self.pipe(each, SEED, first=k * each)

    def command(self, prompts: Sequence[str], each: int, options: str) -> str:
        """What draws these samples on a command line."""
        asked = "".join(f' --text "{prompt}"' for prompt in prompts) if self.told else ""
        count = each if self.told else each * len(prompts)
        many = f" --count {count}" if count > 1 else ""
        return f"ddmi sample {shlex.quote(self.given)}{asked}{many} --seed {SEED} {options} --out samples"

    def again(self, prompt: str, options: str, drawn: str) -> Again:
        """How to draw sample 0: the options of the command, and what is done with the field in Python."""
        asked = f', text="{prompt}"' if self.told and prompt else ""
        python = (
            "from ddmi import DDMIPipeline\n"
            f'field = DDMIPipeline.from_pretrained("{self.given}")(1, seed={SEED}{asked})[0]\n'
            f"field.{drawn}"
        )
        return Again(self.command((prompt,), 1, options), python)

    @property
    def way(self) -> str:
        """How it draws by itself, in words."""
        config = self.pipe.config.diffusion
        own = SamplingConfig().of(config)
        guided = f", guidance {config.guidance_scale:g}" if config.condition != "none" else ""
        steps = f", {own.steps} steps" if own.steps else ""
        return f"Seed {SEED}; sampler {own.sampler}{steps}{guided}, as the model has it."

    def sheet(
        self, ending: str, cells: Sequence[Cell], columns: int, words: str, command: str, *, whole: bool = False
    ) -> Shown:
        """Write cells side by side, with their captions.

        Args:
            ending: of the file's name, behind the model's. words, command: see `Shown`.
            whole: the page shows the file as it is, not each cell by itself with its caption as text. A sheet of clips
                is always shown whole: they are then in step.
        """
        path = self.out / f"{self.stem}{ending}"
        sheet = beside(cells, columns)
        alt = f"{words} {'; '.join(cell.caption for cell in cells if cell.caption)}".strip()
        if isinstance(sheet, Clip):
            write_clip(sheet, path)
        else:
            write_picture(sheet, path)
        shown = Row([figure(sheet, alt, pixels=False)], 1, kind="whole")
        if not whole and not isinstance(sheet, Clip):
            shown = Row([figure(cell.shown, cell.caption, cell.caption, pixels=False) for cell in cells], columns)
        return Shown(path, words, command, shown)
