"""Folders of pictures: exact pixels, a stable order, bad files named, and splits that keep subjects together."""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from ddmi.base.errors import UserError
from ddmi.data.images import ImageFolder, fit, open_images
from ddmi.data.splits import split
from ddmi.domains.nerf.scene import decoded as views_decoded


def solid(
    path: Path, colour: tuple[int, ...] = (10, 200, 30), size: tuple[int, int] = (12, 9), mode: str = "RGB"
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


class Sets:
    """A source of `count` subjects with `variants` each, named only."""

    def __init__(self, count: int, variants: int = 1):
        self.names = [f"{subject:05d}-{variant}" for subject in range(count) for variant in range(variants)]
        self.groups = [list(range(k * variants, (k + 1) * variants)) for k in range(count)]
        self.captions, self.labels, self.classes, self.smallest, self.parts = None, None, [], None, None

    def read(self, index: int, size: int) -> np.ndarray:
        raise NotImplementedError


def test_a_solid_colour_reads_back_exactly_at_any_size(tmp_path):
    solid(tmp_path / "a.png")
    solid(tmp_path / "b.BMP")
    source = ImageFolder(tmp_path)
    assert source.names == ["a.png", "b.BMP"] and source.smallest == 9
    for index in range(2):
        for size in (4, 9, 31):
            picture = source.read(index, size)
            assert picture.shape == (size, size, 3) and picture.dtype == np.uint8
            assert (picture == (10, 200, 30)).all()


def test_pixels_at_their_own_size_are_the_file(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "b.webp", lossless=True)
    source = ImageFolder(tmp_path)
    assert (source.read(0, 8) == pixels).all() and (source.read(1, 8) == pixels).all()


@pytest.mark.parametrize("budget", [0, 1 << 20])
def test_what_is_kept_at_opening_is_what_is_read_later(tmp_path, budget):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 12, 9, 3), dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(b"bad")
    for name, one in zip(("b.png", "c.jpg"), pixels, strict=True):
        Image.fromarray(one).save(tmp_path / name)
    plain, early = ImageFolder(tmp_path), ImageFolder(tmp_path, sizes={4, 8, 16}, memory=budget)
    if budget:
        for name in ("b.png", "c.jpg"):
            (tmp_path / name).rename(tmp_path / f"{name}.gone")
        assert all(early.read(k, size).shape == (size, size, 3) for k in range(2) for size in (4, 8))
        with pytest.raises(UserError, match="cannot read"):
            early.read(0, 16)  # larger than the file: no data set asks for it
        for name in ("b.png", "c.jpg"):
            (tmp_path / f"{name}.gone").rename(tmp_path / name)
    assert all((plain.read(k, size) == early.read(k, size)).all() for k in range(2) for size in (4, 8, 16))


def test_the_crop_is_central(tmp_path):
    pixels = np.zeros((4, 12, 3), np.uint8)
    pixels[:, 4:8] = (255, 0, 0)  # the central square
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels.transpose(1, 0, 2)).save(tmp_path / "tall.png")
    source = ImageFolder(tmp_path)
    for index in range(2):
        for size in (2, 4, 7):  # no blue or black leaks in from outside the square
            assert (source.read(index, size) == (255, 0, 0)).all()


