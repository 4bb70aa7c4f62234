"""Fréchet distances against closed forms, kernel distances and precision and recall against loops over all pairs."""

import itertools
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ddmi.base.errors import UserError
from ddmi.metrics.distributions import (
    Gaussian,
    PrecisionRecall,
    frechet,
    gaussian,
    kernel_distance,
    precision_recall,
)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def normal(mean, covariance, count=100):
    return Gaussian(torch.as_tensor(mean, dtype=torch.float64), torch.as_tensor(covariance, dtype=torch.float64), count)


def rotation(width, seed=5):
    return torch.linalg.qr(randn(width, width, seed=seed)).Q


class Sizes(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else [result]:
            if isinstance(one, torch.Tensor):
                self.largest = max(self.largest, one.numel())
        return result


# -- the Gaussian of a set


def test_statistics_of_more_rows_than_are_taken_at_a_time():
    features = randn(3000, 3) + torch.linspace(0, 5, 3000, dtype=torch.float64)[:, None]
    with Sizes() as sizes:
        found = gaussian(features)
    assert sizes.largest <= 3000 * 3 and found.count == 3000
    torch.testing.assert_close(found.mean, features.mean(dim=0))
    torch.testing.assert_close(found.covariance, torch.cov(features.T))


def test_statistics_far_from_the_origin_keep_their_digits():
    """Sums of squares would leave 1e16 - 1e16, nothing of a variance of 1."""
    features = randn(400, 3)
    found = gaussian(features + 1e8)
    torch.testing.assert_close(found.covariance, torch.cov(features.T), atol=1e-6, rtol=0)
    single = (randn(400, 3) + 1000).float()
    torch.testing.assert_close(gaussian(single).covariance, torch.cov(single.double().T), atol=1e-12, rtol=1e-12)


def test_sets_that_have_no_covariance():
    for features in (randn(1, 3), randn(0, 3)):
        with pytest.raises(UserError, match="at least 2 features"):
            gaussian(features)


# -- Fréchet


def test_frechet_in_one_dimension():
    """(m - n)^2 + (s - t)^2 for deviations s and t."""
    assert frechet(normal([1.0], [[4.0]]), normal([-2.0], [[9.0]])) == pytest.approx(9 + 1)


def test_frechet_of_commuting_covariances():
    """With the same axes it is the squared distance of the means and of the deviations."""
    a, b = torch.tensor([4.0, 1.0, 0.25, 0.0]).double(), torch.tensor([1.0, 9.0, 0.0, 0.0]).double()
    expected = 4 * 0.5**2 + (a.sqrt() - b.sqrt()).square().sum().item()
    turn = rotation(4)
    for axes in (torch.eye(4, dtype=torch.float64), turn):
        one, two = (
            normal(m, axes @ torch.diag(v) @ axes.T) for m, v in ((torch.zeros(4), a), (torch.full((4,), 0.5), b))
        )
        assert frechet(one, two) == pytest.approx(expected, rel=1e-9)


def test_frechet_of_shifted_sets_is_the_squared_shift():
    features = randn(50, 8)
    assert frechet(gaussian(features), gaussian(features + 0.5)) == pytest.approx(8 * 0.25)


@pytest.mark.parametrize("count", [9, 40])
def test_frechet_of_equal_sets_is_zero_and_never_below(count):
    """Also for fewer items than features, where the covariance is singular."""
    features = randn(count, 20) @ randn(20, 20, seed=1)
    value = frechet(gaussian(features), gaussian(features.flip(0)))
    assert 0 <= value < 1e-10


@pytest.mark.parametrize("seed", range(5))
def test_frechet_agrees_with_a_general_matrix_root(seed):
    sqrtm = pytest.importorskip("scipy.linalg").sqrtm
    one, two = (gaussian(randn(30, 2, seed=s) @ randn(2, 2, seed=s + 50)) for s in (seed, seed + 10))
    root = torch.as_tensor(sqrtm((one.covariance @ two.covariance).numpy()).real)
    expected = (one.mean - two.mean).square().sum() + (one.covariance + two.covariance - 2 * root).trace()
    assert frechet(one, two) == pytest.approx(expected.item(), rel=1e-8)


def test_frechet_of_two_by_two_by_hand():
    """tr (A B)^(1/2) = (tr A B + 2 (det A B)^(1/2))^(1/2) for 2x2 matrices."""
    a, b = [[2.0, 1.0], [1.0, 2.0]], [[3.0, 0.0], [0.0, 1.0]]
    expected = 4 + 4 - 2 * math.sqrt(8 + 2 * math.sqrt(9))
    assert frechet(normal([0.0, 0.0], a), normal([0.0, 0.0], b)) == pytest.approx(expected)


def test_frechet_of_singular_covariances():
    """Lines u and v: A = u u^T, B = v v^T have roots whose overlap is |u . v|."""
    u, v = randn(2, 30).unbind()
    zero = torch.zeros(30)
    expected = u.square().sum() + v.square().sum() - 2 * (u @ v).abs()
    one, two = normal(zero, torch.outer(u, u)), normal(zero, torch.outer(v, v))
    assert frechet(one, two) == pytest.approx(expected.item(), rel=1e-9)
    point = normal(zero, torch.zeros(30, 30))
    assert frechet(one, point) == pytest.approx(u.square().sum().item())
    assert frechet(point, point) == 0


def test_frechet_of_independent_subspaces_adds_the_variances():
    features = randn(60, 4)
    left, right = torch.cat([features, 0 * features], dim=1), torch.cat([0 * features, features], dim=1)
    turn = rotation(8)
    one, two = gaussian(left @ turn), gaussian(right @ turn)
    means = (one.mean - two.mean).square().sum()
    expected = (means + one.covariance.trace() + two.covariance.trace()).item()
    assert frechet(one, two) == pytest.approx(expected, rel=1e-12)


def test_frechet_is_symmetric_and_does_not_depend_on_the_axes():
    a, b = randn(25, 12) * 2, randn(9, 12, seed=1) + 0.3
    value, turn = frechet(gaussian(a), gaussian(b)), rotation(12)
    assert frechet(gaussian(b), gaussian(a)) == pytest.approx(value, rel=1e-10)
    assert frechet(gaussian(a @ turn), gaussian(b @ turn)) == pytest.approx(value, rel=1e-10)
    assert frechet(gaussian(3 * a - 1), gaussian(3 * b - 1)) == pytest.approx(9 * value, rel=1e-10)


def test_frechet_agrees_with_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid")
    one, two = gaussian(randn(200, 16)), gaussian(1.3 * randn(300, 16, seed=1) + 0.2)
    expected = fid._compute_fid(one.mean, one.covariance, two.mean, two.covariance)
    assert frechet(one, two) == pytest.approx(expected.item(), rel=1e-6)


# -- kernel distance


def mmd_by_hand(x, y):
    """Gretton et al. 2012, lemma 6, pair by pair."""
    n, m, width = len(x), len(y), x.shape[1]

    def kernel(u, v):
        return (sum(p * q for p, q in zip(u, v, strict=True)) / width + 1) ** 3

    x, y = x.tolist(), y.tolist()
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(kernel(u, v) for u in x for v in y) / (n * m)


def test_kernel_distance_of_whole_sets_is_the_double_loop():
    x, y = randn(12, 5), 1.5 * randn(12, 5, seed=1) + 0.5
    found = kernel_distance(x, y)
    assert found.mean == pytest.approx(mmd_by_hand(x, y), rel=1e-10)
    assert (found.deviation, found.subsets, found.size) == (0.0, 1, 12)  # all of both sets: there is one subset
    poly_mmd = pytest.importorskip("torchmetrics.image.kid").poly_mmd
    assert found.mean == pytest.approx(poly_mmd(x, y).item(), rel=1e-6)


def test_kernel_distance_is_the_mean_over_subsets():
    """One of two real items more than are taken, so a subset is known by which is left out."""
    x, y = randn(4, 3), randn(3, 3, seed=1) + 1
    allowed = [mmd_by_hand(x[list(rows)], y) for rows in itertools.combinations(range(4), 3)]
    singles = [kernel_distance(x, y, subsets=1, seed=seed).mean for seed in range(40)]
    assert all(min(abs(value - one) for one in allowed) < 1e-12 for value in singles)
    assert all(min(abs(value - one) for value in singles) < 1e-12 for one in allowed)
    found = kernel_distance(x, y, subsets=4000)
    assert (found.size, found.subsets) == (3, 4000)
    mean = sum(allowed) / 4
    deviation = math.sqrt(sum((one - mean) ** 2 for one in allowed) / 4)
    assert found.deviation == pytest.approx(deviation, rel=0.05)
    assert found.mean == pytest.approx(mean, abs=4 * deviation / math.sqrt(4000))


def test_kernel_distance_of_one_distribution_is_zero_on_average():
    values = torch.tensor([kernel_distance(randn(20, 4, seed=s), randn(20, 4, seed=s + 5000)).mean for s in range(400)])
    assert values.mean().abs() < 3 * values.std() / 20 and (values < 0).any() and (values > 0).any()
    shifted = kernel_distance(randn(200, 4), randn(200, 4, seed=1) + 1)
    assert shifted.mean > 5 * values.std()


def test_kernel_distance_repeats_with_its_seed():
    x, y = randn(40, 3), randn(30, 3, seed=1)
    assert kernel_distance(x, y, size=10, seed=3) == kernel_distance(x, y, size=10, seed=3)
    assert kernel_distance(x, y, size=10, seed=3) != kernel_distance(x, y, size=10, seed=4)
    assert kernel_distance(x, y).size == 30 and kernel_distance(x, y, size=10, subsets=7).subsets == 7


def test_kernel_distance_of_nothing():
    with pytest.raises(UserError, match="of 5 and 1 features"):
        kernel_distance(randn(5, 3), randn(1, 3))


# -- precision and recall


def precision_recall_by_hand(real, generated, k):
    """Kynkäänniemi et al. 2019, eqs. 1 and 2, pair by pair."""

    def share(balls, points):
        radii = [
            sorted((a - b).norm().item() for j, b in enumerate(balls) if j != i)[k - 1] for i, a in enumerate(balls)
        ]
        inside = [any((p - c).norm() <= r for c, r in zip(balls, radii, strict=True)) for p in points]
        return sum(inside) / len(points)

    return PrecisionRecall(share(real, generated), share(generated, real))


@pytest.mark.parametrize(("n", "m", "k"), [(20, 15, 3), (15, 20, 1), (12, 12, 11)])
@pytest.mark.parametrize("chunk", [1, 4, 7, 100])
def test_precision_and_recall_are_those_of_all_pairs(n, m, k, chunk):
    real, generated = randn(n, 3).float(), (1.5 * randn(m, 3, seed=1) + 1).float()
    found = precision_recall(real, generated, k=k, chunk=chunk)
    expected = precision_recall_by_hand(real, generated, k)
    assert expected.precision != expected.recall and min(expected.precision, expected.recall) < 1
    assert (found.precision, found.recall) == pytest.approx((expected.precision, expected.recall), abs=1e-12)


def test_precision_and_recall_on_a_line():
    """Real 0, 1, 3, 7 reach 1, 1, 2, 4 to their nearest other; generated 2, 8, 12 reach 6, 4, 4."""
    real, generated = (torch.tensor(points)[:, None] for points in ([0.0, 1.0, 3.0, 7.0], [2.0, 8.0, 12.0]))
    # 2 lies on the border of the ball of 1, 8 in that of 7, 12 in none; all real points lie in [-4, 8]
    assert precision_recall(real, generated, k=1) == PrecisionRecall(2 / 3, 1.0)
    # second nearest: real reach 3, 2, 3, 6, and the ball of 7 ends at 13
    assert precision_recall(real, generated, k=2) == PrecisionRecall(1.0, 1.0)
    far = torch.tensor([2.0, 8.0, 8.5])[:, None]  # reach 6, 0.5, 0.5
    assert precision_recall(real, far - 100, k=1) == PrecisionRecall(0.0, 0.0)
    near = torch.tensor([2.75, 3.0, 9.0])[:, None]  # reach 0.25, 0.25, 6: of the real ones 3 and 7 are covered
    assert precision_recall(real, near, k=1) == PrecisionRecall(1.0, 0.5)


def test_equal_sets_and_disjoint_sets():
    real = randn(40, 6)
    assert precision_recall(real, real.flip(0), k=1) == PrecisionRecall(1.0, 1.0)
    assert precision_recall(real, real + 100) == PrecisionRecall(0.0, 0.0)


def test_a_collapsed_set_is_precise_and_covers_little():
    real = randn(200, 2)
    collapsed = real[:1] + 1e-3 * randn(200, 2, seed=1)
    found = precision_recall(real, collapsed)
    assert found.precision == 1 and found.recall <= 0.05


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_repeated_items_are_inside_their_balls_of_radius_zero(offset):
    """Four copies of each item: the third neighbour lies at distance 0, and so do the copies in the other set."""
    items = randn(10, 50) + offset
    assert precision_recall(items.repeat(4, 1), items.repeat(5, 1), k=3) == PrecisionRecall(1.0, 1.0)
    others = items + 1e-3
    assert precision_recall(items.repeat(4, 1), others.repeat(4, 1), k=3) == PrecisionRecall(0.0, 0.0)


def test_memory_does_not_grow_with_the_pairs():
    real, generated = randn(700, 4).float(), randn(600, 4, seed=1).float()
    with Sizes() as sizes:
        chunked = precision_recall(real, generated, chunk=50)
    assert sizes.largest <= 2 * 700 * 4 < 700 * 600
    assert chunked == precision_recall(real, generated)


def test_neighbours_that_do_not_exist():
    real, generated = randn(5, 3), randn(4, 3)
    for k in (0, 4):
        with pytest.raises(UserError, match=rf"k = {k} .*allowed are 1\.\.3"):
            precision_recall(real, generated, k=k)
    with pytest.raises(UserError, match="at least 2 of each"):
        precision_recall(real, generated[:1])
