"""Turning pictures inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from ddmi.report import pictures

if TYPE_CHECKING:
    from PIL import Image

PACE = 110
"""Milliseconds of a frame."""


def turning(frames: Sequence[Image.Image], alt: str) -> str:
    """Frames as one animated WebP; the first one alone for readers who asked their system for less motion."""
    stream = io.BytesIO()
    frames[0].save(
        stream, "WEBP", save_all=True, append_images=list(frames[1:]), duration=PACE, loop=0, quality=80, method=3
    )
    source = "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
    text, size = escape(alt), f'width="{frames[0].width}" height="{frames[0].height}"'
    return (
        f'<picture><source media="(prefers-reduced-motion: reduce)" srcset="{pictures.address(frames[0])}">'
        f'<img src="{source}" {size} alt="{text}" title="{text}"></picture>'
    )
