"""One latent to a picture: the product rate that bounds it, the read-out, and a picture that is streamed to a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tools.bench.measure import Row, operations, peak_bytes

if TYPE_CHECKING:
    from ddmi.field import Field


def product(quick: bool) -> Iterator[Row]:
    """The rate of (65536 x 256) @ (256 x 256) products, at once and some rows at a time."""
    from ddmi.training.estimate import product_rate

    for precision in ("fp32", "bf16"):
        for rows, name in ((1 << 16, "whole"), (8192, "8192 rows at a time"), (4096, "4096 rows at a time")):
            rate = product_rate(precision, rows)
            yield {"stage": f"matrix product, {precision}, {name}", "rate": f"{rate / 1e9:.1f} GFLOP/s"}


def readout(quick: bool) -> Iterator[Row]:
    """One latent drawn at 1024x1024: three fields of 64 channels, four blocks of width 256; then in bf16."""
    import torch

    from ddmi.base.coordinates import grid
    from ddmi.metrics.pixels import psnr
    from ddmi.training.estimate import product_rate, seconds

    field, size, counted = paper_field(), 512 if quick else 1024, 0.0
    exact, few, points = field(grid((256, 256)), torch.ones(1)), grid((64, 64)), size**2 / 1e6
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        narrow = field.to(dtype=dtype)
        took = seconds(lambda narrow=narrow: narrow.render(size), 1 if quick else 3)  # type: ignore[misc]
        row = {"stage": f"read-out, {size}x{size}, {precision}", "seconds": took}
        row |= {"rate": f"{points / took:.3f} Mpixel/s", "peak_bytes": peak_bytes()}
        counted = counted or operations(lambda: field(few, torch.ones(1))) * size**2 / len(few)  # takes memory itself
        row["share"] = counted / took / product_rate(precision)
        if precision != "fp32":
            near = narrow(grid((256, 256)), torch.ones(1))
            row["psnr"] = float(psnr(*(x.clamp(-1, 1).t().reshape(1, 3, 256, 256) for x in (near, exact))))
        yield row


def streaming(quick: bool) -> Iterator[Row]:
    """A field of `emoji-32` streamed to a file at 8192x8192, beside the same field at 1024x1024 in memory."""
    import tempfile
    from pathlib import Path

    import torch

    from ddmi.training.estimate import seconds
    from tools.bench.sampling import pipeline

    pipe = pipeline()
    field, size = pipe.decode(torch.randn(1, *pipe.autoencoder.latent_shape))[0], 2048 if quick else 8192
    small = seconds(lambda: field.render(1024), 3)
    with tempfile.TemporaryDirectory() as scratch:
        took = seconds(lambda: field.render(size, streamed=True).save(Path(scratch) / "field.tif"), 1, warm=False)
    relative = took / small * 1024**2 / size**2
    rate = f"{size**2 / 1e6 / took:.2f} Mpixel/s, {relative:.2f} x the time of a pixel at 1024x1024"
    yield {
        "stage": f"a field of {pipe.config.name} streamed to a file, {size}x{size}, fp32",
        "seconds": took,
        "rate": rate,
    }


def paper_field() -> Field:
    """A random field with the sizes of Table 9: three basis fields of 64 channels, four blocks of width 256."""
    import torch

    from ddmi.domains.image import Image
    from ddmi.field import Field
    from ddmi.model.readout import Readout, ReadoutConfig
    from ddmi.model.signal import Signal

    domain = Image(resolution=256)
    network = Readout(ReadoutConfig(width=256, blocks=4), fields=3, field_width=64, planes=1, periods=domain.periods)
    fields = [{"xy": torch.randn(1, 64, n, n).contiguous(memory_format=torch.channels_last)} for n in (64, 128, 256)]
    return Field(Signal(fields, network.eval(), domain.head(256).eval(), domain.layout), domain)
