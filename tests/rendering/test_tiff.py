"""A streamed picture is the picture."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

from ddmi.base.errors import UserError, WorkError
from ddmi.rendering.grid import image_rows
from ddmi.rendering.tiff import tiles, write_tiled

tifffile = pytest.importorskip("tifffile")


def field(coordinates, periods=None):
    return torch.sin(torch.cat([7 * coordinates, 5 * coordinates.prod(1, keepdim=True)], dim=1))


@pytest.mark.parametrize("size", [(1, 1), (1, 600), (255, 257), (256, 512), (300, 40), (513, 1)])
def test_a_streamed_picture_equals_the_one_in_memory(tmp_path, size):
    domain = tiny.image()
    streamed = domain.render(field, size, streamed=True)
    streamed.save(tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages[0]
        assert file.is_bigtiff and page.is_tiled and page.shape == (*size, 3)
        read = page.asarray()
    assert streamed.size == size and tiny.alike(read, domain.render(field, size))
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("heights", [[600], [1] * 600, [255, 2, 343], [256, 256, 88]])
def test_bands_of_any_height_give_the_same_tiles(heights):
    picture = np.random.default_rng(0).integers(0, 256, (600, 300, 3), dtype=np.uint8)
    bands = np.split(picture, np.cumsum(heights)[:-1])
    cut = list(tiles(iter(bands), 300))
    assert len(cut) == 6 and all(tile.shape == (256, 256, 3) for tile in cut)
    assert np.array_equal(cut[0], picture[:256, :256]) and np.array_equal(cut[3][:, :44], picture[256:512, 256:])
    assert not cut[3][:, 44:].any() and not cut[5][88:].any()


def test_other_names_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"a.png: a streamed image is a BigTIFF, so its name must end in .tif"):
        tiny.image().render(field, 4, streamed=True).save(tmp_path / "a.png")


def test_a_failed_picture_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.tif"
    tiny.image().render(field, 4, streamed=True).save(path)
    before = path.read_bytes()

    def broken():
        yield from image_rows(field, (300, 4), (-1, -1, 1, 1), slab=100)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_tiled(broken(), (600, 4), path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match=r"cannot write .*a.tif"):
        tiny.image().render(field, 4, streamed=True).save(tmp_path / "file" / "a.tif")
