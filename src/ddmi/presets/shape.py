"""Presets of the shape domain: Tables 9 and 10 of the paper, and small ones that a CPU trains."""

from __future__ import annotations

from dataclasses import replace

from ddmi.config import Config, TrainingConfig
from ddmi.domains.shape import Shape
from ddmi.model.autoencoder import AutoencoderConfig
from ddmi.model.decoder import DecoderConfig, Level
from ddmi.model.diffusion import DiffusionConfig
from ddmi.model.encoders.image import ConvEncoderConfig
from ddmi.model.encoders.points import PointEncoderConfig
from ddmi.model.readout import ReadoutConfig
from ddmi.model.unet import UNetConfig
from ddmi.presets import Demo

THREE_FIELDS = (Level(multiplier=4), Level(multiplier=2, enlarge=2), Level(multiplier=1, enlarge=2))
NARROW = (Level(multiplier=2), Level(multiplier=1, enlarge=2), Level(multiplier=1, enlarge=2))
"""Never below 16 channels in small decoders: a CPU multiplies fewer no faster."""


def shapenet_chair() -> Config:
    """ShapeNet chairs as occupancy functions (Tables 9, 10): three latent planes of 16x16x64."""
    return Config(
        name="shapenet-chair",
        domain=Shape(),
        autoencoder=AutoencoderConfig(
            latent_channels=64,
            decoder=DecoderConfig(base=64, levels=THREE_FIELDS, blocks=3, field_width=64, head_width=32),
            readout=ReadoutConfig(width=256, blocks=4, scale_injection=False),
        ),
        diffusion=DiffusionConfig(
            unet=UNetConfig(base=256, multipliers=(1, 2, 3, 4), attention=(2, 4, 8)),
            sampler="ddpm",
            sampling_steps=1000,
        ),
        training=TrainingConfig(
            autoencoder_steps=100_000,
            diffusion_steps=400_000,
            batch_size=40,
            diffusion_learning_rate=2e-4,
            precision="bf16",
        ),
    )


def shapenet_13() -> Config:
    """ShapeNet, 13 classes together (Tables 9, 10): as the chairs."""
    chairs = shapenet_chair()
    return replace(chairs, name="shapenet-13", training=replace(chairs.training, autoencoder_steps=300_000))


def text2shape() -> Config:
    """Chairs and tables of ShapeNet from their descriptions (section 4.2): CLIP's token states, guidance 3."""
    chairs = shapenet_chair()
    diffusion = replace(chairs.diffusion, condition="text", text_encoder="clip", guidance_scale=3.0)
    return replace(chairs, name="text2shape", diffusion=diffusion)


def furniture_small() -> Config:
    """Procedural furniture, with captions: both stages train in about a quarter of an hour on two cores.

    Planes of 16x16x4 after a single halving: a shallow autoencoder learns much faster, which is what counts here.
    """
    return Config(
        name="furniture-small",
        domain=Shape(
            resolution=32,
            source="furniture",
            pieces=3000,
            cloud=1024,
            points=2048,
            encode=PointEncoderConfig(
                width=32,
                blocks=3,
                features=16,
                offsets=True,
                planes=ConvEncoderConfig(base=16, multipliers=(1, 2), blocks=1, middle=1, head_width=32),
            ),
        ),
        autoencoder=AutoencoderConfig(
            latent_channels=4,
            decoder=DecoderConfig(base=16, levels=NARROW, blocks=1, middle=1, field_width=16, head_width=32),
            readout=ReadoutConfig(width=64, blocks=3, scale_injection=False),
        ),
        diffusion=DiffusionConfig(
            unet=UNetConfig(base=64, multipliers=(1, 2), blocks=1, attention=(1, 2), patch=2),
            condition="text",
            text_encoder="minilm",
            text_width=384,
            snr_cap=1.0,
            mixing_init=0.0,
            guidance_scale=3.0,
            sampler="ddpm",
            sampling_steps=50,
            ema_decay=0.999,
        ),
        training=TrainingConfig(
            autoencoder_steps=2500,
            diffusion_steps=1500,
            batch_size=8,
            diffusion_batch_size=16,
            autoencoder_learning_rate=3e-3,
            diffusion_learning_rate=1e-3,
            warmup_steps=50,
            checkpoint_every=500,
            preview_every=500,
        ),
    )


def furniture() -> Config:
    """Procedural furniture beside catalogues of real furniture (prepared): the pretrained model of the package.

    An hour of one core. Real furniture encloses its space behind thin sheets: the encoder reads normals, which
    settle where the inside is.
    """
    pieces = furniture_small()
    return replace(
        pieces,
        name="furniture",
        domain=replace(
            pieces.domain,  # type: ignore[type-var]
            source="both",
            pieces=2000,
            cloud=1536,
            normals=True,
            mirror=True,
        ),
        autoencoder=replace(pieces.autoencoder, latent_channels=6),
        diffusion=replace(pieces.diffusion, ema_decay=0.9995, sampler="dpm", sampling_steps=25),
        training=replace(
            pieces.training,
            autoencoder_steps=2600,
            diffusion_steps=3200,
            warmup_steps=200,
            checkpoint_every=250,
            preview_every=1000,
        ),
    )


def meshes_small() -> Config:
    """Meshes of your own (prepared), without text: about an hour on a CPU. The encoder reads normals too."""
    pieces = furniture_small()
    return replace(
        pieces,
        name="meshes-small",
        domain=Shape(
            resolution=64,
            cloud=3000,
            normals=True,
            points=2048,
            mirror=True,
            encode=PointEncoderConfig(
                width=48,
                blocks=4,
                features=16,
                offsets=True,
                planes=ConvEncoderConfig(base=16, multipliers=(1, 2, 4), blocks=1, middle=1, head_width=64),
            ),
        ),
        autoencoder=AutoencoderConfig(
            latent_channels=8,
            decoder=DecoderConfig(base=12, levels=THREE_FIELDS, blocks=1, middle=1, field_width=24, head_width=48),
            readout=ReadoutConfig(width=64, blocks=3, scale_injection=False),
        ),
        diffusion=DiffusionConfig(
            unet=UNetConfig(base=64, multipliers=(1, 2), blocks=1, attention=(1, 2), patch=2),
            snr_cap=1.0,
            mixing_init=0.0,
            sampler="ddpm",
            sampling_steps=50,
            ema_decay=0.999,
        ),
        training=replace(pieces.training, autoencoder_steps=3000, diffusion_steps=3000, checkpoint_every=250),
    )


def demo() -> Demo:
    """The demonstration of `ddmi demo shape`."""
    small = furniture_small()
    training = replace(small.training, autoencoder_steps=1100)
    return Demo(config=replace(small, training=training), minutes=6.0, samples=48)
