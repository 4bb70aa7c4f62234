"""Posed photographs: three layouts read back to the same scene, their mistakes named, and wrong poses recognised."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from posed_scenes import BLUE, RED, around, ball, box, halves, on, photograph, plain, views_of

from ddmi.base.errors import UserError
from ddmi.data.splits import split
from ddmi.domains.nerf import layouts
from ddmi.domains.nerf import views as views_module
from ddmi.domains.nerf.checks import check
from ddmi.domains.nerf.posed import Views, pose_error
from ddmi.domains.nerf.scene import composited
from ddmi.domains.nerf.views import ViewFolder, ViewSource

SIZE, COUNT = (48, 48), 12
OPENCV = np.diag([1.0, -1, -1, 1])
CENTRE, RADIUS = (0.15, 0.05, 0.2), 0.2  # of the ball in the units of SRN, z up
OURS = np.array([0.3, 0.4, -0.1])  # where its middle is in ours: (x, z, -y) / 0.5
CAMERAS = views_of(around(COUNT, 1.3, up="z"), SIZE, 49.0)
SHOTS = photograph(CAMERAS, (ball(CENTRE, RADIUS), halves(2, CENTRE[2])))  # red above, z up


def srn(folder: Path, views: Views = CAMERAS, pictures: np.ndarray = SHOTS, **changes: Any) -> Path:
    """An object in SRN's layout; `poses` and `intrinsics` replace what is written."""
    for name in ("rgb", "pose"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for view, (pixels, pose) in enumerate(zip(pictures, changes.get("poses", views.poses @ OPENCV), strict=True)):
        Image.fromarray(pixels).save(folder / "rgb" / f"{view:06d}.png")
        text = " ".join(f"{value:.8f}" for value in np.ravel(pose))
        (folder / "pose" / f"{view:06d}.txt").write_text(text + "\n")
    height, width = views.size
    given = f"{views.focal[0]} {width / 2} {height / 2} 0.\n0. 0. 0.\n1.\n{height} {width}\n"
    (folder / "intrinsics.txt").write_text(changes.get("intrinsics", given))
    return folder


def npz(path: Path, **changes: Any) -> Path:
    """An object in an npz file: a ball whose points are those before it was turned and enlarged; changes replace."""
    cameras = views_of(around(COUNT, 3.2, up="z"), SIZE, 24 / np.tan(0.6911112 / 2))
    shape = ball((2.2 * 0.2, 2.2 * 0.25, 2.2 * 0.12), 2.2 * 0.2)
    arrays = {
        "images": (on(photograph(cameras, (shape, plain(RED)))) / 255).astype(np.float16),
        "cam_poses": cameras.poses,
        "data": ball_points(),
    } | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def ball_points() -> np.ndarray:
    """Coloured points of the ball of `npz`, y up and not enlarged."""
    normals = np.random.default_rng(0).standard_normal((600, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return np.concatenate([np.array([0.2, 0.12, -0.25]) + 0.2 * normals, np.tile([0.2, 0.4, 0.6], (600, 1))], axis=1)


def middle(views: Views, view: int, pictures: np.ndarray) -> np.ndarray:
    """Mean (column, row) of what differs from white."""
    rows, columns = np.nonzero((pictures[view] < 250).any(axis=2))
    return np.array([columns.mean(), rows.mean()]) + 0.5


def shows(source: ViewSource, index: int, point: np.ndarray, off: float = 1.0) -> None:
    """The pictures of an object have their silhouettes where the cameras see a point."""
    views = source.cameras(index)
    pictures = source.images(index, range(len(views)))
    for view in range(len(views)):
        pixel, depth, _ = views.project(view, point[None])
        assert np.abs(pixel[0] - middle(views, view, pictures)).max() < off and depth[0] > 0


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def radii(source: ViewFolder) -> list[float]:
    """Half the side of each object's box, in the units of its poses."""
    return [one.radius for one in source._objects]


def test_srn_reads_back_in_our_frame(tmp_path):
    srn(tmp_path / "cars" / "a")
    source = ViewFolder(tmp_path / "cars")
    assert isinstance(source, ViewSource)
    assert source.names == ["a"] and source.counts == [COUNT] and source.groups == [[0]] and source.bad == []
    assert source.captions is None and source.labels is None and source.parts is None and radii(source) == [0.5]
    views = source.cameras(0)
    assert views.size == SIZE and (views.focal == 49).all() and (views.centre == 24).all()
    assert np.allclose(np.linalg.norm(views.eyes, axis=1), 2.6) and all(
        pose_error(pose) is None for pose in views.poses
    )
    assert np.allclose(views.poses[:, 1, 0], 0, atol=1e-6) and (views.poses[:, 1, 1] > 0).all(), "y up, level cameras"
    shows(source, 0, OURS)
    pictures = source.images(0, [3, 0, 3])
    assert pictures.dtype == np.uint8 and (pictures[0] == pictures[2]).all()
    assert (pictures[1] == on(SHOTS)[0]).all(), "on white"
    with pytest.raises(IndexError, match="there is no view 12"):
        source.images(0, [12])
    assert (ViewFolder(tmp_path, background=0.0).images(0, [0])[0] == on(SHOTS, 0)[0]).all()


def test_a_hull_gives_the_points_where_none_come_with_the_views(tmp_path):
    srn(tmp_path / "set" / "a")
    source = ViewFolder(tmp_path / "set", hulls=tmp_path / "kept")
    cloud = source.cloud(0, 500, rng())
    assert cloud.dtype == np.float32 and cloud.shape == (500, 6) and np.abs(cloud).max() <= 1
    away = np.linalg.norm(cloud[:, :3] - OURS, axis=1)
    assert away.min() > 0.38 and np.median(away) == pytest.approx(0.42, abs=0.03)
    red = cloud[:, 1] > OURS[1]
    true = np.where(red[:, None], RED, BLUE) / np.float32(127.5) - 1
    clear = np.abs(cloud[:, 1] - OURS[1]) > 0.08
    assert clear.sum() > 300 and (np.abs(cloud[:, 3:] - true).max(axis=1) < 0.3)[clear].mean() > 0.97
    assert (cloud == source.cloud(0, 500, rng())).all() and source.cloud(0, 40_000, rng()).shape == (40_000, 6)


def test_hulls_are_kept_by_what_they_are_carved_from(tmp_path, monkeypatch, caplog):
    """The cameras and the pictures decide, not where these lie; a damaged file is carved anew."""
    carved = []
    carve = views_module.coloured_hull
    monkeypatch.setattr(views_module, "coloured_hull", lambda *a, **k: carved.append(1) or carve(*a, **k))

    def cloud(place, **how):
        return ViewFolder(place, hulls=tmp_path / "kept", checked=0, **how).cloud(0, 500, rng())

    srn(tmp_path / "set" / "a")
    first = cloud(tmp_path / "set")
    shutil.copytree(tmp_path / "set", tmp_path / "copy")
    assert (cloud(tmp_path / "copy") == first).all() and len(carved) == 1
    assert not np.array_equal(cloud(tmp_path / "set", radius=0.6), first) and len(carved) == 2
    Image.fromarray(np.flip(SHOTS[0], axis=1)).save(sorted((tmp_path / "copy").rglob("*.png"))[0])
    assert not np.array_equal(cloud(tmp_path / "copy"), first) and len(carved) == 3

    for file in (tmp_path / "kept").iterdir():
        file.write_bytes(file.read_bytes()[:1000])
    assert (cloud(tmp_path / "set") == first).all() and len(carved) == 4
    assert "is damaged and is made again" in caplog.text
    assert (cloud(tmp_path / "set") == first).all() and len(carved) == 4


def test_our_own_folders_bring_points_scale_and_captions(tmp_path):
    views = views_of(around(COUNT, 2.6), SIZE, 49.0)
    shots = photograph(views, (ball(tuple(OURS), 0.4), plain(RED)))
    for kind in ("chair", "03636649"):
        folder = srn(tmp_path / kind / f"{kind}-1", views, shots)
        normals = np.random.default_rng(0).standard_normal((300, 3))
        points = OURS + 0.4 * normals / np.linalg.norm(normals, axis=1, keepdims=True)
        np.savez(folder / "points.npz", points=points.astype(np.float32), colours=np.full((300, 3), RED, np.uint8))
        (folder / "scene.json").write_text('{"radius": 2.0}')
    lines = [{"model": "chair/chair-1", "text": "a  red ball"}, {"model": "chair/chair-1", "text": "a red ball"}]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    source = ViewFolder(tmp_path)
    assert source.names == ["03636649/03636649-1", "chair/chair-1"] and radii(source) == [2.0, 2.0]
    assert source.classes == ["lamp", "chair"] and source.labels == [0, 1]
    assert source.captions == [[], ["a red ball"]]
    shows(source, 0, OURS / 2)
    cloud = source.cloud(1, 300, rng())
    assert np.allclose(np.linalg.norm(cloud[:, :3] - OURS / 2, axis=1), 0.2, atol=1e-5)
    assert np.allclose(cloud[:, 3:], np.array(RED) / 127.5 - 1, atol=1e-6)
    assert len(np.unique(cloud, axis=0)) == 300, "each at most once"
    assert radii(ViewFolder(tmp_path, radius=1.0)) == [1.0, 1.0], "what is asked for goes first"
    (tmp_path / "chair" / "scene.json").write_text('{"radius": 1.5, "centre": [0.3, 0.4, -0.1]}')
    (tmp_path / "chair" / "chair-1" / "scene.json").unlink()
    source = ViewFolder(tmp_path)
    assert radii(source) == [2.0, 1.5]
    shows(source, 1, np.zeros(3))


def test_intrinsics_of_another_size_and_poses_the_other_way_round(tmp_path):
    inverse = np.linalg.inv(CAMERAS.poses @ OPENCV)
    srn(tmp_path / "a", intrinsics="98. 48. 48. 0.\n0. 0. 0.\n1.\n96 96\n")
    srn(tmp_path / "b", poses=inverse, intrinsics="49. 24. 24. 0.\n0. 0. 0.\n1.\n48 48\n1\n")
    srn(tmp_path / "c", intrinsics="49. 24. 24. 0.\n0.15 0.05 0.2\n1.\n48 48\n")
    source = ViewFolder(tmp_path)
    assert source.names == ["a", "b", "c"] and (source.cameras(0).focal == 49).all()
    for index, point in enumerate((OURS, OURS, np.zeros(3))):
        shows(source, index, point)


def test_parts_and_classes_by_the_folders_above(tmp_path):
    for name in ("cars_train/x", "cars_train_val/x", "cars_test/y", "chairs_train/chairs_2.0_train/z", "chairs_val/w"):
        srn(tmp_path / name)
    source = ViewFolder(tmp_path, checked=0)
    parts = dict(zip(source.names, source.parts, strict=True))
    assert parts == {
        "cars_train/x": "train",
        "cars_train_val/x": "train",
        "cars_test/y": "test",
        "chairs_train/chairs_2.0_train/z": "train",
        "chairs_val/w": "val",
    }
    assert source.classes == ["cars", "chairs"]
    assert [source.classes[label] for label in source.labels] == [name[: name.index("_")] for name in source.names]
    assert sorted(map(sorted, source.groups)) == [[0], [1, 2], [3], [4]], "x is one subject"
    assert [source.names[index] for index in split(source, "test")] == ["cars_test/y"]
    assert ViewFolder(tmp_path / "cars_train", checked=0).parts is None


def test_npz_files(tmp_path, caplog):
    npz(tmp_path / "cars" / "sampled" / "50_a.npz", data=None, images=None)
    with pytest.raises(UserError, match=r"50_a\.npz has no array `images`"):
        ViewFolder(tmp_path)
    data = ball_points()
    enlarged = data.copy()
    enlarged[:, :3] = 2.2 * data[:, [0, 2, 1]] * [1, -1, 1]  # as the scene of the views is: z up
    npz(tmp_path / "cars" / "sampled" / "50_a.npz", data=data)
    npz(tmp_path / "chairs" / "sampled" / "50_b.npz", data=data, focal=60.0)
    source = ViewFolder(tmp_path, checked=1)
    assert source.names == ["cars/sampled/50_a", "chairs/sampled/50_b"] and source.classes == ["cars", "chairs"]
    assert radii(source) == [1.1, 1.1] and not caplog.records
    assert np.allclose(source.cameras(0).focal, 24 / np.tan(0.6911112 / 2)) and (source.cameras(1).focal == 60).all()
    point = 2 * np.array([0.2, 0.12, -0.25])
    shows(source, 0, point)
    cloud = source.cloud(0, 400, rng())
    assert np.allclose(np.linalg.norm(cloud[:, :3] - point, axis=1), 0.4, atol=1e-5), "turned and enlarged"
    assert np.allclose(cloud[:, 3:], [-0.6, -0.2, 0.2], atol=0.01)
    one = ViewFolder(npz(tmp_path / "c.npz", data=enlarged))
    assert one.names == ["c"] and np.allclose(one.cloud(0, 400, rng()), cloud, atol=1e-6), "already as the views"
    eight = (np.asarray(one.images(0, range(COUNT)))[..., :1]).copy()
    grey = ViewFolder(npz(tmp_path / "d.npz", images=eight, data=enlarged))
    assert (grey.images(0, [2])[0] == np.repeat(eight[2], 3, axis=2)).all()


def transforms(
    folder: Path, views: Views, pictures: np.ndarray, name: str = "transforms.json", start: int = 0, **given: Any
) -> Path:
    frames = []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for view, (pixels, pose) in enumerate(zip(pictures, views.poses, strict=True), start):
        Image.fromarray(pixels).save(folder / "images" / f"r_{view}.png")
        frames.append({"file_path": f"./images/r_{view}", "transform_matrix": pose.tolist()})
    given = given or {"camera_angle_x": float(2 * np.arctan(views.size[1] / 2 / views.focal[0]))}
    (folder / name).write_text(json.dumps(given | {"frames": frames}))
    return folder


def test_transforms(tmp_path):
    views = views_of(around(COUNT, 4.0, up="z"), SIZE, 66.0)
    shots = photograph(views, (ball((0.3, 0.4, 0.5), 0.6), plain(RED)))
    first, rest = np.arange(8), np.arange(8, COUNT)
    folder = transforms(tmp_path / "lego", views.only(first), shots[:8], "transforms_train.json")
    transforms(folder, views.only(rest), shots[8:], "transforms_test.json", 8)
    source = ViewFolder(tmp_path)
    reach = 4 * 24 / np.hypot(24, 66)  # of the ball that all views show
    assert source.names == ["lego"] and source.counts == [COUNT] and radii(source) == [pytest.approx(reach)]
    assert np.allclose(source.cameras(0).focal, 66)
    shows(source, 0, np.array([0.3, 0.5, -0.4]) / reach)
    assert (source.images(0, range(COUNT)) == on(shots)).all()
    assert ViewFolder(folder / "transforms_test.json").counts == [4]
    cloud = source.cloud(0, 300, rng())
    assert np.median(np.linalg.norm(cloud[:, :3] * reach - [0.3, 0.5, -0.4], axis=1)) == pytest.approx(0.62, abs=0.05)

    lens = {"fl_x": 132.0, "fl_y": 132.0, "cx": 40.0, "cy": 50.0, "w": 96, "h": 96}
    moved = replace(views, centre=np.tile([20.0, 25.0], (COUNT, 1)))
    moved.poses[:, :3, 3] += [5.0, 6.0, 7.0]
    shots = photograph(moved, (ball((5.3, 6.4, 7.5), 0.6), plain(RED)))
    elsewhere = ViewFolder(transforms(tmp_path / "moved", moved, shots, **lens))
    assert (elsewhere.cameras(0).centre == [20, 25]).all() and (elsewhere.cameras(0).focal == 66).all()
    shows(elsewhere, 0, np.array([0.3, 0.5, -0.4]) / radii(elsewhere)[0])


def test_pictures_stay_in_memory_within_a_budget(tmp_path):
    srn(tmp_path / "a")
    keeping, forgetting = ViewFolder(tmp_path), ViewFolder(tmp_path, memory=0)
    first = keeping.images(0, range(COUNT))
    copy = pickle.loads(pickle.dumps(keeping))
    first[:] = 0  # the caller's
    shutil.rmtree(tmp_path / "a" / "rgb")
    assert (keeping.images(0, range(COUNT)) == on(SHOTS)).all()
    for source in (forgetting, copy):
        with pytest.raises(UserError, match=r"000004\.png cannot be read"):
            source.images(0, [4])


def test_compositing():
    pixels = np.array([[[200, 100, 0, 255], [200, 100, 0, 51], [9, 9, 9, 0]]], dtype=np.uint8)
    assert composited(pixels, 1.0).tolist() == [[[200, 100, 0], [244, 224, 204], [255, 255, 255]]]
    assert composited(pixels, 0.0).tolist() == [[[200, 100, 0], [40, 20, 0], [0, 0, 0]]]
    assert (composited(pixels[..., :3], 0.0) == pixels[..., :3]).all()


POSE, RGB, LENS, POINTS = "pose/000002.txt", "rgb/000003.png", "intrinsics.txt", "points.npz"


def write(name: str, content: str | np.ndarray | Image.Image) -> Callable[[Path], Any]:
    """A mistake: a file of an object in SRN's layout has another content."""

    def spoil(folder: Path) -> None:
        path = folder / name
        if isinstance(content, Image.Image):
            content.save(path)
        else:
            path.write_text(content if isinstance(content, str) else " ".join(map(str, content.ravel())))

    return spoil


def white(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), "white")


NUMBERS = CAMERAS.poses[2] @ OPENCV
SHEAR = np.array([[1, 0.5, 0, 0], [0, np.sqrt(0.75), 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
MISTAKES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no rotation": (
        write(POSE, NUMBERS @ np.diag([2.0, 1, 1, 1])),
        r"000002\.txt: the pose is no rotation: its axes have the lengths 2, 1, 1",
    ),
    "sheared": (write(POSE, NUMBERS @ SHEAR), r"000002\.txt: the pose is no rotation: its axes are not perpendicular"),
    "mirrored": (write(POSE, NUMBERS @ np.diag([-1.0, 1, 1, 1])), r"000002\.txt: the pose is mirrored"),
    "not finite": (
        write(POSE, NUMBERS * np.where(np.eye(4)[0] > 0, np.nan, 1)),
        r"000002\.txt: the pose has values that are not finite",
    ),
    "last row": (
        write(POSE, NUMBERS + np.eye(4)[3][:, None]),
        r"000002\.txt: the pose has the last row 1 1 1 2, not 0 0 0 1",
    ),
    "15 numbers": (write(POSE, NUMBERS.ravel()[:15]), r"000002\.txt: a pose has 16 numbers, row by row, not 15"),
    "no numbers": (write(POSE, "a pose"), r"000002\.txt holds something that is not a number"),
    "focal 0": (
        write(LENS, "0. 24. 24. 0.\n0. 0. 0.\n1.\n48 48\n"),
        r"intrinsics\.txt: the focal length and the size must be positive, not 0, 48 x 48",
    ),
    "other ratio": (
        write(LENS, "49. 24. 24. 0.\n0. 0. 0.\n1.\n48 64\n"),
        r"intrinsics\.txt is for images of 64x48 pixels, they have 48x48",
    ),
    "short lens": (write(LENS, "49. 24. 24. 0.\n"), r"intrinsics\.txt must have the lines"),
    "words": (write(LENS, "49. a 24. 0.\n0. 0. 0.\n1.\n48 48\n"), r"intrinsics\.txt must have the lines"),
    "no lens": (lambda folder: (folder / LENS).unlink(), r"intrinsics\.txt is missing"),
    "no poses": (lambda folder: shutil.rmtree(folder / "pose"), r"pose is missing: there are images without poses"),
    "no images": (lambda folder: shutil.rmtree(folder / "rgb"), r"rgb is missing"),
    "a pose less": (lambda folder: (folder / POSE).unlink(), r"12 images in rgb, 11 poses in pose"),
    "another pose": (lambda folder: (folder / POSE).rename(folder / "pose/99.txt"), r"000002\.txt is missing"),
    "other size": (write(RGB, white(48, 50)), r"000003\.png has 48x50 pixels, 000000\.png has 48x48"),
    "no image": (write(RGB, "an image"), r"000003\.png is not an image"),
    "cut off": (
        lambda folder: (folder / RGB).write_bytes((folder / RGB).read_bytes()[:-20]),
        r"000003\.png is cut off",
    ),
    "background": (
        lambda folder: [white(48, 48).save(path) for path in (folder / "rgb").iterdir()],
        r"its 12 images show nothing but background",
    ),
    "points": (
        lambda folder: np.savez(folder / POINTS, points=np.zeros((200, 3)), colours=np.zeros((100, 3), np.uint8)),
        r"points\.npz: `points` \(n, 3\), numbers, go with as many `colours`",
    ),
    "pickled points": (
        lambda folder: np.savez(folder / POINTS, points=np.array([{}]), colours=np.zeros((1, 3), np.uint8)),
        r"points\.npz is damaged or no npz file of numbers: Object arrays cannot be loaded",
    ),
    "radius": (write("scene.json", '{"radius": 0}'), r"scene\.json: `radius` must be a positive number, not 0"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_bad_object_is_named_in_one_line(tmp_path, name):
    spoil, message = MISTAKES[name]
    spoil(srn(tmp_path / "bad"))
    with pytest.raises(UserError, match=message) as told:
        ViewFolder(tmp_path, on_bad="stop")
    assert "\n" not in str(told.value) and str(tmp_path / "bad") in str(told.value)


def test_bad_objects_are_left_out_or_stop(tmp_path, caplog):
    srn(tmp_path / "a")
    MISTAKES["mirrored"][0](srn(tmp_path / "b"))
    source = ViewFolder(tmp_path)
    assert source.names == ["a"]
    assert [name for name, _ in source.bad] == ["b"] and "mirrored" in source.bad[0][1]
    assert "1 of 2 objects are left out" in caplog.text
    with pytest.raises(UserError, match=r'bad object b in .*: .*on_bad="skip"'):
        ViewFolder(tmp_path, on_bad="stop")
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(UserError, match=r"no object in .* can be used, the first, b: "):
        ViewFolder(tmp_path)


BROKEN = {
    "count": ({"cam_poses": CAMERAS.poses[:5]}, r"12 `images` go with `cam_poses` \(12, 4, 4\), not \(5, 4, 4\)"),
    "mirror": ({"cam_poses": CAMERAS.poses @ np.diag([1.0, 1, -1, 1])}, "pose 0 is mirrored"),
    "focal": ({"focal": 0.0}, "`focal` must be one positive number"),
    "images": ({"images": np.zeros((12, 48, 48))}, r"`images` must be \(n, h, w, 3\)"),
    "range": ({"images": np.full((12, 8, 8, 3), 3.0)}, r"must lie in \[0, 1\]"),
    "pickle": ({"cam_poses": np.array([None] * 12)}, "damaged or no npz file of numbers: Object arrays cannot be"),
    "data": ({"data": np.zeros((200, 3))}, r"`data` must be \(n, 6\), coloured points, not float64 \(200, 3\)"),
    "objects": ({"images": np.array([{}] * 12)}, "Object arrays cannot be loaded"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_bad_npz_files(tmp_path, name):
    changes, message = BROKEN[name]
    path = npz(tmp_path / "x.npz", **changes)
    with pytest.raises(UserError, match=message) as told:
        ViewFolder(path, on_bad="stop")
    assert str(path) in str(told.value) and "\n" not in str(told.value)


def test_a_damaged_npz_file(tmp_path):
    path = npz(tmp_path / "x.npz")
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(UserError, match=r"x\.npz is damaged"):
        ViewFolder(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": []}, "needs `frames`"),
        ({"frames": [{"file_path": "images/r_0"}]}, "frame 0: needs `file_path` and `transform_matrix`"),
        ({"frames": [{"file_path": "gone", "transform_matrix": np.eye(4).tolist()}]}, "there is no image .*gone"),
        ({"camera_angle_x": 39.6}, "frame 0: `camera_angle_x` is in radians, between 0 and pi, not 39.6"),
        ({"camera_angle_x": "wide"}, "`camera_angle_x` must be a number, not 'wide'"),
        ({"camera_angle_x": 0}, "`camera_angle_x` is in radians"),
        ({"fl_x": 0.0}, "frame 0: the focal length must be positive, not 0"),
        ({"fl_x": 66, "fl_y": 99}, "pixels must be square"),
        ({"scale": [2.0, 2, 2, 1]}, "frame 0 is no rotation"),
    ],
)
def test_bad_transforms(tmp_path, change, message):
    views = views_of(around(4, 4.0, up="z"), SIZE, 66.0)
    folder = transforms(tmp_path / "a", views, photograph(views, (ball((0, 0, 0), 0.6), plain(RED))))
    content = json.loads((folder / "transforms.json").read_text())
    if "scale" in change:
        matrix = np.array(content["frames"][0]["transform_matrix"]) @ np.diag(change["scale"])
        content["frames"][0]["transform_matrix"] = matrix.tolist()
    (folder / "transforms.json").write_text(json.dumps(content | change))
    with pytest.raises(UserError, match=message) as told:
        ViewFolder(tmp_path)
    assert "transforms.json" in str(told.value)


def test_nothing_outside_of_the_data_is_read(tmp_path):
    """A path that leads out is refused, whether relative or absolute; inside the data it may lie anywhere."""
    views = views_of(around(4, 4.0, up="z"), SIZE, 66.0)
    folder = transforms(tmp_path / "set" / "a", views, photograph(views, (ball((0, 0, 0), 0.6), plain(RED))))
    table = folder / "transforms.json"
    content = json.loads(table.read_text())
    (folder / "images" / "r_0.png").rename(tmp_path / "set" / "elsewhere.png")
    for inside in ("../elsewhere.png", str(tmp_path / "set" / "elsewhere.png")):
        content["frames"][0]["file_path"] = inside
        table.write_text(json.dumps(content))
        assert ViewFolder(tmp_path / "set").names == ["a"]
    (tmp_path / "set" / "elsewhere.png").rename(tmp_path / "outside.png")
    for outside in ("../../outside.png", str(tmp_path / "outside.png"), "/etc/hostname"):
        content["frames"][0]["file_path"] = outside
        table.write_text(json.dumps(content))
        with pytest.raises(UserError, match=r"transforms.json, frame 0: .* lies outside of the folder of data"):
            ViewFolder(tmp_path / "set")
    content["frames"][0]["file_path"] = "linked.png"  # the user's own link says so
    table.write_text(json.dumps(content))
    (folder / "linked.png").symlink_to(tmp_path / "outside.png")
    assert ViewFolder(tmp_path / "set").names == ["a"]


def test_hidden_files_are_passed_over(tmp_path):
    """What macOS leaves beside each file in archives and on foreign disks."""
    folder = srn(tmp_path / "a")
    for name in ("rgb/._000000.png", "pose/._000000.txt", "rgb/.hidden.png"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    assert ViewFolder(tmp_path).counts == [COUNT]


FACING = views_of(around(6, 4.0, up="z"), SIZE, 66.0)
FACED = photograph(FACING, (ball((0, 0, 0), 0.6), plain(RED)))


@pytest.mark.parametrize(
    ("given", "model"),
    [
        ({"camera_model": "OPENCV_FISHEYE"}, "OPENCV_FISHEYE"),
        ({"camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR"),
        ({"camera_model": 3}, "3"),
        ({"is_fisheye": True, "camera_model": "OPENCV"}, "OPENCV_FISHEYE"),
    ],
)
def test_cameras_that_are_no_pinholes_are_refused(tmp_path, given, model):
    transforms(tmp_path / "a", FACING, FACED, fl_x=66.0, **given)
    with pytest.raises(
        UserError, match=rf"transforms\.json, frame 0: {model} is no pinhole camera; allowed are PINHOLE"
    ):
        ViewFolder(tmp_path)


def test_distortion_is_said_and_not_undone(tmp_path, caplog):
    for name, given in {"a": {"k1": 0.1, "p2": -0.01}, "b": {"k1": 0.0, "k2": 0}, "c": {"k3": 0.2}}.items():
        transforms(tmp_path / name, FACING, FACED, fl_x=66.0, camera_model="opencv", **given)
    assert ViewFolder(tmp_path).names == ["a", "b", "c"]
    (told,) = caplog.messages
    assert told.startswith("of 2 of 3 objects: ") and "frame 0: lens distortion (k1 = 0.1, p2 = -0.01) is not" in told


def test_files_of_windows_and_rounded_poses(tmp_path):
    """A byte order mark, backslashes, and three decimals: the worst rounding moves a product of axes by 0.0017."""
    folder = transforms(tmp_path / "a", FACING, FACED)
    content = json.loads((folder / "transforms.json").read_text())
    for frame in content["frames"]:
        frame["file_path"] = frame["file_path"].replace("/", "\\")
        frame["transform_matrix"] = np.round(frame["transform_matrix"], 3).tolist()
    (folder / "transforms.json").write_text(json.dumps(content), encoding="utf-8-sig")
    views = ViewFolder(tmp_path).cameras(0)
    assert all(np.allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-12) for pose in views.poses)
    (tmp_path / "a" / "transforms.json").unlink()
    exact = ViewFolder(transforms(tmp_path / "b", FACING, FACED)).cameras(0)
    assert np.abs(views.poses[:, :3, :3] - exact.poses[:, :3, :3]).max() < 1e-3


def test_links_that_lead_back_end(tmp_path):
    srn(tmp_path / "sets" / "a")
    (tmp_path / "sets" / "back").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "sets" / "itself").symlink_to("itself")
    (tmp_path / "again").symlink_to(tmp_path / "sets", target_is_directory=True)
    assert ViewFolder(tmp_path).names == ["again/a", "sets/a"]


def test_whatever_one_object_raises_leaves_the_others(tmp_path, monkeypatch, caplog):
    for name in "ab":
        srn(tmp_path / name)
    read = layouts.read
    monkeypatch.setattr(layouts, "read", lambda path, root: read(path, root) if path.name == "b" else 1 / 0)
    source = ViewFolder(tmp_path)
    assert source.names == ["b"] and source.bad == [
        ("a", f"{tmp_path / 'a'} cannot be read: ZeroDivisionError: division by zero")
    ]
    assert "1 of 2 objects are left out" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names of text alone")
def test_names_that_are_no_text_stop_nothing(tmp_path):
    srn(tmp_path / "a")
    os.rename(os.fsencode(srn(tmp_path / "b")), os.fsencode(tmp_path) + b"/caf\xe9")
    source = ViewFolder(tmp_path)
    assert source.names == ["a"] and [name for name, _ in source.bad] == ["caf\\udce9"]
    assert source.bad[0][1].endswith("its name is not UTF-8")


def test_points_say_how_far_a_scene_reaches(tmp_path, caplog):
    """From above alone, the hull of a cabinet goes on below it to the end of the box."""
    views = views_of(around(20, 4.0, lowest=0.3), (64, 64), 80.0)
    corners = np.array([(-0.85, -0.85, -0.85), (0.85, 0.85, 0.85)])
    folder = srn(tmp_path / "a", views, photograph(views, (box(*map(tuple, corners)), plain(RED))))
    (folder / "scene.json").write_text('{"radius": 1.0}')
    ViewFolder(tmp_path)
    assert "radius is too small" in caplog.text, "the hull alone would say so"
    points = np.random.default_rng(0).uniform(-0.85, 0.85, (600, 3))
    axis = np.arange(600) % 3
    points[np.arange(600), axis] = 0.85 * np.sign(points[np.arange(600), axis])
    np.savez(folder / "points.npz", points=points, colours=np.full((600, 3), RED, np.uint8))
    caplog.clear()
    ViewFolder(tmp_path)
    assert not caplog.messages


def test_places_without_views(tmp_path):
    with pytest.raises(UserError, match=r"no views in .*: an object is a folder with rgb/"):
        ViewFolder(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        ViewFolder(tmp_path / "gone")
    (tmp_path / "chair.obj").write_text("v 0 0 0\n")
    with pytest.raises(UserError, match=r"raw meshes \(chair.obj, \.\.\.\)"):
        ViewFolder(tmp_path)
    with pytest.raises(UserError, match=r"chair\.obj holds no views"):
        ViewFolder(tmp_path / "chair.obj")
    for option, value in {"radius": 0.0, "background": 2.0}.items():
        with pytest.raises(UserError, match=option):
            ViewFolder(tmp_path, **{option: value})


def test_points_that_are_not_those_of_the_scene(tmp_path, caplog):
    folder = srn(tmp_path / "a")
    normals = np.random.default_rng(0).standard_normal((300, 3))
    points = np.array(CENTRE) + RADIUS * normals / np.linalg.norm(normals, axis=1, keepdims=True)
    colours = np.full((300, 3), 7, np.uint8)

    np.savez(folder / "points.npz", points=points, colours=colours)
    assert np.allclose(np.linalg.norm(ViewFolder(folder).cloud(0, 50, rng())[:, :3] - OURS, axis=1), 0.4, atol=1e-5)
    assert not caplog.records

    np.savez(folder / "points.npz", points=points[:, [2, 0, 1]], colours=colours)
    ViewFolder(folder)
    assert "of the coloured points lie in the silhouettes" in caplog.text

    np.savez(folder / "points.npz", points=10 * points, colours=colours)
    with pytest.raises(UserError, match=r"points\.npz: 100% of its points lie outside of the box: they reach 3\.98 "):
        ViewFolder(folder)
    srn(tmp_path / "b")
    np.savez(srn(tmp_path / "c") / "points.npz", points=points[:20], colours=colours[:20])
    source = ViewFolder(tmp_path, checked=0)
    assert source.names == ["b"] and [name for name, _ in source.bad] == ["a", "c"]
    assert "points.npz: 100% of its points lie outside" in source.bad[0][1]
    assert source.bad[1][1].endswith("points.npz has 20 points, at least 100 are needed")
    assert source.counts == [COUNT] and radii(source) == [0.5] and len(source.cameras(0)) == COUNT
    with pytest.raises(UserError, match=r"bad object a in .*points\.npz: 100%"):
        ViewFolder(tmp_path, on_bad="stop")


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_picture_that_is_cut_off_is_known_at_once(tmp_path, ending):
    """Even one that is read late; what cameras put behind the end of a picture does no harm."""
    for name in ("cut", "longer"):
        folder = srn(tmp_path / name)
        for path in (folder / "rgb").iterdir():
            pixels = on(np.asarray(Image.open(path))[None])[0]
            noise = np.random.default_rng(0).integers(0, 30, pixels.shape, dtype=np.uint8)
            path.unlink()
            Image.fromarray(pixels - np.minimum(noise, pixels)).save(path.with_suffix(f".{ending}"))
    path = tmp_path / "cut" / "rgb" / f"000007.{ending}"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    path = tmp_path / "longer" / "rgb" / f"000007.{ending}"
    path.write_bytes(path.read_bytes() + bytes(5000))
    source = ViewFolder(tmp_path, checked=0)
    assert source.names == ["longer"] and source.bad == [
        ("cut", f"{tmp_path / 'cut' / 'rgb'}/000007.{ending} is cut off")
    ]


def test_opening_warns_or_refuses(tmp_path, caplog):
    srn(tmp_path / "a")
    with pytest.raises(UserError, match="look like world-to-camera"):
        ViewFolder(srn(tmp_path / "b", poses=np.linalg.inv(CAMERAS.poses @ OPENCV)))
    with pytest.raises(UserError, match="behind the cameras"):
        ViewFolder(srn(tmp_path / "c", poses=CAMERAS.poses))
    with caplog.at_level(logging.WARNING):
        assert ViewFolder(tmp_path).names == ["a", "b", "c"], "not all are wrong"
    assert f"{tmp_path / 'b'}: the optical axes do not meet" in caplog.text
    assert ViewFolder(tmp_path / "c", checked=0).names == ["c"]
    caplog.clear()
    ViewFolder(tmp_path / "a", radius=0.25)
    assert "leaves the box" in caplog.text
    photo = np.random.default_rng(0).integers(0, 255, (COUNT, *SIZE, 3)).astype(np.uint8)
    with pytest.raises(UserError, match="no coloured points, and the images have neither alpha"):
        ViewFolder(srn(tmp_path / "d", pictures=photo))
    assert all(finding.fatal for finding in check(replace(CAMERAS, poses=CAMERAS.poses @ OPENCV), SHOTS))
