"""Image files as observations: what a mask leaves visible, grey values, scattered pixels, or a smaller image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image as PILImage

from ddmi.base.coordinates import grid
from ddmi.base.errors import UserError
from ddmi.base.randomness import generator
from ddmi.data.images import to_rgb
from ddmi.data.masks import hidden_by, opened
from ddmi.model.observed import Observations
from ddmi.rendering.grid import to_signal

NOISE = 0.1
"""Of colours in [-1, 1]: about what the autoencoder cannot reproduce."""
LUMA = (0.299, 0.587, 0.114)
"""Grey of RGB (ITU-R BT.601), as PIL computes it."""


def observations(
    resolution: int, image: str | Path, mask: str | Path | None, grey: bool, scattered: int | None
) -> Observations:
    """What an image tells of its central square at this resolution."""
    whole = to_rgb(opened(image, "image"))
    side = min(whole.size)
    left, top = (whole.width - side) // 2, (whole.height - side) // 2
    square = whole.crop((left, top, left + side, top + side))
    mix = LUMA if grey else None
    if side < resolution:
        if mask is not None or scattered is not None:
            raise UserError(f"--mask and --scattered need an image of {resolution} pixels or more, not {side}")
        if resolution % side:
            raise UserError(f"--image {image}: a small image has a side that divides {resolution}, not {side}")
        by = resolution // side  # each of its pixels is the mean of by x by of the sample
        at = grid((resolution, resolution)).view(side, by, side, by, 2).transpose(1, 2).reshape(side**2, by**2, 2)
        values = to_signal(np.array(square)).flatten(0, 1)
    else:
        at = grid((resolution, resolution))
        values = to_signal(np.array(square.resize((resolution,) * 2, PILImage.Resampling.BOX))).flatten(0, 1)
        seen = torch.ones(len(at), dtype=torch.bool)
        if mask is not None:
            hidden = PILImage.fromarray(hidden_by(mask, whole.size, f"--image {image}"))
            hidden = hidden.crop((left, top, left + side, top + side)).convert("L")
            share = np.asarray(hidden.resize((resolution,) * 2, PILImage.Resampling.BOX))
            seen &= torch.from_numpy(share.copy()).flatten() == 0
        elif not grey and scattered is None:
            raise UserError("nothing is hidden: name a --mask, --grey, --scattered N, or a smaller image")
        if scattered is not None:
            places = seen.nonzero()[:, 0]
            if not 1 <= scattered < len(places):
                raise UserError(f"--scattered must be from 1 to {len(places) - 1}, not {scattered}")
            chosen = torch.randperm(len(places), generator=generator("scattered"))[:scattered]
            seen = torch.zeros_like(seen).index_fill_(0, places[chosen], True)
        at, values = at[seen], values[seen]
    return Observations(at, values @ torch.tensor(LUMA)[:, None] if grey else values, NOISE, mix)
