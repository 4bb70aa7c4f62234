"""Overlap, nearness and normals of spheres and planes, where the answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ddmi.metrics.volumes import f_score, iou, mutual_iou, normal_consistency, total_mutual_difference


def cube(size: int) -> torch.Tensor:
    """Cell centres of the cube [-1, 1]^3, (size^3, 3)."""
    line = (torch.arange(size) + 0.5) * 2 / size - 1
    return torch.cartesian_prod(line, line, line)


def plane(size: int, z: float) -> torch.Tensor:
    """A square grid at height z, its points 0.1 apart."""
    line = 0.1 * torch.arange(size)
    return torch.cat([torch.cartesian_prod(line, line), torch.full((size**2, 1), z)], dim=1)


def sphere(count: int, radius: float) -> torch.Tensor:
    """Points even by area: a Fibonacci lattice."""
    k = torch.arange(count) + 0.5
    z, angle = 1 - 2 * k / count, math.pi * (1 + 5**0.5) * k
    flat = (1 - z * z).sqrt()
    return radius * torch.stack([flat * angle.cos(), flat * angle.sin(), z], dim=1)


def test_iou_of_concentric_spheres_is_the_ratio_of_their_volumes():
    length = cube(80).norm(dim=1)
    assert iou(length < 0.6, length < 0.9) == pytest.approx((0.6 / 0.9) ** 3, abs=2e-3)


def test_iou_by_hand():
    a = np.array([[True, True, False], [False, False, False]])
    b = np.array([[True, False, True], [True, False, False]])
    assert iou(a, b) == 1 / 4 == iou(torch.from_numpy(b), a)
    nothing = np.zeros_like(a)
    assert (iou(a, a), iou(a, nothing), iou(nothing, nothing)) == (1, 0, 1)


def test_mutual_iou_holds_the_iou_of_each_pair():
    inside = torch.rand(5, 200) < torch.linspace(0, 0.9, 5)[:, None]  # the first is empty
    expected = [[iou(a, b) for b in inside] for a in inside]
    torch.testing.assert_close(mutual_iou(inside), torch.tensor(expected, dtype=torch.float64))


def test_total_mutual_difference_averages_over_the_others_then_over_texts():
    three = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1]]).bool()  # IoU 1/2, 0, 0
    two = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 1]]).bool()  # IoU 2/4
    assert total_mutual_difference([three]) == pytest.approx(1 / 6)
    assert total_mutual_difference([three, two]) == pytest.approx((1 / 6 + 1 / 2) / 2)  # texts count alike
    assert total_mutual_difference(iter([three[[0, 0, 0]]])) == 1  # no diversity at all
    by_hand = [sum(iou(a, b) for j, b in enumerate(three) if j != i) / 2 for i, a in enumerate(three)]
    assert total_mutual_difference([three]) == pytest.approx(sum(by_hand) / 3)


def test_f_score_of_parallel_planes_is_a_step_at_their_distance():
    low, high = plane(8, 0.0), plane(8, 0.03)
    assert f_score(low, high, 0.029).f == 0 and f_score(low, high, 0.031).f == 1
    assert f_score(low, low, 1e-6).f == 1
    assert f_score(plane(8, 0.0), plane(8, 0.5), 0.5).f == 0  # near is nearer than the threshold


def test_f_score_is_the_harmonic_mean_of_precision_and_recall():
    true = plane(10, 0.0)
    made = torch.cat([true[:40], true[:60] + torch.tensor([0.0, 0.0, 5.0])])  # 40 of 100 are right, and cover 40
    found = f_score(made, true[:80], 0.01)
    assert found.precision == pytest.approx(0.4) and found.recall == pytest.approx(0.5)
    assert found.f == pytest.approx(2 / (1 / 0.4 + 1 / 0.5))
    swapped = f_score(true[:80], made, 0.01)
    assert (swapped.precision, swapped.recall, swapped.f) == (found.recall, found.precision, found.f)


@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 2, 2.5])
def test_normals_that_are_turned_agree_by_the_cosine(angle):
    low, high = plane(6, 0.0), plane(6, 0.02)
    up = torch.tensor([0.0, 0.0, 1.0]).expand(36, 3)
    turned = 3 * torch.tensor([math.sin(angle), 0.0, math.cos(angle)]).expand(36, 3)  # of any length
    assert normal_consistency(low, up, high, turned) == pytest.approx(abs(math.cos(angle)), abs=1e-6)


def test_normals_are_those_of_nearest_points_both_ways():
    """One point above the first of three: to it 1, back 1, 0 and 0.6; a sphere's are those of another sphere."""
    a, b = torch.tensor([[0.0, 0.0, 0.1]]), torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    normals = torch.tensor([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.8, 0.0, 0.6]])
    assert normal_consistency(a, torch.tensor([[0.0, 0.0, 1.0]]), b, normals) == pytest.approx((1 + 1.6 / 3) / 2)
    small, large = sphere(5000, 0.5), sphere(8000, 0.6)[torch.randperm(8000)]
    assert normal_consistency(small, small, large, large) > 0.999
