"""The gallery of the models that ship: sheets whose pixels are known, and pages of tiny models of every domain."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image
from typer.testing import CliRunner

from ddmi.base.errors import UserError
from ddmi.cli import app
from ddmi.domains.nerf import Nerf
from ddmi.domains.shape import Shape
from ddmi.domains.video import Video
from ddmi.model.encoders.points import PointEncoderConfig
from ddmi.model.encoders.video import VideoEncoderConfig
from ddmi.pipeline import DDMIPipeline
from ddmi.rendering.clip import Clip
from tools.release.gallery import drawing, gallery, sheets
from tools.release.gallery.prompts import UNSEEN
from tools.release.gallery.sheets import Cell, beside, captioned, wrapped, write_clip, write_picture

POINTS = PointEncoderConfig(width=12, blocks=2, features=12, planes=tiny.ENCODER)
FRAMES = VideoEncoderConfig(patch=4, width=16, blocks=1, head_width=8, plane_width=16, plane_blocks=1)
DOMAINS = {
    "pictures": tiny.image(),
    "pieces": Shape(resolution=8, cloud=50, encode=POINTS),
    "films": Video(size=(8, 8), frames=4, fps=10.0, points=64, depth=2, encode=FRAMES),
    "objects": Nerf(resolution=8, cloud=50, encode=POINTS),
}
FILES = {
    "pictures": ["pictures.png", "pictures-sizes.png", "pictures-unseen.png"],
    "pieces": ["pieces.png", "pieces-turning.webp"],
    "films": ["films.webp", "films.png", "films-rates.webp"],
    "objects": ["objects.webp", "objects.png"],
}
PAGES = ["index.html", "gallery.md"]
SHRUNK = {
    "DRAWINGS": ("red apple", "cat face & <hat>", "sun"), "EACH": 2, "SIDE": 20, "PANEL": 24,
    "UNSEEN": ("blue apple", "green sun", "red cat", "square moon", "two suns"), "SMALL": 12, "ACROSS": 3,
    "PIECES": ("a chair", "a stool", "a lamp", "sofa"), "CELLS": 8, "TURNED": 2, "VIEWS": 2,
    "CLIPS": 4, "FRAME": 10, "STRIPS": 2, "SHOWN": 3, "FASTER": 2, "LARGE": 12,
    "COLOURED": ("a red chair", "a blue table", "a lamp"), "ORBIT": 8, "ROUND": 2, "RAYS": {"samples": 4},
    "SIDES": 2, "AZIMUTHS": (0.0, 90.0), "SEEN": 8,
    "GAP": 4, "MARGIN": 5, "STILL": 8, "MOVING": 8, "ABOVE": 3,
}  # fmt: skip
"""Fewer and smaller pictures."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A model of random weights for each domain; all but that of video draw from words."""
    folder, found = tmp_path_factory.mktemp("models"), {}
    for name, domain in DOMAINS.items():
        told = {"condition": "text", "text_encoder": "hash", "text_width": 64, "sampler": "ddim", "sampling_steps": 2}
        if name == "films":
            told |= {"condition": "none"}
        diffusion = replace(tiny.DIFFUSION, **told)
        found[name] = str(tiny.untrained(folder / name, settings=replace(tiny.config(domain), diffusion=diffusion)))
    return found


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SHRUNK.items():
            readers = [module for module in (drawing, sheets) if hasattr(module, name)]
            assert readers, name
            for module in readers:
                patch.setattr(module, name, value)
        yield


