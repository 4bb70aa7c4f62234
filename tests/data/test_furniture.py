from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest

from ddmi.base import coordinates
from ddmi.base.errors import UserError
from ddmi.data.furniture import Furniture, piece, prompts
from ddmi.data.furniture.measure import accuracy, arm_rests, boards, cleaned, legs, measured
from ddmi.data.furniture.parts import COLOURS, SIDE, Solid, block, disc, framed
from ddmi.data.furniture.pieces import GENERATORS, make
from ddmi.data.furniture.words import NUMBERS, captions

BOX = block("seat", (-0.5, 0.5), (-0.1, 0.1), (-0.3, 0.3), "red")  # area 2 (0.2 + 0.6 + 0.12) = 1.84
CONE = disc("shade", (0.2, -0.1), 0.4, (-0.3, 0.5), "blue", taper=0.5)


@pytest.fixture(scope="module")
def source() -> Furniture:
    return Furniture(400)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_box_and_a_cone_hold_the_points_that_they_should():
    points = np.array([[0.49, 0.09, 0.29], [0.51, 0, 0], [0, 0.11, 0], [0, 0, -0.31], [0, 0, 0]], np.float32)
    assert Solid([BOX]).inside(points).tolist() == [True, False, False, False, True]
    heights = np.array([-0.29, 0.1, 0.49])
    radii = 0.4 - 0.2 * (heights + 0.3) / 0.8  # 0.4 at the bottom, 0.2 at the top
    for offset, wanted in ((-0.005, True), (0.005, False)):
        ring = [[0.2 + 0.6 * (r + offset), y, -0.1 + 0.8 * (r + offset)] for r, y in zip(radii, heights, strict=True)]
        assert (Solid([CONE]).inside(np.array(ring, np.float32)) == wanted).all()
    assert not Solid([CONE]).inside(np.array([[0.2, 0.51, -0.1], [0.2, -0.31, -0.1]], np.float32)).any()


def test_volumes_by_counting_cells_are_those_of_the_formulas():
    cell = (2 / 128) ** 3
    cone = math.pi * 0.8 / 3 * (0.4**2 + 0.4 * 0.2 + 0.2**2)
    assert Solid([BOX]).grid(128).sum() * cell == pytest.approx(0.12, rel=0.08)  # 64 x 12 or 13 x 38 cells
    assert Solid([CONE]).grid(128).sum() * cell == pytest.approx(cone, rel=0.01)


def test_a_grid_is_the_occupancy_of_its_cell_centres(source):
    at = coordinates.grid((40, 40, 40)).numpy()
    for index in range(10):
        found = source.voxels(index, 40)
        assert (found == source.occupancy(index, at).reshape(40, 40, 40)).all() and found.any()


UNIONS = {
    "one box": ([BOX], 1.84),
    "the same box twice": ([BOX, BOX], 1.84),
    "touching from above": ([BOX, block("back", (-0.1, 0.1), (0.1, 0.5), (-0.1, 0.1), "red")], 1.84 + 0.32),
    "flush at the side": (  # a leg below, whose outer faces go on from those of the seat
        [BOX, block("leg", (0.3, 0.5), (-0.6, -0.1), (0.1, 0.3), "red")],
        1.84 + 4 * 0.2 * 0.5,
    ),
    "flush and overlapping": (  # a leg through the seat: three of its faces lie in faces of the seat
        [block("leg", (0.3, 0.5), (-0.6, 0.1), (0.1, 0.3), "red"), BOX],
        1.84 + 4 * 0.2 * 0.5,
    ),
    "crossing": (
        [BOX, block("back", (-0.1, 0.1), (-0.5, 0.5), (-0.1, 0.1), "red")],
        1.84 + 2 * 4 * 0.2 * 0.4,
    ),
    "apart": ([BOX, block("leg", (-0.1, 0.1), (-0.9, -0.7), (-0.1, 0.1), "red")], 1.84 + 0.24),
    "a cone": ([CONE], math.pi * (0.4**2 + 0.2**2 + 0.6 * math.hypot(0.2, 0.8))),
    "a pole under a box": (
        [BOX, disc("pole", (0, 0), 0.1, (-0.7, -0.1), "red")],
        1.84 + 2 * math.pi * 0.1 * 0.6,
    ),
    "two poles, end to end": (
        [disc("pole", (0, 0), 0.2, (-0.5, 0), "red"), disc("pole", (0, 0), 0.2, (0, 0.5), "red")],
        2 * math.pi * 0.2 * 1 + 2 * math.pi * 0.04,
    ),
}


