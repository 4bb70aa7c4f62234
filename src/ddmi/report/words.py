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
    "psnr_inside": "PSNR inside, dB",
    "depth_error": "depth error, sides of the cube",
    "depth_missed": "depth missed",
    "fvd": "FVD",
    "fvd_standard_error": "FVD, standard error",
    "ssim_standard_error": "SSIM, standard error",
    "percentile_5": "5th percentile",
    "percentile_95": "95th percentile",
    "frechet": "Fréchet distance",
    "frechet_standard_error": "Fréchet distance, standard error",
    "fid_standard_error": "FID, standard error",
    "sliced_wasserstein": "sliced Wasserstein ×1000",
    "iou": "IoU",
    "iou_uniform": "IoU, uniform points",
    "iou_standard_error": "IoU, standard error",
    "worst_iou": "worst IoU",
    "f_score": "F-score",
    "f_score_threshold": "F-score threshold",
    "normal_consistency": "normal consistency",
    "mmd": "MMD",
    "cov": "coverage",
    "nna": "1-NN accuracy",
    "one_nearest_neighbour": "1-NN accuracy",
    "chamfer": "Chamfer distance",
    "chamfer_of_training": "Chamfer distance, training shapes",
    "emd": "earth mover's distance",
    "emd_of_training": "earth mover's distance, training shapes",
    "total_mutual_difference": "total mutual difference (TMD)",
    "clip": "CLIP",
    "clip_s": "CLIP-S",
    "test": "the test itself",
}


def words(name: str) -> str:
    """A key in words, as HTML."""
    return escape(WORDS.get(name, name.replace("_", " ")))


def form(value: Any) -> str:
    """The format of a number: digits after the point by its size, so that three or more say something."""
    if not isinstance(value, float) or not math.isfinite(value):
        return ","
    if 0 < abs(value) < 0.1:
        return f".{min(2 - math.floor(math.log10(abs(value))), 9)}f"
    return ".2f" if abs(value) >= 10 else ".3f"
