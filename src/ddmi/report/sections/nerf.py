"""What the report of radiance fields shows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ddmi.domains.nerf.camera_images import SOLID, CameraImage, depth_error, of_cloud, of_mesh
from ddmi.domains.nerf.field_view import CAMERA, SURFACE
from ddmi.domains.nerf.photography import FurnitureViews
from ddmi.domains.nerf.views import ViewFolder
from ddmi.field import Field
from ddmi.metrics.pixels import CEILING, psnr
from ddmi.rendering.cameras import Camera
from ddmi.rendering.clip import spread
from ddmi.report import viewer
from ddmi.report.content import Block, Figure, Inline, Pair, Row, Section, Table, figure, to_image, to_tensor
from ddmi.report.scene import Scene, makers

FAST: dict[str, Any] = {"samples": 48, "fine": 0}
"""On each ray of a turntable and of other small images."""
FINE: dict[str, Any] = {"samples": 48, "fine": 24}
"""On each ray of what is looked at closely."""
TURNED, FRAMES, PACE = 96, 16, 9.0
"""Pixels a side and frames of a turntable, and frames a second."""
SIZES, MIDDLE, SIDE = (64, 128, 256), 128, 96
NEAR = (-0.5, -0.5, 0.5, 0.5)
"""The part of a view that is shown twice as near."""
AROUND, HEIGHTS, ABOVE = 8, (20.0, 50.0, -15.0, 35.0), (35.0, 85.0)
"""Views from all sides, their degrees above the horizon in turn, and the view from above."""
CELLS = (64, 128)
RECONSTRUCTED, VIEWS, LARGEST = 6, 4, 128
"""Held-out objects, views of each, and pixels of the longer side beyond which a view is shrunk."""
MEASURED = 4
"""Objects whose depth is compared."""
NEIGHBOURS = 8


class Report(Scene):
    """A run of radiance fields."""

    @cached_property
    def reconstructed(self) -> list[Field]:
        """Fields of the first held-out objects."""
        return self.evaluated.reconstruct(self.held_out, self.subjects[:RECONSTRUCTED])

    def show(self, field: Field, alt: str, caption: Inline = "") -> Figure:
        return figure(field.render(SIDE, **FAST).image, alt, caption, pixels=False)

    def moving(self, field: Field, alt: str, caption: Inline) -> Figure:
        return figure(field.render(TURNED, **FAST).turntable(FRAMES, PACE), alt, caption, pixels=False)

    @cached_property
    def chosen(self) -> tuple[str, Field]:
        """Name and field of the first sample that is not empty, else of sample 0; before stage 2, a reconstruction."""
        fields = self.first(self.sheet if self.samples else 1)
        seen = (bool((field.render(32, **FAST).view.opacity > SOLID).any()) for field in fields)
        k = next((k for k, solid in enumerate(seen) if solid), 0)
        return f"Sample {k}" if self.samples else self.which, fields[k]

    def sections(self) -> Iterator[Section | None]:
        if self.domain.source == "furniture":
            self.own_prompts = (
                "a red chair with arm rests", "a black table with three legs", "a blue lamp with a white base",
            )  # fmt: skip
        if self.samples:
            yield self.samples_section(side=TURNED, frames=FRAMES)
        if self.anything:
            yield self.sides()
            yield self.surface()
        if self.samples:
            yield self.prompts_section()
        if self.subjects:
            yield self.reconstructions()
            yield self.depth()
        if self.anything:
            yield self.basis_section()
        if self.samples:
            yield self.nearest()

    def sides(self) -> Section:
        """Larger and larger, closer, then what else a camera knows, then all around; what each size costs."""
        which, field = self.chosen
        sizes, rows = [], list[list[Inline]]()
        field.render(SIDE, **FAST).image  # noqa: B018 - what is prepared at the first image is no time of the others
        for size in SIZES:
            at, began = f"report/renderings/{size}", time.monotonic()
            rendering = field.render(size, **FINE)
            sizes.append(figure(rendering.image, f"{which} at {size}×{size}", f"{size}×{size}", pixels=False))
            self.numbers.put(at, {"rays": size**2, "seconds": round(time.monotonic() - began, 3)})
            costs = (self.numbers.show(f"{at}/{key}", form) for key, form in (("rays", ","), ("seconds", ".2f")))
            rows.append([f"{size}×{size}", *costs])
        middle, near = field.render(MIDDLE, **FINE), field.render(MIDDLE, window=NEAR, **FINE)
        sizes.append(figure(near.image, f"{which}, closer", f"{MIDDLE}×{MIDDLE} of the middle", pixels=False))
        known = {
            "depth, the nearest dark": middle.depth,
            "normals, as colours": middle.normals,
            "opacity, what is solid dark": grey(1 - middle.view.opacity),
            "from above": field.render(MIDDLE, view=ABOVE, **FINE).image,
        }
        others = [figure(image, f"{which}, {name}", name, pixels=False) for name, image in known.items()]
        around = []
        for k in range(AROUND):
            azimuth, elevation = 360 * k / AROUND, HEIGHTS[k % len(HEIGHTS)]
            name = f"{azimuth:g}°, {abs(elevation):g}° {'above' if elevation > 0 else 'below'}"
            image = field.render(SIDE, view=(azimuth, elevation), **FAST).image
            around.append(figure(image, f"{which} from {name}", name, pixels=False))
        table = Table(["image", "rays", "time (s)"], rows)
        blocks: list[Block] = [Row(sizes, 4), Row(others, 4), Row(around, AROUND), table]
        return self.section("sides", blocks, which=which, points=sum(FINE.values()))

    def surface(self) -> Section:
        """The first field as coloured meshes that can be turned, with what each has cost."""
        which, field = self.chosen
        rendering = field.render(MIDDLE, view=(viewer.AZIMUTH, viewer.ELEVATION), **FAST)
        meshes, table = viewer.meshed(self.numbers, rendering.mesh, CELLS, "density")
        image = rendering.image
        shown = [figure(image, f"{which}, mesh of {n}³ cells", f"{n}³", mesh=lighter) for n, _, lighter in meshes]
        blocks: list[Block] = [Row(shown, len(shown)), table] if shown else []
        empty = "" if shown else " Here there is none."
        return self.section("surface", blocks, which=which, surface=SURFACE, empty=empty)

    def view(self, dataset: Any, index: int, view: int) -> tuple[Camera, Any]:
        """A view of an item: its camera, and the image, shrunk where it is large."""
        from PIL import Image

        camera, image = dataset.camera(index, view), Image.fromarray(dataset.images(index, [view])[0])
        share = LARGEST / max(camera.size)
        if share < 1:
            height, width = (max(1, round(side * share)) for side in camera.size)
            camera, image = camera.resized((height, width)), image.resize((width, height), Image.Resampling.BOX)
        return camera, image

    def reconstructions(self) -> Section:
        """For each object its cloud and some views, the truth above ours, from cameras new to the encoder."""
        from PIL import Image

        rows, show = [], self.numbers.show
        for k, (index, field) in enumerate(zip(self.subjects, self.reconstructed, strict=False)):
            name, at = self.name(self.held_out, index), f"report/reconstructions/{k}"
            views = spread(self.held_out.views(index), VIEWS)
            taken = [self.view(self.held_out, index, view) for view in views]
            ours = [field.render(camera.size, camera=camera, **FINE).image for camera, _ in taken]
            quality = psnr(to_tensor(ours), to_tensor([true for _, true in taken])).clamp_max(CEILING)
            about = {"object": self.held_out.names[index], "views": views, "psnr": quality.tolist()}
            self.numbers.put(at, {**about, "mean_psnr": float(quality.mean())})
            points = of_cloud(self.held_out.inputs([index])[0], taken[0][0].resized(MIDDLE), self.domain.background)
            above = [figure(Image.fromarray(points), f"{name}, input points", "input", pixels=False)]
            finer = field.render(MIDDLE, camera=taken[0][0].resized(MIDDLE), **FAST).image
            below = [figure(finer, f"{name}, ours with more rays", f"ours, {MIDDLE}×{MIDDLE}", pixels=False)]
            for i, (view, (_, true), image) in enumerate(zip(views, taken, ours, strict=True)):
                above.append(figure(true, f"{name}, view {view}", f"view {view}"))
                below.append(
                    figure(image, f"{name}, view {view}, ours", ("ours ", show(f"{at}/psnr/{i}", ".1f", " dB")))
                )
            rows += [
                Row(above, len(above), (f"{name}: ", show(f"{at}/mean_psnr", ".1f", " dB"))),
                Row(below, len(below)),
            ]
        return self.section("reconstructions", rows, cloud=self.domain.cloud)

    def depth(self) -> Section | None:
        """True depth beside ours, in the same greys; None where the data has no shapes that could be measured."""
        from PIL import Image

        from ddmi.rendering.shader import TracedMesh

        source, rows = self.held_out.source, []
        if not isinstance(source, FurnitureViews):
            return None
        for k, (index, field) in enumerate(zip(self.subjects, self.reconstructed[:MEASURED], strict=False)):
            name, at = self.name(self.held_out, index), f"report/depth/{k}"
            camera = self.held_out.camera(index, 0).resized(SIDE)
            true = of_mesh(TracedMesh(source.furniture.mesh(self.held_out.kept[index])), camera)
            rendering = field.render(camera.size, camera=camera, **FINE)
            ours = CameraImage(
                camera, np.asarray(rendering.image), rendering.view.opacity.cpu(), rendering.view.depth.cpu()
            )
            self.numbers.put(at, {"object": self.held_out.names[index], **depth_error(ours, true)})
            solid = [look.opacity > SOLID for look in (true, ours)]
            there = torch.cat([look.depth[seen] for look, seen in zip((true, ours), solid, strict=True)])
            low, high = (float(there.min()), float(there.max())) if len(there) else (0.0, 1.0)
            shades = [
                torch.where(seen, 0.1 + 0.75 * (look.depth - low) / max(high - low, 1e-6), 1.0)
                for look, seen in zip((true, ours), solid, strict=True)
            ]
            images = {"truth": Image.fromarray(true.colour), "its depth": grey(shades[0]), "our depth": grey(shades[1])}
            shown = [figure(image, f"{name}, {which}", which, pixels=False) for which, image in images.items()]
            error = (f"{name}: error ", self.numbers.show(f"{at}/depth_error", ".1%", ", missed "))
            rows.append(Row(shown, len(shown), (*error, self.numbers.show(f"{at}/depth_missed", ".1%"))))
        return self.section("depth", [Pair(rows[: len(rows) // 2 * 2 or 1])])

    def part(self, field: Field, whole: Field, place: str, alt: str, name: str) -> Figure:
        rendering, full, show = field.render(SIDE, **FAST), whole.render(SIDE, **FAST), self.numbers.show
        near = min(float(psnr(to_tensor([rendering.image]), to_tensor([full.image]))), CEILING)
        self.numbers.put(place, {"covered": float((rendering.view.opacity > SOLID).float().mean()), "psnr": near})
        caption = (f"{name}: ", show(f"{place}/covered", ".0%", ", "), show(f"{place}/psnr", ".1f", " dB"))
        return figure(rendering.image, alt, caption, pixels=False)

    def nearest(self) -> Section | None:
        """The first samples, each with the training object that the metric found nearest (Fig. 13)."""
        found = self.neighbours()[:NEIGHBOURS]
        shown: list[Figure] = []
        for k, index in enumerate(found[: len(found) // 2 * 2 or 1]):
            name = self.name(self.train, index)
            self.numbers.put(f"report/neighbours/{k}/object", self.train.names[index])
            camera, true = self.view(self.train, index, usual(self.train, index))
            ours = self.samples[k].render(camera.size, camera=camera, **FINE).image
            shown += [figure(ours, f"sample {k}", f"sample {k}"), figure(true, name, f"training: {name}")]
        if not shown:
            return None
        return self.section("neighbours", [Row(shown, min(len(shown), 8))], kind="objects")

    def credits(self) -> list[str]:
        source = self.held_out.source
        return makers(source.root) if isinstance(source, ViewFolder) else []


def usual(dataset: Any, index: int) -> int:
    """The view of an item that is taken from nearest to where the usual camera stands."""
    eyes = torch.stack([dataset.camera(index, view).pose[:3, 3].double() for view in range(dataset.views(index))])
    return int((F.normalize(eyes, dim=1) @ Camera.orbit(*CAMERA).pose[:3, 3].double()).argmax())


def grey(values: Tensor) -> Any:
    """Numbers (h, w) in [0, 1] as an image: 0 is black, 1 white."""
    return to_image((2 * values.cpu() - 1).expand(3, -1, -1))