@pytest.mark.parametrize("name", UNIONS)
def test_the_area_of_a_union_is_that_by_hand(name, rng):
    parts, area = UNIONS[name]
    solid = Solid(parts)
    assert solid._faces[-1].sum() * solid._visible(100_000, rng)[2] == pytest.approx(area, rel=0.012)


def test_points_are_uniform_by_area_on_every_face(rng):
    """Of a box each face has its share; of a cone the mean height of the side and the mean radius of a disc fit."""
    points, normals = Solid([BOX]).surface(60_000, rng)
    for axis, area in enumerate((0.12, 0.6, 0.2)):
        for sign in (-1, 1):
            here = normals[:, axis] == sign
            assert here.mean() == pytest.approx(area / 1.84, abs=0.006)
            assert np.abs(points[here].mean(0) - sign * np.eye(3)[axis] * (0.5, 0.1, 0.3)).max() < 0.01
    points, normals = Solid([CONE]).surface(60_000, rng)
    side = np.abs(normals[:, 1]) < 0.9
    t = (points[side, 1] + 0.3) / 0.8  # density 0.4 - 0.2 t over 0.3
    assert t.mean() == pytest.approx((0.4 / 2 - 0.2 / 3) / 0.3, abs=0.006)
    bottom = normals[:, 1] < -0.9
    away = np.hypot(points[bottom, 0] - 0.2, points[bottom, 2] + 0.1)
    assert away.mean() == pytest.approx(2 / 3 * 0.4, abs=0.004)
    assert normals[side, 1] == pytest.approx(0.2 / math.hypot(0.2, 0.8), abs=1e-5)  # it leans back, so it looks up


def test_a_face_that_two_parts_share_is_not_sampled_twice(rng):
    """The seat's side and the flush leg's side are one plane: one density all over it."""
    parts, _ = UNIONS["flush and overlapping"]
    points, normals = Solid(parts).surface(100_000, rng)
    plane = points[(normals[:, 0] == 1) & (points[:, 0] > 0.499)]
    doubled = (plane[:, 2] > 0.1) & (plane[:, 1] > -0.1)  # 0.2 x 0.2 of 0.2 x 0.6 + 0.2 x 0.5
    assert doubled.mean() == pytest.approx(0.04 / 0.22, abs=0.02)


def test_surface_points_lie_where_the_occupancy_flips(source, rng):
    for index in range(0, 400, 8):
        points, normals = source.surface(index, 400, rng)
        assert points.shape == normals.shape == (400, 3) and points.dtype == normals.dtype == np.float32
        assert np.linalg.norm(normals, axis=1) == pytest.approx(1, abs=1e-5)
        assert np.abs(source.pieces[index].solid.levels(points)).min(0).max() < 1e-6
        assert not source.occupancy(index, points + 1e-4 * normals).any()
        assert source.occupancy(index, points - 1e-4 * normals).all()


def test_as_many_points_as_asked(source, rng):
    for count in (0, 1, 7, 3000):
        assert len(source.surface(1, count, rng)[0]) == count


def test_queries_are_uniform_first_then_near_and_truly_labelled(source, rng):
    index = 3
    points, inside = source.queries(index, 3000, 2000, rng)
    assert points.shape == (5000, 3) and points.dtype == np.float32 and np.abs(points).max() <= 1
    assert (inside == source.occupancy(index, points)).all()
    assert np.abs(points[:3000].mean(0)).max() < 0.05 and points[:3000].std(0) == pytest.approx(3**-0.5, abs=0.02)
    share = source.pieces[index].solid.grid(64).mean()
    assert inside[:3000].mean() == pytest.approx(share, abs=0.03) and 0.3 < inside[3000:].mean() < 0.7
    dense, _ = source.surface(index, 4000, rng)
    away = [np.linalg.norm(dense - point, axis=1).min() for point in points[3000:]]
    fine, coarse = np.median(away[:1000]), np.median(away[1000:])
    assert fine < 0.03 < coarse < 0.12


def test_the_random_numbers_are_the_generators_alone(source):
    other = Furniture(10)
    for one, two in itertools.pairwise([source, other, pickle.loads(pickle.dumps(other))]):
        a, b = (each.queries(4, 50, 50, np.random.default_rng(5)) for each in (one, two))
        assert (a[0] == b[0]).all() and (a[1] == b[1]).all()


def test_a_piece_depends_on_its_seed_and_number_alone(source):
    few = Furniture(7)
    assert few.pieces == source.pieces[:7] and few.names == source.names[:7] and few.captions == source.captions[:7]
    assert piece(0, 331) == source.pieces[331]
    assert [piece(1, index) for index in range(7)] != few.pieces


