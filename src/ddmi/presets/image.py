"""Presets of the image domain: Tables 9 and 10 of the paper, and small ones that a CPU trains."""

from __future__ import annotations

from dataclasses import replace

from ddmi.config import Config, TrainingConfig
from ddmi.domains.image import Image
from ddmi.model.autoencoder import AutoencoderConfig
from ddmi.model.decoder import DecoderConfig, Level
from ddmi.model.diffusion import DiffusionConfig
from ddmi.model.encoders.image import ConvEncoderConfig
from ddmi.model.losses import ElboConfig
from ddmi.model.readout import ReadoutConfig
from ddmi.model.unet import UNetConfig
from ddmi.presets import Demo

THREE_FIELDS = (Level(multiplier=4), Level(multiplier=2, enlarge=2), Level(multiplier=1, enlarge=2))


def afhq_cat_256() -> Config:
    """AFHQv2 Cat at 256x256 (Tables 9, 10). Encoder and decoder, whose width it leaves out: 128 x (1, 2, 4)."""
    return Config(
        name="afhq-cat-256",
        domain=Image(resolution=256, flip=True),
        autoencoder=AutoencoderConfig(
            latent_channels=64,
            decoder=DecoderConfig(base=128, levels=THREE_FIELDS, blocks=3, field_width=64, head_width=64),
            readout=ReadoutConfig(width=256, blocks=4),
        ),
        diffusion=DiffusionConfig(
            unet=UNetConfig(base=256, multipliers=(1, 2, 3, 4), attention=(2, 4, 8)),
            sampler="ddpm",
            sampling_steps=1000,
        ),
        training=TrainingConfig(
            autoencoder_steps=50_000, diffusion_steps=400_000, batch_size=32, accumulation=1, precision="bf16"
        ),
    )


def afhq_dog_256() -> Config:
    """AFHQv2 Dog at 256x256: as the cats."""
    return replace(afhq_cat_256(), name="afhq-dog-256")


def celebahq_256() -> Config:
    """CelebA-HQ at 256x256: one residual block more on each level of the autoencoder."""
    cats = afhq_cat_256()
    domain = Image(resolution=256, flip=True, encode=ConvEncoderConfig(blocks=3))
    decoder = replace(cats.autoencoder.decoder, blocks=4)
    training = replace(cats.training, autoencoder_steps=150_000, diffusion_steps=600_000)
    return replace(
        cats,
        name="celebahq-256",
        domain=domain,
        autoencoder=replace(cats.autoencoder, decoder=decoder),
        training=training,
    )


def cifar10_32() -> Config:
    """CIFAR-10 at 32x32: a 16x16 latent and a single basis field at that resolution; one target scale."""
    levels = (Level(multiplier=4, field=False), Level(multiplier=2, field=False), Level(multiplier=1))
    cats = afhq_cat_256()
    return replace(
        cats,
        name="cifar10-32",
        domain=Image(resolution=32, scales=(1.0,), flip=True, encode=ConvEncoderConfig(multipliers=(1, 2))),
        autoencoder=replace(cats.autoencoder, decoder=replace(cats.autoencoder.decoder, levels=levels)),
        diffusion=replace(cats.diffusion, unet=UNetConfig(base=128, multipliers=(1, 2, 3, 4), attention=(2, 4))),
        training=replace(cats.training, batch_size=128, autoencoder_steps=100_000, diffusion_steps=500_000),
    )


def lsun_church_128() -> Config:
    """LSUN Church at 128x128: a 32x32 latent."""
    cats = afhq_cat_256()
    return replace(
        cats,
        name="lsun-church-128",
        domain=Image(resolution=128, flip=True),
        training=replace(cats.training, batch_size=64, autoencoder_steps=200_000, diffusion_steps=500_000),
    )