@pytest.fixture(scope="module")
def drawn(models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """The gallery of all of them, and what it says that it has written."""
    out = tmp_path_factory.mktemp("gallery") / "new"
    return out, gallery(out, list(models.values()))


def pixels(path: Path) -> np.ndarray:
    """The pixels of a file, all frames of it."""
    frames = []
    with Image.open(path) as picture:
        for k in range(getattr(picture, "n_frames", 1)):
            picture.seek(k)
            frames.append(np.asarray(picture.convert("RGB")))
    return np.stack(frames)


def plain(*colours: tuple[int, int, int], size: tuple[int, int] = (30, 20)) -> list[Image.Image]:
    """Pictures of one colour each, (width, height)."""
    return [Image.new("RGB", size, colour) for colour in colours]


def blinking(levels: list[int], fps: float) -> Clip:
    """A clip of grey frames."""
    return Clip.of(np.stack([np.full((20, 30, 3), level, np.uint8) for level in levels]), fps)


def test_cells_stand_in_rows_with_their_captions_below_the_middle():
    red, green, blue = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    cells = [Cell(p, c) for p, c in zip(plain(red, green, blue), ("ii", "one two three", ""), strict=True)]
    sheet = beside(cells, 2)
    lines = len(wrapped("one two three", 30, 8))
    assert lines > 1
    high = 20 + 3 + 10 * lines  # a picture, the space below it, and lines
    assert isinstance(sheet, Image.Image) and sheet.size == (5 + 30 + 4 + 30 + 5, 5 + high + 4 + high + 5)
    found = np.asarray(sheet).astype(int)
    for colour, (y, x) in {red: (5, 5), green: (5, 39), blue: (5 + high + 4, 5)}.items():
        assert (found[y : y + 20, x : x + 30] == colour).all()
        found[y : y + 20, x : x + 30] = 255
    ink = 255 - found.mean(2)
    assert not ink[: 5 + 20 + 3].any() and not ink[5 + high :].any()  # captions alone, of the first row
    for x, half in ((5, ink[:, :37]), (39, np.pad(ink[:, 37:], ((0, 0), (37, 0))))):
        middle = (half.sum(0) * (np.arange(half.shape[1]) + 0.5)).sum() / half.sum()
        assert abs(middle - (x + 15)) < 2


def test_without_captions_there_is_no_room_for_them():
    sheet = beside([Cell(p) for p in plain((9, 9, 9), (8, 8, 8))], 2)
    assert isinstance(sheet, Image.Image) and sheet.size == (5 + 30 + 4 + 30 + 5, 5 + 20 + 5)


def test_clips_of_two_rates_play_side_by_side_in_step():
    sheet = beside([Cell(blinking([10, 20], 5.0), "slow"), Cell(blinking([30, 40, 50, 60], 10.0), "fast")], 2)
    assert isinstance(sheet, Clip) and sheet.fps == 10.0
    assert sheet.size == (5 + 20 + 3 + 10 + 5, 5 + 30 + 4 + 30 + 5)
    shown = sheet.array()
    assert shown[:, 15, 20, 0].tolist() == [10, 10, 20, 20]
    assert shown[:, 15, 54, 0].tolist() == [30, 40, 50, 60]
    assert (shown[:, 28:, :, :] == shown[:1, 28:]).all() and (shown[0, 28:] < 255).any()  # captions stand still


@pytest.mark.parametrize("caption", ["", "apple", "a red chair with arm rests", "a verylongwordthatfitsnowhere of it"])
def test_lines_are_as_full_as_they_can_be(caption):
    from PIL import ImageFont

    font = ImageFont.load_default(size=8)
    lines = wrapped(caption, 40, 8)
    assert " ".join(lines) == caption
    for line in lines:
        assert font.getlength(line) <= 40 or " " not in line
    for line, after in pairwise(lines):
        assert font.getlength(f"{line} {after.split()[0]}") > 40


def test_a_sign_that_the_font_lacks_is_written_otherwise():
    assert wrapped("64 × 64", 100, 8) == ["64 x 64"]
    picture = plain((0, 0, 0))[0]
    assert captioned(picture, "4 × 4", 1, 8).tobytes() == captioned(picture, "4 x 4", 1, 8).tobytes()


def test_a_heavy_picture_has_fewer_colours_and_a_light_one_all(tmp_path, monkeypatch):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    write_picture(noise, tmp_path / "all.png")
    assert np.array_equal(pixels(tmp_path / "all.png")[0], np.asarray(noise))
    monkeypatch.setattr(sheets, "HEAVIEST", 1600)  # 2,000 pixels of 4 bits are 1,000 bytes; of 6 bits, 1,500
    write_picture(noise, tmp_path / "few.png")
    found = pixels(tmp_path / "few.png")[0].reshape(-1, 3)
    assert (tmp_path / "few.png").stat().st_size <= 1600
    assert 16 <= len(np.unique(found, axis=0)) <= 64


def test_a_heavy_clip_loses_quality_and_no_time(tmp_path, monkeypatch):
    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    clip = Clip.of(frames, 8.0)
    assert write_clip(clip, tmp_path / "best.webp") == sheets.QUALITIES[0]
    whole = (tmp_path / "best.webp").stat().st_size
    monkeypatch.setattr(sheets, "HEAVIEST", whole // 2)
    quality = write_clip(clip, tmp_path / "worse.webp")
    assert quality in sheets.QUALITIES[1:] and (tmp_path / "worse.webp").stat().st_size <= whole // 2
    for name in ("best.webp", "worse.webp"):
        with Image.open(tmp_path / name) as moving:
            times = []
            for k in range(moving.n_frames):
                moving.seek(k)
                moving.load()
                times.append(moving.info["duration"])
        assert times == [125, 125, 125]


def test_every_file_is_there_and_as_large_as_its_parts(drawn):
    out, written = drawn
    assert [path.name for path in written] == [name for names in FILES.values() for name in names] + PAGES
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in written)
    assert all(path.stat().st_size < sheets.HEAVIEST for path in written[:-2])

    def lines(words, width):
        return 3 + 10 * max(len(wrapped(text, width, 8)) for text in words)

    def sheet(columns, rows, width, height):
        return 10 + rows * (height + 4) - 4, 10 + columns * (width + 4) - 4

    drawings, unseen, pieces = (SHRUNK[name] for name in ("DRAWINGS", "UNSEEN", "PIECES"))
    sides = [f"{size} x {size}" for size in (8, 16, 32, 64)]
    sizes = {
        "pictures.png": (1, sheet(3, 1, 20, 20 + 4 + 20 + lines(drawings, 20))),
        "pictures-sizes.png": (1, sheet(5, 1, 24, 24 + 4 + 24 + lines([*sides, "the window alone, 24 x 24"], 24))),
        "pictures-unseen.png": (1, sheet(3, 2, 12, 12 + lines(unseen, 12))),
        "pieces.png": (1, sheet(2, 2, 20, 20 + 4 + 20 + lines(pieces, 20))),
        "pieces-turning.webp": (2, sheet(1, 2, 20, 20 + lines(pieces[:2], 20))),
        "films.webp": (4, sheet(2, 2, 10, 10)),
        "films.png": (1, (10 + 10 + 2 + 10, 10 + 10 + 2 + 10 + 2 + 10)),
        "films-rates.webp": (8, sheet(2, 1, 12, 12 + lines(["4 frames, 10 a second", "8 frames, 20 a second"], 12))),
        "objects.webp": (2, sheet(2, 2, 8, 8 + lines(SHRUNK["COLOURED"], 8))),
        "objects.png": (1, sheet(1, 2, 8 + 4 + 8 + 4 + 8, 8 + lines(SHRUNK["COLOURED"][:2], 32))),
    }
    for name, (frames, size) in sizes.items():
        found = pixels(out / name)
        assert found.shape[1:3] == size, name
        assert found.shape[0] <= frames, name  # frames without a change are stored once


def test_the_pictures_are_the_first_samples_of_the_seed(drawn, models):
    out, _ = drawn
    pipe = DDMIPipeline.from_pretrained(models["pictures"])
    sheet = pixels(out / "pictures.png")[0]
    for column, prompt in enumerate(SHRUNK["DRAWINGS"]):
        for row, field in enumerate(pipe(2, 0, text=prompt)):
            y, x = 5 + 24 * row, 5 + 24 * column
            assert tiny.alike(sheet[y : y + 20, x : x + 20], np.asarray(field.render(20))), (prompt, row)
    field = pipe(1, 0, text=SHRUNK["DRAWINGS"][1])[0]
    sheet = pixels(out / "pictures-sizes.png")[0]
    whole, part = sheet[5:29, 5:29], sheet[33:57, 5:29]
    assert tiny.alike(whole[::3, ::3], np.asarray(field.render(8)))
    assert tiny.alike(part[::12, ::12], np.asarray(field.render(8))[2:4, 2:4])
    alone = sheet[33:57, 5 + 4 * 28 : 29 + 4 * 28]
    assert tiny.alike(alone, np.asarray(field.render(24, window=(-0.5, -0.5, 0.0, 0.0))))
    film = DDMIPipeline.from_pretrained(models["films"])(4, 0)
    strips = pixels(out / "films.png")[0]
    for row in range(2):
        clip = film[row].render(10)
        for column, k in enumerate((0, 2, 3)):
            y, x = 5 + 12 * row, 5 + 12 * column
            assert tiny.alike(strips[y : y + 10, x : x + 10], clip[k])
    pipe = DDMIPipeline.from_pretrained(models["objects"])
    rows = pixels(out / "objects.png")[0]
    high = 8 + 3 + 10 * max(len(wrapped(text, 32, 8)) for text in SHRUNK["COLOURED"][:2]) + 4
    for row, prompt in enumerate(SHRUNK["COLOURED"][:2]):
        field = pipe(1, 0, text=prompt)[0]
        for k, azimuth in enumerate((0.0, 90.0)):
            y, x = 5 + high * row, 5 + 12 * k
            seen = np.asarray(field.render(8, view=(azimuth, 20.0)).image)
            assert tiny.alike(rows[y : y + 8, x : x + 8], seen)


def test_the_command_draws_what_is_shown(drawn, models, tmp_path):
    out, _ = drawn
    page = (out / "gallery.md").read_text()
    command = next(line for line in page.splitlines() if line.startswith("ddmi sample") and "--count 2" in line)
    program, *arguments = shlex.split(command)
    arguments[arguments.index("--out") + 1] = str(tmp_path / "samples")
    arguments[arguments.index("--size") + 1] = "20"
    done = CliRunner().invoke(app, arguments)
    assert program == "ddmi" and done.exit_code == 0, done.output
    sheet = pixels(out / "pictures.png")[0]
    found = [pixels(path)[0] for path in sorted((tmp_path / "samples").glob("*.png"))]
    cells = [sheet[5 + 24 * row : 25 + 24 * row, 5 + 24 * x : 25 + 24 * x] for row in range(2) for x in range(3)]
    assert len(found) == len(cells) == len({cell.tobytes() for cell in cells})
    assert {picture.tobytes() for picture in found} == {cell.tobytes() for cell in cells}


def test_the_pages_hold_every_prompt_and_command_and_need_no_network(drawn, models):
    out, written = drawn
    web, markdown = ((out / name).read_text() for name in PAGES)
    for prompt in [p for name in ("DRAWINGS", "UNSEEN", "PIECES", "COLOURED") for p in SHRUNK[name]]:
        assert prompt in unescape(web) and prompt in markdown
    assert "<hat>" not in web
    commands = [line for line in markdown.splitlines() if line.startswith("ddmi sample")]
    assert len(commands) == len(written) - 2 + 4  # one for each file, and a short one for each model
    for command in commands:
        assert f"<pre>{command}</pre>" in unescape(web) and "--seed 0" in command
    for name, given in models.items():
        code = f'from_pretrained("{given}")(1, seed=0'
        assert code in unescape(web) and code in markdown
        assert all(f"]({file})" in markdown for file in FILES[name])
    assert web.count("sampler ddim, 2 steps") == markdown.count("sampler ddim, 2 steps") == 4
    sources = re.findall(r"(?:src|srcset|href)=\"(.*?)\"", web)
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert web.count("<h2>") == 4 and web.count('class="viewer"') <= 1 and "default-src 'none'" in unescape(web)


def test_the_same_call_gives_the_same_bytes_and_other_models_pictures_are_left_alone(drawn, models, tmp_path):
    out, _ = drawn
    for name in ("films.webp", "pieces.png", "index.html"):
        (tmp_path / name).write_bytes(b"before")
    written = gallery(tmp_path, [models["pictures"]])
    assert [path.name for path in written] == FILES["pictures"] + PAGES
    for name in FILES["pictures"]:
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()
    assert (tmp_path / "films.webp").read_bytes() == (tmp_path / "pieces.png").read_bytes() == b"before"
    first = [(tmp_path / name).read_bytes() for name in PAGES]
    gallery(tmp_path, [models["pictures"]])
    assert [(tmp_path / name).read_bytes() for name in PAGES] == first and first[0] != b"before"


def test_what_is_no_model_and_what_has_no_gallery_is_refused(models, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="nowhere"):
        gallery(tmp_path / "out", [str(tmp_path / "nowhere")])
    monkeypatch.delitem(drawing.DRAWN, "image")
    with pytest.raises(UserError, match=r"unknown domain.*'image'.*nerf, shape, video"):
        gallery(tmp_path / "out", [models["pictures"]])
    assert not (tmp_path / "out").exists()


def test_what_no_emoji_is_called_is_called_so_by_none():
    data = pytest.importorskip("emoji").EMOJI_DATA
    assert len(UNSEEN) == len(set(UNSEEN)) == 50
    names = {name for entry in data.values() for name in (entry["en"], *entry.get("alias", ()))}
    plain = {name.strip(":").replace("_", " ").replace("-", " ").lower() for name in names}
    assert "red apple" in plain
    assert not {words.replace("-", " ") for words in UNSEEN} & plain
