"""Images of meshes show what perspective and optics say, and every view of data shows the same colours."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from PIL import Image

from ddmi.base.errors import UserError

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("embreex")

from trimesh.visual import ColorVisuals, TextureVisuals  # noqa: E402
from trimesh.visual.material import PBRMaterial, SimpleMaterial  # noqa: E402

from ddmi.rendering.cameras import DISTANCE, VIEW_FOV, Camera, sphere  # noqa: E402
from ddmi.rendering.shader import (  # noqa: E402
    AMBIENT,
    FILL,
    FILL_FROM,
    GAMMA,
    KEY,
    KEY_FROM,
    REACH,
    SKY,
    TracedMesh,
    lit,
    render_view,
    shaded,
    spacing,
    turntable,
)

FRONT = Camera.orbit(0.0, 0.0, distance=4.0, fov=40.0, size=64)


def square(z=0.0, side=2.0, colour=None, at=(0.0, 0.0)):
    """A square that looks to +z, its lower left corner the first; texture places go from (0, 0) to (1, 1)."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * side / 2 + at
    mesh = trimesh.Trimesh(np.column_stack([corners, np.full(4, z)]), [[0, 1, 2], [0, 2, 3]], process=False)
    if colour is not None:
        mesh.visual = ColorVisuals(mesh, face_colors=np.tile(np.array(colour, np.uint8), (2, 1)))
    return mesh


UV = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])


def textured(image, uv=UV, material=None, **where):
    mesh = square(**where)
    mesh.visual = TextureVisuals(uv=uv, material=material or SimpleMaterial(image=Image.fromarray(image)))
    return mesh


def facing(direction):
    """What the light makes of white that faces this way, by the formula in the documentation."""
    normal = np.array(direction) / np.linalg.norm(direction)
    lamps = [np.array(lamp) / np.linalg.norm(lamp) for lamp in (KEY_FROM, FILL_FROM)]
    key, fill = (max(0.0, float(normal @ lamp)) for lamp in lamps)
    return (AMBIENT + SKY * (1 + normal[1]) / 2 + KEY * key + FILL * fill) ** (1 / GAMMA)


