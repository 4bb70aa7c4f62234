"""How close two images are, cell by cell."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ddmi.base.errors import UserError, missing_extra

RANGE = 2.0  # of images in [-1, 1]
SIGMA = 1.5  # of SSIM's Gaussian window, in cells: a window of 11x11
CEILING = 10 * math.log10(12 * 255**2)
"""dB of an error as large as that of rounding to 8 bits, 58.9: as which means count a higher ratio, such as that of
equal images."""


def psnr(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio of each pair, in dB: 10 log10(range^2 / mean squared error), range 2.

    Images are clamped to [-1, 1] first, as writing them to a file would. Equal images give infinity.
    """
    error = (a.float().clamp(-1, 1) - b.float().clamp(-1, 1)).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(RANGE**2 / error)


def ssim(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Structural similarity of each pair in [-1, 1] (Wang et al. 2004): 1 for equal images, range 2.

    The window is Gaussian with sigma 1.5 cells, 11x11, and mirrored at the borders; channels are scored apart and
    averaged. Images are clamped to [-1, 1]. An image of 5 cells or fewer on one side cannot be mirrored that far:
    its window shrinks to the widest that fits, 2 * side - 1 cells, with sigma in proportion.
    Raises UserError for images under 2x2, or when torchmetrics is not installed.
    """
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure
    except ImportError as error:
        raise missing_extra("torchmetrics", "metrics") from error
    side = min(a.shape[-2:])
    if side < 2:
        raise UserError(f"SSIM needs images of at least 2x2 cells, not {a.shape[-1]}x{a.shape[-2]}")
    # torchmetrics makes the window's radius of sigma, int(3.5 sigma + 0.5); mirroring needs it below the side
    sigma = SIGMA if int(3.5 * SIGMA + 0.5) < side else (side - 1) / 3.5
    values = structural_similarity_index_measure(
        a.float().clamp(-1, 1), b.float().clamp(-1, 1), sigma=sigma, data_range=RANGE, reduction="none"
    )
    assert isinstance(values, Tensor)
    return values.reshape(a.shape[0])
