"""The sections of the shape domain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddmi.report.makers import CREDITS, credits
from ddmi.report.numbers import Headline, Numbers
from ddmi.report.page import Section
from ddmi.report.sections.shape import attributes, basis, close, prompts, reconstruction, samples
from ddmi.report.sections.shape.scene import Scene, Solids

if TYPE_CHECKING:
    from ddmi.evaluation import Evaluated

HEADLINES = (
    Headline("reconstruction IoU, held out", "reconstruction/iou", ".3f"),
    Headline(
        "1-NN accuracy of samples, 50 % is best",
        "point_sets/chamfer/nna",
        ".1%",
        "",
        "training shapes=point_sets/chamfer_of_training/nna",
    ),
    Headline("legs as the prompt says", "attributes/legs/share", ".0%", "", "chance=attributes/legs/chance"),
    Headline("arm rests as it says", "attributes/arm_rests/share", ".0%", "", "chance=attributes/arm_rests/chance"),
)

NOTES = {
    "reconstruction": "Shapes that training never saw, encoded from points of their surface. IoU is the share of the "
    "points inside either shape that are inside both; points near the surface are asked as often as points of the "
    "whole cube, so that every error there counts more. The F-score is the harmonic mean of the shares of points, of "
    "either surface, that lie close to the other; normal consistency is the mean cosine between the normals of nearest "
    "points. All are better the higher, and 1 at best.",
    "point_sets": "Points on the surfaces of samples against those of held-out shapes. The minimum matching distance "
    "(lower is better) asks whether every true shape has a sample near it; coverage (higher is better) asks how many "
    "true shapes are the nearest one of some sample; the 1-NN accuracy asks whether a nearest neighbour tells samples "
    "from true shapes: 50 % is best, and 100 % means that it always does. The rows of training shapes show what as "
    "many real shapes reach; with few shapes, differences of several per cent mean nothing.",
    "memorisation": "Near 1 is what new shapes give. Well below 1, samples repeat the training set; above 1, they lie "
    "away from the data, which broken samples also do.",
    "attributes": "Prompts that name one attribute, and a geometric test of each sample for it. The accuracy of the "
    "test on true pieces is the most that can be expected; chance is what these samples reach with other prompts.",
    "classification": "How often a classifier of voxels, trained on true shapes, sees in a sample the class that it "
    "was asked for. Its accuracy on held-out true shapes is the most that can be expected.",
    "clip": "The largest cosine, over the views of a sample, between CLIP's features of the picture and of the prompt, "
    "times 100. Higher is better; grey renderings lie far from what CLIP saw in training, so only differences count.",
    "diversity": "Total mutual difference: the mean IoU of the samples of one prompt with one another. Lower is more "
    "varied; it says nothing about how good they are, and broken samples are varied too.",
}


def hero(evaluated: Evaluated) -> str:
    """A row of turning samples."""
    return samples.hero(Scene(evaluated, Numbers({}), Solids.of(evaluated))) if evaluated.samples else ""


def sections(evaluated: Evaluated, numbers: Numbers) -> list[Section]:
    """All sections that this run has something to show in."""
    scene = Scene(evaluated, numbers, Solids.of(evaluated, last=True))
    found: list[Section | None] = []
    if scene.samples:
        found.append(samples.sheet(scene))
    if scene.samples or scene.subjects:
        found += close.sections(scene)
    if scene.samples:
        found += [prompts.section(scene), attributes.section(scene)]
    if scene.subjects:
        found.append(reconstruction.section(scene))
    if scene.samples or scene.subjects:
        found.append(basis.section(scene))
    return [section for section in found if section is not None]


__all__ = ["CREDITS", "HEADLINES", "NOTES", "credits", "hero", "sections"]
