"""The point encoder: every point finds its cell, pooling is the maximum of a cell, scattering its mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ddmi.base.coordinates import axis, cell_of, grid, lookup, project
from ddmi.base.errors import UserError
from ddmi.base.planes import Plane
from ddmi.model.encoders.image import ConvEncoderConfig
from ddmi.model.encoders.points import Cells, PointEncoder, PointEncoderConfig

LAYOUT = (
    Plane(name="xy", axes=(0, 1), size=(4, 4)),
    Plane(name="yz", axes=(1, 2), size=(4, 4)),
    Plane(name="xz", axes=(0, 2), size=(4, 4)),
)
SMALL = PointEncoderConfig(
    width=8, blocks=3, features=6, planes=ConvEncoderConfig(base=8, multipliers=(1, 2), blocks=1, middle=1)
)


def encoder(extras: int = 0) -> PointEncoder:
    torch.manual_seed(0)
    made = PointEncoder(SMALL, LAYOUT, 50, extras)
    for p in made.parameters():  # away from the zeros that branches start with
        torch.nn.init.normal_(p, std=0.2)
    return made.eval()


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (1, 5)])
def test_the_centres_of_a_grid_lie_in_its_cells_in_order(shape):
    assert cell_of(grid(shape), shape).tolist() == list(range(shape[0] * shape[1]))


def test_cells_reach_from_edge_to_edge_and_what_lies_beyond_belongs_to_the_last():
    at = torch.tensor([[-1.0, -1.0], [-0.51, 0.0], [-0.49, 0.0], [0.999, 0.999], [1.0, 1.0], [-7.0, 9.0]])
    #                    x cell 0     0, row 2      1, row 2      3, row 3        3, row 3    0, row 3
    assert cell_of(at, (4, 4)).tolist() == [0, 8, 9, 15, 15, 12]


def test_a_point_written_into_a_cell_is_read_back_from_that_cell():
    """Scatter and lookup share one convention: on every plane, at the cell's centre the point's features return."""
    torch.manual_seed(1)
    points = torch.rand(1, 200, 3) * 2 - 1
    for plane in LAYOUT:
        shape = (5, 9)
        at = project(points, plane)
        written = cell_of(at, shape)
        one = torch.randint(200, ()).item()
        values = torch.zeros(200, 1)
        values[written[0] == written[0, one]] = 7.0
        field = Cells(at, shape).mean(values)
        centre = torch.stack([axis(9)[written[0, one] % 9], axis(5)[written[0, one] // 9]])
        assert lookup(field, centre[None, None]).item() == pytest.approx(7.0)
        assert field.count_nonzero() == 1


def test_pooling_and_scattering_against_loops():
    torch.manual_seed(2)
    at, x = torch.rand(2, 40, 2) * 2 - 1, torch.randn(80, 3)
    cells = Cells(at, (3, 4))
    greatest, mean = cells.greatest(x), cells.mean(x)
    place = cell_of(at, (3, 4))
    for b in range(2):
        for cell in range(12):
            mine = [b * 40 + i for i in range(40) if place[b, i] == cell]
            expected = x[mine].mean(0) if mine else torch.zeros(3)
            assert torch.allclose(mean[b, :, cell // 4, cell % 4], expected, atol=1e-6)
            for i in mine:
                assert torch.equal(greatest[i], x[mine].max(0).values)


def test_gradients_of_pooling_go_to_the_largest_point_alone():
    x = torch.tensor([[1.0], [3.0], [2.0], [-4.0]], requires_grad=True)
    at = torch.tensor([[[-0.5, 0.0], [-0.5, 0.0], [0.5, 0.0], [0.5, 0.0]]])  # two cells
    Cells(at, (1, 2)).greatest(x).sum().backward()
    assert x.grad is not None and x.grad.flatten().tolist() == [0.0, 2.0, 2.0, 0.0]


def test_the_order_of_the_points_does_not_matter_and_clouds_of_a_batch_do_not_meet():
    made, rng = encoder(), torch.Generator().manual_seed(3)
    x = torch.rand(3, 60, 3, generator=rng) * 2 - 1
    together = made(x)
    assert {name: tuple(h.shape) for name, h in together.items()} == dict.fromkeys(("xy", "yz", "xz"), (3, 16, 4, 4))
    alone = made(x[1:2, torch.randperm(60, generator=rng)])
    for name, h in alone.items():
        assert torch.allclose(h[0], together[name][1], atol=1e-5)


def test_planes_keep_their_names_when_axes_are_swapped():
    """Exchanging x and z of all points exchanges xy with a transposed yz before the convolutions."""
    torch.manual_seed(4)
    points, values = torch.rand(1, 50, 3) * 2 - 1, torch.randn(50, 2)
    xy, yz, xz = (Cells(project(points, plane), (8, 8)).mean(values) for plane in LAYOUT)
    swapped = points[:, :, [2, 1, 0]]
    other = [Cells(project(swapped, plane), (8, 8)).mean(values) for plane in LAYOUT]
    assert torch.equal(other[0], yz.transpose(2, 3)) and torch.equal(other[1], xy.transpose(2, 3))
    assert torch.equal(other[2], xz.transpose(2, 3))


def test_extras_are_read_and_other_widths_refused():
    made = encoder(extras=3)
    x = torch.rand(1, 30, 6)
    changed = x.clone()
    changed[:, :, 4] += 1.0
    assert not torch.allclose(made(x)["xz"], made(changed)["xz"])
    with pytest.raises(UserError, match=r"\(points, 6\), not \(30, 3\)"):
        made(x[:, :, :3])


def test_any_number_of_points_and_all_gradients():
    made = encoder().train()
    out = made(torch.rand(2, 17, 3) * 2 - 1)
    sum(h.square().sum() for h in out.values()).backward()
    assert all(p.grad is not None and np.isfinite(p.grad.numpy()).all() for p in made.parameters())
    assert all(p.grad.abs().max() > 0 for p in made.blocks.parameters())


def test_offsets_say_where_in_its_cell_a_point_lies():
    """Four cells along x, of half a unit each, and two along y: -1 at the lower edge of a cell, 1 at the upper."""
    at = torch.tensor([[-0.75, -0.5], [-0.95, -0.75], [-0.55, -0.1], [0.1, 0.9]])
    found = Cells(at[None], (2, 4)).offsets[0]
    assert torch.allclose(found, torch.tensor([[0.0, 0.0], [-0.8, -0.5], [0.8, 0.8], [-0.6, 0.8]]), atol=1e-5)


def test_the_offset_runs_from_edge_to_edge_of_every_cell():
    """By hand on 4 x 2 cells: -1 at the low edge, 0 in the middle, nearly 1 before the next cell."""
    at = torch.tensor([[[-1.0, -1.0], [-0.75, 0.5], [-0.501, 0.25], [-0.5, 0.75], [0.125, -0.25]]])
    expected = torch.tensor([[[-1.0, -1.0], [0.0, 0.0], [0.996, -0.5], [-1.0, 0.5], [-0.5, 0.5]]])
    assert torch.allclose(Cells(at, (2, 4)).offsets, expected, atol=1e-4)
    assert torch.allclose(Cells(grid((3, 5))[None], (3, 5)).offsets, torch.zeros(1, 15, 2), atol=1e-5)
