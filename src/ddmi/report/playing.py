"""Moving pictures inside the page: no file beside it, no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from ddmi.rendering.clip import Clip
from ddmi.rendering.movie import timetable
from ddmi.report import pictures

if TYPE_CHECKING:
    from PIL import Image

MILLISECONDS, SHORTEST = 1000, 11
"""What times of frames are counted in, and how many of them a frame lasts at least: browsers slow down faster ones."""
QUALITY = 90
"""Of each frame. Changes that are smaller than its errors do not move: of 90, about three levels of 255."""


def playing(clip: Clip, alt: str, *, pixels: bool | None = None, quality: int = QUALITY) -> str:
    """A clip as an endless animated WebP; its first frame alone for readers who asked their system for less motion.

    Clips in addresses of their own begin when a browser comes to them: what has to be in step is one clip (`tiled`).

    Args:
        alt: plain text for those who do not see it; also shown under the pointer.
        pixels: enlarge with hard edges; None decides by the clip's size.
        quality: of WebP, up to 100.
    """
    times = timetable(clip, MILLISECONDS, SHORTEST)
    frames = [clip.image(number) for number, _ in times]
    moving = _address(frames, [duration for _, duration in times], quality)
    still = _address(frames[:1], [0], quality)
    height, width = clip.size
    hard = max(clip.size) < pictures.PIXELS_SHOW if pixels is None else pixels
    kind, text = ' class="px"' if hard else "", escape(alt)
    return (
        f'<picture><source media="(prefers-reduced-motion: reduce)" srcset="{still}">'
        f'<img{kind} src="{moving}" width="{width}" height="{height}" alt="{text}" title="{text}"></picture>'
    )


def figure(clip: Clip, alt: str, caption: str = "", *, pixels: bool | None = None, kind: str = "") -> str:
    """A clip over its caption, which is HTML."""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    named = f' class="{kind}"' if kind else ""
    return f"<figure{named}>{playing(clip, alt, pixels=pixels)}{below}</figure>"


def _address(frames: Sequence[Image.Image], durations: Sequence[int], quality: int) -> str:
    stream = io.BytesIO()
    frames[0].save(
        stream,
        "WEBP",
        save_all=True,
        append_images=list(frames[1:]),
        duration=list(durations),
        loop=0,
        quality=quality,
        method=4,
    )
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
