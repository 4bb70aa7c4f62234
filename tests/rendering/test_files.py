"""Renderings as files: whatever their format, they are whole under their name or not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import trimesh
from PIL import Image

from ddmi.base.errors import UserError, WorkError
from ddmi.domains.shape.surface import Surface
from ddmi.field import fields_of
from ddmi.model.autoencoder import D2CVAE
from ddmi.rendering import files
from ddmi.rendering.clip import Clip
from ddmi.rendering.tiff import StreamedImage

NOISE = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


def clip() -> Clip:
    return Clip(lambda k: NOISE[k], 4, (32, 32), 8)


def save(path: Path) -> None:
    """Write something of a few thousand bytes in the format of the name; its folder says what."""
    kind = path.parent.name
    if path.suffix == ".tif":
        StreamedImage(iter([NOISE[0]]), (32, 32)).save(path)
    elif kind == "image":
        files.save(Image.fromarray(NOISE[0]), path)
    elif kind == "images":
        files.save_sheet([Image.fromarray(frame) for frame in NOISE], path)
    elif kind == "shape":
        Surface.of(trimesh.creation.icosphere(3)).save(path)
    elif kind == "field":
        model = D2CVAE(tiny.AUTOENCODER, tiny.image())
        fields_of(model.decode(model.encode(torch.zeros(1, 3, 8, 8)).mode), tiny.image())[0].save(path)
    elif kind == "clip":
        clip().save(path)
    else:
        files.save_sheet([clip(), clip()], path)


FILES = [
    *(f"image/a{ending}" for ending in (".png", ".jpg", ".webp", ".bmp", ".tif")),
    *(f"images/a{ending}" for ending in (".png", ".gif")),
    *(f"shape/a{ending}" for ending in (".glb", ".ply", ".obj", ".stl", ".png", ".gif")),
    *(f"clip/a{ending}" for ending in (".mp4", ".webm", ".gif", ".webp", ".frames", ".png", ".jpg")),
    "clips/a.png",
    "field/a.safetensors",
]


@pytest.mark.parametrize("name", FILES)
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, name):
    path = tmp_path / name
    with tiny.largest(300), pytest.raises(WorkError, match=rf"cannot write .*{name}: File too large"):
        save(path)
    assert not list(tmp_path.iterdir())
    save(path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    before = path.read_bytes() if path.is_file() else sorted(p.read_bytes() for p in path.iterdir())
    with tiny.largest(300), pytest.raises(WorkError, match=rf"cannot write .*{name}: File too large"):
        save(path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert before == (path.read_bytes() if path.is_file() else sorted(p.read_bytes() for p in path.iterdir()))


@pytest.mark.parametrize("name", FILES)
def test_a_folder_of_the_user_stays(tmp_path, name):
    path = tmp_path / name
    path.mkdir(parents=True)
    (path / "thesis.tex").write_text("of the user")
    with pytest.raises(UserError, match=r"a(\.[a-z0-9]+)? (is a folder|holds thesis.tex)"):
        save(path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert (path / "thesis.tex").read_text() == "of the user"


def surface(radius: float) -> Surface:
    return Surface.of(trimesh.creation.icosphere(2, radius))


def test_several_objects_are_a_sheet_or_turntables(tmp_path):
    both = [surface(0.3), surface(0.8)]
    files.save_sheet(both, tmp_path / "row.png", columns=2)
    with Image.open(tmp_path / "row.png") as row:
        assert np.array_equal(np.asarray(row)[:, :256], np.asarray(both[0].image)) and row.size == (514, 256)
    files.save_sheet(both, tmp_path / "turning.gif")
    with Image.open(tmp_path / "turning.gif") as turning:
        assert turning.n_frames == len(both[0].turntable()) and turning.size == (2 * 192 + 2, 192)


@pytest.mark.parametrize("write", [lambda path: surface(0.5).save(path), lambda path: clip().save(path)])
def test_another_ending_is_refused(tmp_path, write):
    with pytest.raises(UserError, match=r"is written as .*\.mp4"):
        write(tmp_path / "a.xyz")
    assert not list(tmp_path.iterdir())
