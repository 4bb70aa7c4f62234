"""The one convention: cell centres, x before y; a point of a cell is read from that cell."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddmi.base.coordinates import axis, cell_of, check_size, check_window, grid, lookup, mesh, project
from ddmi.base.errors import UserError
from ddmi.base.planes import Plane


def points(count: int, low=-1.0, high=1.0, axes=2, seed=0) -> torch.Tensor:
    return low + (high - low) * torch.rand(count, axes, generator=torch.Generator().manual_seed(seed))


def ramp(h: int, w: int, a: float, b: float, c: float) -> torch.Tensor:
    """a x + b y + c at the cell centres of an h x w plane."""
    return (a * axis(w)[None, :] + b * axis(h)[:, None] + c)[None, None]


def test_centres_by_hand():
    assert axis(4).tolist() == [-0.75, -0.25, 0.25, 0.75]
    assert axis(1).tolist() == [0.0]
    assert axis(2, 0.0, 1.0).tolist() == [0.25, 0.75]
    third = 2 / 3
    expected = [[-third, -0.5], [0, -0.5], [third, -0.5], [-third, 0.5], [0, 0.5], [third, 0.5]]
    assert torch.allclose(grid((2, 3)), torch.tensor(expected))  # (height, width): x runs fastest, and comes first


def test_three_axes_come_x_y_t():
    frames = grid((2, 3, 4))  # (t, y, x)
    assert frames.shape == (24, 3)
    assert torch.allclose(frames[1] - frames[0], torch.tensor([0.5, 0.0, 0.0]))
    assert torch.allclose(frames[4] - frames[0], torch.tensor([0.0, 2 / 3, 0.0]))
    assert torch.allclose(frames[12] - frames[0], torch.tensor([0.0, 0.0, 1.0]))


@given(st.integers(1, 400), st.data())
@settings(max_examples=50, deadline=None)
def test_a_part_of_an_axis_is_exactly_that_part(n, data):
    start = data.draw(st.integers(0, n - 1))
    stop = data.draw(st.integers(start, n))
    low = data.draw(st.floats(-1, 0.5))
    assert torch.equal(axis(n, low, 1.0, start=start, stop=stop), axis(n, low, 1.0)[start:stop])


@pytest.mark.parametrize(
    "size, crop", [((64, 128), (8, 16, 24, 80)), ((32, 32), (0, 0, 32, 32)), ((16, 4), (5, 1, 9, 3))]
)
def test_a_window_is_the_crop_of_the_whole_grid(size, crop):
    """Bit for bit where the edges are binary fractions."""
    (height, width), (top, left, bottom, right) = size, crop
    window = (2 * left / width - 1, 2 * top / height - 1, 2 * right / width - 1, 2 * bottom / height - 1)
    cut = grid(size).view(height, width, 2)[top:bottom, left:right].reshape(-1, 2)
    assert torch.equal(grid((bottom - top, right - left), window), cut)


@given(st.integers(2, 300), st.data())
@settings(max_examples=50, deadline=None)
def test_a_window_of_any_picture_is_its_crop(n, data):
    start = data.draw(st.integers(0, n - 1))
    stop = data.draw(st.integers(start + 1, n))
    window = (2 * start / n - 1, -1.0, 2 * stop / n - 1, 1.0)
    assert torch.allclose(grid((1, stop - start), window)[:, 0], axis(n)[start:stop], atol=1e-7, rtol=0)


def test_mesh_is_the_grid_of_its_lines():
    assert torch.equal(mesh([axis(5), axis(3), axis(2)]), grid((2, 3, 5)))


def test_a_grid_of_a_plane_reads_every_cell():
    field = torch.randn(2, 3, 5, 7)
    assert torch.allclose(lookup(field, grid((5, 7))[None]), field.flatten(2).transpose(1, 2), atol=1e-6)


def test_a_point_of_a_cell_reads_most_from_that_cell():
    """Scattered in and read back with one convention: the cell that holds a point weighs most."""
    h, w = 5, 7
    at = points(400)
    one_hot = torch.eye(h * w).view(1, h * w, h, w)
    heaviest = lookup(one_hot, at[None])[0].argmax(dim=1)
    column = ((at[:, 0] + 1) / 2 * w).long()
    row = ((at[:, 1] + 1) / 2 * h).long()
    assert torch.equal(heaviest, row * w + column)


def test_what_is_written_into_the_cell_of_a_point_is_read_there():
    """Anywhere in a cell, in planes that are not square; points beyond the plane belong to its border."""
    h, w = 3, 5
    number = torch.arange(h * w)
    half = torch.tensor([1 / w, 1 / h])
    for low, high in ((-1.0, 1.0), (0.0, 0.0)):
        at = grid((h, w)) + 0.999 * half * points(h * w, low, high)
        assert torch.equal(cell_of(at, (h, w)), number)
    written = torch.zeros(h * w).index_fill(0, cell_of(torch.tensor([[0.1, 0.4]]), (h, w)), 7.0).view(1, 1, h, w)
    assert lookup(written, grid((h, w))[None]).flatten().tolist() == [7.0 * (k == 2 * w + 2) for k in range(h * w)]
    assert cell_of(torch.tensor([[-3.0, -3.0], [3.0, -3.0], [1.0, 1.0]]), (h, w)).tolist() == [0, w - 1, h * w - 1]


def test_a_constant_plane_is_constant():
    assert torch.allclose(lookup(torch.full((1, 2, 3, 5), 0.7), points(99)[None]), torch.tensor(0.7), atol=1e-6)


@pytest.mark.parametrize("h, w", [(4, 4), (3, 9), (16, 2)])
def test_a_linear_ramp_is_reproduced_between_the_outermost_centres(h, w):
    at = points(200) * torch.tensor([1 - 1 / w, 1 - 1 / h])
    read = lookup(ramp(h, w, 0.7, -1.3, 0.2), at[None])[0, :, 0]
    assert torch.allclose(read, 0.7 * at[:, 0] - 1.3 * at[:, 1] + 0.2, atol=1e-6)


def test_beyond_the_outermost_centres_the_value_stays():
    field = ramp(4, 4, 1.0, 0.0, 0.0)
    edge = torch.tensor([[[-1.0, 0.1], [-0.8, 0.1], [1.0, -0.3]]])
    assert torch.allclose(lookup(field, edge)[0, :, 0], torch.tensor([-0.75, -0.75, 0.75]))


def test_x_runs_along_the_width():
    field = ramp(4, 8, 1.0, 0.0, 0.0)
    at = torch.tensor([[[0.5, -0.3], [0.5, 0.6]]])
    assert torch.allclose(lookup(field, at)[0, :, 0], torch.tensor([0.5, 0.5]))


def test_one_set_of_points_serves_a_batch():
    field, at = torch.randn(3, 2, 4, 4), points(6)
    assert torch.equal(lookup(field, at[None]), lookup(field, at.expand(3, 6, 2)))


def test_the_gradient_of_a_ramp_is_its_slope():
    at = (points(50) * 0.8).requires_grad_()
    lookup(ramp(8, 8, 0.7, -1.3, 0.0), at[None]).sum().backward()
    assert torch.allclose(at.grad, torch.tensor([0.7, -1.3]).expand(50, 2), atol=1e-5)


def test_gradients_reach_coordinates_and_planes():
    field = torch.randn(1, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    at = (0.1 + 0.9 * axis(5)[:, None] * torch.tensor([1.0, -0.7]))[None].double().requires_grad_()
    assert torch.autograd.gradcheck(lookup, (field, at))


def test_half_precision_fields_are_read_at_the_same_points():
    """Coordinates are not rounded to the field's precision: 8 bits do not tell 512 pixels apart."""
    field = torch.randn(1, 2, 128, 128).bfloat16()
    at = grid((1, 512))[None]
    assert torch.equal(lookup(field, at), lookup(field.float(), at))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(lookup(field, at), lookup(field.float(), at))


