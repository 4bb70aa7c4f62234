"""Shapes at the paper's sizes: a training step, queries of the read-out, and a mesh."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ddmi.bench.measure import Row, operations, peak_bytes, steps

if TYPE_CHECKING:
    from torch import Tensor

    from ddmi.field import Field

QUERIES = 1 << 17


def shapes(quick: bool) -> Iterator[Row]:
    """A stage-1 step of `shapenet-chair`: one cloud of 3,000 points, 2,048 queries."""
    import torch

    from ddmi.domains.base import Batch
    from ddmi.presets import find
    from ddmi.training.objectives import AutoencoderObjective

    torch.manual_seed(0)
    cloud, queries = torch.rand(1, 3000, 3) * 1.8 - 0.9, torch.rand(1, 2048, 3) * 2 - 1
    batch = Batch(x=cloud, coordinates=queries, targets=(queries[:, :, :1] > 0).float(), seeds=(0,))
    objective = AutoencoderObjective(find("shapenet-chair"))
    count = sum(p.numel() for p in objective.parameters()) / 1e6
    yield from steps(f"tri-plane step, {count:.1f} M parameters", objective, batch, 1, quick)


def queries(quick: bool) -> Iterator[Row]:
    """Random queries of a tri-plane field: three scales of 64 channels, four blocks of width 256; then in bf16."""
    import torch

    from ddmi.estimate import product_rate, seconds

    field, at = paper_field(), torch.rand(QUERIES // (8 if quick else 1), 3) * 2 - 1
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
    from ddmi.estimate import seconds

    field, pieces = paper_field(), Furniture(64)
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


def paper_field() -> Field:
    """A random tri-plane field with the sizes of Table 9: 16, 32 and 64 cells, four blocks of width 256."""
    import torch

    from ddmi.field import Field
    from ddmi.presets import find
    from ddmi.readout import Readout
    from ddmi.signal import Signal

    config = find("shapenet-chair")
    domain, settings = config.domain, config.autoencoder
    width = settings.decoder.field_width
    network = Readout(settings.readout, fields=3, field_width=width, planes=3, periods=0)
    fields = [
        {
            name: torch.randn(1, width, *shape).contiguous(memory_format=torch.channels_last)
            for name, shape in shapes.items()
        }
        for shapes in settings.decoder.shapes(domain.layout)
    ]
    head = domain.head(settings.readout.width)
    return Field(Signal(fields, network.eval(), head.eval(), domain.layout), domain)
