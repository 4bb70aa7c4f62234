"""Pictures show what perspective geometry says, the same from wherever they are taken."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from PIL import Image

from ddmi.base.errors import UserError, WorkError

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("embreex")

from ddmi.rendering.shading import DISTANCE, EXTENT, REACH, _Scene, shaded, turntable, write_animation  # noqa: E402


def chair():
    parts = [trimesh.creation.box((0.9, 0.08, 0.8)), trimesh.creation.box((0.9, 0.9, 0.08))]
    parts[1].apply_translation((0.0, 0.45, -0.36))
    leg = trimesh.creation.box((0.1, 0.8, 0.1))
    leg.apply_translation((0.4, -0.4, 0.3))
    return trimesh.util.concatenate([*parts, leg])


def array(picture):
    return np.asarray(picture, dtype=np.float64)


def coverage(mesh, size, **where):
    """The part of each pixel that the mesh takes, from the background that shines past it."""
    light, dark = (array(shaded(mesh, size, background=(b, b, b), ground=False, **where)) for b in (255, 0))
    return 1 - (light - dark).mean(axis=2) / 255


@pytest.mark.parametrize("radius", [0.4, 0.9])
def test_the_outline_of_a_ball(radius):
    """A ball at distance d is seen within the angle whose tangent is r / sqrt(d^2 - r^2)."""
    seen = coverage(trimesh.creation.icosphere(5, radius), 200, azimuth=10.0, elevation=30.0)
    outline = radius / math.sqrt(DISTANCE**2 - radius**2) / (EXTENT / DISTANCE) * 100
    assert seen.sum() == pytest.approx(math.pi * outline**2, rel=0.005)
    y, x = np.indices(seen.shape) + 0.5 - 100
    assert abs((seen * x).sum() / seen.sum()) < 0.05 and abs((seen * y).sum() / seen.sum()) < 0.05


@pytest.mark.parametrize(
    ("point", "azimuth", "elevation"),
    [((0.8, 0, 0), 0, 0), ((0, 0, 0.8), 0, 0), ((0, 0, 0.8), 90, 0), ((0.5, 0.7, -0.3), 35, 20), ((0, 0, 0.8), 0, 90)],
)
def test_a_point_is_seen_where_the_camera_puts_it(point, azimuth, elevation):
    """The camera by two rotations: the world turns by -azimuth around y, then by elevation around x."""
    dot = trimesh.creation.icosphere(1, 0.05)
    dot.apply_translation(point)
    seen = coverage(dot, (120, 160), azimuth=float(azimuth), elevation=float(elevation))
    rotation = trimesh.transformations.rotation_matrix
    turned = rotation(math.radians(elevation), (1, 0, 0)) @ rotation(-math.radians(azimuth), (0, 1, 0)) @ [*point, 1]
    scale = DISTANCE / (DISTANCE - turned[2]) / EXTENT * 60
    y, x = np.indices(seen.shape) + 0.5
    assert (seen * x).sum() / seen.sum() == pytest.approx(80 + turned[0] * scale, abs=0.3)
    assert (seen * y).sum() / seen.sum() == pytest.approx(60 - turned[1] * scale, abs=0.3)


def test_a_mirrored_shape_has_the_mirrored_outline():
    mirrored = chair()
    mirrored.apply_transform(np.diag([-1.0, 1, 1, 1]))
    here, there = coverage(chair(), 96, azimuth=25.0), coverage(mirrored, 96, azimuth=-25.0)
    assert np.abs(here - there[:, ::-1]).mean() < 1e-3 and np.abs(here - there).mean() > 0.01


@pytest.mark.parametrize("ground", [False, True])
def test_the_light_goes_round_with_the_camera(ground):
    turned = chair()
    turned.apply_transform(trimesh.transformations.rotation_matrix(math.radians(70), (0, 1, 0)))
    one, two = (array(shaded(m, 96, azimuth=a, ground=ground)) for m, a in ((chair(), 10.0), (turned, 80.0)))
    other = array(shaded(chair(), 96, azimuth=80.0, ground=ground))
    assert np.abs(one - two).mean() < 0.5 < 5 < np.abs(one - other).mean()


def test_the_same_picture_twice():
    assert np.array_equal(array(shaded(chair(), 64)), array(shaded(chair(), 64)))


def test_what_looks_up_is_lighter_than_what_looks_down():
    ball = trimesh.creation.icosphere(4, 0.8)
    grey = array(shaded(ball, 100, elevation=0.0, ground=False)).mean(axis=2)
    assert grey[28, 50] > grey[50, 50] > grey[72, 50] and grey[50, 35] > grey[50, 65]


def test_a_roof_takes_the_light_from_what_is_below():
    table = trimesh.creation.box((1.2, 0.05, 1.2))
    roof = table.copy()
    roof.apply_translation((0, 0.7, 0))
    middle = (array(shaded(m, 100, elevation=35.0)) for m in (table, trimesh.util.concatenate([table, roof])))
    bare, covered = (picture[48:56, 45:55].mean() for picture in middle)
    assert covered < bare - 20


def test_the_ground_sees_the_sky_past_a_disc():
    """A disc of radius R at height h takes R^2 / (R^2 + h^2) of the cosine-weighted sky above its centre."""
    radius, height = 0.6, 0.5
    disc = trimesh.creation.cylinder(radius, 0.02, sections=64)
    disc.apply_transform(trimesh.transformations.rotation_matrix(math.pi / 2, (1, 0, 0)))
    foot = trimesh.Trimesh([[5, -height, 5], [5, -height, 5.1], [5.1, -height, 5]], [[0, 1, 2]])
    scene = _Scene(trimesh.util.concatenate([disc, foot]), None)
    assert scene.floor == pytest.approx(-height)
    at = np.array([0.0, REACH])
    middle, border = scene.ground_light(at, np.zeros(2))
    assert middle == pytest.approx(height**2 / (radius**2 + height**2), abs=0.02)
    assert border == 1
    assert np.allclose(scene.contact, scene.contact[::-1], atol=0.06)


def test_no_ground_from_below_and_none_when_not_asked_for():
    slab = trimesh.creation.box((0.5, 0.2, 0.5))
    shadowed, bare = array(shaded(slab, 64)), array(shaded(slab, 64, ground=False))
    covered = coverage(slab, 64)
    past, within = covered < 0.001, covered > 0.999
    assert (shadowed <= bare).all() and np.array_equal(shadowed[within], bare[within])
    assert (bare[past] == 255).all() and (shadowed[past] < 245).any(axis=1).sum() > 60
    assert np.array_equal(*(array(shaded(slab, 64, elevation=-20.0, ground=ground)) for ground in (True, False)))


def test_colours_are_the_mesh_s_own():
    ball = trimesh.creation.icosphere(3, 0.8)
    middle = {}
    middle["clay"] = array(shaded(ball, 64))[32, 32]
    middle["given"] = array(shaded(ball, 64, colour=(200, 20, 20)))[32, 32]
    ball.visual.face_colors = np.where(ball.triangles_center[:, :1] > 0, [[200, 20, 20, 255]], [[20, 200, 20, 255]])
    by_face = array(shaded(ball, 64, azimuth=0.0))
    assert middle["clay"][2] > middle["clay"][1] > middle["clay"][0]
    assert middle["given"][0] > 4 * middle["given"][1]
    assert by_face[32, 20, 1] > 4 * by_face[32, 20, 0] and by_face[32, 44, 0] > 4 * by_face[32, 44, 1]
    sheet = trimesh.Trimesh([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], [[0, 1, 2], [0, 2, 3]], process=False)
    sheet.visual.vertex_colors = [[255, 0, 0, 255], [0, 0, 255, 255], [0, 0, 255, 255], [255, 0, 0, 255]]
    line = array(shaded(sheet, 64, azimuth=0.0, elevation=0.0))[32, 12:52]
    assert (np.diff(line[:, 0]) <= 0).all() and (np.diff(line[:, 2]) >= 0).all() and line[0, 0] > 3 * line[-1, 0]
    assert line[19:21, 0].mean() == pytest.approx(line[19:21, 2].mean(), abs=2)


def test_smooth_parts_are_smooth_and_edges_are_edges():
    """On a ball of 1280 faces, the light changes in small steps; on a cube with shared corners, each face is even."""
    line = array(shaded(trimesh.creation.icosphere(3, 0.8), 128, ground=False))[64, 40:88].mean(axis=1)
    assert np.abs(np.diff(line, n=2)).max() < 4
    cube = array(shaded(trimesh.creation.box((1, 1, 1)), 128, azimuth=0.0, elevation=0.0, ground=False))[45:83, 45:83]
    assert cube.mean(axis=2).std() < 2


@pytest.mark.parametrize("size", [48, (30, 50)])
def test_frames_of_a_turntable_are_pictures(size):
    frames = turntable(chair(), size, 5, elevation=15.0)
    for k, frame in enumerate(frames):
        alone = shaded(chair(), size, azimuth=35.0 + 360 * k / 5, elevation=15.0)
        assert np.array_equal(array(frame), array(alone))
    assert len(frames) == 5 and frames[0].size == (48, 48) if size == 48 else frames[0].size == (50, 30)
    assert not np.array_equal(array(frames[0]), array(frames[1]))


def test_an_empty_mesh_says_so():
    empty = trimesh.Trimesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64), process=False)
    picture = array(shaded(empty, (90, 120)))
    ink = picture.min(axis=2) < 200
    assert picture.shape == (90, 120, 3) and 50 < ink.sum() < 2000 and not ink[:20].any() and not ink[-20:].any()
    assert all(np.array_equal(array(frame), picture) for frame in turntable(empty, (90, 120), 2))
    assert shaded(empty, 8).size == (8, 8)


@pytest.mark.parametrize("ending", [".gif", ".webp"])
def test_an_animation_reads_back(tmp_path, ending):
    frames = turntable(chair(), 40, 6)
    path = tmp_path / f"turn{ending}"
    write_animation(frames, path, fps=10)
    with Image.open(path) as read:
        assert read.n_frames == 6 and read.info["loop"] == 0
        for k, frame in enumerate(frames):
            read.seek(k)
            read.load()
            assert read.info["duration"] == 100
            assert np.abs(array(read.convert("RGB")) - array(frame)).mean() < 3
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_animations_that_cannot_be_written(tmp_path):
    frames = [Image.new("RGB", (4, 4))]
    with pytest.raises(UserError, match=r"a.mp4: an animation is written as .gif or .webp"):
        write_animation(frames, tmp_path / "a.mp4")
    with pytest.raises(UserError, match="at least one frame"):
        write_animation([], tmp_path / "a.gif")
    with pytest.raises(UserError, match="positive fps"):
        write_animation(frames, tmp_path / "a.gif", fps=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match=r"cannot write .*a.gif"):
        write_animation(frames, tmp_path / "file" / "a.gif")


def test_what_is_out_of_range():
    with pytest.raises(UserError, match="between -90 and 90 degrees, not 91"):
        shaded(chair(), 8, elevation=91.0)
    with pytest.raises(UserError, match="at least one frame, not 0"):
        turntable(chair(), 8, 0)
    with pytest.raises(UserError, match="size"):
        shaded(chair(), 0)


def test_a_missing_ray_tracer_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "embreex.rtcore_scene", None)
    with pytest.raises(UserError, match=r"embreex: pip install \"ddmi\[mesh\]\""):
        shaded(chair(), 8)