def test_shrinking_is_antialiased():
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    small = fit(Image.fromarray(board).convert("RGB"), 8)
    assert np.abs(small.astype(int) - 127.5).max() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    stored = {  # the pixels that the tag turns back into the upright picture
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    assert (ImageFolder(tmp_path).read(0, 8) == upright).all()


def test_grey_palette_bilevel_and_cmyk(tmp_path):
    solid(tmp_path / "grey.png", (77,), mode="L")
    Image.new("RGB", (8, 8), (1, 2, 3)).quantize(4).save(tmp_path / "palette.png")
    solid(tmp_path / "two.png", (1,), mode="1")
    solid(tmp_path / "cmyk.jpg", (0, 255, 255, 0), (16, 16), mode="CMYK")
    first = {
        name: tuple(ImageFolder(tmp_path).read(k, 8)[3, 3])
        for k, name in enumerate(sorted(p.name for p in tmp_path.iterdir()))
    }
    assert (
        first["grey.png"] == (77, 77, 77) and first["palette.png"] == (1, 2, 3) and first["two.png"] == (255, 255, 255)
    )
    assert np.abs(np.subtract(first["cmyk.jpg"], (255, 0, 0), dtype=int)).max() <= 3


def test_sixteen_bits_are_scaled(tmp_path):
    values = np.array([0, 128, 129, 257, 32768, 65535], np.uint16)
    Image.fromarray(np.tile(values[:, None], (1, 6))).save(tmp_path / "deep.png")
    assert Image.open(tmp_path / "deep.png").mode.startswith("I")
    picture = ImageFolder(tmp_path).read(0, 6)
    assert picture[:, 0, 0].tolist() == np.round(values / 65535 * 255).astype(int).tolist() == [0, 0, 1, 1, 128, 255]


def test_alpha_is_composited_on_white(tmp_path):
    solid(tmp_path / "half.png", (200, 0, 100, 128), mode="RGBA")
    solid(tmp_path / "none.png", (0, 0, 0, 0), mode="RGBA")
    solid(tmp_path / "soft.png", (40, 51), mode="LA")
    picture = ImageFolder(tmp_path)
    by_hand = [c * 128 / 255 + 255 * (1 - 128 / 255) for c in (200, 0, 100)]
    assert np.abs(picture.read(0, 4)[0, 0] - by_hand).max() <= 1
    assert (picture.read(1, 4) == 255).all()
    assert np.abs(picture.read(2, 4) - (40 * 0.2 + 255 * 0.8)).max() <= 1


def exchanging() -> bytes:
    """sRGB's ICC profile with the colorants of red and green exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(profile[k : k + 4]): k + 4 for k in range(132, 132 + 12 * profile[131], 12)}
    red, green = (slice(tags[tag], tags[tag] + 8) for tag in (b"rXYZ", b"gXYZ"))
    profile[red], profile[green] = profile[green], profile[red]
    return bytes(profile)


def test_colours_of_other_profiles_become_those_of_srgb(tmp_path):
    """The exact values are those of the exchange; rounding to 8 bits twice may shift them by one."""
    profile, plain = exchanging(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (8, 8), (200, 20, 20)).save(tmp_path / "a.png", icc_profile=profile)
    Image.new("RGB", (8, 8), (200, 20, 20)).save(tmp_path / "b.webp", icc_profile=profile, lossless=True)
    Image.new("RGBA", (8, 8), (255, 0, 0, 51)).save(tmp_path / "c.png", icc_profile=profile)
    palette = Image.new("RGB", (8, 8), (200, 20, 20)).quantize(4)
    palette.save(tmp_path / "d.png", icc_profile=profile)
    Image.new("RGB", (8, 8), (200, 20, 20)).save(tmp_path / "e.png", icc_profile=plain)
    Image.new("RGB", (8, 8), (200, 20, 20)).save(tmp_path / "f.png", icc_profile=b"no profile")
    Image.new("RGB", (8, 8), (200, 20, 20)).save(tmp_path / "g.png", icc_profile=profile[:300])
    Image.new("L", (8, 8), 90).save(tmp_path / "h.png", icc_profile=plain)
    source = ImageFolder(tmp_path)
    told = [(20, 200, 20)] * 2 + [(204, 255, 204)] + [(20, 200, 20)] + [(200, 20, 20)] * 3 + [(90, 90, 90)]
    assert len(source.names) == len(told)
    for index, colour in enumerate(told):
        assert np.abs(source.read(index, 4).astype(int) - colour).max() <= 1, source.names[index]
    assert (source.read(4, 4) == (200, 20, 20)).all(), "sRGB itself changes nothing"
    assert (views_decoded(tmp_path / "c.png")[0, 0] == (0, 255, 0, 51)).all()


def linear_grey() -> bytes:
    """The smallest ICC profile of linear grey: a white point (D50) and a tone curve that is the identity (ICC.1)."""
    white = b"XYZ \0\0\0\0" + b"".join(round(65536 * value).to_bytes(4, "big") for value in (0.9642, 1.0, 0.8249))
    curve = b"curv\0\0\0\0" + bytes(4)
    tags = b"\0\0\0\2" + b"".join(
        name + offset.to_bytes(4, "big") + size.to_bytes(4, "big")
        for name, offset, size in ((b"wtpt", 156, len(white)), (b"kTRC", 156 + len(white), len(curve)))
    )
    size = 128 + len(tags) + len(white) + len(curve)
    header = size.to_bytes(4, "big") + bytes(4) + b"\2\x10\0\0" + b"mntrGRAYXYZ " + bytes(12) + b"acsp" + bytes(28)
    return header + white[8:] + bytes(48) + tags + white + curve


def test_grey_of_another_tone_curve_becomes_that_of_srgb(tmp_path):
    """Linear light v is 1.055 v^(1 / 2.4) - 0.055 in sRGB (IEC 61966-2-1)."""
    profile, alpha = linear_grey(), Image.new("L", (8, 8), 0)
    Image.new("L", (8, 8), 64).save(tmp_path / "a.png", icc_profile=profile)
    Image.fromarray(np.full((8, 8), 64 * 257, np.uint16)).save(tmp_path / "b.png", icc_profile=profile)
    Image.merge("LA", (Image.new("L", (8, 8), 64), alpha)).save(tmp_path / "c.png", icc_profile=profile)
    Image.new("RGB", (8, 8), (64, 64, 64)).save(tmp_path / "d.png", icc_profile=profile)  # not of its mode
    source = ImageFolder(tmp_path)
    told = 255 * (1.055 * (64 / 255) ** (1 / 2.4) - 0.055)
    assert [source.read(k, 4)[0, 0, 0] for k in (2, 3)] == [255, 64]
    assert all(np.abs(source.read(k, 4) - told).max() <= 1.5 for k in (0, 1))


def test_grey_of_16_bits_may_be_transparent(tmp_path):
    values = np.array([[0, 257 * 7, 257 * 8, 65535]] * 4, np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png", transparency=257 * 8)
    assert Image.open(tmp_path / "a.png").mode.startswith("I")
    assert ImageFolder(tmp_path).read(0, 4)[0, :, 1].tolist() == [0, 7, 255, 255]
    assert views_decoded(tmp_path / "a.png")[0, :, [0, 3]].T.tolist() == [[0, 255], [7, 255], [8, 0], [255, 255]]


def test_broken_exif_turns_nothing(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for k, exif in enumerate((b"Exif\0\0junkjunk", b"Exif\0\0\0", b"\xff")):  # each raises in Pillow
        Image.fromarray(pixels).save(tmp_path / f"{k}.png", exif=exif)
    source = ImageFolder(tmp_path)
    assert len(source.names) == 3 and all((source.read(k, 8) == pixels).all() for k in range(3))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names of text alone")
def test_a_name_that_is_no_text_stops_nothing(tmp_path, caplog):
    solid(tmp_path / "a.png")
    raw = os.fsencode(tmp_path)
    os.mkdir(raw + b"/caf\xe9")
    for name in (b"/b\xe9.png", b"/caf\xe9/c.png"):
        with open(raw + name, "wb") as file:
            file.write((tmp_path / "a.png").read_bytes())
    source = ImageFolder(tmp_path)
    assert source.names == ["a.png"]
    assert dict(source.bad) == {"b\\udce9.png": "its name is not UTF-8", "caf\\udce9/c.png": "its name is not UTF-8"}
    assert "2 of 3 images are left out: b\\udce9.png: its name is not UTF-8" in caplog.text
    with pytest.raises(UserError, match=r"udce9\.png in .*: its name is not UTF-8"):
        ImageFolder(tmp_path, on_bad="stop")


def test_a_text_that_cannot_be_read_captions_nothing(tmp_path, caplog):
    for name in ("a", "b"):
        solid(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_bytes("café".encode("latin-1" if name == "a" else "utf-8"))
    (tmp_path / "notes.txt").write_bytes(b"\xff")
    assert ImageFolder(tmp_path).captions == ["", "café"]
    assert "1 of 3 texts are left out: a.txt: " in caplog.text


def break_files(root: Path) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name in ("cut.jpg", "cut.png", "cut.webp"):
        Image.fromarray(noise).save(root / name)
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: len(content) * 2 // 3])
    (root / "empty.png").write_bytes(b"")
    (root / "text.png").write_text("I am not an image")
    solid(root / "tiny.png", size=(100, 3))


def test_bad_files_are_left_out_and_named(tmp_path):
    solid(tmp_path / "good.png")
    break_files(tmp_path)
    source = ImageFolder(tmp_path)
    assert source.names == ["good.png"]
    reasons = dict(source.bad)
    assert set(reasons) == {"cut.jpg", "cut.png", "cut.webp", "empty.png", "text.png", "tiny.png"}
    assert reasons["text.png"] == "not an image" and "100x3" in reasons["tiny.png"] and all(reasons.values())


def test_the_first_bad_file_stops_when_asked(tmp_path):
    solid(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("x")
    (tmp_path / "c.png").write_text("x")
    with pytest.raises(UserError, match=r'b\.png in .*: not an image.*on_bad="skip"'):
        ImageFolder(tmp_path, on_bad="stop")


def test_a_decompression_bomb_is_bad(tmp_path, monkeypatch):
    solid(tmp_path / "a.png", size=(8, 8))
    solid(tmp_path / "bomb.png", size=(100, 100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert [name for name, _ in ImageFolder(tmp_path).bad] == ["bomb.png"]


def test_nothing_to_read_is_one_line(tmp_path):
    empty, lmdb, broken = tmp_path / "empty", tmp_path / "lmdb", tmp_path / "broken"
    for folder in (empty, lmdb, broken):
        folder.mkdir()
    (lmdb / "data.mdb").write_bytes(b"x")
    (broken / "a.png").write_text("x")
    cases = (
        (tmp_path / "nowhere", "not a folder"),
        (empty, r"\.webp"),
        (lmdb, "lmdb.*export"),
        (broken, "a.png: not an image"),
    )
    for path, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            open_images(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_order_is_sorted_and_hidden_files_are_passed_over(tmp_path):
    for name in ("b/2.png", "a/deep/er/1.png", "b/1.jpg", "._b.png", ".hidden/x.png", "a.txt"):
        solid(tmp_path / name) if not name.endswith("txt") else (tmp_path / name).write_text("no")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    assert ImageFolder(tmp_path).names == ["a/deep/er/1.png", "b/1.jpg", "b/2.png"] == ImageFolder(tmp_path).names


def test_folders_are_classes_and_parts(tmp_path):
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        solid(tmp_path / "flat" / name)
        solid(tmp_path / "parted" / "train" / name)
        solid(tmp_path / "parted" / "val" / name)
    flat, parted = ImageFolder(tmp_path / "flat"), ImageFolder(tmp_path / "parted")
    assert flat.classes == parted.classes == ["cat", "dog"]
    assert flat.labels == [0, 0, 1] and parted.labels == [0, 0, 1, 0, 0, 1]
    assert flat.parts is None and parted.parts == ["train"] * 3 + ["val"] * 3
    assert split(parted, "train") == [0, 1, 2] and split(parted, "test") == [3, 4, 5] and len(split(parted, "all")) == 6
    solid(tmp_path / "flat" / "above.png")
    assert ImageFolder(tmp_path / "flat").labels is None


def test_captions_from_a_table_or_beside_the_pictures(tmp_path):
    for name in ("a.png", "sub/b.jpg", "c.png"):
        solid(tmp_path / name)
    assert ImageFolder(tmp_path).captions is None
    (tmp_path / "sub" / "b.txt").write_text(" a  red\nfox ")
    assert ImageFolder(tmp_path).captions == ["", "", "a red fox"]
    table = tmp_path / "captions.jsonl"
    table.write_text(
        "".join(
            json.dumps({"file": f, "text": t}) + "\n" for f, t in (("c.png", "sea"), ("c.png", "x"), ("gone.png", "y"))
        )
    )
    assert ImageFolder(tmp_path).captions == ["", "sea", ""]
    table.write_text('{"file": "a.png", "text": "ok"}\n{"file": 3}\n')
    with pytest.raises(UserError, match=r"captions\.jsonl, line 2"):
        ImageFolder(tmp_path)
    table.write_text('{"file": "other.png", "text": "ok"}\n')
    with pytest.raises(UserError, match="none of the images: a name is like"):
        ImageFolder(tmp_path)


def test_a_folder_can_be_sent_to_another_process(tmp_path):
    solid(tmp_path / "a.png")
    assert pickle.loads(pickle.dumps(ImageFolder(tmp_path))).names == ["a.png"]


@pytest.mark.parametrize("count", [2, 3, 50, 2000])
def test_a_split_is_a_stable_partition_by_group(count):
    source = Sets(count, variants=3)
    train, test = split(source, "train"), split(source, "test")
    assert sorted(train + test) == split(source, "all") == list(range(3 * count))
    assert train and test and train == sorted(train)
    for group in source.groups:
        assert set(group) <= set(train) or set(group) <= set(test)
    assert test == split(Sets(count, variants=3), "test")


def test_the_split_has_the_fraction_asked_for_and_does_not_move():
    few, many = Sets(2000), Sets(4000)
    held = split(many, "test", 0.1)
    assert abs(len(held) / 4000 - 0.1) < 3 * (0.1 * 0.9 / 4000) ** 0.5  # three standard deviations
    assert split(few, "test", 0.1) == [index for index in held if index < 2000]  # adding pictures moves none
    assert split(Sets(20), "test", 0.2) == [0, 1, 7, 9, 18]
    assert split(Sets(1), "test") == [] and split(Sets(1), "train") == [0]


def test_a_wrong_split_is_refused():
    for held_out in (0.0, 1.0, float("nan")):
        with pytest.raises(UserError, match="held_out"):
            split(Sets(3), "test", held_out)
