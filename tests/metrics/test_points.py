"""Distances of clouds against double loops and all permutations; MMD, coverage and 1-NNA by hand and on known sets."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch

from ddmi.base.errors import UserError
from ddmi.metrics.points import (
    compare,
    coverage,
    minimum_matching_distance,
    nearest_points,
    one_nearest_neighbour_accuracy,
    pairwise,
    unit_sphere,
)


def clouds(*shape: int, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    """Gaussian clouds of random widths along each axis."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, 3, generator=generator) * torch.rand(shape[0], 1, 3, generator=generator) + shift


def looped_chamfer(a, b):
    squared = [[sum((float(p) - float(q)) ** 2 for p, q in zip(x, y, strict=True)) for y in b] for x in a]
    return sum(min(row) for row in squared) / len(a) + sum(min(column) for column in zip(*squared, strict=True)) / len(
        b
    )


def permuted_earth_movers(a, b):
    return min(
        sum(math.dist(x, y) for x, y in zip(a.tolist(), order, strict=True)) / len(a)
        for order in permutations(b.tolist())
    )


def test_the_unit_sphere_has_the_centroid_in_its_centre_and_touches_the_farthest_point():
    cloud = torch.tensor(
        [[4.0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    )  # centroid (1, 0, 0), its box's centre (2, 0, 0)
    torch.testing.assert_close(unit_sphere(cloud)[:2], torch.tensor([[1.0, 0, 0], [-1 / 3, 0, 0]]))
    several = clouds(4, 50)
    found = unit_sphere(several)
    torch.testing.assert_close(found.mean(dim=1), torch.zeros(4, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.norm(dim=2).amax(dim=1), torch.ones(4))
    torch.testing.assert_close(unit_sphere(7 * several - 3), found)
    torch.testing.assert_close(found[2], unit_sphere(several[2]))
    assert torch.equal(unit_sphere(torch.full((5, 3), 2.0)), torch.zeros(5, 3))


def test_nearest_points_are_those_of_all_distances():
    queries, references = clouds(2, 40)[0], clouds(2, 60, seed=1)[1]
    expected = torch.cdist(queries.double(), references.double()).min(dim=1, keepdim=True)
    found = nearest_points(queries, references)
    torch.testing.assert_close(found.distances, expected.values)
    assert torch.equal(found.indices, expected.indices)


def between(a, b, distance="chamfer"):
    return pairwise(a[None], b[None], distance).item()


def test_chamfer_by_hand():
    """From a: 0 and 2^2 in the mean 2. From b: 0, 4 and 4^2 in the mean 20/3. Squared, not halved, not a sum."""
    a = torch.tensor([[0.0, 0, 0], [2, 0, 0]])
    b = torch.tensor([[0.0, 0, 0], [0, 2, 0], [0, 0, 4]])
    assert between(a, b) == pytest.approx(2 + 20 / 3) == between(b, a)
    assert between(a, a) == 0
    assert between(3 * a, 3 * b) == pytest.approx(9 * between(a, b))


def test_earth_movers_by_hand():
    """Chamfer lets two points go to one; the assignment does not: 0 and 3 must move to the pair at 0 and 10."""
    a = torch.tensor([[0.0, 0, 0], [3, 0, 0]])
    b = torch.tensor([[0.0, 0, 0], [10, 0, 0]])
    assert between(a, b, "emd") == pytest.approx(7 / 2)
    shift = torch.tensor([0.6, 0.0, -0.8])
    cloud = clouds(1, 30)[0]
    assert between(cloud, (cloud + shift)[torch.randperm(30)], "emd") == pytest.approx(1, abs=1e-6)


def test_pairwise_chamfer_is_that_of_double_loops():
    a, b = clouds(3, 11), clouds(4, 17, seed=1)
    expected = torch.tensor([[looped_chamfer(x, y) for y in b] for x in a], dtype=torch.float64)
    torch.testing.assert_close(pairwise(a, b), expected)
    torch.testing.assert_close(pairwise(b, a), expected.T)


def test_pairwise_earth_movers_is_that_of_all_permutations():
    a, b = clouds(2, 5).double(), clouds(3, 5, seed=1).double()
    expected = torch.tensor([[permuted_earth_movers(x, y) for y in b] for x in a], dtype=torch.float64)
    torch.testing.assert_close(pairwise(a, b, "emd"), expected)


@pytest.mark.parametrize("distance", ["chamfer", "emd"])
def test_within_one_set_distances_are_those_between_two_copies(distance):
    a = clouds(5, 20)
    within = pairwise(a, distance=distance)
    torch.testing.assert_close(within, pairwise(a, a.clone(), distance))
    assert torch.equal(within, within.T) and torch.equal(within.diagonal(), torch.zeros(5, dtype=torch.float64))


DISTANCES = torch.tensor([[1.0, 5.0, 9.0, 4.0], [2.0, 3.0, 8.0, 6.0], [0.5, 7.0, 0.5, 1.0]])


def test_minimum_matching_distance_and_coverage_by_hand():
    """Columns' minima 0.5, 3, 0.5, 1. The nearest references of the rows: 0, 0, and of two at 0.5 the first, 0 too."""
    assert minimum_matching_distance(DISTANCES) == pytest.approx(5 / 4)
    assert coverage(DISTANCES) == 1 / 4
    other = DISTANCES.clone()
    other[2, 2] = 0.4
    assert coverage(other) == 2 / 4
    assert minimum_matching_distance(other) == pytest.approx(4.9 / 4)


def on_a_line(*places: float) -> torch.Tensor:
    return torch.tensor([[[x, 0.0, 0.0]] for x in places], dtype=torch.float64)


def accuracy(a: torch.Tensor, b: torch.Tensor) -> float:
    return one_nearest_neighbour_accuracy(pairwise(a), pairwise(a, b), pairwise(b))


def test_one_nearest_neighbour_accuracy_by_hand():
    """Samples 0, 1, 10 and references 1.5, 11, 30.

    Right is 0 alone of the samples (to 1), as 1 goes to 1.5 and 10 to 11. Of the references 1.5 goes to 1 and 11
    to 10, and 30 to 11: right. So 2 of 6.
    """
    assert accuracy(on_a_line(0, 1, 10), on_a_line(1.5, 11, 30)) == pytest.approx(2 / 6)
    assert accuracy(on_a_line(0, 1, 2), on_a_line(100, 101)) == 1
    assert accuracy(on_a_line(0, 5, 17), on_a_line(0, 5, 17)) == 0  # each has its copy in the other set
    # 0 has its own at 1 and the other's at -1; -1 has the other's 0 only; 1 its own 0; 9 the other's 1
    assert accuracy(on_a_line(0, 1), on_a_line(-1, 9)) == pytest.approx((0.5 + 1) / 4)


def test_one_distribution_gives_a_half_and_swapping_the_sets_changes_nothing():
    a, b = clouds(400, 1, seed=1), clouds(400, 1, seed=2)
    found = accuracy(a, b)
    assert found == pytest.approx(0.5, abs=0.06)  # a deviation is at most some 0.02
    assert accuracy(b, a) == found
    few = b[:100]
    assert accuracy(a, few) == pytest.approx((400 * 399 + 100 * 99) / (500 * 499), abs=0.06)
    assert accuracy(a, 0.2 * b) > 0.6  # a collapsed set is told apart


def test_coverage_of_one_distribution_is_well_below_one():
    a, b = clouds(400, 1, seed=1), clouds(400, 1, seed=2)
    assert 0.45 < coverage(pairwise(a, b)) < 0.7
    assert coverage(pairwise(a, a.clone())) == 1
    assert coverage(pairwise(a[:1].expand(400, 1, 3).contiguous(), b)) == 1 / 400  # all samples the same


@pytest.mark.parametrize("distance", ["chamfer", "emd"])
def test_compare_is_made_of_the_three_blocks(distance):
    a, b = clouds(6, 9), 0.9 * clouds(5, 9, seed=1)
    across = pairwise(a, b, distance)
    found = compare(a, b, distance)
    assert found.mmd == pytest.approx(minimum_matching_distance(across))
    assert found.cov == coverage(across)
    assert found.nna == one_nearest_neighbour_accuracy(pairwise(a, None, distance), across, pairwise(b, None, distance))


def test_compare_of_equal_and_of_far_sets():
    a = clouds(5, 30)
    same, far = compare(a, a.clone()), compare(a, a + 100)
    assert (same.mmd, same.cov, same.nna) == (0, 1, 0)
    assert far.nna == 1 and far.mmd > 10_000


def test_a_set_of_one_is_refused():
    with pytest.raises(UserError, match="at least 2"):
        compare(clouds(3, 5), clouds(1, 5))