def emoji_32() -> Config:
    """Twemoji at 32x32 with their names as text: both stages train in about ten minutes on two cores.

    A 16x16x4 latent instead of a deeper one: a shallow autoencoder learns much faster, which is what counts here.
    """
    return Config(
        name="emoji-32",
        domain=Image(
            resolution=32,
            source="emoji",
            points=384,
            encode=ConvEncoderConfig(base=32, multipliers=(1, 2), blocks=1, middle=1, head_width=32),
        ),
        autoencoder=AutoencoderConfig(
            latent_channels=4,
            decoder=DecoderConfig(base=16, levels=THREE_FIELDS, blocks=1, middle=1, field_width=32, head_width=32),
            readout=ReadoutConfig(width=64, blocks=3, scale_width=64),
            objective=ElboConfig(kl_end=5e-3),  # a smoother latent, which the denoiser learns sooner
        ),
        diffusion=DiffusionConfig(
            unet=UNetConfig(base=64, multipliers=(1, 2), blocks=1, attention=(2,)),
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
            autoencoder_steps=1000,
            diffusion_steps=2000,
            batch_size=16,
            diffusion_batch_size=16,
            autoencoder_learning_rate=2e-3,
            diffusion_learning_rate=1e-3,
            warmup_steps=50,
            checkpoint_every=400,
            preview_every=400,
        ),
    )


def emoji_64() -> Config:
    """Twemoji at 64x64 with their names as text: the pretrained model of the package.

    An hour and a half of one core. A latent of few channels that is smooth in space, a decoder that was shown noisy
    latents, and a denoiser with a light finest level: of what was tried, this gave the best samples at equal time.
    """
    small = emoji_32()
    return replace(
        small,
        name="emoji-64",
        domain=replace(
            small.domain,  # type: ignore[type-var]
            resolution=64,
            scales=(1.0, 2.0, 4.0, 8.0),
            equivariance=0.25,
            points=768,
            encode=ConvEncoderConfig(base=48, multipliers=(1, 2), blocks=1, middle=1, head_width=48, patch=2),
        ),
        autoencoder=AutoencoderConfig(
            latent_channels=4,
            decoder=DecoderConfig(base=24, levels=THREE_FIELDS, blocks=1, middle=1, field_width=32, head_width=64),
            readout=ReadoutConfig(width=64, blocks=3, scale_width=64),
            objective=ElboConfig(kl_end=2e-3, latent_noise=0.1, decoder_noise=0.4),
        ),
        diffusion=replace(
            small.diffusion,
            unet=UNetConfig(
                base=32, multipliers=(1, 4, 5), blocks=1, attention=(2, 4), film=True, groups=8, dropout=0.1
            ),
            parameterisation="v",
            times="logit-normal",
            times_mean=-0.4,  # half of the training at signal-to-noise ratios above 0.15, a third above 1
            times_deviation=1.4,
            snr_cap=0.0,
            ema_decay=0.9995,
        ),
        training=replace(
            small.training,
            autoencoder_steps=4500,
            decoder_steps=1200,
            diffusion_steps=18_000,
            warmup_steps=200,
            checkpoint_every=500,
            preview_every=1000,
        ),
    )


def images_64() -> Config:
    """Any folder of images at 64x64, without text; small enough for a CPU. Twice the channels of drawings."""
    drawings = emoji_64()
    return replace(
        drawings,
        name="images-64",
        domain=replace(drawings.domain, source="folder", scales=(1.0, 1.5, 2.0), points=1024),  # type: ignore[type-var]
        autoencoder=replace(
            drawings.autoencoder,
            latent_channels=8,
            decoder=replace(drawings.autoencoder.decoder, base=32),
        ),
        diffusion=replace(
            drawings.diffusion, condition="none", text_encoder="clip", text_width=768, guidance_scale=1.0
        ),
        training=replace(drawings.training, autoencoder_steps=4000, diffusion_steps=8000, diffusion_batch_size=32),
    )


def demo() -> Demo:
    """The demonstration of `ddmi demo image`."""
    small = emoji_32()
    training = replace(small.training, autoencoder_steps=1000)
    return Demo(config=replace(small, training=training), minutes=7.5, samples=256)
