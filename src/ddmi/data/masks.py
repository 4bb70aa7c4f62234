"""Masks: image files whose white part is to be filled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from ddmi.base.errors import UserError
from ddmi.data.images import upright


def opened(path: str | Path, option: str) -> PILImage.Image:
    """An image file. Raises UserError naming the option."""
    try:
        with PILImage.open(path) as image:
            return upright(image).copy()
    except FileNotFoundError as error:
        raise UserError(f"--{option} {path} does not exist") from error
    except (OSError, UnidentifiedImageError, PILImage.DecompressionBombError) as error:
        raise UserError(f"--{option} {path} is not an image") from error


def hidden_by(mask: str | Path, size: tuple[int, int], given: str) -> Bool[np.ndarray, "h w"]:
    """What a mask hides: its white part. Raises UserError for a mask of another size (width, height) than what is
    `given`, or one that hides all or nothing.
    """
    image = opened(mask, "mask").convert("L")
    if image.size != size:
        wanted, found = ("x".join(map(str, sides)) for sides in (size, image.size))
        raise UserError(f"--mask {mask} has {found} pixels, and {given} has {wanted}: both must have the same size")
    hidden = np.asarray(image) > 127
    if hidden.all():
        raise UserError(f"--mask {mask} hides everything (all of it is white): ddmi sample needs no observations")
    if not hidden.any():
        raise UserError(f"--mask {mask} hides nothing (none of it is white): ddmi reconstruct renders a whole file")
    return hidden
