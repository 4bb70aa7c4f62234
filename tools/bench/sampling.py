"""Samples of the small preset: all of it, and the denoiser against the batch size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from tools.bench.measure import Row

if TYPE_CHECKING:
    from ddmi.pipeline import DDMIPipeline


def sampling(quick: bool) -> Iterator[Row]:
    """Samples with 50 DDIM steps, decoded and drawn at twice their resolution."""
    from ddmi.training.estimate import seconds

    pipe = pipeline()
    count, steps = (4, 10) if quick else (16, 50)
    size = 2 * getattr(pipe.config.domain, "resolution", 32)

    def draw() -> None:
        for field in pipe(count, sampler="ddim", steps=steps):
            field.render(size)

    took = seconds(draw, 1 if quick else 3)
    stage = f"{count} samples of {pipe.config.name}, {steps} DDIM steps, drawn at {size}x{size}"
    yield {"stage": stage, "seconds": took, "rate": f"{count / took:.2f} samples/s"}


def batches(quick: bool) -> Iterator[Row]:
    """Latents drawn with 10 DDIM steps, so many at once."""
    from ddmi.training.estimate import seconds

    pipe = pipeline()
    for size in (1, 4, 16) if quick else (1, 4, 16, 64):
        took = seconds(lambda size=size: pipe.latents(size, sampler="ddim", steps=10, batch_size=size), 3)  # type: ignore[misc]
        stage = f"latents of {pipe.config.name}, 10 DDIM steps, batches of {size}"
        yield {"stage": stage, "seconds": took, "rate": f"{size / took:.2f} latents/s"}


def pipeline() -> DDMIPipeline:
    """`emoji-32` with random weights, drawing without guidance."""
    from ddmi.model.autoencoder import freeze
    from ddmi.pipeline import DDMIPipeline
    from ddmi.presets import find
    from ddmi.training.estimate import networks

    config = find("emoji-32")
    config = replace(config, diffusion=replace(config.diffusion, guidance_scale=1.0))
    model, denoiser = networks(config, "cpu")
    freeze(model), freeze(denoiser)
    return DDMIPipeline(config, model, denoiser)
