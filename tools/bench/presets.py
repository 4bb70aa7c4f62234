"""Training steps of the presets for small machines, on batches of their own data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from tools.bench.measure import Row, steps

if TYPE_CHECKING:
    from ddmi.config import Config
    from ddmi.training.latents import LatentBatch

SMALL = ("emoji-64", "furniture-small", "clips-small", "furniture-views-small")
TOKENS = 10
"""Of a caption: that of a middling emoji."""


def presets(quick: bool) -> Iterator[Row]:
    """A step of each stage of one small preset a domain, at its own batch size, in fp32 and in bf16."""
    from ddmi.config import override
    from ddmi.presets import find
    from ddmi.training.batches import Batches
    from ddmi.training.estimate import networks
    from ddmi.training.objectives import AutoencoderObjective, DiffusionObjective

    for name in SMALL:
        config = find(name)
        if hasattr(config.domain, "pieces"):
            config = override(config, {"domain.pieces": "24"})
        source = config.domain.open(None)
        config = replace(config, domain=config.domain.fitted(source))
        dataset = config.domain.dataset(source, "train")
        count = config.training.batch_size
        batch = Batches(dataset, "autoencoder", 0, count, 1, 0, 1)[0][0]
        yield from steps(f"{name}, stage 1", AutoencoderObjective(config), batch, count, quick)
        count = config.training.diffusion_batch
        objective = DiffusionObjective(config, networks(config, "cpu")[1])
        yield from steps(f"{name}, stage 2", objective, latents(config, count), count, quick)


def latents(config: Config, count: int) -> LatentBatch:
    """Random posteriors and captions of the sizes of a configuration."""
    import torch

    from ddmi.base.planes import cells
    from ddmi.model.unet import Condition
    from ddmi.training.latents import LatentBatch

    shape = (count, config.autoencoder.latent_channels, cells(config.domain.layout))
    condition = None
    if config.diffusion.condition == "text":
        states = torch.randn(count, TOKENS, config.diffusion.text_width)
        condition = Condition(states, torch.ones(count, TOKENS, dtype=torch.bool))
    return LatentBatch(torch.randn(shape), torch.full(shape, -5.0), condition, tuple(range(count)))
