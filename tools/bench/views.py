"""Radiance fields: a training step at the paper's sizes, and pictures with and without skipping what is empty."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tools.bench.measure import Row, peak_bytes, random_field, steps

if TYPE_CHECKING:
    from torch import Tensor

RAYS = 256


def rays(quick: bool) -> Iterator[Row]:
    """A stage-1 step of `srn-cars` on one object: a cloud of 3,000 points, 256 rays of 96 and 32 samples."""
    from dataclasses import replace

    import torch

    from ddmi.domains.nerf.dataset import RayBatch
    from ddmi.presets import find
    from ddmi.rendering.cameras import Camera
    from ddmi.training.objectives import AutoencoderObjective

    torch.manual_seed(0)
    config = find("srn-cars")
    config = replace(config, domain=replace(config.domain, rays=RAYS))  # type: ignore[type-var]
    origins, directions = Camera.orbit(35, 20, size=16).rays()
    batch = RayBatch(
        x=torch.rand(1, 3000, 6) * 1.8 - 0.9,
        origins=origins[None],
        colours=torch.rand(1, RAYS, 3),
        directions=directions[None],
        seeds=(0,),
    )
    objective = AutoencoderObjective(config)
    count = sum(p.numel() for p in objective.parameters()) / 1e6
    yield from steps(f"radiance step, {count:.1f} M parameters, {RAYS} rays", objective, batch, 1, quick)


def pictures(quick: bool) -> Iterator[Row]:
    """A picture of a chair: every sample costs what the read-out of `furniture-views-small` costs, and answers what
    the chair is; all samples first, then only those where the coarse grid says that something is.
    """
    import torch

    from ddmi.data.furniture import Furniture
    from ddmi.presets import find
    from ddmi.rendering.cameras import Camera
    from ddmi.rendering.volume import Occupancy, Quadrature, render_field
    from ddmi.training.estimate import seconds

    field, pieces = random_field(find("furniture-views-small")), Furniture(64)
    chair = next(piece for piece in pieces.pieces if piece.kind == "chair")
    size = 64 if quick else 128
    camera, quadrature = Camera.orbit(35, 20, size=size), Quadrature(64, 64)
    asked = 0

    def value(points: Tensor, periods: Tensor | None = None, extras: Tensor | None = None) -> Tensor:
        nonlocal asked
        asked += len(points)
        depth = torch.from_numpy(-chair.solid.levels(points.numpy()).min(axis=0)).float()
        out = field(points, None, extras)
        return torch.cat([out[:, :3], (100 * depth.clamp(min=0))[:, None]], dim=1)

    found = Occupancy(value)
    yield {
        "stage": "where a field is empty, 64 cells a side",
        "seconds": seconds(lambda: Occupancy(value), 1),
        "peak_bytes": peak_bytes(),
    }
    for name, occupancy in (("every sample", None), ("empty space skipped", found)):
        render_field(value, camera, quadrature, occupancy=occupancy)
        asked = 0
        took = seconds(
            lambda occupancy=occupancy: render_field(value, camera, quadrature, occupancy=occupancy),  # type: ignore[misc]
            1,
            warm=False,
        )
        yield {
            "stage": f"picture of {size}x{size}, 64 + 64 samples a ray, {name}",
            "seconds": took,
            "rate": f"{asked / 1e6:.2f} M samples asked",
            "peak_bytes": peak_bytes(),
        }
