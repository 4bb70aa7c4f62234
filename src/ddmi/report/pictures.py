"""Pictures inside the page: no file beside it, no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ddmi.rendering.grid import to_pixels, to_signal

if TYPE_CHECKING:
    from PIL import Image

HEAVY = 120_000
"""Bytes above which a picture is stored with loss."""
PIXELS_SHOW = 100
"""Pictures of fewer pixels a side are enlarged with hard edges: their pixels are what they show."""


def address(picture: Image.Image) -> str:
    """The picture as a data address: WebP, without loss unless that is heavy."""
    stream = io.BytesIO()
    picture.save(stream, "WEBP", lossless=True, quality=60, method=3)
    if stream.tell() > HEAVY:
        stream = io.BytesIO()
        picture.save(stream, "WEBP", quality=92, method=4)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def image(picture: Image.Image, alt: str, *, pixels: bool | None = None) -> str:
    """An `img` element.

    Args:
        alt: plain text for those who do not see it; also shown under the pointer.
        pixels: enlarge with hard edges; None decides by the picture's size.
    """
    hard = max(picture.size) < PIXELS_SHOW if pixels is None else pixels
    kind = ' class="px"' if hard else ""
    size, text = f'width="{picture.width}" height="{picture.height}"', escape(alt)
    return f'<img{kind} src="{address(picture)}" {size} alt="{text}" title="{text}">'


def figure(picture: Image.Image, alt: str, caption: str = "", *, pixels: bool | None = None, kind: str = "") -> str:
    """A picture over its caption, which is HTML."""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    named = f' class="{kind}"' if kind else ""
    return f"<figure{named}>{image(picture, alt, pixels=pixels)}{below}</figure>"


def row(figures: Sequence[str], columns: int, kind: str = "") -> str:
    """Figures in a grid of so many columns, fewer on a narrow screen."""
    return f'<div class="row {kind}" style="--n:{columns}">{"".join(figures)}</div>'


def to_tensor(pictures: Sequence[Image.Image]) -> Float[Tensor, "b 3 h w"]:
    """8-bit pictures of one size in [-1, 1]."""
    stacked = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
    return to_signal(stacked).permute(0, 3, 1, 2)


def to_picture(x: Float[Tensor, "3 h w"]) -> Image.Image:
    """The inverse, rounded to 8 bits."""
    from PIL import Image

    return Image.fromarray(to_pixels(x.permute(1, 2, 0)))