def test_projection_picks_the_axes_of_the_plane():
    at = torch.tensor([[1.0, 2.0, 3.0]])
    assert project(at, Plane(name="xt", axes=(0, 2), size=(4, 4))).tolist() == [[1.0, 3.0]]
    assert project(at, Plane(name="ty", axes=(2, 1), size=(4, 4))).tolist() == [[3.0, 2.0]]
    assert project(at, Plane(name="t", axes=(2,), size=(4,))).tolist() == [[3.0, 0.0]]


def test_a_one_axis_plane_is_read_along_its_middle():
    at = points(20, axes=1) * (1 - 1 / 8)
    plane = Plane(name="t", axes=(0,), size=(8,))
    field = (2 * axis(8) + 1)[None, None, None]
    assert torch.allclose(lookup(field, project(at, plane)[None])[0, :, 0], 2 * at[:, 0] + 1, atol=1e-6)


def test_windows_that_cannot_be_are_refused():
    assert check_window(None, 2) == (-1, -1, 1, 1)
    assert check_window((-0.5, -1, 0.5, 1), 2) == (-0.5, -1.0, 0.5, 1.0)
    nan = float("nan")
    for window in [(-1.1, 0, 1, 1), (0, 0, 0, 1), (0.5, 0, 0.2, 1), (0, 0, 1), (0, 0, 1, 1.0001), (nan, 0, 1, 1)]:
        with pytest.raises(UserError, match="window"):
            check_window(window, 2)


def test_sizes_that_cannot_be_are_refused():
    assert check_size(3) == (3, 3) and check_size((3, 4)) == (3, 4) and check_size([5], axes=1) == (5,)
    for size in [0, -1, (3,), (3, 0), (1, 2, 3)]:
        with pytest.raises(UserError, match="a size is one positive whole number"):
            check_size(size)
