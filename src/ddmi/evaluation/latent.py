"""Latent health: how much structure the latents of a first stage have for a denoiser to learn, before there is one.

White noise is the hardest latent there is: nothing in a cell tells of its neighbours, and every error of the denoiser
is one of the signal. A latent is easier to denoise the more its neighbouring cells agree, the less of its power lies at
its highest frequencies, and the less the signal suffers when the latent is low-pass filtered or a little wrong.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddmi.base.errors import UserError
from ddmi.base.planes import Planes, pack, reduced, unpack
from ddmi.base.randomness import generator, normal
from ddmi.domains.base import Batch, Dataset
from ddmi.evaluation.evaluated import Evaluated

NAME = "latent"
SIGNALS, BATCH = 128, 16
NOISE = 0.3
"""Deviation of the noise that is added, in standard deviations of each channel."""


def neighbour_correlation(z: Float[Tensor, "n c h w"]) -> float:
    """Correlation of horizontally and vertically neighbouring cells, the mean over channels: 0 for white noise."""
    z = z - z.mean(dim=(0, 2, 3), keepdim=True)
    found = []
    for a, b in ((z[..., 1:], z[..., :-1]), (z[..., 1:, :], z[..., :-1, :])):
        if a.numel():
            product, first, second = (x.mean(dim=(0, 2, 3)) for x in (a * b, a.square(), b.square()))
            found.append((product / (first * second).sqrt()).nan_to_num(0.0).mean())
    return float(torch.stack(found).mean()) if found else math.nan


def cosines(n: int) -> Float[Tensor, "n n"]:
    """The orthonormal DCT-II as a matrix: row k is the cosine of frequency k (Ahmed, Natarajan & Rao 1974)."""
    k = torch.arange(n, dtype=torch.float32)
    rows = math.sqrt(2 / n) * torch.cos(math.pi * (k + 0.5) * k[:, None] / n)
    rows[0] /= math.sqrt(2)
    return rows


def spectral_tail(z: Float[Tensor, "n c h w"]) -> float:
    """Root mean square of the DCT coefficients in the highest quarter of frequencies along either axis, as a share of
    the constant one's; each channel has mean 0 and deviation 1 first. About 1 for white noise.
    """
    z = z - z.mean(dim=(0, 2, 3), keepdim=True)
    z = z / z.square().mean(dim=(0, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)
    high, wide = z.shape[2:]
    power = (cosines(high) @ z @ cosines(wide).T).square().mean(dim=(0, 1))
    rows, columns = torch.arange(high)[:, None] / high, torch.arange(wide) / wide
    tail = power[torch.maximum(rows, columns) >= 0.75]
    return math.sqrt(float(tail.mean()) / max(float(power[0, 0]), 1e-12)) if len(tail) else math.nan


def low_passed(z: Planes) -> Planes:
    """Every plane at half its size and back: what a denoiser that only sees coarse structure would leave."""
    small = reduced(z, 0.5)
    return {name: F.interpolate(x, z[name].shape[2:], mode="bilinear") for name, x in small.items()}


@torch.no_grad()
def health(evaluated: Evaluated) -> dict[str, Any]:
    """Statistics of the posteriors' means, and the likelihood's loss (Eq. 9) for them, low-passed and with noise."""
    model, domain = evaluated.pipe.autoencoder, evaluated.pipe.config.domain
    dataset, device = evaluated.held_out if len(evaluated.held_out) else evaluated.train, evaluated.pipe.device
    count = min(SIGNALS, len(dataset))
    items = [k * len(dataset) // count for k in range(count)]
    batches = [
        _batch(dataset, items[i : i + BATCH], evaluated.looked.sampling.seed).to(device) for i in range(0, count, BATCH)
    ]
    posteriors = [model.encode(batch.x) for batch in batches]
    mean, variance = (
        torch.cat([part(p) for p in posteriors]) for part in (lambda p: p.mean, lambda p: p.log_variance.exp())
    )
    planes = {name: x.cpu() for name, x in unpack(mean, model.layout).items()}
    deviation = mean.std(dim=(0, 2), keepdim=True)
    losses: dict[str, float] = {}
    for batch, posterior in zip(batches, posteriors, strict=True):
        noise = deviation * normal(tuple(mean.shape[1:]), batch.seeds, "health").to(device)
        kinds = {
            "mean": posterior.mode,
            "low_passed": low_passed(posterior.mode),
            "noisy": unpack(pack(posterior.mode, model.layout) + NOISE * noise, model.layout),
        }
        for kind, z in kinds.items():
            loss = float(domain.likelihood(model.decode(z), batch).loss)
            losses[kind] = losses.get(kind, 0.0) + loss * len(batch.seeds) / count
    return {
        "neighbour_correlation": {name: neighbour_correlation(x) for name, x in planes.items()},
        "spectral_tail": {name: spectral_tail(x) for name, x in planes.items()},
        "posterior_variance": float(variance.mean() / (variance.mean() + mean.var(dim=(0, 2)).mean())),
        "loss": losses,
        "protocol": {
            "signals": count,
            "data": "held out" if len(evaluated.held_out) else "training",
            "latent": f"{mean.shape[1]} channels of {mean.shape[2]} cells",
            "noise": f"{NOISE:g} standard deviations of each channel",
            "low_pass": "the mean of two cells along each axis enlarged again bilinearly",
            "loss": "of stage 1 without its weights",
        },
    }


def _batch(dataset: Dataset, indices: list[int], seed: int) -> Batch:
    """A training batch of whole planes: steps of scale equivariance are passed over.

    Raises:
        UserError: there are hardly any others.
    """
    seeds = [seed + index for index in indices]
    for attempt in range(100):
        batch = dataset.batch(indices, generator(seed, NAME, indices[0], attempt), seeds)
        if batch.shrink == 1:
            return batch
    raise UserError("domain.equivariance leaves no step with whole planes: set less than 1")
