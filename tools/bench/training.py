"""Steps of both stages, and what recomputing activations saves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tools.bench.measure import Row, steps

if TYPE_CHECKING:
    from ddmi.config import Config
    from ddmi.domains.base import PixelBatch

RECOMPUTING = tuple(
    f"{place}.checkpointing" for place in ("domain.encode", "autoencoder.decoder", "autoencoder.readout")
)
"""Settings that trade time for memory."""


def autoencoder(quick: bool) -> Iterator[Row]:
    """A stage-1 step: 16 pictures of 64x64, the read-out at all pixels of one scale, or at a fifth of them."""
    from ddmi.training.objectives import AutoencoderObjective

    config = small()
    for points, name in ((64 * 64, "all points"), (64 * 64 // 5, "a fifth of the points")):
        yield from steps(f"autoencoder step, {name}", AutoencoderObjective(config), batch(64, 16, points), 16, quick)


def diffusion(quick: bool) -> Iterator[Row]:
    """A stage-2 step: 16 latents of 16x16x16."""
    import torch

    from ddmi.training.estimate import networks
    from ddmi.training.latents import LatentBatch
    from ddmi.training.objectives import DiffusionObjective

    config = small()
    posterior = torch.randn(2, 16, 16, 256)
    latents = LatentBatch(posterior[0], posterior[1] - 5, None, tuple(range(16)))
    yield from steps("denoiser step", DiffusionObjective(config, networks(config, "cpu")[1]), latents, 16, quick)


def memory(quick: bool) -> Iterator[Row]:
    """A stage-1 step of the paper's size on one picture, every pixel of it, keeping all activations."""
    yield from _paper_step(False, quick)


def recomputation(quick: bool) -> Iterator[Row]:
    """The same, recomputing the activations of encoder, decoder and read-out in the backward pass."""
    yield from _paper_step(True, quick)


def _paper_step(checkpointing: bool, quick: bool) -> Iterator[Row]:
    from ddmi.config import override
    from ddmi.presets import find
    from ddmi.training.estimate import seconds
    from ddmi.training.objectives import AutoencoderObjective
    from tools.bench.measure import step

    config = find("lsun-church-128" if quick else "afhq-cat-256")
    if checkpointing:
        config = override(config, dict.fromkeys(RECOMPUTING, "true"))
    resolution = config.domain.resolution  # type: ignore[attr-defined]
    objective = AutoencoderObjective(config).train()
    run = step(objective, batch(resolution, 1, resolution**2))
    how = "recomputing" if checkpointing else "keeping"
    name = f"autoencoder step of {config.name}, one picture, {how} activations"
    yield {"stage": name, "seconds": seconds(lambda: run("fp32"), 1, warm=False)}


def small() -> Config:
    """64x64 pictures, a 16x16x16 latent; base width 32 and 64, two blocks a level, read-out of width 128."""
    from ddmi.config import Config
    from ddmi.domains.image import Image
    from ddmi.model.autoencoder import AutoencoderConfig
    from ddmi.model.decoder import DecoderConfig
    from ddmi.model.diffusion import DiffusionConfig
    from ddmi.model.encoders.image import ConvEncoderConfig
    from ddmi.model.readout import ReadoutConfig
    from ddmi.model.unet import UNetConfig

    return Config(
        name="bench",
        domain=Image(resolution=64, encode=ConvEncoderConfig(base=32, multipliers=(1, 2, 4), blocks=2)),
        autoencoder=AutoencoderConfig(
            latent_channels=16,
            decoder=DecoderConfig(base=32, blocks=2),
            readout=ReadoutConfig(width=128),
        ),
        diffusion=DiffusionConfig(unet=UNetConfig(base=64, multipliers=(1, 2, 4), blocks=2)),
    )


def batch(resolution: int, pictures: int, points: int) -> PixelBatch:
    """Random pictures, asked at random points at the resolution that the encoder sees."""
    import torch

    from ddmi.domains.base import PixelBatch

    return PixelBatch(
        x=torch.rand(pictures, 3, resolution, resolution) * 2 - 1,
        coordinates=torch.rand(pictures, points, 2) * 2 - 1,
        targets=torch.rand(pictures, points, 3) * 2 - 1,
        periods=torch.ones(1),
        seeds=tuple(range(pictures)),
    )