def test_the_lists_of_a_source_fit_together(source):
    assert len(set(source.names)) == 400 and source.parts is None
    assert source.classes == sorted(GENERATORS) and source.groups == [[index] for index in range(400)]
    for name, label, made in zip(source.names, source.labels, source.pieces, strict=True):
        assert name.startswith(made.kind) and source.classes[label] == made.kind
    shares = np.bincount(source.labels, minlength=6) / 400
    assert shares == pytest.approx([share for _, share in GENERATORS.values()], abs=0.06)
    with pytest.raises(UserError, match="count must be 1 or more, not 0"):
        Furniture(0)


def test_every_piece_fills_its_box_and_no_part_is_thin(source):
    for made in source.pieces:
        assert (made.solid.high + made.solid.low) == pytest.approx(0, abs=1e-9)
        assert (made.solid.high - made.solid.low).max() == pytest.approx(SIDE) and SIDE == 2 / 1.1
        for part in made.parts:
            sides = np.subtract(part.high, part.low)
            assert sides.min() >= 0.09
            assert part.colour in COLOURS and 0 < part.taper <= 1
            assert not part.round or sides[0] == pytest.approx(sides[2])


def test_every_piece_hangs_together(source):
    from scipy.ndimage import label

    assert all(label(made.solid.grid(48))[1] == 1 for made in source.pieces)


def test_framing_keeps_proportions():
    small, large = framed([BOX]), framed([block("seat", (4, 14), (0, 2), (3, 9), "red")])
    assert np.allclose(small[0].low, large[0].low) and np.allclose(small[0].high, large[0].high)
    assert small[0].high == pytest.approx((SIDE / 2, SIDE / 10, SIDE * 0.3))


def test_the_back_is_behind_and_the_legs_are_counted(source):
    for made in source.pieces:
        names = [part.name for part in made.parts]
        if "legs" in made.traits:
            wanted = {1: ("pole", 1)}.get(made.traits["legs"], ("leg", made.traits["legs"]))
            assert names.count(wanted[0]) == wanted[1]
        if made.kind == "chair":
            assert ("arm rest" in names) == made.traits["arm_rests"]
            assert all(part.high[2] < 0 for part in made.parts if part.name == "back")
        if made.kind == "shelf":
            assert names.count("board") == made.traits["boards"] and ("back" in names) == made.traits["panel"]


def test_captions_say_what_the_traits_say(source):
    for made, said in zip(source.pieces, source.captions, strict=True):
        assert (
            len(said) == len(set(said)) >= 5 and f"a {made.kind}" in said and said == captions(made.kind, made.traits)
        )
        for text in said:
            assert made.kind in text and not text.endswith(" ")
            number = made.traits.get("legs", made.traits.get("boards"))
            counted = [word for word in text.replace("two arm rests", "").split() if word in NUMBERS.values()]
            assert all(NUMBERS[number] == word for word in counted) or number is None
            if " arm rests" in text:
                assert made.traits["arm_rests"] != (" no arm rests" in text or "without arm rests" in text)
            for colour in COLOURS:
                assert colour not in text.split() or colour in (made.traits["colour"], made.traits["leg_colour"])
        assert any(made.traits["colour"] in text for text in said) and not all(
            made.traits["colour"] in text for text in said
        )


def test_a_known_chair_and_table_in_words():
    chair = {"legs": 4, "leg_shape": "round", "back": "slatted", "arm_rests": False, "seat": "square"}
    said = captions("chair", {**chair, "colour": "orange", "leg_colour": "black"})
    assert {
        "a chair with four legs",
        "a chair without arm rests",
        "a chair with four legs and no arm rests",
        "an orange chair with black legs",
        "an orange chair with four round legs, a square seat, a slatted back and no arm rests",
    } <= set(said)
    table = {"legs": 1, "top": "round", "layers": 1, "height": "low", "colour": "red", "leg_colour": "red"}
    assert {"a round table on one leg", "a table with one leg", "a low round table"} <= set(captions("table", table))


def test_prompts_are_captions_of_pieces_that_have_what_they_ask_for(source):
    asked = prompts(36, seed=3)
    assert asked[:10] == prompts(10, seed=3) and asked != prompts(36, seed=4)
    assert sum("legs" in wanted for _, wanted in asked) == 18
    assert sum(wanted.get("arm_rests") is True for _, wanted in asked) == 9
    for text, wanted in asked:
        for made, said in zip(source.pieces, source.captions, strict=True):
            has = made.kind == wanted["kind"] and all(made.traits[key] == wanted[key] for key in set(wanted) - {"kind"})
            assert (text in said) == has


