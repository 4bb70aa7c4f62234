"""Clips compute what is asked for, and a file holds the frames, colours and times that were written."""

from __future__ import annotations

import sys
import weakref
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ddmi.base.errors import MissingPackage, UserError
from ddmi.rendering.clip import Clip, filmstrip, spread, tiled
from ddmi.rendering.movie import FORMATS, timetable, write

PLAYED = (".mp4", ".webm", ".gif", ".webp")
CARD = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (128, 128, 128),
    (0, 0, 0),
    (255, 255, 255),
    (255, 255, 0),
    (30, 200, 90),
]


def numbered(count=6, size=(4, 6), fps=12.0, first=0):
    """Frame k is k everywhere; `asked` lists what was computed."""
    asked = []

    def frame(k):
        asked.append(k)
        return np.full((*size, 3), first + k, dtype=np.uint8)

    return Clip(frame, count, size, fps), asked


def waves(count=16, size=(96, 128), fps=24.0):
    """Smooth stripes that move once through their period."""
    y, x = np.mgrid[: size[0], : size[1]] / max(size)

    def frame(k):
        t = 2 * np.pi * k / count
        angles = [6 * x + t, 5 * y + x - t, 4 * (x + y) + t]
        return np.rint(127.5 + 100 * np.sin(np.stack(angles, axis=-1))).astype(np.uint8)

    return Clip(frame, count, size, fps)


def decoded(path):
    """Frames and their seconds from the start; the seconds that the last one ends come last."""
    if path.suffix in (".gif", ".webp"):
        frames, times = [], [0.0]
        with Image.open(path) as picture:
            for k in range(getattr(picture, "n_frames", 1)):
                picture.seek(k)
                frames.append(np.array(picture.convert("RGB")))
                times.append(times[-1] + picture.info.get("duration", 0) / 1000)
        return np.stack(frames), times
    av = pytest.importorskip("av")
    with av.open(str(path)) as file:
        read = list(file.decode(video=0))
        return np.stack([f.to_ndarray(format="rgb24") for f in read]), [*(f.time for f in read), file.duration / 1e6]


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


def test_a_clip_is_lazy():
    clip, asked = numbered()
    assert len(clip) == 6 and clip.size == (4, 6) and clip.fps == 12.0 and asked == []
    assert (clip[-1] == 5).all() and (clip[2] == 2).all() and asked == [5, 2]
    assert [int(frame[0, 0, 0]) for frame in clip] == list(range(6)) and asked[2:] == list(range(6))
    assert np.array(clip.image(3)).max() == 3
    for k in (6, -7):
        with pytest.raises(IndexError):
            clip[k]


def test_a_clip_of_frames():
    frames = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 3), dtype=np.uint8)
    clip = Clip.of(frames, 25)
    assert clip.size == (3, 4) and (clip.array() == frames).all() and np.shares_memory(clip[1], frames)
    assert not np.shares_memory(clip.array(), frames)


def test_a_clip_refuses():
    black = np.zeros((2, 2, 3), dtype=np.uint8)
    for count, size, fps in [(0, (2, 2), 1.0), (1, (0, 2), 1.0), (1, (2, 2), 0.0), (1, (2, 2), float("nan"))]:
        with pytest.raises(UserError):
            Clip(lambda k: black, count, size, fps)
    with pytest.raises(AssertionError, match=r"\(2, 2, 3\)"):
        Clip(lambda k: black, 1, (2, 3), 1.0)[0]


def test_rates_are_the_ratios_meant():
    meant = {29.97: (30000, 1001), 30000 / 1001: (30000, 1001), 23.976: (24000, 1001), 59.94: (60000, 1001)}
    meant |= {12.5: (25, 2), 30: (30, 1), 1 / 3: (1, 3), 0.01: (1, 100), 1000: (1000, 1), 23.98: (1199, 50)}
    for fps, (over, under) in meant.items():
        assert numbered(fps=fps)[0].rate == Fraction(over, under)


def test_side_by_side_by_hand():
    """12 and 4 frames a second; the second is smaller, and the third is over after a frame."""
    fast, fast_asked = numbered(6, (4, 6), 12.0)
    slow, slow_asked = numbered(3, (2, 3), 4.0, first=100)
    still, still_asked = numbered(1, (4, 6), 12.0, first=200)
    whole = tiled([fast, slow, still], columns=2, gap=1)
    assert whole.size == (9, 13) and whole.fps == 12.0 and len(whole) == 9 and not fast_asked + slow_asked
    for k, frame in enumerate(whole):
        expected = np.full((9, 13, 3), 255, dtype=np.uint8)
        expected[:4, :6] = min(k, 5)
        expected[:2, 7:10] = 100 + k // 3
        expected[5:, :6] = 200
        assert (frame == expected).all(), k
    assert fast_asked == list(range(6)) and slow_asked == [0, 1, 2] and still_asked == [0]
    assert (whole[0] == whole.array()[0]).all() and (whole[8] != whole[0]).any()


