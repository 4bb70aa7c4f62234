"""Rays go where a pinhole camera sends them, in the axes of OpenGL, and as the pictures of meshes have it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ddmi.base.errors import UserError
from ddmi.rendering.cameras import (
    FOV,
    Camera,
    from_opencv,
    is_rotation,
    lattice,
    sphere,
    to_opencv,
)


def at(*eye: float) -> torch.Tensor:
    """The pose of a camera that is not turned."""
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor(eye)
    return pose


def unit(*vector: float) -> torch.Tensor:
    values = torch.tensor(vector)
    return values / values.norm()


def turned(degrees: float = 40.0) -> torch.Tensor:
    """A pose that is turned around all axes."""
    a = math.radians(degrees)
    around_z = torch.tensor([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    around_x = torch.tensor([[1, 0, 0], [0, math.cos(2 * a), -math.sin(2 * a)], [0, math.sin(2 * a), math.cos(2 * a)]])
    pose = at(0.3, -2.0, 1.5)
    pose[:3, :3] = around_z @ around_x
    return pose


def test_the_rays_of_the_corners_by_hand():
    origins, directions = Camera(at(1, 2, 3), focal=2.0, size=(2, 4)).rays()
    assert origins.shape == directions.shape == (8, 3) and directions.dtype == torch.float32
    assert (origins == torch.tensor([1.0, 2.0, 3.0])).all()
    expected = {0: (-0.75, 0.25), 3: (0.75, 0.25), 4: (-0.75, -0.25), 7: (0.75, -0.25)}  # at a distance of 1
    for pixel, (x, y) in expected.items():
        assert torch.allclose(directions[pixel], unit(x, y, -1.0), atol=1e-6)


def test_some_pixels_are_those_of_all():
    camera = Camera(turned(), 30.0, (6, 9))
    some = torch.tensor([53, 0, 17, 17])
    for part, whole in zip(camera.rays(some), camera.rays(), strict=True):
        torch.testing.assert_close(part, whole[some], atol=1e-6, rtol=0)  # products of another shape round otherwise


def test_a_pose_turns_the_rays():
    pose = turned()
    origins, directions = Camera(pose, 30.0, (6, 9)).rays()
    _, straight = Camera(torch.eye(4), 30.0, (6, 9)).rays()
    assert torch.allclose(directions, straight @ pose[:3, :3].T, atol=1e-6)
    assert torch.allclose(directions.norm(dim=1), torch.ones(54), atol=1e-6)
    assert torch.equal(origins, pose[:3, 3].expand(54, 3))


def test_the_centre_is_where_the_axis_meets_the_picture():
    _, directions = Camera(torch.eye(4), 7.0, (6, 8), centre=(2.5, 4.5)).rays()
    assert torch.equal(directions.view(6, 8, 3)[4, 2], torch.tensor([0.0, 0.0, -1.0]))
    assert torch.allclose(directions.view(6, 8, 3)[1, 3], unit(1.0, 3.0, -7.0))


@pytest.mark.parametrize(
    ("azimuth", "elevation", "eye", "right", "up"),
    [
        (0, 0, (0, 0, 2), (1, 0, 0), (0, 1, 0)),
        (90, 0, (2, 0, 0), (0, 0, -1), (0, 1, 0)),
        (-90, 0, (-2, 0, 0), (0, 0, 1), (0, 1, 0)),
        (0, 90, (0, 2, 0), (1, 0, 0), (0, 0, -1)),
        (180, 30, (0, 1, -math.sqrt(3)), (-1, 0, 0), (0, math.sqrt(3) / 2, 0.5)),
    ],
)
def test_where_an_orbit_stands(azimuth, elevation, eye, right, up):
    camera = Camera.orbit(azimuth, elevation, distance=2.0, size=16, target=(0.1, 0.2, 0.3))
    expected = torch.tensor([right, up, [v / 2 for v in eye]], dtype=torch.float64).T
    assert torch.allclose(camera.pose[:3, :3], expected, atol=1e-12)
    assert torch.allclose(camera.pose[:3, 3] - torch.tensor([0.1, 0.2, 0.3]), 2 * expected[:, 2], atol=1e-6)


@pytest.mark.parametrize("size", [(12, 20), (20, 12)])
def test_the_angle_of_view_is_that_of_the_shorter_side(size):
    camera = Camera.orbit(0, 0, fov=60.0, size=size)
    assert camera.focal * math.tan(math.radians(30)) == pytest.approx(6)


@pytest.mark.parametrize(("azimuth", "elevation", "size"), [(35, 20, (90, 120)), (-110, -35, (100, 80)), (200, 90, 90)])
def test_a_box_is_seen_as_in_the_pictures_of_meshes(azimuth, elevation, size):
    """An asymmetric box: its outline by rays against its faces, and its corners, lie where `shaded` has them."""
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("embreex")
    from ddmi.rendering.shader import shaded

    low, high = np.array([-0.7, -0.2, 0.1]), np.array([0.3, 0.8, 0.6])
    box = trimesh.creation.box(bounds=[low, high])
    where = {"azimuth": float(azimuth), "elevation": float(elevation), "ground": False}
    light, dark = (np.asarray(shaded(box, size, background=(b,) * 3, **where), dtype=float) for b in (255, 0))
    cover = 1 - (light - dark).mean(axis=2) / 255
    camera = Camera.orbit(azimuth, elevation, size=size)
    origins, directions = (rays.double().numpy() for rays in camera.rays())
    one, two = (low - origins) / directions, (high - origins) / directions
    hit = np.minimum(one, two).max(axis=1) < np.maximum(one, two).min(axis=1)
    sure = (cover < 0.01) | (cover > 0.99)
    assert cover.shape == camera.size and 0.05 < hit.mean() < 0.6
    assert (hit.reshape(camera.size) == (cover > 0.5))[sure].all() and (~sure).mean() < 0.05

    seen = np.concatenate([box.vertices, np.ones((8, 1))], axis=1) @ np.linalg.inv(camera.pose.numpy()).T
    x = camera.size[1] / 2 + camera.focal * seen[:, 0] / -seen[:, 2]
    y = camera.size[0] / 2 - camera.focal * seen[:, 1] / -seen[:, 2]
    rows, columns = np.nonzero(cover > 0.01)
    corners = [rows.min() - y.min(), rows.max() + 1 - y.max(), columns.min() - x.min(), columns.max() + 1 - x.max()]
    assert np.abs(corners).max() < 1


def eyes(cameras):
    return torch.stack([camera.pose[:3, 3] for camera in cameras]).numpy()


def test_cameras_are_spread_evenly():
    count, low, high = 60, -10.0, 80.0
    for seed in range(3):
        cameras = sphere(count, elevation=(low, high), seed=seed)
        places = eyes(cameras)
        distance = np.linalg.norm(places, axis=1)
        assert np.ptp(distance) < 1e-9
        unit = places / distance[:, None]
        for camera, there in zip(cameras, unit, strict=True):
            assert camera.pose[:3, 2].numpy() == pytest.approx(there)  # it looks at the origin
            assert camera.pose[1, 1] >= 0 and abs(camera.pose[1, 0]) < 1e-12  # upright
        heights = np.sort(unit[:, 1])
        bottom, top = math.sin(math.radians(low)), math.sin(math.radians(high))
        assert bottom <= heights[0] and heights[-1] <= top
        assert np.diff(heights) == pytest.approx((top - bottom) / count)  # equal heights, equal areas
        near = (unit @ unit.T - 2 * np.eye(count)).max(axis=1)
        mean = math.sqrt(2 * math.pi * (top - bottom) / count)  # the side of a square of each camera's area
        assert np.arccos(near).min() > 0.6 * mean
    few = np.mean([eyes(sphere(count, seed=seed)[:10]) for seed in range(8)], axis=(0, 1))
    assert np.abs(few / distance[0] - [0, (bottom + top) / 2, 0]).max() < 0.2  # the first are no worse than others
    assert not np.allclose(eyes(sphere(5, seed=1)), eyes(sphere(5, seed=2)))
    assert np.array_equal(eyes(sphere(5, seed=1)), eyes(sphere(5, seed=1)))
    whole = eyes(sphere(200, elevation=(-90.0, 90.0), radius=1.0))
    assert np.abs(whole.mean(axis=0)).max() < 0.02


def test_cameras_around_just_see_a_ball():
    """Its outline is seen at an angle of asin(radius / distance) from the middle, here half the angle of view."""
    for camera in sphere(4, size=(40, 60), fov=50.0, radius=1.3):
        half = math.atan(20 / camera.focal)
        assert math.degrees(2 * half) == pytest.approx(50)
        assert 1.3 / camera.pose[:3, 3].norm().item() == pytest.approx(math.sin(half))


def test_a_lattice_is_even_over_the_sphere():
    """Heights are the middles of equal parts, and no direction is preferred."""
    points = lattice(300)
    assert np.linalg.norm(points, axis=1) == pytest.approx(1)
    assert points[:, 1] == pytest.approx(np.linspace(1 - 1 / 300, -1 + 1 / 300, 300))
    assert points.mean(axis=0) == pytest.approx(0, abs=0.003)
    assert points.T @ points / 300 == pytest.approx(np.eye(3) / 3, abs=0.003)
    near = np.arccos((points @ points.T - 2 * np.eye(300)).max(axis=1))
    assert near.min() > 0.6 * math.sqrt(4 * math.pi / 300)


@pytest.mark.parametrize(("azimuth", "elevation"), [(0, 0), (123, 45), (-70, -80)])
def test_an_orbit_looks_at_its_target(azimuth, elevation):
    target = torch.tensor([0.3, -0.1, 0.2], dtype=torch.float64)
    camera = Camera.orbit(azimuth, elevation, distance=3.0, size=8, target=target.tolist())
    right, up, back, eye = camera.pose[:3].T
    assert is_rotation(camera.pose) and torch.allclose(back, (eye - target) / 3.0, atol=1e-12)
    assert abs(right[1]) < 1e-12 and up[1] > 0  # and upright


def test_opencv_and_back():
    poses = torch.stack([turned(), turned(75.0)])
    assert torch.equal(from_opencv(to_opencv(poses)), poses) and torch.equal(to_opencv(from_opencv(poses)), poses)
    assert is_rotation(from_opencv(poses)) and not torch.allclose(from_opencv(poses), poses)


def test_a_camera_of_opencv_looks_along_z_with_y_down():
    _, directions = Camera(from_opencv(torch.eye(4)), 4.0, (3, 3)).rays()
    assert torch.allclose(directions[4], unit(0.0, 0.0, 1.0))
    assert torch.allclose(directions[2], unit(1.0, -1.0, 4.0))  # right and above: x, and less y
    pose = turned()
    origins, directions = Camera(from_opencv(pose), 4.0, (3, 3)).rays()
    assert torch.allclose(directions[2], pose[:3, :3] @ unit(1.0, -1.0, 4.0), atol=1e-6)
    assert torch.equal(origins[0], pose[:3, 3])


def test_a_resized_camera_sees_the_same():
    camera = Camera(turned(), 5.0, (4, 6), centre=(2.0, 3.5))
    fine = camera.resized((12, 18))
    middles = fine.rays()[1].view(12, 18, 3)[1::3, 1::3]
    assert torch.allclose(middles, camera.rays()[1].view(4, 6, 3), atol=1e-6)
    assert torch.allclose(fine.resized((4, 6)).rays()[1], camera.rays()[1], atol=1e-6)


def test_a_window_is_a_crop():
    camera = Camera(turned(), 5.0, (8, 6), centre=(2.0, 3.5))
    upper_right = camera.resized((4, 3), window=(0.0, -1.0, 1.0, 0.0))
    assert torch.allclose(upper_right.rays()[1].view(4, 3, 3), camera.rays()[1].view(8, 6, 3)[:4, 3:], atol=1e-6)
    enlarged = camera.resized((12, 9), window=(0.0, -1.0, 1.0, 0.0))
    assert torch.allclose(enlarged.rays()[1].view(12, 9, 3)[1::3, 1::3], upper_right.rays()[1].view(4, 3, 3), atol=1e-6)


def test_a_picture_of_another_shape_shows_more_on_two_sides():
    camera = Camera(turned(), 5.0, (6, 6))
    wide = camera.resized((6, 10))
    assert torch.allclose(wide.rays()[1].view(6, 10, 3)[:, 2:8], camera.rays()[1].view(6, 6, 3), atol=1e-6)


def test_what_is_a_rotation():
    pose = turned()
    assert is_rotation(pose) and is_rotation((pose * 1e4).round() / 1e4)
    mirrored, scaled, below, missing = pose.clone(), pose.clone(), pose.clone(), pose.clone()
    mirrored[:, 0] *= -1
    scaled[:3, :3] *= 1.01
    below[3, 0] = 0.1
    missing[0, 3] = math.nan
    for wrong in (mirrored, scaled, below, missing):
        assert not is_rotation(wrong) and not is_rotation(torch.stack([pose, wrong]))
        with pytest.raises(UserError, match="rotation and a shift"):
            Camera(wrong, 1.0, (2, 2))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Camera(torch.eye(4), 0.0, (2, 2)), "focal length"),
        (lambda: Camera(torch.eye(4), math.inf, (2, 2)), "focal length"),
        (lambda: Camera(torch.eye(4), 1.0, (0, 2)), "a size"),
        (lambda: Camera.orbit(0, 91), "between -90 and 90"),
        (lambda: Camera.orbit(0, 0, distance=0.0), "distance"),
        (lambda: Camera.orbit(0, 0, fov=180.0), "angle of view"),
        (lambda: Camera.orbit(0, 0).resized(0), "a size"),
        (lambda: Camera.orbit(0, 0).resized(8, (0.0, 0.0, 0.0, 1.0)), "window"),
    ],
)
def test_numbers_out_of_their_range(make, said):
    with pytest.raises(UserError, match=said):
        make()


def test_the_default_view_is_that_of_the_shader():
    assert 2 * math.degrees(math.atan(1.38 / 5.5)) == pytest.approx(FOV)
