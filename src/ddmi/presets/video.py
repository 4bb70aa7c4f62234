"""Presets of the video domain: Tables 9 and 10 of the paper, and a small one that a CPU trains."""

from __future__ import annotations

from dataclasses import replace

from ddmi.config import Config, TrainingConfig
from ddmi.domains.video import Video
from ddmi.model.autoencoder import AutoencoderConfig
from ddmi.model.decoder import DecoderConfig, Level
from ddmi.model.diffusion import DiffusionConfig
from ddmi.model.encoders.video import VideoEncoderConfig
from ddmi.model.losses import ElboConfig
from ddmi.model.readout import ReadoutConfig
from ddmi.model.unet import UNetConfig
from ddmi.presets import Demo


def skytimelapse_256() -> Config:
    """SkyTimelapse, 16 frames of 256x256 (Tables 9, 10): planes of 64 channels, xy 64x64, yt and xt 64x16.

    A patch of 4 pixels gives the latent of Table 9, 64 cells a side. Its decoder has four levels, (8, 4, 2, 1), and
    three basis fields, at (1, 2, 4) times the latent in space: the first level only prepares. Time stays at 16 cells.
    """
    levels = (
        Level(multiplier=8, field=False),
        Level(multiplier=4),
        Level(multiplier=2, enlarge=2),
        Level(multiplier=1, enlarge=2),
    )
    return Config(
        name="skytimelapse-256",
        domain=Video(
            scales=(1.0, 1.5, 2.0),
            points=16_384,
            sampling="patch",
            encode=VideoEncoderConfig(patch=4),
        ),
        autoencoder=AutoencoderConfig(
            latent_channels=64,
            decoder=DecoderConfig(base=64, levels=levels, blocks=3, field_width=64, head_width=64),
            readout=ReadoutConfig(width=256, blocks=4, planes="concatenate"),
        ),
        diffusion=DiffusionConfig(
            unet=UNetConfig(base=256, multipliers=(1, 2, 3, 4), attention=(2, 4, 8)),
            sampler="ddpm",
            sampling_steps=1000,
        ),
        training=TrainingConfig(autoencoder_steps=200_000, diffusion_steps=400_000, batch_size=16, precision="bf16"),
    )


def clips_small() -> Config:
    """Moving emoji at 64x64, 16 frames, with text: both stages train in about a quarter of an hour on two cores.

    The encoder sees every second frame, and training asks for the others too.
    """
    levels = (Level(multiplier=2), Level(multiplier=1, enlarge=2), Level(multiplier=1, enlarge=2))
    return Config(
        name="clips-small",
        domain=Video(
            size=(64, 64),
            stride=2,
            source="emoji",
            motions=1,
            scales=(1.0, 2.0),
            rates=(1, 2),
            points=2048,
            depth=8,
            encode=VideoEncoderConfig(
                patch=4,
                tubelet=2,
                width=64,
                blocks=1,
                head_width=32,
                plane_width=64,
                plane_blocks=1,
                plane_head_width=32,
            ),
        ),
        autoencoder=AutoencoderConfig(
            latent_channels=8,
            decoder=DecoderConfig(
                base=24, levels=levels, blocks=1, middle=1, field_width=24, head_width=48, shuffle=True
            ),
            readout=ReadoutConfig(width=96, blocks=3, planes="concatenate", scale_width=64),
        ),
        diffusion=DiffusionConfig(
            unet=UNetConfig(base=64, multipliers=(1, 2), blocks=1, attention=(1, 2), film=True, groups=8, patch=2),
            parameterisation="v",
            times="logit-normal",
            times_mean=-1.0,
            times_deviation=1.2,
            condition="text",
            text_encoder="minilm",
            text_width=384,
            guidance_scale=3.0,
            sampler="dpm",
            sampling_steps=25,
            ema_decay=0.999,
        ),
        training=TrainingConfig(
            autoencoder_steps=2000,
            diffusion_steps=1000,
            batch_size=4,
            diffusion_batch_size=16,
            autoencoder_learning_rate=2e-3,
            diffusion_learning_rate=1e-3,
            warmup_steps=50,
            checkpoint_every=500,
            preview_every=500,
        ),
    )


def clips() -> Config:
    """Moving emoji at 64x64 in all seven motions, with text: the pretrained model of the package."""
    small = clips_small()
    encode = replace(small.domain.encode, width=96, plane_width=96)  # type: ignore[attr-defined]
    unet = UNetConfig(base=32, multipliers=(1, 4, 5), blocks=1, attention=(2, 4), film=True, groups=8, dropout=0.1)
    return replace(
        small,
        name="clips",
        domain=replace(small.domain, motions=0, encode=encode),  # type: ignore[type-var]
        autoencoder=replace(
            small.autoencoder,
            decoder=replace(small.autoencoder.decoder, base=32, field_width=32),
            readout=replace(small.autoencoder.readout, width=128),
            objective=ElboConfig(kl_end=2e-3, latent_noise=0.1, decoder_noise=0.3),
        ),
        diffusion=replace(small.diffusion, unet=unet, ema_decay=0.9995),
        training=replace(
            small.training,
            autoencoder_steps=20_000,
            decoder_steps=3000,
            diffusion_steps=40_000,
            warmup_steps=200,
            checkpoint_every=1000,
            preview_every=2000,
        ),
    )


def demo() -> Demo:
    """The demonstration of `ddmi demo video`."""
    small = clips_small()
    training = replace(small.training, autoencoder_steps=1800)
    return Demo(config=replace(small, training=training), minutes=3.0, samples=48)