def test_side_by_side_makes_a_grid():
    assert tiled([numbered()[0]] * 8, gap=0).size == (2 * 4, 4 * 6)
    assert tiled([numbered()[0]] * 2, columns=5, gap=3).size == (4, 15)
    for clips, columns, gap in [([], 0, 2), ([numbered()[0]], -1, 2), ([numbered()[0]], 0, -1)]:
        with pytest.raises(UserError):
            tiled(clips, columns, gap)


def test_filmstrips_by_hand():
    long, long_asked = numbered(10)
    short, short_asked = numbered(2, (2, 3), first=100)
    strip = np.array(filmstrip([long, short], shown=4, gap=1))
    expected = np.full((9, 27, 3), 255, dtype=np.uint8)
    for column, k in enumerate((0, 3, 6, 9)):
        expected[:4, 7 * column : 7 * column + 6] = k
    expected[5:7, :3], expected[5:7, 7:10] = 100, 101
    assert (strip == expected).all() and long_asked == [0, 3, 6, 9] and short_asked == [0, 1]
    for clips, shown, gap in [([], 8, 2), ([long], 0, 2), ([long], 8, -1)]:
        with pytest.raises(UserError):
            filmstrip(clips, shown, gap)


@given(st.integers(1, 500), st.integers(1, 20))
def test_spread_numbers_are_even(count, shown):
    numbers = spread(count, shown)
    assert len(numbers) == min(count, shown) and numbers[0] == 0
    if len(numbers) > 1:
        line = np.linspace(0, count - 1, len(numbers))
        assert numbers[-1] == count - 1 and np.abs(np.array(numbers) - line).max() <= 0.5 + 1e-9
        assert (np.diff(numbers) >= 1).all()


@given(st.integers(1, 80), st.floats(0.5, 300), st.sampled_from([(100, 2), (1000, 11)]))
def test_timetables(count, fps, grid):
    steps, least = grid
    clip = numbered(count, fps=fps)[0]
    times = timetable(clip, steps, least)
    numbers, lasts = zip(*times, strict=True)
    assert numbers[0] == 0 and (np.diff(numbers) >= 1).all() and numbers[-1] < count
    assert min(lasts) >= least
    length = Fraction(steps * count) / clip.rate
    assert abs(sum(lasts) - length) <= Fraction(1, 2) or (len(times) == 1 and sum(lasts) == least)
    if clip.rate <= Fraction(steps, least):
        assert numbers == tuple(range(count))
        for k in range(count):
            assert abs(sum(lasts[:k]) - steps * k / clip.rate) <= Fraction(1, 2)


def test_times_by_hand(tmp_path):
    """12 a second: 8 1/3 hundredths each. 60 a second: every sixth frame is left out of a .gif, none of a .webp."""
    for fps, count, ending, expected in [
        (12.0, 6, ".gif", [80, 90, 80, 80, 90, 80]),
        (40.0, 4, ".gif", [30, 20, 30, 20]),
        (12.0, 6, ".webp", [83, 84, 83, 83, 84, 83]),
        (60.0, 12, ".gif", [20] * 10),
        (60.0, 6, ".webp", [17, 16, 17, 17, 16, 17]),
    ]:
        clip = numbered(count, (16, 16), fps)[0]
        bright = Clip(lambda k, clip=clip: 20 * clip[k], count, clip.size, fps)
        bright.save(tmp_path / f"a{ending}")
        frames, times = decoded(tmp_path / f"a{ending}")
        assert np.rint(1000 * np.diff(times)).tolist() == expected
        if (fps, ending) == (60.0, ".gif"):
            means = frames.mean(axis=(1, 2, 3))  # the palette lacks what its 8 frames did not show: dithered
            assert np.abs(means - [20 * k for k in range(12) if k % 6 != 5]).max() < 5
        with Image.open(tmp_path / f"a{ending}") as picture:
            assert picture.info["loop"] == 0


