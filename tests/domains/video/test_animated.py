"""Animated images as clips: held frames count several times, and names are captions where there are no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddmi.base.errors import UserError
from ddmi.domains.video.animated import animated, named
from ddmi.domains.video.clips import open_clips

FRAMES = [np.random.default_rng(k).integers(0, 256, (12, 16, 3), dtype=np.uint8) for k in range(4)]


def write(path: Path, times: list[int], frames=FRAMES) -> Path:
    images = [Image.fromarray(frame) for frame in frames]
    form = {".webp": "WEBP", ".gif": "GIF"}.get(path.suffix, "PNG")
    exact = {"lossless": True} if form == "WEBP" else {}
    images[0].save(path, form, save_all=True, append_images=images[1:], duration=times, loop=0, **exact)
    return path


@pytest.mark.parametrize("ending", [".webp", ".png", ".apng"])
def test_frames_come_at_the_rate_of_the_shortest_and_held_ones_several_times(tmp_path, ending):
    path = write(tmp_path / f"a_red-ball 2{ending}", [40, 120, 40, 40])
    assert animated(path)
    source = open_clips(tmp_path)
    assert source.names == [path.name] and source.captions == ["a red ball"]
    assert source.lengths == [6] and source.rates == [25] and source.sizes == [(12, 16)]
    expected = [FRAMES[k] for k in (0, 1, 1, 1, 2, 3)]
    assert np.array_equal(source.read(0, range(6), 12), expected)
    assert np.array_equal(source.read(0, [5, 0, 3], 12), [expected[k] for k in (5, 0, 3)])


def test_a_gif_may_hold_frames(tmp_path):
    write(tmp_path / "even.gif", [50, 50, 50, 50])
    write(tmp_path / "held.gif", [50, 100, 50, 50])
    source = open_clips(tmp_path)
    assert source.lengths == [4, 5] and source.rates == [20, 20]
    held = source.read(1, range(5), 12)
    assert np.array_equal(held[1], held[2]) and not np.array_equal(held[2], held[3])


def test_what_lies_on_no_grid_or_is_damaged_is_left_out(tmp_path):
    write(tmp_path / "good.webp", [40, 40, 40, 40])
    write(tmp_path / "odd.webp", [40, 60, 100, 40])
    cut = write(tmp_path / "cut.webp", [40, 40, 40, 40])
    cut.write_bytes(cut.read_bytes()[:400])
    source = open_clips(tmp_path)
    reasons = dict(source.bad)
    assert source.names == ["good.webp"] and set(reasons) == {"odd.webp", "cut.webp"}
    assert "from 40 to 100 ms" in reasons["odd.webp"]
    assert dict(open_clips(tmp_path, shortest=4).bad) == reasons
    with pytest.raises(UserError, match="has 4 frames, at least 5 are needed"):
        open_clips(tmp_path / "good.webp", shortest=5)


def test_still_images_beside_them_are_frames_and_transparency_is_white(tmp_path):
    clear = [np.zeros((12, 16, 4), np.uint8) for _ in range(2)]
    clear[1][..., 3] = 255
    write(tmp_path / "moves.webp", [40, 40], clear)
    (tmp_path / "still").mkdir()
    for k, frame in enumerate(FRAMES):
        Image.fromarray(frame).save(tmp_path / "still" / f"{k}.webp", lossless=True)
    assert not animated(tmp_path / "still" / "0.webp")
    source = open_clips(tmp_path)
    assert source.names == ["moves.webp", "still"] and source.lengths == [2, 4]
    white, black = source.read(0, [0, 1], 12)
    assert white.min() == 255 and black.max() == 0


def test_words_of_names_are_captions():
    assert named(["sea/a_calm-sea_03.mp4", "7.webp"]) == ["a calm sea", ""]
    assert named(["1.mp4", "train/002"]) is None
