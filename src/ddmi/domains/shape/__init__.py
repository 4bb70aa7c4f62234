"""Shapes: omega: (x, y, z) -> a logit of occupancy, on three latent planes; y is up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddmi.base.coordinates import check_size, check_window
from ddmi.base.errors import UserError
from ddmi.base.planes import Layout, triplane
from ddmi.data.furniture import Furniture
from ddmi.domains.base import Domain, FieldLike, Formats, Metrics, PointBatch, Score, Split
from ddmi.domains.shape.dataset import ShapeDataset
from ddmi.domains.shape.joined import Joined
from ddmi.model.encoders.points import PointEncoder, PointEncoderConfig
from ddmi.model.losses import bernoulli
from ddmi.model.observed import Observations
from ddmi.model.signal import Signal
from ddmi.rendering.files import IMAGES, MOVIES
from ddmi.rendering.mesh import MESHES

if TYPE_CHECKING:
    from ddmi.data.shapes import ShapeSource
    from ddmi.domains.shape.surface import Surface


@dataclass(frozen=True, kw_only=True)
class Shape(Domain["Surface", ShapeDataset]):
    """Objects in the cube [-1, 1]^3, seen by the encoder as points of their surface and scored as occupancy (Eq. 12).

    A shape lies in the middle of the cube, and the longest side of its bounding box measures 2 / 1.1.

    Args:
        resolution: cells along each axis of the planes that receive point features; a multiple of 2^(levels of
            `encode.planes` - 1), by which the latent is smaller.
        source: "folder" (shapes of your own, prepared, or in the layout of Occupancy Networks), "furniture"
            (procedural, with captions), or "both".
        pieces: procedural objects.
        cloud: points of the surface that the encoder reads.
        noise: standard deviation of the noise on them, in units of [-1, 1].
        normals: the encoder also reads the outward normal at each point, from which the inside is learned much sooner;
            the paper has the points alone.
        points: queries of each shape in a step.
        near: share of the queries that lie near the surface; the others fill the cube.
        mirror: also train on shapes with left and right exchanged.
        threshold: probability of being inside at which the surface lies.
        held_out: share of the shapes that training never sees, where the data does not say.
        encode: the encoder.
    """

    resolution: int = 64
    source: Literal["folder", "furniture", "both"] = "folder"
    pieces: int = 4000
    cloud: int = 3000
    noise: float = 0.01
    normals: bool = False
    points: int = 2048
    near: float = 0.5
    mirror: bool = False
    threshold: float = 0.5
    held_out: float = 0.05
    encode: PointEncoderConfig = field(default_factory=PointEncoderConfig)

    formats = Formats(
        files=(*MESHES, *IMAGES, *MOVIES),
        sheets=(*IMAGES, *MOVIES),
        options=("window",),
        views=("mesh",),
    )

    def __post_init__(self) -> None:
        self.encode.planes.cells(self.resolution)  # raises for what it does not allow
        for name in ("pieces", "cloud", "points"):
            if getattr(self, name) < 1:
                raise UserError(f"domain.{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.near <= 1:
            raise UserError(f"domain.near is a share, from 0 to 1, not {self.near}")
        if not 0 < self.threshold < 1:
            raise UserError(f"domain.threshold is a probability between 0 and 1, not {self.threshold}")

    @property
    def layout(self) -> Layout:
        return triplane(self.encode.planes.cells(self.resolution))

    def encoder(self) -> PointEncoder:
        return PointEncoder(self.encode, self.layout, self.cloud, extras=3 if self.normals else 0)

    def head(self, width: int) -> OccupancyHead:
        return OccupancyHead(width)

    def open(self, path: str | Path | None) -> ShapeSource:
        if path is None and self.source == "furniture":
            return Furniture(self.pieces)
        if path is None:
            raise UserError("--data is missing: name a folder of prepared shapes (ddmi prepare shapes makes one)")
        from ddmi.domains.shape.shapes import open_shapes

        own = open_shapes(path)
        return Joined([Furniture(self.pieces), own]) if self.source == "both" and Path(path).is_dir() else own

    def dataset(self, source: ShapeSource, split: Split) -> ShapeDataset:
        return ShapeDataset(self, source, split)

    def fitted(self, source: ShapeSource) -> Shape:
        return self if isinstance(source, Furniture | Joined) else replace(self, source="folder")

    def likelihood(self, signal: Signal, batch: PointBatch) -> Score:
        return Score(bernoulli(signal(batch.coordinates), batch.targets))

    observable = ("points", "eye")

    def observations(self, **files: Any) -> Observations:
        """Of `points`, a partial scan or cross-sections: see `observe.observations`; `eye` is where a scanner stood."""
        from ddmi.domains.shape.observe import observations

        if "points" not in files:
            raise UserError("--points is missing: name a partial scan, or points with occupancies")
        return observations(files["points"], files.get("eye"), 1 / self.resolution)

    def misfit(self, signal: Signal, seen: Observations, jitter: Float[Tensor, "b n 1"]) -> Float[Tensor, "b"]:
        """Eq. 12 of values that are wrong with probability `noise`, which has no deviation to perturb them by."""
        inside = self.predicted(signal, seen.coordinates).float()
        yes, no = (seen.noise + (1 - 2 * seen.noise) * torch.sigmoid(sign * inside) for sign in (1, -1))
        return -(seen.values * yes.log() + (1 - seen.values) * no.log()).sum((1, 2))

    @property
    def level(self) -> float:
        """The logit of `threshold`."""
        return math.log(self.threshold / (1 - self.threshold))

    def render(
        self,
        field: FieldLike,
        size: int | tuple[int, ...] = 64,
        *,
        window: Sequence[float] | None = None,
        faces: int | None = None,
    ) -> Surface:
        """The surface as a closed mesh, its normals outwards; without faces where nothing is above the threshold.

        Args:
            size: cells along each axis. The field is evaluated near the surface only, so that 256 takes seconds.
            window: (x0, y0, z0, x1, y1, z1) inside [-1, 1]; None for the whole cube.
            faces: simplify to about so many; None keeps them all.

        Raises:
            UserError: a size below 1 or too large for memory, or a window that leaves [-1, 1].
        """
        from ddmi.domains.shape.surface import Surface
        from ddmi.rendering.mesh import iso_surface, simplified

        (cells,) = check_size(size, 1)
        corners = check_window(window, 3)
        mesh = iso_surface(lambda points: field(points)[:, 0], cells, level=self.level, window=corners)
        return Surface.of(mesh if faces is None else simplified(mesh, faces))

    def as_given(self, rendering: Surface, path: str | Path, ending: str) -> Surface:
        """The reconstruction in the coordinates of the mesh file that was encoded; images show our frame."""
        import numpy as np

        from ddmi.domains.shape.single_mesh import SingleMesh

        source = self.open(path) if ending in MESHES else None
        if not isinstance(source, SingleMesh):
            return rendering
        return rendering.of(rendering.copy().apply_transform(np.linalg.inv(source.placement)))

    def metrics(self) -> Metrics:
        from ddmi.domains.shape.metrics import ShapeMetrics

        return Metrics(
            ShapeMetrics.of(self),
            quality={
                "mmd": "point_sets/chamfer/mmd",
                "coverage": "point_sets/chamfer/cov",
                "one_nearest_neighbour": "point_sets/chamfer/nna",
            },
            fidelity={"iou": "reconstruction/iou", "f_score": "reconstruction/f_score"},
        )


class OccupancyHead(nn.Module):
    """Point features -> the logit of being inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)

    def forward(self, features: Float[Tensor, "b n c"], extras: Tensor | None = None) -> Float[Tensor, "b n 1"]:
        return self.linear(features.to(self.linear.weight.dtype))


__all__ = ["OccupancyHead", "Shape", "ShapeDataset"]
