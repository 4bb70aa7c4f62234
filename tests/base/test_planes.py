"""Planes are named: packing is driven by the layout, and its inverse is exact."""

from __future__ import annotations

import pytest
import torch

from ddmi.base.planes import Plane, cells, each, pack, reduced, triplane, unpack

LAYOUT = (
    Plane(name="xy", axes=(0, 1), size=(3, 2)),
    Plane(name="t", axes=(2,), size=(5,)),
    Plane(name="xt", axes=(0, 2), size=(3, 4)),
)


def planes(seed=0):
    numbers = torch.Generator().manual_seed(seed)
    return {p.name: torch.randn(2, 3, *p.shape, generator=numbers) for p in LAYOUT}


def test_shapes_are_height_by_width_and_axes_are_x_first():
    assert [p.shape for p in LAYOUT] == [(2, 3), (1, 5), (4, 3)]
    assert cells(LAYOUT) == 6 + 5 + 12


def test_the_planes_of_a_cube_are_its_pairs_of_axes():
    layout = triplane(4)
    assert {plane.name: plane.axes for plane in layout} == {"xy": (0, 1), "yz": (1, 2), "xz": (0, 2)}
    assert all(plane.shape == (4, 4) and plane.growth == (True, True) for plane in layout) and cells(layout) == 48
    assert [plane.name for plane in layout] == ["xy", "yz", "xz"]  # the order in which latents are packed


def test_unpack_inverts_pack():
    before = planes()
    after = unpack(pack(before, LAYOUT), LAYOUT)
    assert after.keys() == before.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_pack_inverts_unpack():
    packed = torch.randn(2, 3, cells(LAYOUT))
    assert torch.equal(pack(unpack(packed, LAYOUT), LAYOUT), packed)


def test_names_decide_not_positions():
    before = planes()
    turned = dict(reversed(before.items()))
    assert torch.equal(pack(turned, LAYOUT), pack(before, LAYOUT))


def test_two_planes_of_equal_size_are_not_swapped():
    layout = (Plane(name="a", axes=(0, 1), size=(2, 2)), Plane(name="b", axes=(1, 0), size=(2, 2)))
    a, b = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    packed = pack({"b": b, "a": a}, layout)
    assert packed.flatten().tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert torch.equal(unpack(packed, layout)["b"], b)


def test_where_a_cell_is_packed():
    marked = {p.name: torch.zeros(1, 1, *p.shape) for p in LAYOUT}
    marked["xt"][0, 0, 2, 1] = 1.0  # row 2, column 1, behind the 6 + 5 cells of the planes before
    assert pack(marked, LAYOUT)[0, 0].nonzero().item() == 6 + 5 + 2 * 3 + 1


def test_a_wrong_number_of_cells_is_refused():
    with pytest.raises(ValueError, match="24 cells do not fill"):
        unpack(torch.zeros(1, 1, 24), LAYOUT)


@pytest.mark.parametrize("axes, size", [((0, 1, 2), (2, 2, 2)), ((), ()), ((0, 1), (4,)), ((0, 1), (4, 0))])
def test_impossible_planes_are_refused(axes, size):
    with pytest.raises(ValueError, match="one or two axes"):
        Plane(name="p", axes=axes, size=size)


def test_what_stands_for_no_axis_does_not_grow():
    assert Plane(name="x", axes=(0,), size=(4,)).growth == (False, True)
    assert Plane(name="xt", axes=(0, 2), size=(4, 4), grows=(True, False)).growth == (False, True)
    assert Plane(name="xy", axes=(0, 1), size=(4, 4)).growth == (True, True)


@pytest.mark.parametrize("shapes", [((3, 4), (3, 4), (3, 4)), ((3, 4), (4, 3), (3, 4)), ((2, 2),)])
def test_each_plane_goes_through_the_function_apart_from_the_others(shapes):
    torch.manual_seed(0)
    names = ("xy", "yz", "xz")
    planes = {name: torch.randn(2, 5, *shape) for name, shape in zip(names, shapes, strict=False)}
    shifts = {name: torch.randn(2, 5) for name in planes}
    calls = []

    def function(x, shift):
        calls.append(len(x))
        return (x * x.mean((2, 3), keepdim=True) + shift[:, :, None, None])[:, :2]

    found = each(function, planes, shifts)
    assert list(found) == list(planes)
    assert sum(calls) == 2 * len(planes) and len(calls) == (1 if len(set(shapes)) == 1 else 3)
    for name, x in planes.items():
        assert torch.allclose(found[name], function(x, shifts[name]))


def test_reduced_planes_hold_the_means_of_what_they_cover():
    found = reduced({"xy": torch.arange(16.0).reshape(1, 1, 4, 4), "t": torch.arange(5.0).reshape(1, 1, 1, 5)}, 0.5)
    assert found["xy"].tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    assert found["t"].shape == (1, 1, 1, 2) and found["t"].mean() == 2.0
    assert reduced(found, 1.0) is found