@pytest.mark.parametrize("ending", PLAYED)
def test_smooth_motion_comes_back(ending, tmp_path):
    clip = waves()
    write(clip, tmp_path / f"a{ending}")
    frames, times = decoded(tmp_path / f"a{ending}")
    assert frames.shape == (16, 96, 128, 3)
    assert min(map(psnr, frames, clip.array())) > {".gif": 25, ".webp": 36}.get(ending, 38)
    assert np.allclose(times, np.arange(17) / 24, atol=0.0051)


def test_256_colours_look_smooth(tmp_path):
    """What a .gif loses is fine grain, no bands: means over 4 x 4 pixels are right."""
    clip = waves()
    clip.save(tmp_path / "a.gif")
    coarse = [v.reshape(16, 24, 4, 32, 4, 3).mean(axis=(2, 4)) for v in (decoded(tmp_path / "a.gif")[0], clip.array())]
    assert psnr(*coarse) > 36


@pytest.mark.parametrize("ending", PLAYED)
def test_colours_come_back(ending, tmp_path):
    """A wrong matrix or range moves pure colours by 10 levels and more."""
    card = np.concatenate([np.full((32, 32, 3), colour, dtype=np.uint8) for colour in CARD], axis=1)
    Clip.of(np.stack([card] * 3), 10).save(tmp_path / f"a{ending}")
    for frame in decoded(tmp_path / f"a{ending}")[0]:
        for k, colour in enumerate(CARD):
            inner = frame[8:-8, 32 * k + 8 : 32 * k + 24].astype(int)
            assert np.abs(inner - colour).max() <= 3, colour


@pytest.mark.parametrize("ending", [".mp4", ".webm"])
@pytest.mark.parametrize("fps", [29.97, 24.0, 12.5, 0.5])
def test_what_a_player_is_told(ending, fps, tmp_path):
    av = pytest.importorskip("av")
    clip = waves(9, (32, 48), fps)
    clip.save(tmp_path / f"a{ending}")
    with av.open(str(tmp_path / f"a{ending}")) as file:
        stream = file.streams.video[0]
        context = stream.codec_context
        assert context.codec.canonical_name == {".mp4": "h264", ".webm": "vp9"}[ending]
        assert context.pix_fmt == "yuv420p"
        assert [context.colorspace, context.color_primaries, context.color_trc, context.color_range] == [1, 1, 1, 1]
        assert abs(file.duration / 1e6 - 9 / clip.rate) <= 1.001e-3
        assert float(stream.average_rate) == pytest.approx(float(clip.rate), rel=1e-3)
        if ending == ".mp4":
            assert stream.average_rate == clip.rate
        times = [frame.time for frame in file.decode(stream)]
        assert np.allclose(times, [float(k / clip.rate) for k in range(9)], atol=0.0006)


