"""Files as observations: what is visible, in the right place, and one line for each file that does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from ddmi.base.coordinates import grid
from ddmi.base.errors import UserError
from ddmi.cli.completing import eye_of, frames_of
from ddmi.domains.shape import Shape


@pytest.fixture
def folder(tmp_path):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, 8:] = 255  # the right half is white
    Image.fromarray(pixels).save(tmp_path / "image.png")
    for name, size, white in (
        ("left", 16, slice(0, 8)),
        ("all", 16, slice(None)),
        ("none", 16, slice(0)),
        ("big", 20, slice(9)),
    ):
        mask = np.zeros((size, size), np.uint8)
        mask[:, white] = 255
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    Image.fromarray(pixels[:4, 6:10]).save(tmp_path / "small.png")
    return tmp_path


def test_a_mask_leaves_what_is_black_in_it(folder):
    seen = tiny.image().observations(image=folder / "image.png", mask=folder / "left.png")
    assert len(seen.values) == 32 and float(seen.coordinates[:, 0].min()) > 0 and bool((seen.values == 1).all())


def test_small_images_are_means_and_grey_is_a_sum_of_channels(folder):
    domain = tiny.image()
    small = domain.observations(image=folder / "small.png")
    assert small.coordinates.shape == (16, 4, 2)
    assert torch.allclose(small.coordinates.mean(1), grid((4, 4)), atol=1e-6)
    grey = domain.observations(image=folder / "image.png", grey=True)
    assert (
        grey.values.shape == (64, 1) and grey.mix is not None and float(grey.values.max()) == pytest.approx(1, abs=1e-5)
    )
    assert len(domain.observations(image=folder / "image.png", scattered=9).values) == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": "big.png"}, "has 20x20 pixels, and .* has 16x16"),
        ({"mask": "all.png"}, "hides everything"),
        ({"mask": "none.png"}, "hides nothing"),
        ({"mask": "no.png"}, "--mask .* does not exist"),
        ({}, "nothing is hidden: name a --mask"),
        ({"scattered": 64}, "--scattered must be from 1 to 63"),
        ({"image": "small.png", "mask": "left.png"}, "need an image of 8 pixels"),
    ],
)
def test_images_that_do_not_fit_are_refused(folder, options, message):
    files = {"image": folder / "image.png", **{k: folder / v if isinstance(v, str) else v for k, v in options.items()}}
    if isinstance(options.get("image"), str):
        files["image"] = folder / options["image"]
    with pytest.raises(UserError, match=message):
        tiny.image().observations(**files)


def test_scans_know_the_inside_and_the_empty_space_before_them(tmp_path):
    """One point of a surface at x = 0.5 that faces a scanner at x = 0.9."""
    point, normal = np.array([[0.5, 0, 0]], np.float32), np.array([[2.0, 0, 0]], np.float32)
    np.savez(tmp_path / "scan.npz", points=point, normals=normal)
    np.savez(tmp_path / "surface.npz", points=point)
    np.savez(tmp_path / "cut.npz", points=np.zeros((2, 3)), occupancies=np.array([True, True]))
    domain = Shape(resolution=32)
    seen = domain.observations(points=tmp_path / "scan.npz")
    assert seen.coordinates[:, 0].tolist() == pytest.approx([0.5 - 1 / 32, 0.5 + 1 / 32])
    assert seen.values[:, 0].tolist() == [1, 0]
    open_space = domain.observations(points=tmp_path / "scan.npz", eye=(0.9, 0.0, 0.0))
    free = open_space.coordinates[open_space.values[:, 0] == 0, 0]
    assert len(free) == 6 and float(free.min()) > 0.5 and float(free.max()) < 0.9
    assert domain.observations(points=tmp_path / "surface.npz").values.tolist() == [[0.5]]
    assert domain.observations(points=tmp_path / "cut.npz").values.tolist() == [[1], [1]]


def test_scans_outside_of_the_cube_and_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "far.npz", points=np.full((3, 3), 1.5))
    np.savez(tmp_path / "cut.npz", points=np.zeros((2, 3)), occupancies=np.zeros(2))
    (tmp_path / "bad.ply").write_text("nothing")
    domain = Shape(resolution=32)
    for name, message in (
        ("far.npz", "3 of 3 points lie outside"),
        ("bad.ply", "no point cloud"),
        ("no.ply", "not exist"),
    ):
        with pytest.raises(UserError, match=message):
            domain.observations(points=tmp_path / name)
    with pytest.raises(UserError, match="--eye goes with points of a surface"):
        domain.observations(points=tmp_path / "cut.npz", eye=(0.0, 0.0, 2.0))


def test_numbers_of_frames_and_places():
    assert frames_of("0-2,5") == [0, 1, 2, 5] and frames_of("") is None and eye_of("0,1,-2") == (0, 1, -2)
    for wrong in (lambda: frames_of("3-"), lambda: frames_of("a"), lambda: eye_of("1,2")):
        with pytest.raises(UserError, match="takes"):
            wrong()
    with pytest.raises(UserError, match="5-3 ends before it begins"):
        frames_of("0,5-3")
    for far in ("0-999999999999", "1234567"):
        with pytest.raises(UserError, match="takes numbers"):
            frames_of(far)
    with pytest.raises(UserError, match="finite"):
        eye_of("nan,0,1")
