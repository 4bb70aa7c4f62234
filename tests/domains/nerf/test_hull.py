"""The visual hull: objects whose silhouettes are known in closed form are found again, with their colours."""

from __future__ import annotations

import numpy as np
import pytest
from posed_scenes import BLUE, RED, around, ball, box, halves, look, on, photograph, plain, views_of

from ddmi.domains.nerf.checks import share_in_silhouettes
from ddmi.domains.nerf.hull import NoHull, _object_colour, backdrop, carve, coloured_hull, colours, silhouettes, surface


def cells(resolution: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y, z of the middles of all cells in array order (z, y, x)."""
    z, y, x = (np.indices((resolution,) * 3) + 0.5) * (2 / resolution) - 1
    return x, y, z


SIZE, FOCAL = (96, 96), 150.0
ORBIT = views_of(around(24, 4.0), SIZE, FOCAL)


@pytest.mark.parametrize("resolution", [64, 128])
def test_the_hull_of_a_ball_contains_it_and_is_hardly_larger(resolution):
    centre, radius = (0.2, 0.1, -0.15), 0.6
    masks = silhouettes(photograph(ORBIT, (ball(centre, radius), plain(RED))))
    inside = carve(ORBIT, masks, resolution)
    x, y, z = cells(resolution)
    away = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
    assert inside[away < radius].all()
    assert inside.sum() * (2 / resolution) ** 3 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.08)
    assert away[inside].max() < 1.25 * radius


def test_the_hull_of_a_box_has_its_sides_on_the_right_axes():
    low, high = (-0.7, -0.2, 0.1), (0.5, 0.3, 0.4)
    masks = silhouettes(photograph(ORBIT, (box(low, high), plain(RED))))
    inside = carve(ORBIT, masks, 64)
    x, y, z = cells(64)
    within = [(low[k] < axis) & (axis < high[k]) for k, axis in enumerate((x, y, z))]
    assert inside[within[0] & within[1] & within[2]].all()
    assert inside.sum() * (2 / 64) ** 3 == pytest.approx(np.prod(np.subtract(high, low)), rel=0.25)
    found = np.argwhere(inside)[:, ::-1] * (2 / 64) - 1
    assert np.allclose(found.min(axis=0), low, atol=0.07) and np.allclose(found.max(axis=0) + 2 / 64, high, atol=0.07)


def test_no_rod_is_lost_that_is_thinner_than_a_coarse_cell():
    rod = box((0.01, -0.8, 0.01), (0.05, 0.8, 0.05))  # as wide as one cell of 64, off the middles of those of 16 and 32
    views = views_of(around(24, 4.0), (192, 192), 300.0)
    inside = carve(views, silhouettes(photograph(views, (rod, plain(RED)))), 64)
    heights = np.flatnonzero(inside.any(axis=(0, 2)))
    assert len(heights) >= 50 and (np.diff(heights) == 1).all()
    assert inside.sum() < 9 * len(heights)


def test_division_of_cells_changes_nothing():
    things = (ball((0.3, 0.2, 0.1), 0.4), plain(RED)), (box((-0.9, -0.5, -0.3), (0.2, -0.3, 0.8)), plain(RED))
    masks = silhouettes(photograph(ORBIT, *things))
    inside = carve(ORBIT, masks, 32)
    from scipy.ndimage import distance_transform_edt, map_coordinates

    middles = np.stack(cells(32), axis=-1).reshape(-1, 3)
    outside = np.zeros(len(middles), dtype=bool)
    for view, mask in enumerate(masks):
        pixel, _, seen = ORBIT.project(view, middles)
        edge = np.where(mask, 0.5 - distance_transform_edt(mask), distance_transform_edt(~mask) - 0.5)
        outside |= seen & (map_coordinates(edge, pixel.T[::-1] - 0.5, order=1, mode="nearest") > 0.5)
    assert (inside.ravel() == ~outside).all()


def test_few_wrong_silhouettes_are_forgiven():
    views = views_of(around(40, 4.0), (48, 48), 75.0)
    masks = silhouettes(photograph(views, (ball((0, 0, 0), 0.5), plain(RED))))
    whole = carve(views, masks, 32, misses=0)
    others = carve(views.only(np.delete(np.arange(40), 7)), np.delete(masks, 7, axis=0), 32, misses=0)
    masks[7] = False
    assert (carve(views, masks, 32) == others).all() and (others | ~whole).all(), "1 of 40"
    assert not carve(views, masks, 32, misses=0).any()
    masks[20] = False
    assert not carve(views, masks, 32).any(), "2 of 40"
    with pytest.raises(ValueError, match="multiple of 4"):
        carve(views, masks, 30)


def test_what_hardly_any_view_sees_is_outside():
    views = views_of(around(12, 4.0), (24, 24), 200.0)  # the pictures show only the middle of the box
    masks = np.ones((12, 24, 24), dtype=bool)
    inside = carve(views, masks, 32)
    x, y, z = cells(32)
    assert inside[np.sqrt(x**2 + y**2 + z**2) < 0.2].all() and not inside[np.sqrt(x**2 + y**2 + z**2) > 0.6].any()


def test_silhouettes_by_alpha_and_by_plain_backgrounds():
    pictures = photograph(ORBIT, (ball((0.1, 0, 0), 0.6), plain((250, 248, 249))))
    true = pictures[..., 3] > 0
    assert (silhouettes(pictures) == true).all() and backdrop(pictures) is None
    for grey in (0, 255):
        assert (silhouettes(on(pictures, grey)) == true).all() and backdrop(on(pictures, grey)).colour == grey
        opaque = np.concatenate([on(pictures, grey), np.full((*true.shape, 1), 255, np.uint8)], axis=3)
        assert (silhouettes(opaque) == true).all(), "alpha that is opaque everywhere tells nothing"
    rng = np.random.default_rng(0)
    spotted, ring = on(pictures), on(pictures)
    spotted[:, 46:49, 46:49] = 255  # a highlight
    ring[:, 36:56, 36:60] = 255  # a hole
    assert true[:, 36:56, 36:60].all() and (silhouettes(spotted) == true).all()
    assert not silhouettes(ring)[:, 36:56, 36:60].any()
    dark = photograph(ORBIT, (ball((0.1, 0, 0), 0.6), plain((120, 80, 60))))
    noisy = np.clip(on(dark).astype(int) + rng.integers(-9, 10, (*true.shape, 3)), 0, 255).astype(np.uint8)
    assert (silhouettes(noisy) == true).mean() > 0.99, "as jpg files have it"
    assert silhouettes(rng.integers(0, 256, (3, 20, 20, 3)).astype(np.uint8)) is None


def test_the_surface_of_a_cuboid():
    inside = np.zeros((32, 32, 32), dtype=bool)
    inside[4:20, 8:28, 6:30] = True  # z, y, x
    low, high = np.array([6, 8, 4]) / 16 - 1, np.array([30, 28, 20]) / 16 - 1
    points, normals = surface(inside, 20_000, np.random.default_rng(0))
    assert ((points >= low - 1e-9) & (points <= high + 1e-9)).all()
    sides = np.concatenate([np.abs(points - low) < 1e-9, np.abs(points - high) < 1e-9], axis=1)
    assert (sides.sum(axis=1) == 1).all(), "each on one side"
    lengths = high - low
    areas = np.tile([lengths[1] * lengths[2], lengths[0] * lengths[2], lengths[0] * lengths[1]], 2)
    assert np.allclose(sides.mean(axis=0), areas / areas.sum(), atol=0.015)
    flat = (np.minimum(points - low, high - points) > 0.3).sum(axis=1) == 2  # away from the edges
    outward = np.concatenate([-np.eye(3), np.eye(3)])[sides.argmax(axis=1)]
    assert flat.sum() > 500 and np.allclose(normals[flat], outward[flat], atol=0.02)
    assert np.allclose(np.linalg.norm(normals, axis=1), 1)
    assert ((normals * outward).sum(axis=1) > 0.3).all()


def test_a_painted_ball_gets_its_colours_back():
    centre = np.array([0.2, 0.1, -0.15])
    pictures = on(photograph(ORBIT, (ball(tuple(centre), 0.6), halves(1, centre[1]))))
    points, found = coloured_hull(ORBIT, pictures, np.random.default_rng(0), count=4000, resolution=64)
    assert points.dtype == np.float32 and found.dtype == np.uint8 and found.shape == points.shape == (4000, 3)
    assert np.allclose(np.linalg.norm(points - centre, axis=1), 0.62, atol=0.06)
    clear = np.abs(points[:, 1] - centre[1]) > 0.06
    wrong = np.abs(found.astype(int) - np.where(points[:, 1:2] > centre[1], RED, BLUE)).max(axis=1) > 30
    assert not wrong[clear].any()
    assert share_in_silhouettes(ORBIT, silhouettes(pictures), points.astype(np.float64)) > 0.97


def on_ball(centre: tuple, radius: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    normals = np.random.default_rng(3).standard_normal((count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(centre) + radius * normals, normals


def test_colours_do_not_shine_through_what_lies_in_front():
    blue, red = ((0, 0, 0.5), 0.45), ((0, 0, -0.4), 0.3)
    poses = np.stack([look(np.array(eye)) for eye in ([0, 0.3, 4.0], [3.9, 0.3, 0.9], [-3.9, 0.3, 0.9])])
    views = views_of(poses, (128, 128), 190.0)
    pictures = photograph(views, (ball(*blue), plain(BLUE)), (ball(*red), plain(RED)))
    points, normals = (np.concatenate(pair) for pair in zip(on_ball(*blue, 6000), on_ball(*red, 6000), strict=True))
    found = colours(points, normals, views, pictures, silhouettes(pictures), 0.04).astype(int)
    facing = (np.arange(12_000) >= 6000) & (normals[:, 2] > 0.5) & (np.abs(normals[:, 1]) < 0.5)
    assert facing.sum() > 500, "of the red ball, turned to the first camera and hidden from it"
    assert (np.abs(found[facing] - RED).max(axis=1) < 40).mean() > 0.99
    ahead = (np.arange(12_000) < 6000) & (normals[:, 2] > 0)
    assert (np.abs(found[ahead] - BLUE).max(axis=1) < 40).mean() > 0.99


def test_what_no_view_sees_takes_the_colour_of_what_is_near():
    views = views_of(look(np.array([0, 0, 4.0]))[None], (128, 128), 190.0)
    pictures = photograph(views, (ball((0, 0, 0), 0.6), halves(0, 0.0)))
    points, normals = on_ball((0, 0, 0), 0.6, 3000)
    found = colours(points, normals, views, pictures, silhouettes(pictures), 0.05).astype(int)
    behind = (points[:, 2] < -0.1) & (np.abs(points[:, 0]) > 0.2)
    assert behind.sum() > 500
    assert (np.abs(found - np.where(points[:, :1] > 0, RED, BLUE)).max(axis=1) < 40)[behind].mean() > 0.97


def test_the_view_from_the_front_and_from_near_decides():
    points, normals = on_ball((0, 0, 0), 0.5, 4000)
    poses = np.stack([look(np.array([0, 0.1, 3.0])), look(np.array([3.0, 0.1, 0])), look(np.array([0, 0.1, 6.0]))])
    views = views_of(poses, (96, 96), 150.0)
    meet = ball((0, 0, 0), 0.5)
    shades = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    pictures = np.concatenate([photograph(views, (meet, plain(shade)))[k : k + 1] for k, shade in enumerate(shades)])
    found = colours(points, normals, views, pictures, silhouettes(pictures), 0.05).astype(int)
    front, side = normals[:, 2] > 0.9, normals[:, 0] > 0.9
    assert (found[front, 0] > 240).all() and (found[side, 1] > 240).all()


def test_views_weigh_by_the_fourth_power_of_how_they_face_and_how_near_they_are():
    """Of a point that looks to +z: straight on, at 60 degrees the same distance away, and straight on from further."""
    eyes = [0, 0, 3.0], [3 * np.sin(np.pi / 3), 0, 3 * np.cos(np.pi / 3)], [0, 0, 3 * 2**0.125]
    views = views_of(np.stack([look(np.array(eye)) for eye in eyes]), (16, 16), 20.0)
    images = np.broadcast_to(255 * np.eye(3, dtype=np.uint8)[:, None, None], (3, 16, 16, 3))
    masks = np.ones((3, 16, 16), dtype=bool)
    found = colours(np.zeros((1, 3)), np.array([[0.0, 0, 1]]), views, images, masks, 0.05)
    weights = np.array([1, 0.5**4, 0.5])
    assert np.abs(found[0] - 255 * weights / weights.sum()).max() < 0.51


def test_the_background_does_not_colour_the_edge_of_an_object():
    image, mask = np.full((4, 4, 3), 255, dtype=np.uint8), np.zeros((4, 4), dtype=bool)
    image[:, :2], mask[:, :2] = RED, True
    share, found = _object_colour(image, mask, np.array([[1.5, 2.0], [2.0, 2.0], [2.25, 1.5], [3.5, 2.0]]))
    assert share == pytest.approx([1, 0.5, 0.25, 0])
    assert np.allclose(found[:3], RED, atol=1e-3)


def test_what_cannot_be_carved_is_said():
    rng = np.random.default_rng(0)
    with pytest.raises(NoHull, match="alpha"):
        coloured_hull(ORBIT, rng.integers(0, 256, (24, *SIZE, 3)).astype(np.uint8), rng)
    with pytest.raises(NoHull, match="nothing but background"):
        coloured_hull(ORBIT, np.full((24, *SIZE, 3), 255, np.uint8), rng)
    apart = on(photograph(ORBIT, (ball((0, 0, 0), 0.2), plain(RED))))
    apart[:, :, :] = np.stack([np.roll(picture, 40 * (-1) ** k, axis=1) for k, picture in enumerate(apart)])
    with pytest.raises(NoHull, match="no part of the box"):
        coloured_hull(ORBIT, apart, rng)