def test_colours_are_those_of_the_part_below_the_point(source, rng):
    parts = [BOX, block("leg", (-0.1, 0.1), (-0.6, -0.1), (-0.1, 0.1), "green")]
    points = np.array([[0.5, 0, 0], [0.1, -0.4, 0], [0.3, -0.1, 0.2], [0, -0.6, 0]], np.float32)
    assert Solid(parts).owner(points).tolist() == [0, 1, 0, 1]
    index = next(k for k, made in enumerate(source.pieces) if made.traits["colour"] != made.traits["leg_colour"])
    found = source.colours(index, source.surface(index, 2000, rng)[0])
    assert found.shape == (2000, 3)
    words = {part.colour for part in source.pieces[index].parts}
    assert np.unique(found, axis=0) == pytest.approx(np.unique([COLOURS[word] for word in words], axis=0), abs=1e-6)


def test_the_mesh_is_the_parts(source, rng):
    pytest.importorskip("trimesh")
    for index in (0, 3, 6, 8):
        mesh, solid = source.mesh(index), source.pieces[index].solid
        assert mesh.is_watertight and mesh.bounds == pytest.approx(np.stack([solid.low, solid.high]), abs=0.003)
        assert np.abs(solid.levels(mesh.vertices.astype(np.float32))).min(0).max() < 1e-5
        volume = 0.0  # signed, so that a part with its faces inwards would count against it
        for part in solid.parts:
            wide, high, deep = np.subtract(part.high, part.low)
            cone = math.pi * (wide / 2) ** 2 * (1 + part.taper + part.taper**2) / 3
            volume += high * (cone if part.round else wide * deep)
        assert mesh.volume == pytest.approx(volume, rel=0.01)
        assert {tuple(row) for row in mesh.visual.face_colors[:, :3]} == {
            tuple(round(255 * value) for value in COLOURS[part.colour]) for part in solid.parts
        }


@pytest.mark.parametrize("trait", ["legs", "arm_rests", "boards"])
def test_true_pieces_are_measured_rightly(source, trait):
    assert accuracy(source, trait, 120) >= 0.98


@pytest.mark.parametrize("trait", ["legs", "arm_rests"])
def test_small_components_and_frayed_edges_do_not_change_the_measure(source, trait, rng):
    from scipy.ndimage import gaussian_filter

    right = []
    for made in [made for made in source.pieces if made.kind == "chair"][:40]:
        soft = gaussian_filter(made.solid.grid(64).astype(np.float32), 0.7)
        grid = soft + 0.6 * gaussian_filter(rng.standard_normal(soft.shape).astype(np.float32), 1) > 0.45
        for z, y, x in rng.integers(0, 62, (4, 3)):
            grid[z : z + 2, y : y + 2, x : x + 2] = True
        right.append(measured(grid, trait) == made.traits[trait])
    assert np.mean(right) >= 0.95


def test_measures_by_hand():
    grid = np.zeros((64, 64, 64), bool)
    assert (legs(grid), arm_rests(grid), boards(grid)) == (0, False, 0) and cleaned(grid).size == 0
    grid[10:50, 30:34, 10:50] = True  # a seat
    for z, x in ((10, 10), (10, 44), (44, 27)):
        grid[z : z + 6, 4:30, x : x + 6] = True
    grid[10:14, 34:60, 10:50] = True  # a back
    assert legs(grid) == 3 and not arm_rests(grid)
    grid[14:46, 44:48, 10:15] = True
    assert not arm_rests(grid)  # on one side only
    grid[14:46, 44:48, 45:50] = True
    assert arm_rests(grid)
    rack = np.zeros((64, 64, 64), bool)
    rack[20:40, 2:62, [*range(10, 14), *range(50, 54)]] = True
    for level in (2, 20, 40, 58):
        rack[20:40, level : level + 4, 10:54] = True
    assert boards(rack) == 4
    rack[20:23, 2:62, 10:54] = True  # a back panel is no board
    assert boards(rack) == 4


def test_what_cannot_be_measured_is_named():
    with pytest.raises(UserError, match=r"unknown trait 'leg'.*legs"):
        measured(np.zeros((8, 8, 8), bool), "leg")
    lone = Furniture(1)
    assert lone.pieces[0].kind == "table"
    with pytest.raises(UserError, match="none of 1 pieces is a chair"):
        accuracy(lone, "arm_rests")


def test_every_kind_can_be_asked_for(rng):
    assert [make(rng, kind).kind for kind in GENERATORS] == list(GENERATORS)
