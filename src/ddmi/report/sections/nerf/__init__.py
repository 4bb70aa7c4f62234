"""The sections of radiance fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddmi.report.makers import CREDITS, credits
from ddmi.report.numbers import Headline, Numbers
from ddmi.report.page import Section
from ddmi.report.sections.nerf import basis, depth, neighbours, prompts, reconstruction, samples, sides, surface
from ddmi.report.sections.nerf.scene import Scene, Turns

if TYPE_CHECKING:
    from ddmi.evaluation import Evaluated

HEADLINES = (
    Headline(
        "PSNR of held-out objects from new views",
        "reconstruction/psnr",
        ".2f",
        " dB",
        "the points alone=reconstruction/points/psnr",
    ),
    Headline(
        "kernel distance of renderings",
        "renderings/kernel_distance",
        ".3f",
        "",
        "held-out objects=renderings/held_out/kernel_distance",
    ),
    Headline("fog in samples", "opacity/samples", ".0%", "", "in reconstructions=opacity/reconstructions"),
    Headline("distance to training, 1 is new", "memorisation/ratio", ".2f"),
)

NOTES = {
    "reconstruction": "Photographs of objects that training never saw; the encoder reads points of them and no "
    "picture. Higher PSNR and SSIM are better. The background is easy: “inside” counts only the pixels that show the "
    "object. The points need no model: what the encoder reads, drawn as squares. The depth error is a share of the "
    "cube's side, over pixels that are opaque in truth and here; “missed” are those that are opaque in truth alone.",
    "renderings": "About 0 for samples as good as the data; lower is better. Each sample is seen from a camera of the "
    "data. Held-out objects, where there are enough of them, show what real, unseen objects reach; with as many "
    "samples as there are of these, the distances compare.",
    "consistency": "Lower is better, in levels of 0 to 255; photographs from the same cameras show what the pixels "
    "alone cost. A radiance field has one shape from everywhere, so this sees only what its colours owe to the "
    "direction, and fog of one colour is perfectly consistent: it says nothing about how good samples are.",
    "opacity": "Of the pixels that see something, the share that is seen through. Borders of objects are such pixels "
    "too: samples should have about as many as reconstructions; more is fog.",
    "memorisation": "Near 1 is what new objects give. Well below 1, samples repeat the training set; above 1, they lie "
    "away from the data, which broken samples also do.",
}


def hero(evaluated: Evaluated) -> str:
    """A row of turning samples."""
    return samples.hero(Scene(evaluated, Numbers({}), Turns.of(evaluated))) if evaluated.samples else ""


def sections(evaluated: Evaluated, numbers: Numbers) -> list[Section]:
    """All sections that this run has something to show in."""
    scene = Scene(evaluated, numbers, Turns.of(evaluated, last=True))
    found: list[Section | None] = []
    if scene.samples:
        found.append(samples.sheet(scene))
    if scene.samples or scene.subjects:
        found += [sides.section(scene), surface.section(scene)]
    if scene.samples:
        found.append(prompts.section(scene))
    if scene.subjects:
        found += [reconstruction.section(scene), depth.section(scene)]
    if scene.samples or scene.subjects:
        found.append(basis.section(scene))
    if scene.samples:
        found.append(neighbours.section(scene))
    return [section for section in found if section is not None]


__all__ = ["CREDITS", "HEADLINES", "NOTES", "credits", "hero", "sections"]