def test_an_mp4_starts_at_once(tmp_path):
    """The index stands before the frames, and the encoder's own words say how it was set."""
    pytest.importorskip("av")
    waves(2, (480, 64)).save(tmp_path / "a.mp4")
    data = (tmp_path / "a.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    assert b" threads=2 " in data and b" crf=18.0 " in data


@pytest.mark.parametrize("ending", PLAYED)
def test_odd_sizes(ending, tmp_path):
    clip = waves(4, (33, 47))
    clip.save(tmp_path / f"a{ending}")
    frames = decoded(tmp_path / f"a{ending}")[0]
    if ending in (".mp4", ".webm"):
        assert frames.shape == (4, 34, 48, 3)
        assert np.abs(frames[:, 33].astype(int) - frames[:, 32]).mean() < 3
        assert np.abs(frames[:, :, 47].astype(int) - frames[:, :, 46]).mean() < 3
    else:
        assert frames.shape == (4, 33, 47, 3)
    assert psnr(frames[:, :33, :47], clip.array()) > (25 if ending == ".gif" else 30)


@pytest.mark.parametrize("size", [(1, 1), (9, 2), (32, 48)])
@pytest.mark.parametrize("ending", FORMATS)
def test_one_frame(ending, size, tmp_path):
    grey = np.full((1, *size, 3), 100, dtype=np.uint8)
    Clip.of(grey, 30).save(tmp_path / f"a{ending}")
    if ending == ".frames":
        frame = np.array(Image.open(tmp_path / "a.frames" / "frame00000.png"))
    elif ending in PLAYED:
        frames, _ = decoded(tmp_path / f"a{ending}")
        assert len(frames) == 1
        frame = frames[0, : size[0], : size[1]]
    else:
        frame = np.array(Image.open(tmp_path / f"a{ending}"))
    assert frame.shape == (*size, 3) and np.abs(frame.astype(int) - 100).max() <= 2


def test_a_gif_holds_what_changes(tmp_path):
    """A square walks over a still ground, and stands for three frames: few colours come back as they were."""
    frames = np.zeros((9, 40, 50, 3), dtype=np.uint8)
    frames[:, 20:, :] = (10, 120, 60)
    for k, step in enumerate((0, 1, 2, 2, 2, 5, 6, 0, 1)):
        frames[k, 15 + step : 22 + step, 5 * step : 5 * step + 9] = (250, 40, 10)
    Clip.of(frames, 10).save(tmp_path / "a.gif")
    read, times = decoded(tmp_path / "a.gif")
    assert (read == frames[[0, 1, 2, 5, 6, 7, 8]]).all() and times[-1] == pytest.approx(0.9)
    assert (tmp_path / "a.gif").stat().st_size < 9 * 500


def test_a_folder_of_frames(tmp_path):
    frames = np.random.default_rng(1).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
    place = tmp_path / "a.frames"
    for count in (5, 3):  # the second replaces the first, of which nothing is left
        Clip.of(frames[:count], 10).save(place)
        assert sorted(p.name for p in place.iterdir()) == [f"frame0000{k}.png" for k in range(count)]
        assert all((np.array(Image.open(place / f"frame0000{k}.png")) == frames[k]).all() for k in range(count))
    (place / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt"):
        Clip.of(frames, 10).save(place)
    (tmp_path / "b.gif").mkdir()
    with pytest.raises(UserError, match="folder"):
        Clip.of(frames, 10).save(tmp_path / "b.gif")
    assert len(list(place.iterdir())) == 4


def test_a_filmstrip_is_written(tmp_path):
    clip, asked = numbered(15)
    clip.save(tmp_path / "a.png")
    assert asked == [0, 2, 4, 6, 8, 10, 12, 14]
    assert (np.array(Image.open(tmp_path / "a.png")) == np.array(filmstrip([clip]))).all()


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".frames"])
def test_frames_are_computed_once_and_let_go(ending, tmp_path):
    alive, most, asked = weakref.WeakSet(), [], []

    class Watched(np.ndarray):
        __hash__ = object.__hash__

    def frame(k):
        asked.append(k)
        picture = np.full((16, 24, 3), 5 * k, dtype=np.uint8).view(Watched)
        alive.add(picture)
        most.append(len(alive))
        return picture

    write(Clip(frame, 50, (16, 24), 25.0), tmp_path / f"a{ending}")
    assert sorted(asked) == list(range(50))
    assert max(most) <= 2


@pytest.mark.parametrize("ending", FORMATS)
def test_a_failing_frame_leaves_what_was_there(ending, tmp_path):
    def frame(k):
        if k == 4:
            raise KeyboardInterrupt
        return np.full((8, 8, 3), k, dtype=np.uint8)

    path, broken = tmp_path / f"a{ending}", Clip(frame, 5, (8, 8), 10.0)
    with pytest.raises(KeyboardInterrupt):
        write(broken, path)
    assert list(tmp_path.iterdir()) == []
    numbered(3, (8, 8))[0].save(path)
    there = [p for p in sorted(tmp_path.rglob("*")) if p.is_file()]
    whole = [p.read_bytes() for p in there]
    with pytest.raises(KeyboardInterrupt):
        write(broken, path)
    assert [p for p in sorted(tmp_path.rglob("*")) if p.is_file()] == there
    assert [p.read_bytes() for p in there] == whole


def test_endings_and_sizes_that_do_not_exist(tmp_path):
    clip, asked = numbered()
    for name in ("a.avi", "a", "a.mp4.txt"):
        with pytest.raises(UserError) as error:
            clip.save(tmp_path / name)
        assert all(ending in str(error.value) for ending in FORMATS)
    wide = Clip.of(np.zeros((1, 1, 16384, 3), dtype=np.uint8), 10)
    for ending, largest in [(".webp", "16383"), (".jpg", "8185")]:
        with pytest.raises(UserError, match=largest):
            wide.save(tmp_path / f"a{ending}")
    assert asked == [] and list(tmp_path.iterdir()) == []


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    for ending in FORMATS:
        clip, asked = numbered(3, (8, 8))
        if ending in (".mp4", ".webm"):
            with pytest.raises(MissingPackage, match=r"av: .*ddmi\[video\]"):
                clip.save(tmp_path / f"a{ending}")
            assert asked == []
        else:
            clip.save(str(tmp_path / f"a{ending}"))
            assert (tmp_path / f"a{ending}").exists()
