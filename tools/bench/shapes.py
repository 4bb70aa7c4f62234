"""Shapes at the paper's sizes: a training step, queries of the read-out, and a mesh."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tools.bench.measure import Row, operations, peak_bytes, random_field, steps

if TYPE_CHECKING:
    from torch import Tensor

QUERIES = 1 << 17


def shapes(quick: bool) -> Iterator[Row]:
    """A stage-1 step of `shapenet-chair`: one cloud of 3,000 points, 2,048 queries."""
    import torch

    from ddmi.domains.base import PointBatch
    from ddmi.presets import find
    from ddmi.training.objectives import AutoencoderObjective

    torch.manual_seed(0)
    cloud, queries = torch.rand(1, 3000, 3) * 1.8 - 0.9, torch.rand(1, 2048, 3) * 2 - 1
    batch = PointBatch(x=cloud, coordinates=queries, targets=(queries[:, :, :1] > 0).float(), seeds=(0,))
    objective = AutoencoderObjective(find("shapenet-chair"))
    count = sum(p.numel() for p in objective.parameters()) / 1e6
    yield from steps(f"tri-plane step, {count:.1f} M parameters", objective, batch, 1, quick)


def queries(quick: bool) -> Iterator[Row]:
    """Random queries of a tri-plane field: three scales of 64 channels, four blocks of width 256; then in bf16."""
    import torch

    from ddmi.presets import find
    from ddmi.training.estimate import product_rate, seconds

    field, at = random_field(find("shapenet-chair")), torch.rand(QUERIES // (8 if quick else 1), 3) * 2 - 1
    counted = 0.0
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        narrow = field.to(dtype=dtype)
        took = seconds(lambda narrow=narrow: narrow(at), 1 if quick else 3)  # type: ignore[misc]
        row = {"stage": f"tri-plane queries, width 256, {precision}", "seconds": took}
        row |= {"rate": f"{len(at) / took / 1e3:.0f} k queries/s", "peak_bytes": peak_bytes()}
        counted = counted or operations(lambda: field(at[:4096])) * len(at) / 4096
        yield {**row, "share": counted / took / product_rate(precision)}


def meshes(quick: bool) -> Iterator[Row]:
    """The surface of a chair: every query costs what the paper's read-out costs, and answers what the chair is."""
    import torch

    from ddmi.data.furniture import Furniture
    from ddmi.domains.shape import Shape
    from ddmi.presets import find
    from ddmi.training.estimate import seconds

    field, pieces = random_field(find("shapenet-chair")), Furniture(64)
    chair = next(piece for piece in pieces.pieces if piece.kind == "chair")

    def value(points: Tensor) -> Tensor:
        depth = -chair.solid.levels(points.numpy()).min(axis=0)
        return 0 * field(points) + torch.from_numpy(depth).float()[:, None]

    for size in (64,) if quick else (128, 256):
        mesh = Shape().render(value, size)
        took = seconds(lambda size=size: Shape().render(value, size), 1, warm=False)  # type: ignore[misc]
        rate = f"{mesh.metadata['queries']:,} queries for {size**3:,} cells, {len(mesh.faces):,} faces"
        yield {
            "stage": f"mesh of {size} cells, width 256, fp32",
            "seconds": took,
            "rate": rate,
            "peak_bytes": peak_bytes(),
        }
