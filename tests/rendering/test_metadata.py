"""Metadata survive in every format that has a place for them, and nothing else in the file changes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageSequence

from ddmi.base.errors import UserError
from ddmi.rendering.clip import Clip
from ddmi.rendering.files import save
from ddmi.rendering.metadata import read, stamp
from ddmi.rendering.tiff import write_tiled

TOLD = {"program": "ddmi", "model": "emoji-64", "text": 'a "red" äpfel & <pear>\n', "seed": 3, "guidance_scale": 2.5}
PIXELS = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
"""Of an odd number of rows, as some formats do not have."""


def content(path):
    """What a file shows."""
    if path.suffix in (".mp4", ".webm"):
        import av

        with av.open(str(path)) as file:
            return [(frame.pts, frame.to_ndarray(format="rgb24").tolist()) for frame in file.decode(video=0)]
    if path.suffix in (".glb", ".ply", ".obj"):
        import trimesh

        mesh = trimesh.load(path, force="mesh")
        return mesh.vertices.tolist(), mesh.faces.tolist()
    with Image.open(path) as image:
        return [np.asarray(frame.convert("RGB")).tolist() for frame in ImageSequence.Iterator(image)]


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".gif", ".tif", ".mp4", ".webm", "-.gif", "-.webp"])
def test_images_and_clips_keep_what_they_show(ending, tmp_path):
    path = tmp_path / f"one{ending}"
    if ending == ".tif":
        pytest.importorskip("tifffile")
        write_tiled(iter([PIXELS]), PIXELS.shape[:2], path)
    elif ending in (".mp4", ".webm") or "-" in ending:
        pytest.importorskip("av")
        save(Clip.of(np.stack([np.roll(PIXELS, k, 0) for k in range(5)]), 30000 / 1001), path)
    else:
        save(Image.fromarray(PIXELS), path)
    before = content(path)
    assert read(path) == {} or ending == ".tif"  # its writer notes the shape there
    assert stamp(path, TOLD)
    assert read(path) == TOLD
    assert content(path) == before


@pytest.mark.parametrize("ending", [".glb", ".ply", ".obj", ".stl"])
def test_meshes_keep_their_faces(ending, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    from ddmi.rendering.mesh import write_mesh

    path = tmp_path / f"one{ending}"
    write_mesh(trimesh.creation.icosphere(1), path)
    if ending == ".stl":
        assert not stamp(path, TOLD)
        assert read(path) == {}
        return
    before = content(path)
    assert stamp(path, TOLD)
    assert read(path) == TOLD
    assert content(path) == before


def test_metadata_that_no_format_has_room_for_is_left_out(tmp_path):
    path = tmp_path / "long.png"
    Image.fromarray(PIXELS).save(path)
    before = path.read_bytes()
    assert not stamp(path, {"text": "x" * 70_000}) and path.read_bytes() == before and read(path) == {}


def test_other_files_have_none(tmp_path):
    path = tmp_path / "plain.png"
    Image.fromarray(PIXELS).save(path)
    assert read(path) == {}
    (tmp_path / "note.txt").write_text("note")
    assert read(tmp_path / "note.txt") == {}
    (tmp_path / "cut.glb").write_bytes(b"glTF")
    for bad in (tmp_path / "cut.glb", tmp_path / "none.png", tmp_path):
        with pytest.raises(UserError, match=bad.name):
            read(bad)
