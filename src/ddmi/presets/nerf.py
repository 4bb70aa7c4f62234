"""Presets of the NeRF domain: Tables 9 and 10 of the paper as far as they go, and a small one for a processor."""

from __future__ import annotations

from ddmi.autoencoder import AutoencoderConfig
from ddmi.config import Config, TrainingConfig
from ddmi.decoder import DecoderConfig, Level
from ddmi.diffusion import DiffusionConfig
from ddmi.domains.nerf import Nerf
from ddmi.encoders.image import ConvEncoderConfig
from ddmi.encoders.points import PointEncoderConfig
from ddmi.readout import ReadoutConfig
from ddmi.unet import UNetConfig

THREE_FIELDS = (Level(multiplier=4), Level(multiplier=2, enlarge=2), Level(multiplier=1, enlarge=2))


def srn_cars() -> Config:
    """SRN cars: coloured points to radiance fields. Tables 9 and 10 have no column for them: sizes are the shapes'.

    The released code has planes of 16x16x64, 256 evenly spread samples on a ray, and 5,000 rays of one view of one
    object in a step; here rays of several views of several objects make a step.
    """
    return Config(
        name="srn-cars",
        domain=Nerf(rays=2048, samples=96, fine=32),
        autoencoder=AutoencoderConfig(
            latent_channels=64,
            decoder=DecoderConfig(base=64, levels=THREE_FIELDS, blocks=3, field_width=64, head_width=32),
            readout=ReadoutConfig(width=256, blocks=4, scale_injection=False),
        ),
        diffusion=DiffusionConfig(unet=UNetConfig(base=256, multipliers=(1, 2, 3, 4), attention=(2, 4, 8))),
        training=TrainingConfig(autoencoder_steps=300_000, diffusion_steps=400_000, batch_size=8, precision="bf16"),
    )


def furniture_views_small() -> Config:
    """Furniture made by rule, photographed at 64x64, with captions: about a quarter of an hour on two hardware threads.

    Planes of 16x16x4 as those of `furniture-small`.
    """
    return Config(
        name="furniture-views-small",
        domain=Nerf(
            resolution=32,
            source="furniture",
            pieces=600,
            views=16,
            cloud=1024,
            rays=256,
            shown=4,
            samples=32,
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
            decoder=DecoderConfig(
                base=16,
                levels=(Level(multiplier=2), Level(multiplier=1, enlarge=2), Level(multiplier=1, enlarge=2)),
                blocks=1,
                middle=1,
                field_width=16,
                head_width=32,
            ),
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
            ema_decay=0.999,
        ),
        training=TrainingConfig(
            autoencoder_steps=1500,
            diffusion_steps=1000,
            batch_size=4,
            diffusion_batch_size=16,
            autoencoder_learning_rate=3e-3,
            diffusion_learning_rate=1e-3,
            warmup_steps=50,
            checkpoint_every=500,
            preview_every=500,
        ),
    )
