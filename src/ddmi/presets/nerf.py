"""Presets of the NeRF domain: Tables 9 and 10 of the paper as far as they go, and a small one for a CPU."""

from __future__ import annotations

from dataclasses import replace

from ddmi.config import Config
from ddmi.domains.nerf import Nerf
from ddmi.presets import Demo
from ddmi.presets.shape import furniture_small, shapenet_chair


def srn_cars() -> Config:
    """SRN cars: coloured points to radiance fields. Tables 9 and 10 have no column for them: sizes are the shapes'.

    The released code has planes of 16x16x64, 256 evenly spread samples on a ray, and 5,000 rays of one view of one
    object in a step; here rays of several views of several objects make a step.
    """
    chairs = shapenet_chair()
    training = replace(chairs.training, autoencoder_steps=300_000, batch_size=8, diffusion_learning_rate=1e-4)
    return replace(chairs, name="srn-cars", domain=Nerf(rays=2048, samples=96, fine=32), training=training)


def furniture_views_small() -> Config:
    """Views of procedural furniture at 64x64, with captions: about a quarter of an hour on two cores.

    The networks are those of `furniture-small`: planes of 16x16x4.
    """
    pieces = furniture_small()
    return replace(
        pieces,
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
            encode=pieces.domain.encode,  # type: ignore[attr-defined]
        ),
        training=replace(pieces.training, autoencoder_steps=1500, diffusion_steps=1000, batch_size=4),
    )


def furniture_views() -> Config:
    """Views of procedural furniture: the pretrained model of the package, an hour of one core."""
    small = furniture_views_small()
    training = replace(
        small.training, autoencoder_steps=3000, diffusion_steps=2000, warmup_steps=200, checkpoint_every=250
    )
    return replace(
        small,
        name="furniture-views",
        domain=replace(small.domain, pieces=1000),  # type: ignore[type-var]
        training=training,
    )


def demo() -> Demo:
    """The demonstration of `ddmi demo nerf`."""
    small = furniture_views_small()
    training = replace(small.training, autoencoder_steps=1400)
    return Demo(config=replace(small, training=training), minutes=2.5, samples=48)
