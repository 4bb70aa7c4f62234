"""Grids in slabs are the grid, and pixels are rounded to the nearest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ddmi.base.coordinates import grid
from ddmi.rendering.clip import contact_sheet
from ddmi.rendering.grid import grid_slabs, image_rows, to_pixels, to_signal


def field(coordinates, periods=None):
    parts = [torch.sin(3 * coordinates).sum(1), coordinates[:, 0], coordinates[:, -1]]
    return torch.stack(parts, dim=1) * (1 if periods is None else periods)


@pytest.mark.parametrize("slab", [1, 7, 20, 10_000])
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (4, 3, 2), (9,)])
def test_slabs_are_the_whole(size, slab):
    window = (-1.0,) * len(size) + (1.0,) * len(size)
    parts = list(grid_slabs(field, size, window, slab=slab))
    assert torch.allclose(torch.cat(parts), field(grid(size)).view(*size, 3), atol=1e-6)  # sines of other lengths
    rows = max(1, slab // int(np.prod(size[1:])))
    assert [len(part) for part in parts[:-1]] == [rows] * (len(parts) - 1)


def test_a_window_shows_its_part():
    parts = torch.cat(list(grid_slabs(field, (4, 6), (-0.5, 0.0, 0.5, 0.25), slab=5)))
    assert torch.allclose(parts, field(grid((4, 6), (-0.5, 0.0, 0.5, 0.25))).view(4, 6, 3), atol=1e-6)


def test_memory_is_bounded_by_the_slab():
    asked = []

    def watched(coordinates, periods=None):
        asked.append(len(coordinates))
        return coordinates[:, :1].expand(-1, 3)

    rows = list(image_rows(watched, (500, 30), (-1, -1, 1, 1), slab=300))
    assert max(asked) == 300 and sum(len(band) for band in rows) == 500


def test_the_period_is_handed_on():
    one, two = (next(grid_slabs(field, (2, 2), (-1, -1, 1, 1), torch.tensor([s]))) for s in (1.0, 2.0))
    assert torch.equal(2 * one, two)


def test_pixels_by_hand():
    values = torch.tensor([[-1.0, 1.0, 0.0], [-7.0, 7.0, 0.0001], [-1 + 0.9 / 255, -1 + 1.1 / 255, 1 - 0.9 / 255]])
    assert to_pixels(values).tolist() == [[0, 255, 128], [0, 255, 128], [0, 1, 255]]
    assert to_pixels(values.bfloat16()).dtype == np.uint8


def test_pixels_survive_the_signal():
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    signal = to_signal(levels)
    assert signal.min() == -1 and signal.max() == 1 and signal[0, 1, 0] == pytest.approx(2 / 255 - 1)
    assert np.array_equal(to_pixels(signal), levels)


def test_sheets():
    pictures = [Image.new("RGB", (4, 3), (k, k, k)) for k in range(5)]
    sheet = np.array(contact_sheet(pictures, columns=2, gap=1))
    assert sheet.shape == (3 * 4 - 1, 2 * 5 - 1, 3)
    assert (sheet[0:3, 0:4] == 0).all() and (sheet[4:7, 5:9] == 3).all() and (sheet[8:11, 5:9] == 255).all()
    assert contact_sheet(pictures[:1]).size == (4, 3)