def middle(photo):
    """The colour of the pixel right below the middle, and its opacity and depth."""
    row, column = (side // 2 for side in photo.opacity.shape)
    return photo.colour[row, column].astype(float), photo.opacity[row, column], photo.depth[row, column]


# where things are -----------------------------------------------------------------------------------------------------


def test_the_outline_and_the_depth_of_a_ball():
    """Seen within the angle whose tangent is r / sqrt(d^2 - r^2); depths are the roots of a quadratic equation."""
    radius, camera = 0.8, Camera.orbit(20.0, 30.0, distance=3.0, fov=40.0, size=(90, 120))
    photo = render_view(trimesh.creation.icosphere(5, radius), camera, supersampling=1)
    outline = camera.focal * radius / math.sqrt(9 - radius**2)
    assert photo.opacity.sum() == pytest.approx(math.pi * outline**2, rel=0.01)
    finer = render_view(trimesh.creation.icosphere(5, radius), camera, supersampling=4)
    assert finer.opacity.sum() == pytest.approx(math.pi * outline**2, rel=0.002)
    assert ((finer.opacity > 0) & (finer.opacity < 1)).sum() > 50 and set(np.unique(photo.opacity)) == {0, 1}

    origins, directions = (rays.double().numpy() for rays in camera.rays())
    along = -(origins * directions).sum(axis=1)
    root = along**2 - (origins**2).sum(axis=1) + radius**2
    expected = along - np.sqrt(np.maximum(root, 0))
    inner = root > 0.1
    assert np.abs(photo.depth.reshape(-1) - expected)[inner].max() < 5e-3
    assert np.array_equal(photo.depth == 0, photo.opacity == 0)


@pytest.mark.parametrize("point", [(0.8, 0, 0), (0, 0.6, 0), (0, 0, 0.8), (0.5, 0.7, -0.3)])
@pytest.mark.parametrize("looked", [(0, 0), (90, 0), (35, 20), (-120, 60)])
def test_a_point_is_seen_where_the_camera_puts_it(point, looked):
    """By two rotations: the world turns by -azimuth around y, then by elevation around x."""
    dot = trimesh.creation.icosphere(1, 0.05)
    dot.apply_translation(point)
    camera = Camera.orbit(*map(float, looked), distance=4.0, fov=40.0, size=(60, 80))
    seen = render_view(dot, camera).opacity
    rotation = trimesh.transformations.rotation_matrix
    azimuth, elevation = (math.radians(angle) for angle in looked)
    turned = rotation(elevation, (1, 0, 0)) @ rotation(-azimuth, (0, 1, 0)) @ [*point, 1]
    scale = 30 / math.tan(math.radians(20)) / (4 - turned[2])
    y, x = np.indices(seen.shape) + 0.5
    assert (seen * x).sum() / seen.sum() == pytest.approx(40 + turned[0] * scale, abs=0.3)
    assert (seen * y).sum() / seen.sum() == pytest.approx(30 - turned[1] * scale, abs=0.3)


def test_the_principal_point_moves_the_picture():
    moved = Camera(FRONT.pose, FRONT.focal, FRONT.size, (42.0, 27.0))
    whole, aside = (render_view(square(side=1.0), camera).opacity for camera in (FRONT, moved))
    assert np.array_equal(whole[10:50, 10:50], aside[5:45, 20:60])


def test_meshes_of_a_scene_stand_where_its_graph_puts_them():
    dot = trimesh.creation.icosphere(1, 0.1)
    scene = trimesh.Scene()
    for x in (-0.7, 0.7):
        scene.add_geometry(dot, geom_name="dot", transform=trimesh.transformations.translation_matrix((x, 0.3, 0)))
    scene.add_geometry(trimesh.path.creation.circle_pattern(1.0, 0.1, 3))  # lines are no surface
    apart = trimesh.util.concatenate([dot.copy().apply_translation((x, 0.3, 0)) for x in (-0.7, 0.7)])
    one, two = (render_view(mesh, FRONT) for mesh in (scene, apart))
    assert np.array_equal(one.opacity, two.opacity) and one.opacity.sum() > 20


# the light ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("looked", [(0, 0), (90, 0), (180, 0), (270, 0), (0, 90), (0, -90)])
def test_a_side_has_the_light_of_its_normal_from_wherever_it_is_seen(looked):
    azimuth, elevation = (math.radians(angle) for angle in looked)
    normal = np.array([math.sin(azimuth), math.sin(elevation), math.cos(azimuth)])
    normal[[0, 2]] *= math.cos(elevation)
    box = trimesh.creation.box((1, 1, 1))
    box.visual = ColorVisuals(box, face_colors=np.tile(np.array([200, 100, 50, 255], np.uint8), (12, 1)))
    expected = np.array([200, 100, 50]) * facing(normal)
    for turn, rise in ((0, 0), (20, 15), (-30, -25)):
        camera = Camera.orbit(looked[0] + turn, max(-90.0, min(90.0, looked[1] + rise)), distance=4.0, size=33)
        assert np.abs(middle(render_view(box, camera))[0] - expected).max() <= 0.51 + 1e-3
    assert lit(np.array([[0.8, 0.4, 0.2]]), normal[None])[0] == pytest.approx(expected / 250, rel=0.03)


def test_light_is_soft_and_comes_from_above():
    up, down = facing((0, 1, 0)), facing((0, -1, 0))
    everywhere = [facing(normal) for normal in trimesh.creation.icosphere(3).vertices]
    assert down < 0.75 * up and min(everywhere) > 0.55 and max(everywhere) < 0.96


def test_what_is_turned_inside_out_or_has_two_layers_looks_the_same():
    ball = trimesh.creation.icosphere(2, 0.8)
    turned = ball.copy()
    turned.invert()
    pairs = np.stack([ball.faces, turned.faces], axis=1).reshape(-1, 3)
    both = trimesh.Trimesh(ball.vertices, pairs, process=False)
    one, two, layers = (render_view(mesh, FRONT).colour.astype(int) for mesh in (ball, turned, both))
    assert np.abs(one - two).max() <= 1 and np.abs(one - layers).max() <= 1


def test_a_round_surface_is_shaded_smoothly_also_where_a_material_ends():
    """A ball of 642 corners, cut into two meshes along the equator: the light is that of the true normals."""
    ball = trimesh.creation.icosphere(3, 1.0)
    upper = ball.triangles_center[:, 1] > 0
    halves = [ball.submesh([np.flatnonzero(side)], append=True) for side in (upper, ~upper)]
    camera = Camera.orbit(40.0, 10.0, distance=4.0, fov=40.0, size=80)
    for half in halves:
        half.visual = ColorVisuals(half, face_colors=np.tile(np.uint8([255, 255, 255, 255]), (len(half.faces), 1)))
    photo = render_view(trimesh.Scene(halves), camera, supersampling=1)
    origins, directions = (rays.numpy() for rays in camera.rays())
    met = photo.opacity.reshape(-1) > 0
    normals = (origins + directions * photo.depth.reshape(-1, 1))[met]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    expected = 255 * lit(np.ones_like(normals), normals)
    off = np.abs(photo.colour.reshape(-1, 3)[met] - expected).max(axis=1)
    at_the_cut = np.abs(normals[:, 1]) < 0.05
    assert off.max() < 4 and off.mean() < 0.4 and off[at_the_cut].max() < 1.5 and at_the_cut.sum() > 50


def test_a_corner_is_shaded_by_the_mean_of_its_faces_by_area():
    """A square and a strip three times as large, that meet at 30 degrees; at 60 degrees there is an edge."""
    for angle, smooth in ((30, True), (60, False)):
        turn = math.radians(angle)
        flat, tilted = np.array([0.0, 0, 1]), np.array([math.sin(turn), 0, math.cos(turn)])
        along = np.array([math.cos(turn), 0, -math.sin(turn)])
        corners = np.array([[0.0, 0, 0], [0, 1, 0], [-1, 1, 0], [-1, 0, 0], 3 * along, 3 * along + [0, 1, 0]])
        mesh = trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3], [0, 4, 5], [0, 5, 1]], process=False)
        traced = TracedMesh(mesh)
        joined = flat * 1 + tilted * 3  # all four triangles meet at the first corner: half of 1, half of 3 each
        expected = joined / np.linalg.norm(joined) if smooth else flat
        assert traced.smooth[0, 0] == pytest.approx(expected, abs=1e-6)


