"""One function from every side and at every size, and what each picture costs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from ddmi.domains.nerf import Shot
from ddmi.domains.nerf.shot import occupancy
from ddmi.field import Field
from ddmi.report import pictures
from ddmi.report.page import Section, table
from ddmi.report.sections.nerf.scene import FAST, FINE, Scene, grey

if TYPE_CHECKING:
    from PIL import Image as Pictures

SIZES = (64, 128, 256)
NEAR = (-0.5, -0.5, 0.5, 0.5)
"""The part of a picture that is shown twice as near."""
MIDDLE, AROUND, SIDE = 128, 8, 96
"""Pixels a side of what is nearer or of another kind; pictures from all sides, and pixels a side of these."""
HEIGHTS = (20.0, 50.0, -15.0, 35.0)
"""Degrees above the horizon of these, in turn."""
ABOVE = (35.0, 85.0)
PLACE = "report/renderings"


class Counted:
    """A field that counts at how many points it was asked."""

    def __init__(self, field: Field) -> None:
        self.field, self.queries = field, 0
        self.device = field.device

    def __call__(
        self,
        coordinates: Float[Tensor, "n 3"],
        periods: Float[Tensor, "p"] | None = None,
        extras: Float[Tensor, "n 3"] | None = None,
    ) -> Float[Tensor, "n 4"]:
        self.queries += len(coordinates)
        return self.field(coordinates, periods, extras)


def section(scene: Scene) -> Section:
    """Larger and larger, nearer, then what else a camera knows, then all around."""
    which, field = scene.first
    numbers, counted = scene.numbers, Counted(field)
    occupancy(counted)  # what is prepared at the first picture is no time of the others
    numbers.put(f"{PLACE}/prepared", counted.queries)
    sizes, rows = [], []
    for size in SIZES:
        shot = scene.domain.render(counted, size, **FINE)
        picture = drawn(scene, size, counted, shot)
        sizes.append(pictures.figure(picture, f"{which} at {size}×{size}", f"<b>{size}×{size}</b>"))
        rows.append(cost(scene, size))
    middle = field.render(MIDDLE, **FINE)
    near, above = field.render(MIDDLE, window=NEAR, **FINE), field.render(MIDDLE, view=ABOVE, **FINE)
    sizes.append(
        pictures.figure(near.image, f"{which}, nearer", f"<b>{MIDDLE}×{MIDDLE}</b> of the middle", pixels=False)
    )
    known = {
        "depth, the nearest dark": shot.depth,
        "normals, as colours": middle.normals,
        "opacity, what is solid dark": grey(1 - shot.view.opacity),
        "from above": above.image,
    }
    others = [pictures.figure(picture, f"{which}, {told}", told, pixels=False) for told, picture in known.items()]
    around = []
    for k in range(AROUND):
        azimuth, elevation = 360 * k / AROUND, HEIGHTS[k % len(HEIGHTS)]
        picture = field.render(SIDE, view=(azimuth, elevation), **FAST).image
        told = f"{azimuth:g}°, {abs(elevation):g}° {'above' if elevation > 0 else 'below'}"
        around.append(pictures.figure(picture, f"{which} from {told}", told, pixels=False))
    head = ["picture", "rays", "queries of the function", "queries a ray", "seconds"]
    lead = (
        f"{which[0].upper()}{which[1:]}, looked at with more and more rays, then with as many of its middle alone: the "
        "function is the same, nothing is enlarged afterwards. Each ray asks it at up to "
        f"{shot.quadrature.samples + shot.quadrature.fine} points; where it is empty was looked up before, with "
        f"{numbers.show(f'{PLACE}/prepared', ',')} queries once, and it is not asked there."
    )
    body = (
        pictures.row(sizes, len(sizes), "wide")
        + pictures.row(others, len(others), "wide")
        + pictures.row(around, AROUND, "sheet tight")
        + table(head, rows)
    )
    return Section("sides", "One function from every side and at every size", lead, body, "Sides and sizes")


def drawn(scene: Scene, size: int, counted: Counted, shot: Shot) -> Pictures.Image:
    """The picture, and its numbers put down."""
    before, began = counted.queries, time.monotonic()
    picture = shot.image
    seconds, queries = time.monotonic() - began, counted.queries - before
    about = {"rays": size**2, "queries": queries, "queries_per_ray": queries / size**2, "seconds": round(seconds, 3)}
    scene.numbers.put(f"{PLACE}/{size}", about)
    return picture


def cost(scene: Scene, size: int) -> list[str]:
    """A line of the table."""
    forms = {"rays": ",", "queries": ",", "queries_per_ray": ".1f", "seconds": ".2f"}
    return [f"{size}×{size}", *(scene.numbers.show(f"{PLACE}/{size}/{key}", form) for key, form in forms.items())]
