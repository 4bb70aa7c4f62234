"""What is wrong with poses, focal lengths, boxes and images is recognised and said in one line."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from posed_scenes import BLUE, RED, around, ball, box, look, on, photograph, plain, views_of

from ddmi.domains.nerf.checks import Finding, check

OPENCV = np.diag([1.0, -1, -1, 1])
LOOKS = views_of(around(20, 4.0), (64, 64), 100.0)
SOUND = photograph(
    LOOKS, (ball((0.2, 0.1, -0.1), 0.5), plain(RED)), (box((-0.6, -0.5, -0.4), (0.1, 0, 0.5)), plain(BLUE))
)


def wrong(**changes: Any) -> list[Finding]:
    return check(replace(LOOKS, **changes), on(SOUND))


def test_nothing_is_said_of_sound_views():
    assert check(LOOKS, on(SOUND)) == [] and check(LOOKS, SOUND) == []
    shaken = np.stack([look(eye, target) for eye, target in zip(LOOKS.eyes, aims(0.25), strict=True)])
    views = replace(LOOKS, poses=shaken)
    assert check(views, on(photograph(views, (ball((0.2, 0.1, -0.1), 0.5), plain(RED))))) == []
    assert check(LOOKS.only(np.array([3])), on(SOUND)[3:4]) == [], "one view tells little"


def aims(spread: float) -> np.ndarray:
    return np.random.default_rng(0).uniform(-spread, spread, (20, 3))


def moved(distance: float) -> np.ndarray:
    poses = LOOKS.poses.copy()
    poses[:, 0, 3] += distance
    return poses


SAYS = {
    "mirrored": (lambda: wrong(poses=LOOKS.poses @ np.diag([-1.0, 1, 1, 1])), "20 of 20 poses .* is mirrored"),
    "scaled": (
        lambda: wrong(poses=LOOKS.poses @ np.diag([3.0, 3, 3, 1])),
        "is no rotation: its axes have the lengths 3",
    ),
    "inverted": (lambda: wrong(poses=np.linalg.inv(LOOKS.poses)), "look like world-to-camera"),
    "inverted, OpenCV": (
        lambda: wrong(poses=np.linalg.inv(LOOKS.poses @ OPENCV) @ OPENCV),
        "look like world-to-camera",
    ),
    "exchanged": (lambda: wrong(poses=LOOKS.poses @ OPENCV), "scene lies behind the cameras: .* exchanged"),
    "share": (lambda: wrong(focal=LOOKS.focal / 64), "178.2|focal length of 1.562 at 64 .* share of the width"),
    "degrees": (lambda: wrong(focal=np.full(20, 25.0)), "focal length of 25 at 64 .* 104.0 degrees, .* degrees"),
    "larger": (lambda: wrong(focal=30 * LOOKS.focal), "focal length of 3000 at 64 .* larger image"),
    "zero": (lambda: wrong(focal=0 * LOOKS.focal), "focal length is 0: it must be a positive"),
    "elsewhere": (lambda: wrong(poses=moved(1.2)), r"optical axes meet at \(1.2, .*off the middle of the box"),
    "inside": (lambda: wrong(poses=shrunk(0.2)), "20 of 20 cameras stand inside of the box .* radius is too large"),
    "large": (lambda: wrong(poses=shrunk(2.5)), r"leaves the box .* radius is too small"),
    "small": (lambda: wrong(poses=shrunk(0.3)), r"inner 0\.\d+ of the box .* radius is too large"),
    "blank": (lambda: check(LOOKS, np.full((20, 64, 64, 3), 255, np.uint8)), "nothing but background"),
    "a blank": (lambda: check(LOOKS, blanked(on(SOUND))), r"1 of 20 images show nothing but background \(view 5\)"),
    "black": (lambda: check(LOOKS, on(SOUND, 0)), "stand on black"),
    "shuffled": (lambda: check(LOOKS, on(strangers())), "do not agree: their hull covers|no part of the box"),
}


def shrunk(factor: float) -> np.ndarray:
    poses = LOOKS.poses.copy()
    poses[:, :3, 3] *= factor
    return poses


def blanked(pictures: np.ndarray) -> np.ndarray:
    pictures[5] = 255
    return pictures


def strangers() -> np.ndarray:
    """Pictures of a thing off the middle that belong to other poses."""
    return photograph(LOOKS, (ball((0.6, 0.2, 0.3), 0.25), plain(RED)))[np.random.default_rng(0).permutation(20)]


@pytest.mark.parametrize("name", SAYS)
def test_what_is_wrong_is_said_in_one_line(name):
    call, message = SAYS[name]
    (found,) = call()
    assert "\n" not in found.text and re.search(message, found.text), found
