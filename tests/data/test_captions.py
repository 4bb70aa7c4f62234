"""Captions of files: any text of valid JSON, names in either form of Unicode, and a line about what does not match."""

from __future__ import annotations

import json
import logging
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from ddmi.base.errors import UserError
from ddmi.data.captions import json_captions, matched, one_of_each
from ddmi.data.images import ImageFolder
from ddmi.domains.nerf.views import captions_of
from ddmi.domains.shape.shapes import _table_captions

SEPARATORS = "\u2028\u2029\u0085"
"""Line ends to str.splitlines, plain characters to JSON."""


def pictures(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)
    return root


def table(path: Path, *entries: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(entry, ensure_ascii=False) + "\r\n" for entry in entries), encoding="utf-8-sig")
    return path


def test_the_name_alone_chooses():
    names, phrasings = ["a", "b", "c"], [["one", "two", "three"], [], ["four"]]
    told = one_of_each(names, phrasings)
    assert told[0] in phrasings[0] and told[1:] == ["", "four"]
    assert one_of_each(names[::-1], phrasings[::-1]) == told[::-1]


def test_no_phrasing_is_preferred():
    told = one_of_each([str(k) for k in range(3000)], [["one", "two", "three"]] * 3000)
    deviation = (3000 * 1 / 3 * 2 / 3) ** 0.5
    assert all(abs(told.count(text) - 1000) < 3 * deviation for text in ("one", "two", "three"))


def test_separators_of_unicode_end_no_line(tmp_path):
    text = SEPARATORS.join(("a", "red", "fox", "runs"))
    path = table(tmp_path / "captions.jsonl", {"file": "a.png", "text": text}, {"file": "b.png", "text": "sea"})
    assert list(json_captions(path, "file")) == [("a.png", "a red fox runs"), ("b.png", "sea")]
    assert ImageFolder(pictures(tmp_path, "a.png", "b.png")).captions == ["a red fox runs", "sea"]
    table(tmp_path / "captions.jsonl", {"model": "chair", "text": text})
    assert captions_of(tmp_path, ["chair"]) == [["a red fox runs"]]
    (tmp_path / "t.csv").write_text(f"modelId,description\na1,{text}\nb2,blue\n", encoding="utf-8")
    assert list(_table_captions(tmp_path / "t.csv")) == [("a1", "a red fox runs"), ("b2", "blue")]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_match_however_they_are_encoded(tmp_path, form):
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    on_disk, told = (unicodedata.normalize(f, "caf\u00e9/\u00fcber.png") for f in (form, other))
    assert on_disk != told
    pictures(tmp_path, on_disk)
    table(tmp_path / "captions.jsonl", {"file": told, "text": "tea"})
    source = ImageFolder(tmp_path)
    assert source.captions == ["tea"] and source.names == [on_disk]
    (tmp_path / "captions.jsonl").unlink()
    beside = (tmp_path / told).with_suffix(".txt")
    beside.parent.mkdir(exist_ok=True)
    beside.write_text("coffee")
    assert ImageFolder(tmp_path).captions == ["coffee"]


def test_one_line_counts_what_does_not_match(tmp_path, caplog):
    pictures(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "bad.png").write_text("no image")
    lines = [{"file": name, "text": "x"} for name in ("a.png", "A.png", "gone.png", "bad.png")]
    table(tmp_path / "captions.jsonl", *lines)
    told = "captions name none of the images, 2 of 3 images have no caption"
    with caplog.at_level(logging.WARNING):
        assert ImageFolder(tmp_path).captions == ["x", "", ""]
        assert [r.getMessage() for r in caplog.records] == [
            "1 of 4 images are left out: bad.png: not an image",
            f"{tmp_path / 'captions.jsonl'}: 2 of 4 {told}",
        ]
        caplog.clear()
        (tmp_path / "captions.jsonl").unlink()
        for name in ("b", "gone", "bad"):
            (tmp_path / f"{name}.txt").write_text("y")
        assert ImageFolder(tmp_path).captions == ["", "y", ""]
        assert [r.getMessage() for r in caplog.records][1:] == [f"{tmp_path}: 1 of 3 {told}"]
        caplog.clear()
        assert matched(tmp_path, [("a", "x"), ("b", "y"), ("b", "z")], ["a", "b"], "shapes") == [["x"], ["y", "z"]]
    assert not caplog.records
    with pytest.raises(UserError, match="names none of the shapes: a name is like 'a'"):
        matched(tmp_path, [("c", "x")], ["a"], "shapes")


def test_no_word_is_no_caption(tmp_path):
    pictures(tmp_path, "a.png", "b.png")
    (tmp_path / "a.txt").write_text(" \n")
    assert ImageFolder(tmp_path).captions is None
    (tmp_path / "README.txt").write_text("about this data")
    (tmp_path / "a.txt").unlink()
    assert ImageFolder(tmp_path).captions is None
    table(tmp_path / "captions.jsonl", {"file": "a.png", "text": ""})
    assert ImageFolder(tmp_path).captions is None


def test_the_metadata_of_image_folders_counts(tmp_path):
    pictures(tmp_path, "a.png", "train/b.png", "train/c.png")
    table(tmp_path / "metadata.jsonl", {"file_name": "a.png", "text": "sea", "width": 8})
    table(tmp_path / "train" / "metadata.jsonl", *({"file_name": f"{n}.png", "text": n} for n in "bc"))
    assert ImageFolder(tmp_path).captions == ["sea", "b", "c"]
    table(tmp_path / "train" / "metadata.jsonl", {"file_name": "b.png", "label": 1})  # no captions: nothing to read
    assert ImageFolder(tmp_path).captions == ["sea", "", ""]
    table(tmp_path / "captions.jsonl", {"file": "train/c.png", "text": "goes first"})
    assert ImageFolder(tmp_path).captions == ["", "", "goes first"]
