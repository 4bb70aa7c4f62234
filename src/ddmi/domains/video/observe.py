"""Clips as observations: some of their frames, or what a still or moving mask leaves visible."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from ddmi.base.coordinates import grid
from ddmi.base.errors import UserError
from ddmi.data.images import EXTENSIONS
from ddmi.data.masks import hidden_by
from ddmi.model.observed import Observations

if TYPE_CHECKING:
    from ddmi.domains.video import Video

NOISE = 0.1
MOST = 8192
"""Pixels that count; of more, a random part."""


def observations(domain: Video, clip: str | Path, frames: list[int] | None, mask: str | Path | None) -> Observations:
    """What the first window of a clip tells."""
    if frames is None and mask is None:
        raise UserError("nothing is hidden: name the known --frames, or a --mask")
    if not Path(clip).exists():
        raise UserError(f"--clip {clip} does not exist")
    dataset = domain.dataset(domain.open(clip), "all")
    x = dataset.inputs([0])[0].permute(1, 2, 3, 0)  # (t, h, w, 3)
    seen = torch.ones(x.shape[:3], dtype=torch.bool)
    if frames is not None:
        if not frames or max(frames) >= domain.frames or len(frames) == domain.frames:
            raise UserError(f"--frames are some of 0 to {domain.frames - 1} of this model's clips, not {frames}")
        seen[:] = False
        seen[frames] = True
    if mask is not None:
        seen &= ~_hidden(domain, mask, dataset.source.sizes[0])
        if not seen.any():
            raise UserError(f"--mask {mask} hides everything that is known")
    return Observations(grid(seen.shape)[seen.flatten()], x[seen], NOISE).thinned(MOST)


def _hidden(domain: Video, mask: str | Path, size: tuple[int, int]) -> Bool[Tensor, "t h w"]:
    """The white part of a mask, of an image for all frames or of a clip frame by frame, as the encoder sees clips."""
    from PIL import Image

    height, width = size
    if Path(mask).suffix.lower() in EXTENSIONS:
        hidden = Image.fromarray(hidden_by(mask, (width, height), "the clip")).convert("L")
        side = min(height / domain.size[0], width / domain.size[1])
        box = round(domain.size[1] * side), round(domain.size[0] * side)
        left, top = (width - box[0]) // 2, (height - box[1]) // 2
        part = hidden.crop((left, top, left + box[0], top + box[1])).resize(domain.size[::-1], Image.Resampling.BOX)
        return (torch.from_numpy(np.asarray(part).copy()) > 0).expand(domain.frames, -1, -1)
    moving = domain.dataset(domain.open(mask), "all")
    if moving.source.sizes[0] != size:
        raise UserError(f"--mask {mask} has frames of another size than the clip, {width}x{height}")
    return moving.inputs([0])[0].mean(0) > 0
