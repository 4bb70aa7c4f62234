"""Video at the paper's sizes: a training step, and frames of the read-out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from tools.bench.measure import Row, operations, peak_bytes, random_field, steps

if TYPE_CHECKING:
    from ddmi.config import Config


SIZE, FRAMES, POINTS = 64, 16, 4096


def reduced(base: int = 64) -> Config:
    """`skytimelapse-256` with its networks, for clips of 64x64: latent planes of 8 cells, fields of 16, 32 and 64."""
    from ddmi.model.decoder import Level
    from ddmi.model.encoders.video import VideoEncoderConfig
    from ddmi.presets import find

    config = find("skytimelapse-256")
    first, *others = config.autoencoder.decoder.levels
    levels = (first, *(Level(multiplier=level.multiplier, enlarge=2) for level in others))
    domain = replace(  # type: ignore[type-var]
        config.domain, size=(SIZE, SIZE), scales=(1.0,), points=POINTS, encode=VideoEncoderConfig(patch=8)
    )
    decoder = replace(config.autoencoder.decoder, levels=levels, base=base)
    return replace(config, domain=domain, autoencoder=replace(config.autoencoder, decoder=decoder))


def clips(quick: bool) -> Iterator[Row]:
    """A stage-1 step on one clip of 16 frames of 64x64, scored at 4,096 points; the decoder as wide as Table 9 has it,
    and wider, so that the whole has 88 million parameters.
    """
    import torch

    from ddmi.domains.base import PixelBatch
    from ddmi.training.objectives import AutoencoderObjective

    torch.manual_seed(0)
    at = torch.rand(1, POINTS, 3) * 2 - 1
    batch = PixelBatch(
        x=torch.rand(1, 3, FRAMES, SIZE, SIZE), coordinates=at, targets=at, periods=torch.ones(2), seeds=(0,)
    )
    for base in (64,) if quick else (64, 88):
        objective = AutoencoderObjective(reduced(base))
        count = sum(p.numel() for p in objective.parameters()) / 1e6
        yield from steps(f"video step, {count:.1f} M parameters", objective, batch, 1, quick)


def frames(quick: bool) -> Iterator[Row]:
    """Frames of 64x64 of a field of three planes, three scales of 64 channels, four blocks of width 256; then in bf16.

    The planes' features are joined, as in the paper's decoder for video: 192 channels a scale.
    """
    import torch

    from ddmi.training.estimate import product_rate, seconds

    field = random_field(reduced())
    count = 2 if quick else FRAMES
    points = count * SIZE**2
    counted = 0.0
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        narrow = field.to(dtype=dtype)
        took = seconds(lambda narrow=narrow: narrow.render(SIZE, frames=count).array(), 1 if quick else 3)  # type: ignore[misc]
        row = {"stage": f"frames of {SIZE}x{SIZE}, width 256, {precision}", "seconds": took}
        row |= {"rate": f"{points / took / 1e3:.0f} k points/s", "peak_bytes": peak_bytes()}
        counted = counted or operations(lambda: field.render(SIZE, frames=1).array()) * count
        yield {**row, "share": counted / took / product_rate(precision)}
