"""Voxels of shapes that are known at points only, against arithmetic."""

import numpy as np
import pytest

from ddmi.data.shapes import ShapeSource, rasterised

LOW, HIGH = np.array([-0.5, -0.25, 0.0]), np.array([0.75, 0.5, 0.25])  # x, y, z; edges of cells of a grid of 16


def in_box(points):
    return ((points > LOW) & (points < HIGH)).all(axis=1)


class Points(ShapeSource):
    """Shapes known at points only: this box, or what `inside` says."""

    def __init__(self, inside=in_box):
        self.names, self.inside = ["shape"], inside

    def surface(self, index, count, rng):
        raise NotImplementedError

    def queries(self, index, uniform, near, rng):
        points = rng.uniform(-1, 1, (uniform + near, 3)).astype(np.float32)
        return points, self.inside(points)


def box_cells(size=16):
    """By hand: the cells between the edges; axes z, y, x."""
    (x0, y0, z0), (x1, y1, z1) = (((corner + 1) * size / 2).astype(int) for corner in (LOW, HIGH))
    cells = np.zeros((size, size, size), dtype=bool)
    cells[z0:z1, y0:y1, x0:x1] = True
    return cells


def test_a_grid_from_points_is_that_of_the_box():
    found = Points().voxels(0, 16)
    assert found.dtype == bool and found.sum() == 10 * 6 * 2
    assert np.array_equal(found, box_cells())  # no cell is cut, so no majority is in doubt


def test_the_same_call_gives_the_same_grid():
    assert np.array_equal(Points().voxels(0, 9), Points().voxels(0, 9))  # 9: cells are cut


def test_most_points_of_a_cell_decide_and_half_are_not_enough():
    points = np.array([[-0.5, -0.5, 0.5]] * 3 + [[0.5, -0.5, 0.5]] * 2, dtype=np.float32)
    grid = rasterised(points, np.array([True, False, True, True, False]), 2)
    assert grid[1, 0, 0] and not grid[1, 0, 1]


def test_cells_without_points_are_as_the_nearest_with_some():
    points = np.array([[-0.9, -0.9, -0.9], [0.9, 0.9, 0.9]], dtype=np.float32)
    grid = rasterised(points, np.array([True, False]), 8)
    z, y, x = np.indices(grid.shape)
    nearer_first = z**2 + y**2 + x**2 < (7 - z) ** 2 + (7 - y) ** 2 + (7 - x) ** 2
    tie = z + y + x == 3 * 7 / 2
    assert not tie.any() and np.array_equal(grid, nearer_first)


def test_the_border_belongs_to_the_outermost_cells():
    corner = np.ones((1, 3), dtype=np.float32)
    grid = rasterised(np.concatenate([corner, -corner]), np.array([True, False]), 4)
    assert grid[-1, -1, -1] and not grid[0, 0, 0]


def test_no_points_at_all_are_an_empty_shape():
    grid = rasterised(np.zeros((0, 3), dtype=np.float32), np.zeros(0, dtype=bool), 4)
    assert grid.shape == (4, 4, 4) and not grid.any()


@pytest.mark.parametrize("size", [8, 32])
def test_a_sampled_ball_has_the_volume_of_a_ball(size):
    share = Points(lambda points: np.linalg.norm(points, axis=1) < 0.8).voxels(0, size).mean()
    assert share == pytest.approx(4 / 3 * np.pi * 0.8**3 / 8, rel=0.05)
