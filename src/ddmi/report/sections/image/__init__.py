"""The sections of the image domain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddmi.report.numbers import Headline, Numbers
from ddmi.report.page import Section
from ddmi.report.sections.image import basis, neighbours, reconstruction, samples, zoom
from ddmi.report.sections.image.scene import Scene

if TYPE_CHECKING:
    from ddmi.evaluation import Evaluated

HEADLINES = (
    Headline("reconstruction PSNR at 1x", "reconstruction/scales/1x/psnr", ".2f", " dB"),
    Headline(
        "reconstruction PSNR at 2x",
        "reconstruction/scales/2x/psnr",
        ".2f",
        " dB",
        "bicubic=reconstruction/scales/2x/bicubic_psnr",
    ),
    Headline(
        "sliced Wasserstein distance of samples",
        "sliced_wasserstein/samples/mean",
        ".1f",
        "",
        "held-out pictures=sliced_wasserstein/held_out/mean",
    ),
    Headline(
        "Fréchet distance of samples",
        "distributions/as_many_samples/frechet",
        ".0f",
        "",
        "held-out pictures=distributions/held_out/frechet",
    ),
    Headline("memorisation ratio", "memorisation/ratio", ".2f"),
    Headline("samples near a picture of their noun", "prompts/share", ".0%", "", "chance=prompts/chance"),
)

NOTES = {
    "reconstruction": "Higher is better. The encoder sees every picture at 1x only: above 1x, edges have to be "
    "continued, and bicubic enlargement of the true picture is what any method has to beat. Differences within a few "
    "standard errors are none.",
    "sliced_wasserstein": "Lower is better, down to the row of held-out pictures: that is how far real, unseen "
    "pictures are from the training set, and no set of so few samples can be expected below it. Fine levels (large "
    "numbers) see texture and edges, the coarsest sees the layout; none sees whether a picture means anything.",
    "distributions": "On the features of a pretrained network, against the training pictures. The Fréchet distance is "
    "the lower the better, and falls with the number of pictures: compare the row of as many samples with that of "
    "held-out pictures, and nothing else. Precision is the share of samples that look like data, recall the share of "
    "the data that samples come near to; the kernel distance is about 0 for samples as good as the data.",
    "memorisation": "Near 1 is what new pictures give. Well below 1, samples repeat the training set; above 1, they "
    "lie away from the data, which blurred or broken samples also do. Pixels see colour and position first: a copy "
    "that was moved by some pixels counts as new there; the row of features sees such copies too.",
    "prompts": "Samples of captions, and whether the nearest training picture, in features, has a caption with a noun "
    "of the prompt. Chance is what these samples reach with the prompts of one another. The row of true pictures is "
    "what the pictures of the captions reach without their own subjects: new pictures can be expected to come near "
    "that, and samples above it come near to the very pictures that the captions belong to.",
}


def hero(evaluated: Evaluated) -> str:
    """A strip of samples."""
    return samples.hero(Scene(evaluated, Numbers({})))


def sections(evaluated: Evaluated, numbers: Numbers) -> list[Section]:
    """All sections that this run has something to show in."""
    scene = Scene(evaluated, numbers)
    found: list[Section | None] = []
    if scene.subjects:
        found.append(reconstruction.section(scene))
    if scene.samples:
        found += [samples.sheet(scene), samples.sizes(scene)]
    if scene.samples or scene.subjects:
        found.append(zoom.section(scene))
    if scene.samples:
        found += [samples.prompts(scene), samples.interpolation(scene)]
    if scene.samples or scene.subjects:
        found.append(basis.section(scene))
    if scene.samples:
        found.append(neighbours.section(scene))
    return [section for section in found if section is not None]


def credits(evaluated: Evaluated) -> list[str]:
    """The attribution of the data that the page shows."""
    from ddmi.domains.image import emoji

    source = Scene(evaluated, Numbers({})).train.source
    if not isinstance(source, emoji.Twemoji):
        return []
    return [f"Drawings in the data: {emoji.ATTRIBUTION} (creativecommons.org/licenses/by/4.0)."]
