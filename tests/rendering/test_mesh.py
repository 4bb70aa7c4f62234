"""The surface found with few questions is the dense grid's, closed, and has the volumes that geometry says."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
import torch

from ddmi.base.coordinates import grid
from ddmi.base.errors import Empty, UserError, WorkError

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("skimage")

from ddmi.rendering.materials import CLAY  # noqa: E402
from ddmi.rendering.mesh import inside, iso_surface, simplified, write_mesh  # noqa: E402


def ball(radius, centre=(0.0, 0.0, 0.0)):
    return lambda p: radius - (p - torch.tensor(centre)).norm(dim=1)


def torus(p):
    return 0.22 - torch.hypot(p[:, [0, 2]].norm(dim=1) - 0.6, p[:, 1])


def box(centre, half):
    return lambda p: (torch.tensor(half) - (p - torch.tensor(centre)).abs()).min(dim=1).values


def union(*parts):
    return lambda p: torch.stack([part(p) for part in parts]).max(dim=0).values


STICK = box((0.0, -0.3, 0.0), (0.02, 0.5, 0.02))
LOLLIPOP = union(ball(0.3, (0.0, 0.4, 0.0)), STICK)
CHAIR = union(
    box((0.0, 0.0, 0.0), (0.45, 0.04, 0.45)),
    box((0.0, 0.45, -0.41), (0.45, 0.45, 0.04)),
    *(box((0.41 * x, -0.45, 0.41 * z), (0.04, 0.45, 0.04)) for x in (-1, 1) for z in (-1, 1)),
)


def network(seed):
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(shape, generator=generator) for shape in ((3, 24), (24, 1)))
    return lambda p: torch.sin(2.5 * p @ first) @ second


def signs(p):
    """Only +1 and -1, with cells that meet at corners alone: the hardest topology there is."""
    return torch.where(((p * 3.7).floor().sum(dim=1) % 2 == 0) & (p.norm(dim=1) < 0.8), 1.0, -1.0)


SHAPES = {
    "ball": ball(0.7),
    "torus": torus,
    "thin box": box((0.1, 0.0, 0.0), (0.6, 0.03, 0.4)),
    "two": union(ball(0.3, (-0.5, 0.2, 0.1)), box((0.5, -0.3, 0.0), (0.2, 0.3, 0.25))),
    "through the border": ball(0.5, (0.9, -0.2, 0.0)),
    "everywhere": lambda p: torch.ones(len(p), 1),
    "network 0": network(0),
    "network 1": network(1),
    "signs": signs,
    "lollipop": LOLLIPOP,
    "chair": CHAIR,
}


def dense_surface(value, size):
    """From all size^3 cell centres."""
    return iso_surface(value, size, coarsest=size)


def same(one, two):
    return np.array_equal(one.vertices, two.vertices) and np.array_equal(one.faces, two.faces)


@pytest.mark.parametrize("size", [40, 57, 64])
@pytest.mark.parametrize("name", SHAPES)
def test_coarse_to_fine_is_the_dense_grid(name, size):
    few, all_ = iso_surface(SHAPES[name], size, coarsest=16), dense_surface(SHAPES[name], size)
    assert len(all_.faces) and same(few, all_)
    assert few.metadata["queries"] < 0.95 * all_.metadata["queries"] == 0.95 * size**3
    assert few.is_watertight and few.is_winding_consistent and few.volume > 0


@pytest.mark.parametrize("size", [1, 2, 3, 31, 32, 33])
def test_small_grids_are_asked_everywhere(size):
    few = iso_surface(ball(0.9), size)
    assert same(few, dense_surface(ball(0.9), size)) and few.metadata["queries"] == size**3 and few.is_watertight


def test_a_thin_part_is_followed_from_the_thick_one():
    """The stick slips between the samples of the coarse grid: at 8 cells a side it is a sixth of a cell wide."""
    no_slopes = lambda shape: lambda p: torch.where(shape(p) > 0, 1.0, -1.0)  # noqa: E731
    assert not len(iso_surface(no_slopes(STICK), 64, coarsest=8).faces)
    assert same(iso_surface(no_slopes(LOLLIPOP), 64, coarsest=8), dense_surface(no_slopes(LOLLIPOP), 64))
    assert iso_surface(no_slopes(LOLLIPOP), 64, coarsest=8).bounds[0][1] == pytest.approx(-0.8, abs=0.02)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_plate_or_a_gap_between_the_samples_shows_in_the_slopes(sign):
    plate = box((0.0, 0.0, 0.0), (0.5, 0.02, 0.5))
    shape = plate if sign > 0 else lambda p: torch.minimum(box((0.0,) * 3, (0.7,) * 3)(p), -plate(p))
    at_coarse = dense_surface(shape, 8)
    assert len(at_coarse.faces) == 0 if sign > 0 else at_coarse.body_count == 1
    found = iso_surface(shape, 64, coarsest=8)
    assert same(found, dense_surface(shape, 64)) and found.body_count == (1 if sign > 0 else 2)


def test_questions_grow_with_the_surface():
    counts = {size: iso_surface(ball(0.6), size).metadata["queries"] for size in (64, 128)}
    band = 4 * 4 * math.pi * (0.6 * 64) ** 2  # two coarse samples on either side are four fine ones; 64 cells a unit
    assert counts[128] - counts[64] < 1.6 * band and counts[128] < 128**3 / 10


def test_volume_and_area_converge_as_the_square_of_a_cell():
    errors = [abs(iso_surface(ball(0.8), n).volume / (4 / 3 * math.pi * 0.8**3) - 1) for n in (24, 48, 96)]
    assert errors[0] < 0.01
    assert errors[1] < errors[0] / 3.3 and errors[2] < errors[1] / 3.3
    ring = iso_surface(torus, 96)
    assert ring.volume == pytest.approx(2 * math.pi**2 * 0.6 * 0.22**2, rel=0.01)
    assert ring.area == pytest.approx(4 * math.pi**2 * 0.6 * 0.22, rel=0.01)
    assert ring.euler_number == 0  # one handle


def test_axes_are_x_y_z_and_a_linear_function_is_met_exactly():
    brick = iso_surface(box((0.3, -0.2, 0.1), (0.2, 0.5, 0.35)), 50)
    assert np.allclose(brick.bounds, [[0.1, -0.7, -0.25], [0.5, 0.3, 0.45]], atol=1e-6)
    half = iso_surface(lambda p: p @ torch.tensor([1.0, 2.0, -1.0]) - 0.3, 20)
    inner = half.vertices[(np.abs(half.vertices) < 0.94).all(axis=1)]
    assert len(inner) > 100 and np.allclose(inner @ [1, 2, -1], 0.3, atol=1e-5)


def test_the_level():
    assert iso_surface(ball(1.0), 64, level=0.4).volume == pytest.approx(4 / 3 * math.pi * 0.6**3, rel=0.01)
    assert same(iso_surface(ball(1.0), 40, level=0.5), iso_surface(lambda p: ball(1.0)(p) - 0.5, 40))


def test_on_the_level_is_outside():
    steps = lambda p: (p[:, 0] > 0).float() * (p.abs().max(dim=1).values < 0.5)  # noqa: E731
    assert same(iso_surface(steps, 40, coarsest=10), dense_surface(steps, 40))
    assert iso_surface(steps, 40).is_watertight
    assert iso_surface(steps, 40).bounds[0][0] == pytest.approx(-0.025, abs=1e-5)  # the last sample outside: x > 0
    assert not len(iso_surface(lambda p: torch.zeros(len(p)), 8).faces)


def test_a_window_shows_its_part_and_closes_it():
    window = (0.0, -0.1, -1.0, 1.0, 0.9, 0.2)
    part = iso_surface(torus, 80, window=window)
    low, high = np.array(window[:3]), np.array(window[3:])
    assert part.is_watertight and (part.vertices >= low - 1e-6).all() and (part.vertices <= high + 1e-6).all()
    assert part.bounds[0][0] == pytest.approx(0, abs=1e-6) and part.bounds[0][1] == pytest.approx(-0.1, abs=1e-6)
    rng = np.random.default_rng(0)
    points = torch.tensor(rng.uniform(low, high, (400_000, 3)), dtype=torch.float32)
    assert part.volume == pytest.approx((torus(points) > 0).double().mean().item() * np.prod(high - low), rel=0.01)
    open_ = part.vertices[((part.vertices > low + 0.02) & (part.vertices < high - 0.02)).all(axis=1)]
    assert len(open_) > 1000 and torus(torch.tensor(open_)).abs().max() < 1e-3


def test_the_border_closes_the_whole():
    assert iso_surface(lambda p: torch.ones(len(p)), 40).volume == pytest.approx(8, rel=0.01)
    assert np.allclose(iso_surface(lambda p: torch.ones(len(p)), 40).bounds, [[-1] * 3, [1] * 3])


def test_an_empty_surface(tmp_path):
    empty = iso_surface(lambda p: -torch.ones(len(p)), 64)
    assert empty.faces.shape == (0, 3) and empty.metadata["queries"] == 32**3
    with pytest.raises(Empty, match=r"a.glb: nothing above the threshold: no mesh to write"):
        write_mesh(empty, tmp_path / "a.glb")
    assert not list(tmp_path.iterdir())


def test_questions_come_in_chunks_without_a_graph():
    weight = torch.ones(3, requires_grad=True)
    asked = []

    def watched(points):
        asked.append(len(points))
        assert points.dtype == torch.float32 and not torch.is_grad_enabled()
        return 0.5 - (points * weight).norm(dim=1, keepdim=True)

    assert iso_surface(watched, 90).metadata["queries"] == sum(asked)
    assert max(asked) <= 65_536


def test_infinite_values_have_a_sign():
    assert iso_surface(lambda p: torch.where(p.norm(dim=1) < 0.5, torch.inf, -torch.inf), 40).is_watertight


def test_what_cannot_be_done_is_said():
    with pytest.raises(UserError, match="1025 cells a side does not fit into memory: at most 1024"):
        iso_surface(torus, 1025)
    with pytest.raises(UserError, match="positive"):
        iso_surface(torus, 0)
    with pytest.raises(UserError, match="window"):
        iso_surface(torus, 8, window=(0, 0, 0, 2, 1, 1))
    with pytest.raises(WorkError, match="NaN"):
        iso_surface(lambda p: p[:, 0] / 0 * 0, 8)
    with pytest.raises(WorkError, match="192 numbers for 64 points"):
        iso_surface(lambda p: p, 4)
    with pytest.raises(UserError, match="at least 1"):
        iso_surface(torus, 8, coarsest=0)


def test_simplified(caplog):
    whole = iso_surface(torus, 64)
    less = simplified(whole, 1500)
    assert 1400 <= len(less.faces) <= 1500 and less.is_watertight and less.euler_number == 0
    assert less.volume == pytest.approx(whole.volume, rel=0.01)
    assert not caplog.records
    assert simplified(whole, len(whole.faces)) is whole
    with pytest.raises(UserError, match="at least 4 faces, not 3"):
        simplified(whole, 3)


def test_a_simplified_mesh_that_is_open_is_warned_of(caplog, monkeypatch):
    fast_simplification = pytest.importorskip("fast_simplification")
    whole = iso_surface(ball(0.5), 16)
    monkeypatch.setattr(
        fast_simplification, "simplify", lambda points, faces, target_count: (points, faces[:target_count])
    )
    simplified(whole, 100, quietly=True)
    assert not caplog.records
    simplified(whole, 100)
    assert "no longer watertight" in caplog.text


@pytest.mark.parametrize("ending", [".glb", ".ply", ".obj", ".stl", ".PLY"])
def test_a_written_mesh_reads_back(tmp_path, ending):
    made = iso_surface(torus, 32)
    path = tmp_path / f"shape{ending}"
    write_mesh(made, path)
    read = trimesh.load(path, force="mesh")
    assert len(read.faces) == len(made.faces) and len(read.vertices) == len(made.vertices)
    assert read.volume == pytest.approx(made.volume, rel=1e-4) and read.is_watertight
    assert np.allclose(read.bounds, made.bounds, atol=1e-6)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("painted", [True, False])
def test_a_viewer_shows_the_colours_of_a_written_glb(tmp_path, painted):
    """Base colour times COLOR_0 is light (glTF 2.0, 3.9.2 and 3.7.2.1); as sRGB it is the colour that we had."""
    made = iso_surface(ball(0.5), 8)
    expected = np.tile([*CLAY], (len(made.vertices), 1))
    if painted:
        expected = np.random.default_rng(0).integers(0, 256, expected.shape)
        made.visual.vertex_colors = expected
    write_mesh(made, tmp_path / "a.glb")
    content = (tmp_path / "a.glb").read_bytes()
    length = int.from_bytes(content[12:16], "little")
    tree, binary = json.loads(content[20 : 20 + length]), content[28 + length :]
    (part,) = tree["meshes"][0]["primitives"]
    material = tree["materials"][part["material"]]["pbrMetallicRoughness"]
    assert material["metallicFactor"] == 0
    light = np.tile(np.array(material["baseColorFactor"][:3]), (len(expected), 1))
    if painted:
        accessor = tree["accessors"][part["attributes"]["COLOR_0"]]
        assert (accessor["componentType"], accessor["type"], accessor["count"]) == (5126, "VEC3", len(expected))
        start = tree["bufferViews"][accessor["bufferView"]]["byteOffset"]
        light *= np.frombuffer(binary, "<f4", 3 * len(expected), start).reshape(-1, 3)
    else:
        assert "COLOR_0" not in part["attributes"]
    shown = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(255 * shown - expected).max() < 0.01


def test_a_failed_mesh_leaves_the_old_one(tmp_path, monkeypatch):
    made = iso_surface(ball(0.5), 16)
    path = tmp_path / "a.ply"
    write_mesh(made, path)
    before = path.read_bytes()

    def full(file, **options):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(made, "export", full)
    with pytest.raises(WorkError, match=r"cannot write .*a.ply: No space left"):
        write_mesh(made, path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.ply"]
    with pytest.raises(UserError, match=r"a.fbx: a mesh is written as .glb, .ply, .obj, .stl"):
        write_mesh(made, tmp_path / "a.fbx")


@pytest.mark.parametrize(
    ("module", "package", "act"),
    [
        ("skimage.measure", "scikit-image", lambda mesh: iso_surface(torus, 8)),
        ("trimesh", "trimesh", lambda mesh: iso_surface(torus, 8)),
        ("fast_simplification", "fast-simplification", lambda mesh: simplified(mesh, 100)),
    ],
)
def test_a_missing_package_is_named(monkeypatch, module, package, act):
    made = iso_surface(torus, 32)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf'the package {package}: pip install "ddmi\[mesh\]"'):
        act(made)


@pytest.mark.parametrize("size", [40, 64])
def test_the_grid_of_what_is_inside_is_the_dense_one(size):
    def value(points):  # a torus and a ball
        ring = torch.stack([points[:, [0, 2]].norm(dim=1) - 0.6, points[:, 1]], dim=1).norm(dim=1)
        return torch.maximum(0.15 - ring, 0.2 - (points - torch.tensor([0.0, 0.6, 0.0])).norm(dim=1))

    dense = (value(grid((size,) * 3)) > 0).numpy().reshape((size,) * 3)
    found = inside(value, size)
    assert found.dtype == bool and np.array_equal(found, dense) and 0 < dense.mean() < 0.2