def scenery():
    """Boxes of three kinds of colour, one behind the other."""
    rng = np.random.default_rng(0)
    ball = trimesh.creation.icosphere(4, 0.5)
    ball.visual = ColorVisuals(ball, vertex_colors=np.uint8(128 + 127 * np.sin(3 * ball.vertices)))
    picture = np.kron(rng.integers(0, 255, (4, 4, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    sheet = textured(picture, z=-0.7)
    box = trimesh.creation.box((0.4, 0.4, 0.4))
    box.apply_translation((0.6, -0.5, 0.5))
    return trimesh.Scene([ball, sheet, box])


def test_a_point_has_one_colour_in_all_views():
    """Points that one view sees, looked for in the others where they are not hidden."""
    traced = TracedMesh(scenery())
    cameras = [Camera.orbit(a, e, distance=4.0, fov=40.0, size=64) for a, e in ((0, 10), (35, 40), (-40, -20))]
    photos = [render_view(traced, camera, supersampling=1) for camera in cameras]
    origins, directions = (rays.numpy() for rays in cameras[0].rays())
    met = np.flatnonzero(photos[0].opacity.reshape(-1) > 0)
    points = origins[met] + directions[met] * photos[0].depth.reshape(-1, 1)[met]
    colours = photos[0].colour.reshape(-1, 3)[met].astype(float) / 255
    for camera in cameras[1:]:
        eye = camera.pose[:3, 3].numpy().astype(np.float32)
        towards = points - eye
        distance = np.linalg.norm(towards, axis=1)
        seen = traced.seen(np.broadcast_to(eye, points.shape), towards / distance[:, None])
        free = np.abs(seen[:, 4] - distance) < 1e-3
        assert free.mean() > 0.6
        assert (np.abs(seen[free, :3] - colours[free]).max(axis=1) < 0.004).mean() > 0.99  # but for those on an edge


# colours --------------------------------------------------------------------------------------------------------------


def test_a_texture_is_upright():
    """Places in a texture begin at its lower left corner."""
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4, :4], image[:4, 4:], image[4:, :4] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    seen = render_view(textured(image, side=2.6), FRONT).colour.astype(float) / (255 * facing((0, 0, 1)))
    expected = {(10, 10): (1, 0, 0), (10, 54): (0, 1, 0), (54, 10): (0, 0, 1), (54, 54): (0, 0, 0)}
    for (row, column), colour in expected.items():
        assert seen[row, column] == pytest.approx(colour, abs=0.01)


def test_a_texture_repeats_and_ends_where_it_does_not():
    """Twice along x, from -0.5: red, green, red, green, between their middles; at its own border the colour stays."""
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 0], image[0, 1] = (255, 0, 0), (0, 255, 0)
    tiled = render_view(textured(image, uv=UV * [2, 1] - [0.5, 0], side=2.0), FRONT).colour
    row, span = tiled[32].astype(float), FRONT.focal * 2 / 4  # the square takes so many pixels
    reds = [row[round(32 + span * (part - 0.5)), 0] > 100 for part in (0.125, 0.375, 0.625, 0.875)]
    assert reds == [False, True, False, True]
    plain = render_view(textured(image, side=2.0), FRONT).colour[32].astype(float) / (255 * facing((0, 0, 1)))
    first, last = round(32 - span / 2) + 1, round(32 + span / 2) - 2
    assert plain[first] == pytest.approx((1, 0, 0), abs=0.01) and plain[last] == pytest.approx((0, 1, 0), abs=0.01)


def test_a_ramp_stays_a_ramp():
    """Texel k of n has its middle at (k + 1/2) / n, and values between them lie on straight lines."""
    image = np.repeat(np.arange(0, 250, 10, dtype=np.uint8)[None, :, None], 3, axis=2)
    photo = render_view(textured(image, side=2.0), FRONT, supersampling=1)
    origins, directions = (rays.numpy() for rays in FRONT.rays())
    x = (origins[:, 0] + directions[:, 0] * photo.depth.reshape(-1)).reshape(64, 64)
    expected = np.clip(25 * (x + 1) / 2 - 0.5, 0, 24) * 10 * facing((0, 0, 1))
    met = photo.opacity > 0
    assert np.abs(photo.colour[..., 0] - expected)[met].max() < 0.6


def test_a_texture_finer_than_the_rays_becomes_its_mean():
    """Seen from close by its squares are black and white, from here they are one grey."""
    image = np.repeat((np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    mesh, grey = textured(image, side=2.0), 127.5 * facing((0, 0, 1))
    inner = np.s_[12:52, 12:52]
    sharp = render_view(TracedMesh(mesh), FRONT).colour[inner]
    soft = render_view(mesh, FRONT).colour[inner]
    assert np.ptp(sharp) > 60 and np.abs(soft - grey).max() < 2
    assert spacing(FRONT) == pytest.approx(4.0 / FRONT.focal / 2)


def test_an_image_takes_the_place_of_an_obj_materials_colour_and_a_damaged_one_does_not(caplog):
    white = np.full((4, 4, 3), 255, np.uint8)
    material = SimpleMaterial(image=Image.fromarray(white), diffuse=(0, 0, 0))
    assert middle(render_view(textured(white, material=material), FRONT))[0] == pytest.approx(
        255 * facing((0, 0, 1)), abs=1
    )

    class Torn:
        def convert(self, mode):
            raise OSError("cut off")

    red = SimpleMaterial(diffuse=(255, 0, 0))
    red.image = Torn()
    colour = middle(render_view(textured(white, material=red), FRONT))[0]
    assert colour == pytest.approx(np.array([255, 0, 0]) * facing((0, 0, 1)), abs=1) and "cut off" in caplog.text


def test_the_factor_of_gltf_is_linear():
    half = PBRMaterial(baseColorFactor=[128, 128, 128, 255])
    grey = np.full((2, 2, 3), 200, np.uint8)
    both = PBRMaterial(baseColorFactor=[128, 128, 128, 255], baseColorTexture=Image.fromarray(grey))
    light = facing((0, 0, 1)) * (1.055 * (128 / 255) ** (1 / 2.4) - 0.055)  # sRGB, IEC 61966-2-1
    assert middle(render_view(textured(grey, material=half), FRONT))[0] == pytest.approx(255 * light, abs=1)
    assert middle(render_view(textured(grey, material=both), FRONT))[0] == pytest.approx(200 * light, abs=1)


def test_vertex_colours_are_interpolated():
    mesh = square()
    mesh.visual = ColorVisuals(mesh, vertex_colors=np.uint8([[0, 0, 0], [255, 0, 0], [255, 255, 0], [0, 255, 0]]))
    photo = render_view(mesh, FRONT, supersampling=1)
    origins, directions = (rays.numpy() for rays in FRONT.rays())
    places = (origins + directions * photo.depth.reshape(-1, 1)).reshape(64, 64, 3)
    met = photo.opacity > 0
    expected = np.clip((places[..., :2] + 1) / 2, 0, 1) * 255 * facing((0, 0, 1))
    assert np.abs(photo.colour[..., :2] - expected)[met].max() < 0.6 and photo.colour[met][:, 2].max() == 0


# what light goes through ----------------------------------------------------------------------------------------------


def test_panes_one_behind_the_other():
    """Red, 40 % opaque, before blue, 50 % opaque: composited from the front, depth weighted by what is stopped."""
    panes = trimesh.Scene([square(1.0, colour=(255, 0, 0, 102)), square(0.0, colour=(0, 0, 255, 128))])
    black = render_view(panes, FRONT, background=(0, 0, 0), supersampling=1)
    light, first, second = facing((0, 0, 1)), 102 / 255, 0.6 * 128 / 255
    colour, opacity, depth = middle(black)
    assert colour == pytest.approx(np.array([first, 0, second]) * 255 * light, abs=1)
    assert opacity == pytest.approx(first + second, abs=1e-4)
    assert depth == pytest.approx((first * 3 + second * 4) / (first + second), rel=1e-3)
    assert middle(render_view(panes, FRONT))[0] == pytest.approx(colour + 255 * (1 - opacity), abs=1.01)
    with_wall = trimesh.Scene([*panes.geometry.values(), square(-1.0, colour=(0, 255, 0, 255), side=4.0)])
    colour, opacity, _ = middle(render_view(with_wall, FRONT))
    assert opacity == pytest.approx(1.0, abs=1e-4)
    assert colour == pytest.approx(np.array([first, 1 - first - second, second]) * 255 * light, abs=1)


@pytest.mark.parametrize(
    ("settings", "opacity"), [({"d": ["0.25"]}, 0.25), ({"tr": ["0.9"]}, 0.1), ({"d": ["?"]}, 1.0)]
)
def test_how_opaque_an_mtl_file_says(settings, opacity):
    mesh = square()
    mesh.visual = TextureVisuals(uv=UV, material=SimpleMaterial(diffuse=(10, 20, 30), **settings))
    assert middle(render_view(mesh, FRONT))[1] == pytest.approx(opacity, abs=1e-5)


def test_alpha_of_a_texture():
    """Upper half 1, lower half 0.2: as it is, all or nothing, and nobody asked, as glTF's three modes say."""
    image = np.full((64, 64, 4), 255, np.uint8)
    image[32:, :, 3] = 51
    found = {}
    for mode in ("BLEND", "MASK", "OPAQUE"):
        material = PBRMaterial(baseColorTexture=Image.fromarray(image), alphaMode=mode, alphaCutoff=0.6)
        found[mode] = render_view(textured(image, material=material), FRONT).opacity[[20, 44], 32].tolist()
    assert found["BLEND"] == pytest.approx([1, 0.2], abs=1e-3)
    assert found["MASK"] == [1, 0] and found["OPAQUE"] == [1, 1]
    image[..., 3] = 0  # an exporter's mistake: all of it invisible
    assert render_view(textured(image), FRONT).opacity[32, 32] == 1


def test_backgrounds_and_alpha():
    """What has alpha, laid on the background again, is the view; and on another one, the other view."""
    mesh = trimesh.Scene([trimesh.creation.icosphere(2, 0.7), square(-0.5, side=1.9, colour=(20, 200, 40, 90))])
    white, pink = (render_view(mesh, FRONT, background=b) for b in ((255, 255, 255), (255, 120, 180)))
    rgba = white.rgba().astype(float)
    alpha = rgba[..., 3:] / 255
    assert (rgba[alpha[..., 0] == 0][:, :3] == 255).all() and (alpha == 0).any() and ((alpha > 0) & (alpha < 1)).any()
    for photo, behind in ((white, (255, 255, 255)), (pink, (255, 120, 180))):
        again = alpha * rgba[..., :3] + (1 - alpha) * np.array(behind)
        assert np.abs(again - photo.colour).max() < 2
    assert np.array_equal(white.opacity, pink.opacity)


# cameras around -------------------------------------------------------------------------------------------------------


def test_cameras_around_see_the_ball_just_so():
    for fov, radius in ((VIEW_FOV, 1.5), (60.0, 0.9)):
        camera = sphere(3, size=100, fov=fov, radius=radius)[1]
        inner, outer = (
            render_view(trimesh.creation.icosphere(4, radius * part), camera).opacity for part in (0.985, 1.02)
        )
        border = np.ones((100, 100), bool)
        border[1:-1, 1:-1] = False
        assert inner[border].max() == 0 < outer[border].max()
        assert inner[2].max() > 0 and inner[:, 2].max() > 0
    wide = sphere(3, size=(50, 100))[1]
    assert wide.focal == pytest.approx(25 / math.tan(math.radians(VIEW_FOV / 2)))


# points of the surface ------------------------------------------------------------------------------------------------


def test_points_are_those_that_are_seen():
    """Of a box in a box none of the inner one; uniform by area; each side in its own light."""
    outer, inner = trimesh.creation.box((1.6, 0.8, 0.4)), trimesh.creation.box((0.3, 0.3, 0.3))
    inner.visual = ColorVisuals(inner, face_colors=np.tile(np.uint8([255, 0, 0, 255]), (12, 1)))
    outer.visual = ColorVisuals(outer, face_colors=np.tile(np.uint8([0, 200, 0, 255]), (12, 1)))
    points, colours = TracedMesh(trimesh.Scene([inner, outer])).cloud(6000, np.random.default_rng(0))
    assert points.shape == colours.shape == (6000, 3) and colours.dtype == np.uint8
    assert colours[:, 0].max() == 0
    scaled = points / [0.8, 0.4, 0.2]
    side = np.abs(scaled).argmax(axis=1)
    assert np.abs(np.abs(scaled).max(axis=1) - 1).max() < 1e-5
    areas = np.array([0.8 * 0.4, 1.6 * 0.4, 1.6 * 0.8])
    assert np.bincount(side) / 6000 == pytest.approx(areas / areas.sum(), abs=0.03)
    for axis in range(3):
        for sign in (-1, 1):
            own = (side == axis) & (np.sign(scaled[:, axis]) == sign)
            assert np.abs(colours[own, 1] - 200 * facing(sign * np.eye(3)[axis])).max() <= 0.51
            across = np.delete(scaled[own], axis, axis=1)
            assert across.mean(axis=0) == pytest.approx(0, abs=0.12)
            assert across.std(axis=0) == pytest.approx(1 / math.sqrt(3), abs=0.06)


def test_points_of_sheets_and_of_panes():
    """Both sides of a sheet show; a pane has as many points as it is opaque, and hides nothing."""
    _, colours = TracedMesh(square(colour=(255, 255, 255, 255))).cloud(4000, np.random.default_rng(0))
    front, back = (round(255 * facing((0, 0, z))) for z in (1, -1))
    values, counts = np.unique(colours[:, 0], return_counts=True)
    assert values.tolist() == sorted((front, back)) and counts.min() > 1600
    pane = trimesh.creation.box((1.2, 1.2, 1.2))
    pane.visual = ColorVisuals(pane, face_colors=np.tile(np.uint8([0, 0, 255, 51]), (12, 1)))
    core = trimesh.creation.box((0.6, 0.6, 0.6))
    core.visual = ColorVisuals(core, face_colors=np.tile(np.uint8([255, 0, 0, 255]), (12, 1)))
    _, colours = TracedMesh(trimesh.Scene([pane, core])).cloud(6000, np.random.default_rng(1))
    share = (colours[:, 2] > 0).mean()
    assert share == pytest.approx(0.2 * 4 / (0.2 * 4 + 1), abs=0.03)


def test_points_depend_on_the_generator_alone():
    traced = TracedMesh(scenery())
    one, two, other = (traced.cloud(500, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1]) and not np.array_equal(one[0], other[0])


# the light of pages ---------------------------------------------------------------------------------------------------


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
    outline = Camera.orbit(0, 0, size=200).focal * radius / math.sqrt(DISTANCE**2 - radius**2)
    assert seen.sum() == pytest.approx(math.pi * outline**2, rel=0.005)
    y, x = np.indices(seen.shape) + 0.5 - 100
    parts = (np.arange(16) + 0.5) / 16 - 0.5
    inside = [np.hypot(x + right, y + down) < outline for right in parts for down in parts]
    exact = np.mean(inside, axis=0)
    assert np.abs(seen - exact).mean() < 0.5 * np.abs((exact > 0.5) - exact).mean()  # nearer than any whole pixels
    assert abs((seen * x).sum() / seen.sum()) < 0.05 and abs((seen * y).sum() / seen.sum()) < 0.05


@pytest.mark.parametrize("ground", [False, True])
def test_the_light_goes_round_with_the_camera(ground):
    turned = chair()
    turned.apply_transform(trimesh.transformations.rotation_matrix(math.radians(70), (0, 1, 0)))
    one, two = (array(shaded(m, 96, azimuth=a, ground=ground)) for m, a in ((chair(), 10.0), (turned, 80.0)))
    other = array(shaded(chair(), 96, azimuth=80.0, ground=ground))
    assert np.abs(one - two).mean() < 0.5 < 5 < np.abs(one - other).mean()


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
    scene = TracedMesh(trimesh.util.concatenate([disc, foot]))
    assert scene.floor == pytest.approx(-height)
    at = np.array([0.0, REACH])
    middle, border = scene.ground_light(at, np.zeros(2))
    assert middle == pytest.approx(height**2 / (radius**2 + height**2), abs=0.02)
    assert border == 1
    assert np.allclose(scene.contact, scene.contact[::-1], atol=0.06)


def test_the_shadow_lies_below_what_casts_it():
    """Of a small disc the middle of the shadow is below the middle of the disc, in x and in z."""
    disc = trimesh.creation.cylinder(0.25, 0.02, sections=64)
    disc.apply_transform(trimesh.transformations.rotation_matrix(math.pi / 2, (1, 0, 0)))
    disc.apply_translation((0.5, 0.0, -0.25))
    foot = trimesh.Trimesh([[5, -0.25, 5], [5, -0.25, 5.1], [5.1, -0.25, 5]], [[0, 1, 2]])
    scene = TracedMesh(trimesh.util.concatenate([disc, foot]))
    x, z = (v.reshape(-1) for v in np.meshgrid(np.linspace(0.1, 0.9, 41), np.linspace(-0.65, 0.15, 41)))
    dark = 1 - scene.ground_light(x, z)
    assert (dark * x).sum() / dark.sum() == pytest.approx(0.5, abs=0.008)
    assert (dark * z).sum() / dark.sum() == pytest.approx(-0.25, abs=0.008)


def test_shadows_fade_towards_the_border_of_the_ground():
    """Below a roof that hides all of the sky; within two thirds of the way it is as dark as it is."""
    roof = trimesh.creation.box((200.0, 0.01, 200.0))
    foot = trimesh.Trimesh([[90, -0.2, 90], [90, -0.2, 90.1], [90.1, -0.2, 90]], [[0, 1, 2]])
    scene = TracedMesh(trimesh.util.concatenate([roof, foot]))
    found = scene.ground_light(REACH * np.array([0.0, 0.6, 0.75, 0.9, 1.0, 1.3]), np.zeros(6))
    assert found == pytest.approx([0, 0, 0.25, 0.7, 1, 1], abs=1e-3)


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
def test_a_turntable_is_images_from_all_around(size):
    clip = turntable(chair(), size, 5, elevation=15.0)
    for k, frame in enumerate(clip):
        assert np.array_equal(frame, array(shaded(chair(), size, azimuth=35.0 + 360 * k / 5, elevation=15.0)))
    assert len(clip) == 5 and clip.size == ((48, 48) if size == 48 else size)
    assert not np.array_equal(clip[0], clip[1])


def test_an_empty_mesh_says_so():
    empty = trimesh.Trimesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64), process=False)
    picture = array(shaded(empty, (90, 120)))
    ink = picture.min(axis=2) < 200
    assert picture.shape == (90, 120, 3) and 50 < ink.sum() < 2000 and not ink[:20].any() and not ink[-20:].any()
    assert all(np.array_equal(array(frame), picture) for frame in turntable(empty, (90, 120), 2))
    assert shaded(empty, 8).size == (8, 8)


# what a user must change ----------------------------------------------------------------------------------------------


def test_errors():
    with pytest.raises(UserError, match="without faces"):
        render_view(trimesh.Trimesh(), FRONT)
    with pytest.raises(UserError, match="supersampling must be 1 or more"):
        render_view(square(), FRONT, supersampling=0)
    with pytest.raises(UserError, match="at least one view, not 0"):
        sphere(0)
    with pytest.raises(UserError, match="from -90 up to 90 degrees, not from 10 to 5"):
        sphere(3, elevation=(10, 5))
    with pytest.raises(UserError, match="radius positive"):
        sphere(3, radius=0.0)
    ghost = square(colour=(255, 255, 255, 255))
    ghost.visual = TextureVisuals(uv=UV, material=SimpleMaterial(diffuse=(255, 255, 255), d=["0"]))
    with pytest.raises(UserError, match="can be seen"):
        TracedMesh(ghost).cloud(100, np.random.default_rng(0))


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
