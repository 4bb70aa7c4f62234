"""Sliced Wasserstein: one dimension against scipy, shifts against closed forms, the pyramid against its inverse."""

import math

import pytest
import torch

from ddmi.base.errors import UserError
from ddmi.metrics.sliced import UNITS, _normalise, _sliced, expand, laplacian_pyramid, sliced_wasserstein, wasserstein


def pictures(count, size=(32, 32), seed=0):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(("n", "m"), [(7, 7), (5, 8), (6, 4), (1, 9)])
def test_one_dimension_agrees_with_scipy(n, m):
    stats = pytest.importorskip("scipy.stats")
    generator = torch.Generator().manual_seed(n)
    a, b = torch.randn(n, 3, generator=generator), torch.randn(m, 3, generator=generator) * 2 + 1
    expected = [stats.wasserstein_distance(a[:, k].numpy(), b[:, k].numpy()) for k in range(3)]
    torch.testing.assert_close(wasserstein(a, b), torch.tensor(expected, dtype=torch.float32))
    torch.testing.assert_close(wasserstein(b, a), wasserstein(a, b))


def test_a_shift_in_one_dimension_is_its_distance():
    a = torch.randn(11, 1, generator=torch.Generator().manual_seed(0))
    assert wasserstein(a, a + 0.25).item() == pytest.approx(0.25, abs=1e-6)


def test_repeating_a_set_changes_nothing():
    a, b = torch.randn(2, 6, 2, generator=torch.Generator().manual_seed(0)).unbind()
    torch.testing.assert_close(wasserstein(a.repeat(3, 1), b), wasserstein(a, b))


def test_equal_sets_are_at_distance_zero():
    a = pictures(6)
    result = sliced_wasserstein(a, a, directions=32)
    assert set(result) == {"32", "16", "mean"} and all(value == 0 for value in result.values())


@pytest.mark.parametrize("count", [6, 9])
def test_distances_are_symmetric_and_reproducible(count):
    a, b = pictures(6), pictures(count, seed=1).pow(3)
    forward, backward = (sliced_wasserstein(*pair, seed=3, directions=32) for pair in ((a, b), (b, a)))
    assert forward == pytest.approx(backward, rel=1e-4) and forward["mean"] > 0
    assert forward == sliced_wasserstein(a, b, seed=3, directions=32)
    assert forward["mean"] == pytest.approx((forward["32"] + forward["16"]) / 2)


@pytest.mark.parametrize("width", [1, 3, 147])
def test_a_shift_is_its_length_times_the_mean_of_a_unit_vectors_entry(width):
    """E |u_1| over the unit sphere of d dimensions is Gamma(d / 2) / (sqrt(pi) Gamma((d + 1) / 2))."""
    shift = torch.zeros(width).index_fill(0, torch.tensor(0), 0.25)
    rows = torch.randn(9, width, generator=torch.Generator().manual_seed(0))
    found = _sliced(rows, rows + shift, 4000, torch.Generator().manual_seed(1))
    entry = math.exp(math.lgamma(width / 2) - math.lgamma((width + 1) / 2)) / math.sqrt(math.pi)
    assert found == pytest.approx(UNITS * 0.25 * entry, rel=0.05)


def test_patches_reach_the_last_row_and_the_last_column():
    a = pictures(3, (8, 9))
    for axis in (2, 3):
        b = a.index_fill(axis, torch.tensor(a.shape[axis] - 1), 0.0)
        assert sliced_wasserstein(a, b, directions=8)["8"] > 0


def test_channels_are_normalised_over_the_whole_set():
    patches = torch.tensor([1.0, 5.0, 0.1])[:, None, None] * pictures(4, (7, 7))[:, None] + 3
    rows = _normalise(patches.expand(4, 2, 3, 7, 7)).view(4, 2, 3, 49)
    assert rows.mean(dim=(0, 1, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert rows.square().mean(dim=(0, 1, 3)).tolist() == pytest.approx([1, 1, 1], abs=1e-4)
    assert rows.mean(dim=3).abs().max() > 0.05  # and not each patch


def test_patches_do_not_see_brightness_but_see_texture():
    a, b = pictures(24), pictures(24, seed=1)
    assert sliced_wasserstein(a, 0.5 * a + 0.1, directions=32)["mean"] == pytest.approx(0, abs=0.5)
    dots, others = (a > 0.96).float(), (b > 0.96).float()
    same, different = (sliced_wasserstein(dots, other, directions=32) for other in (others, b))
    assert different["32"] > 2 * same["32"]


@pytest.mark.parametrize("size", [(32, 32), (37, 50), (12, 9)])
def test_the_pyramid_is_undone_by_adding_it_up(size):
    x = pictures(2, size)
    levels = laplacian_pyramid(x)
    assert [min(level.shape[-2:]) for level in levels] == {32: [32, 16], 37: [37, 19], 12: [9]}[size[0]]
    total = levels[-1]
    for level in levels[-2::-1]:
        total = level + expand(total, level.shape[-2:])
    torch.testing.assert_close(total, x)


def test_a_constant_picture_has_no_detail():
    detail, rest = laplacian_pyramid(torch.full((1, 3, 32, 32), 0.3))
    assert detail.abs().max() < 1e-6 and (rest - 0.3).abs().max() < 1e-6


def test_images_smaller_than_a_patch_are_refused():
    with pytest.raises(UserError, match="7x7"):
        sliced_wasserstein(pictures(2, (6, 9)), pictures(2, (6, 9)))
