"""The frequency content of images and of basis fields: which scale carries which detail (the paper's Fig. 7)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class RadialSpectrum:
    """Power over frequency, directions averaged: `(count * power).sum(-1)` is the mean square of the signal."""

    frequency: Float[Tensor, " k"]  # cycles per image: 0, 1, 2 ... to the corner of the spectrum
    power: Float[Tensor, "b k"]  # mean over the ring of |X|^2 / (h w)^2, mean over channels
    count: Float[Tensor, " k"]  # frequencies in the ring


def log_spectrum(x: Float[Tensor, "b c h w"], floor: float = 1e-8) -> Float[Tensor, "b h w"]:
    """Natural log of the magnitude |X| / (h w), channels averaged as power, zero frequency in cell (h // 2, w // 2).

    A cosine of amplitude A has magnitude A / 2 in each of its two cells. Magnitudes below `floor` count as `floor`.
    """
    return torch.fft.fftshift(_power(x), dim=(-2, -1)).sqrt().clamp_min(floor).log()


def radial_spectrum(x: Float[Tensor, "b c h w"]) -> RadialSpectrum:
    """Power spectrum averaged over rings of width one, in cycles per image (along each axis its own length).

    Nothing is windowed: an image that does not meet itself at its borders shows their jump as 1 / f^2.
    """
    ring = _radius(x).round().long().flatten()  # (h w)
    count = torch.bincount(ring).to(x.device, torch.float32)
    total = x.new_zeros(len(x), len(count), dtype=torch.float32).index_add_(1, ring, _power(x).flatten(1))
    frequency = torch.arange(len(count), device=x.device, dtype=torch.float32)
    kept = count > 0  # a very thin image may leave a ring empty
    return RadialSpectrum(frequency[kept], (total / count.clamp_min(1))[:, kept], count[kept])


def spectral_centroid(x: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """The mean frequency in cycles per image, weighted by power, without the zero frequency; 0 if nothing is left."""
    power = _power(x).flatten(1)
    radius = _radius(x).flatten()
    power = power * (radius > 0)
    total = power.sum(dim=1)
    centroid = (power @ radius) / total.clamp_min(torch.finfo(total.dtype).tiny)
    return torch.where(total > 1e-12 * _power(x).sum(dim=(1, 2)), centroid, torch.zeros_like(centroid))


def _power(x: Tensor) -> Tensor:
    """|X|^2 / (h w)^2, mean over channels: (B, H, W) with the zero frequency first. Its sum is the mean square."""
    return torch.fft.fft2(x.float(), norm="forward").abs().square().mean(dim=1)


def _radius(x: Tensor) -> Tensor:
    """Distance of each frequency from zero, (H, W), in cycles per image."""
    height, width = x.shape[-2:]
    v = torch.fft.fftfreq(height, 1 / height, device=x.device)
    u = torch.fft.fftfreq(width, 1 / width, device=x.device)
    return torch.hypot(v[:, None], u[None, :])
