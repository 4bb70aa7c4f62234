"""How keys and numbers of metrics.json are written on a page."""

from __future__ import annotations

import math
from html import escape
from typing import Any

WORDS = {
    "psnr": "PSNR, dB",
    "psnr_1x": "PSNR at 1x, dB",
    "psnr_2x": "PSNR at 2x, dB",
    "psnr_standard_error": "standard error, dB",
    "bicubic_psnr": "bicubic, dB",
    "ssim": "SSIM",
    "fid": "FID",
    "frechet": "Fréchet distance",
    "frechet_standard_error": "Fréchet distance, standard error",
    "fid_standard_error": "FID, standard error",
    "sliced_wasserstein": "sliced Wasserstein ×1000",
}


def words(name: str) -> str:
    """A key in words, as HTML."""
    return escape(WORDS.get(name, name.replace("_", " ")))


def form(value: Any) -> str:
    """The format of a number: digits after the point by its size."""
    if not isinstance(value, float) or not math.isfinite(value):
        return ","
    if 0 < abs(value) < 0.01:
        return ".5f"
    return ".2f" if abs(value) >= 10 else ".3f"
