"""Radiance fields: omega: (x, y, z, direction) -> colour and density, on three latent planes; y is up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ddmi.base.coordinates import check_size
from ddmi.base.errors import UserError
from ddmi.base.planes import Layout, triplane
from ddmi.base.randomness import generator
from ddmi.data import kept
from ddmi.domains.base import Domain, FieldLike, Formats, Metrics, Score, Split
from ddmi.domains.nerf.dataset import RayBatch, ViewDataset
from ddmi.domains.nerf.field_view import CAMERA, FieldView
from ddmi.model.encoders.points import PointEncoder, PointEncoderConfig
from ddmi.model.losses import laplace
from ddmi.model.observed import Observations
from ddmi.model.signal import Signal
from ddmi.rendering.cameras import Camera
from ddmi.rendering.files import IMAGES, MOVIES
from ddmi.rendering.mesh import MESHES
from ddmi.rendering.volume import Quadrature, march

if TYPE_CHECKING:
    from ddmi.domains.nerf.views import ViewSource

RAYS = 1024
"""Of photographs that count as observations; of more, a random part."""


@dataclass(frozen=True, kw_only=True)
class Nerf(Domain[FieldView, ViewDataset]):
    """Objects in the cube [-1, 1]^3, seen by the encoder as coloured points and scored by the colours of rays.

    Args:
        resolution: cells along each axis of the planes that receive point features; as for shapes.
        source: "folder" (images with their cameras) or "furniture" (views of procedural furniture, with captions).
        pieces: procedural objects.
        views: views of each of them.
        size: pixels a side of these views.
        radius: half the side of the cube in the units of the data; 0: as `scene.json` or the layout says.
        cloud: coloured points that the encoder reads.
        noise: standard deviation of the noise on their positions, in units of [-1, 1].
        rays: of each object in a step.
        shown: views that these rays belong to.
        focus: share of the rays through pixels that differ from the background; the others are uniform.
        samples: evenly spread samples on a ray in training. Rendering has its own.
        fine: further samples where those found density.
        background: colour behind the object, and under alpha: 1 white, 0 black.
        opening: opacity of the whole cube before training: neither opaque nor invisible.
        held_out: share of the objects that training never sees, where the data does not say.
        on_bad: an object whose files are wrong: "skip" it with a warning, or "stop".
        encode: the encoder of shapes, with a colour at each point.
    """

    resolution: int = 64
    source: Literal["folder", "furniture"] = "folder"
    pieces: int = 1000
    views: int = 24
    size: int = 64
    radius: float = 0.0
    cloud: int = 3000
    noise: float = 0.01
    rays: int = 1024
    shown: int = 4
    focus: float = 0.5
    samples: int = 64
    fine: int = 0
    background: float = 1.0
    opening: float = 0.5
    held_out: float = 0.05
    on_bad: Literal["skip", "stop"] = "skip"
    encode: PointEncoderConfig = field(default_factory=PointEncoderConfig)

    formats = Formats(
        files=(*IMAGES, *MOVIES, *MESHES),
        sheets=(*IMAGES, *MOVIES),
        options=("window", "view"),
        views=("camera", "mesh"),
        layers=("depth", "normals"),
    )

    def __post_init__(self) -> None:
        self.encode.planes.cells(self.resolution)  # raises for what it does not allow
        for name in ("pieces", "views", "size", "cloud", "rays", "shown", "samples"):
            if getattr(self, name) < 1:
                raise UserError(f"domain.{name} must be at least 1, not {getattr(self, name)}")
        if self.radius < 0:
            raise UserError(f"domain.radius must be at least 0, not {self.radius}")
        if not 0 <= self.focus <= 1:
            raise UserError(f"domain.focus is a share, from 0 to 1, not {self.focus}")
        if not 0 < self.opening < 1:
            raise UserError(f"domain.opening is an opacity between 0 and 1, not {self.opening}")
        Quadrature(self.samples, self.fine, self.background)  # raises for what it does not allow
        if self.source == "furniture" and self.background != 1:
            raise UserError(f"domain.background of the furniture is 1 (white), not {self.background:g}")

    @property
    def points(self) -> int:
        """Points at which the read-out is evaluated in a step, for each object."""
        return self.rays * (self.samples + self.fine)

    @property
    def layout(self) -> Layout:
        return triplane(self.encode.planes.cells(self.resolution))

    def encoder(self) -> PointEncoder:
        return PointEncoder(self.encode, self.layout, self.cloud, extras=3)

    def head(self, width: int) -> RadianceHead:
        return RadianceHead(width, self.opening)

    def open(self, path: str | Path | None) -> ViewSource:
        if path is None and self.source == "furniture":
            from ddmi.domains.nerf.photography import FurnitureViews

            return FurnitureViews(self.pieces, self.views, self.size, cache=kept.home() / "furniture")
        if path is None:
            raise UserError("--data is missing: name a folder of objects with images and their cameras")
        from ddmi.domains.nerf.views import ViewFolder

        how: dict[str, Any] = {"radius": self.radius or None, "background": self.background, "on_bad": self.on_bad}
        return ViewFolder(path, **how, hulls=kept.home() / "hulls")

    def dataset(self, source: ViewSource, split: Split) -> ViewDataset:
        return ViewDataset(self, source, split)

    def fitted(self, source: ViewSource) -> Nerf:
        from ddmi.domains.nerf.photography import FurnitureViews

        return self if isinstance(source, FurnitureViews) else replace(self, source="folder")

    def likelihood(self, signal: Signal, batch: RayBatch) -> Score:
        def ask(points: Float[Tensor, "b n 3"], directions: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 4"]:
            return signal(points, None, directions).float()

        own = [generator(seed, "samples") for seed in batch.seeds] or None
        quadrature = Quadrature(self.samples, self.fine, self.background)
        seen = march(ask, batch.origins, batch.directions, quadrature, generator=own)
        return Score(laplace(seen.over(self.background), batch.colours))

    observable = ("views", "frames")

    def observations(self, **files: Any) -> Observations:
        """Of `views`, posed images of one object in the layouts of its data: those of the numbers `frames`, or all."""
        from ddmi.domains.nerf.views import ViewFolder

        if "views" not in files:
            raise UserError("--views is missing: name posed images of one object")
        source = ViewFolder(
            files["views"], radius=self.radius or None, background=self.background, on_bad="stop", checked=0
        )
        if len(source.names) > 1:
            raise UserError(f"--views {files['views']} holds {len(source.names)} objects: name one")
        dataset = self.dataset(source, "all")
        which = files.get("frames") or list(range(dataset.views(0)))
        if max(which) >= dataset.views(0):
            raise UserError(f"--frames are views 0 to {dataset.views(0) - 1}, not {max(which)}")
        rays = [torch.cat(dataset.camera(0, view).rays(), dim=1) for view in which]
        colours = torch.from_numpy(dataset.images(0, which)).flatten(0, 2).float() / 255
        return Observations(torch.cat(rays), colours, 0.05).thinned(RAYS)

    @property
    def evaluations(self) -> int:
        return self.samples + self.fine

    def within(self, observed: Observations) -> Observations:
        rays = observed.coordinates
        if rays.shape[1:] != (6,) or bool(((rays[:, 3:].norm(dim=1) - 1).abs() > 1e-3).any()):
            raise UserError("observations of a radiance field are rays (n, 6): origins, and directions of length 1")
        return observed

    def predicted(self, signal: Signal, coordinates: Float[Tensor, "n 6"]) -> Float[Tensor, "b n 3"]:
        def ask(points: Float[Tensor, "b n 3"], directions: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 4"]:
            return signal(points, None, directions).float()

        origins, directions = coordinates.expand(len(signal.first), -1, -1).split(3, dim=2)
        quadrature = Quadrature(self.samples, self.fine, self.background)
        return march(ask, origins, directions, quadrature).over(self.background)

    def render(
        self,
        field: FieldLike,
        size: int | tuple[int, int] = 128,
        *,
        camera: Camera | None = None,
        view: Sequence[float] | None = None,
        window: Sequence[float] | None = None,
        samples: int = 64,
        fine: int = 64,
    ) -> FieldView:
        """The object before a camera: an image from there, a turntable, its depth, a mesh. Rendered when asked for.

        Args:
            size: pixels, one number or (height, width); of a mesh, cells along each axis.
            camera: None: on a sphere around the object, as `view` says.
            view: (azimuth, elevation) in degrees; azimuth 0 looks from +z, 90 from +x.
            window: (x0, y0, x1, y1) inside [-1, 1], y down: the part of the image; None for all of it.
            samples, fine: on a ray: evenly spread ones, and those where these found something.

        Raises:
            UserError: a size below 1, a window that leaves [-1, 1], or a view from beyond the poles.
        """
        check_size(size)
        if camera is None:
            camera = Camera.orbit(*(CAMERA if view is None else check_view(view)), size=size)
        camera = camera.resized(size, window)
        return FieldView(field, camera, Quadrature(samples, fine, self.background))

    def metrics(self) -> Metrics:
        from ddmi.domains.nerf.metrics import ViewMetrics

        return Metrics(
            ViewMetrics.of(self),
            quality={
                "fid": "renderings/fid",
                "kernel_distance": "renderings/kernel_distance",
                "frechet": "renderings/frechet",
                "consistency": "consistency/samples",
            },
            fidelity={"psnr": "reconstruction/psnr", "ssim": "reconstruction/ssim"},
        )


def check_view(view: Sequence[float]) -> tuple[float, float]:
    """(azimuth, elevation) in degrees, or UserError."""
    values = tuple(float(v) for v in view)
    if len(values) != 2 or not math.isfinite(values[0]) or not -90 <= values[1] <= 90:
        raise UserError(f"a view is AZIMUTH,ELEVATION in degrees, the elevation between -90 and 90, not {values}")
    return values


class RadianceHead(nn.Module):
    """Point features -> density, and with the direction of the ray -> colour (NeRF, section 3).

    The density is SHARP softplus(.) for a unit of length, shifted so that before training a ray that crosses the whole
    cube is stopped with probability `opening`; the colour is a sigmoid.
    """

    SHARP = 25.0
    """Density at which the softplus has grown by about one: what is solid is reached in few steps."""

    def __init__(self, width: int, opening: float) -> None:
        super().__init__()
        self.shift = math.log(math.expm1(-math.log1p(-opening) / 2 / self.SHARP))
        self.density = nn.Linear(width, 1)
        self.colour = nn.Sequential(nn.Linear(width + 9, width), nn.SiLU(), nn.Linear(width, 3))
        nn.init.zeros_(self.density.bias)

    def forward(
        self, features: Float[Tensor, "b n c"], extras: Float[Tensor, "#b n 3"] | None = None
    ) -> Float[Tensor, "b n 4"]:
        """`extras`: unit directions, away from the camera; None: along -z, as seen from the front."""
        weight = self.density.weight
        features = features.to(weight.dtype)
        if extras is None:
            extras = features.new_tensor([0.0, 0.0, -1.0]).expand(1, features.shape[1], 3)
        basis = harmonics(extras).to(weight.dtype).expand(*features.shape[:2], 9)
        density = self.SHARP * F.softplus(self.density(features).float() + self.shift)
        colour = torch.sigmoid(self.colour(torch.cat([features, basis], dim=2)).float())
        return torch.cat([colour, density], dim=2)


def harmonics(directions: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 9"]:
    """Real spherical harmonics up to degree 2 of unit vectors, each with mean square 1 over the sphere."""
    x, y, z = directions.float().unbind(-1)
    first = [math.sqrt(3) * part for part in (x, y, z)]
    second = [math.sqrt(15) * part for part in (x * y, y * z, x * z, (x * x - y * y) / 2)]
    return torch.stack([torch.ones_like(x), *first, *second, math.sqrt(5) / 2 * (3 * z * z - 1)], dim=-1)


__all__ = ["FieldView", "Nerf", "RadianceHead", "ViewDataset"]
