"""How far two sets of features lie apart: Fréchet and kernel distances, precision and recall.

Features are rows (N, F) of any network; a number says something only beside the network's name and the counts. All
sums are taken in float64. On the features of Inception-v3 the Fréchet distance is FID and the kernel distance is KID.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ddmi.base.errors import UserError
from ddmi.metrics.neighbours import nearest

CHUNK = 1024  # rows at a time: bounds the memory
ROUNDING = 1e-12  # squared distances nearer than this, relative to the squared lengths, are equal


@dataclass(frozen=True)
class Gaussian:
    """Mean and unbiased covariance of `count` features, in float64 and the units of the features."""

    mean: Float[Tensor, " f"]
    covariance: Float[Tensor, "f f"]
    count: int


@dataclass(frozen=True)
class KernelDistance:
    """Squared kernel distance (MMD^2, no units), averaged over random subsets of `size` features of each set.

    `deviation` is the spread over subsets (divided by `subsets`, not by one less). Subsets share items, so it is no
    standard error of the mean; it is 0 where there is only one subset.
    """

    mean: float
    deviation: float
    subsets: int
    size: int


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares in [0, 1]: of generated items that look real, and of real items that are covered."""

    precision: float
    recall: float


def gaussian(features: Float[Tensor, "n f"]) -> Gaussian:
    """Mean and covariance of features, with float64 copies of 1024 rows at most; UserError for fewer than two."""
    if len(features) < 2:
        raise UserError(f"a covariance needs at least 2 features, not {len(features)}")
    mean = features.mean(dim=0, dtype=torch.float64)
    scatter = mean.new_zeros(len(mean), len(mean))
    for part in features.split(CHUNK):
        centred = part - mean
        scatter += centred.T @ centred
    return Gaussian(mean, scatter / (len(features) - 1), len(features))


def frechet(a: Gaussian, b: Gaussian) -> float:
    """Squared Wasserstein-2 distance of two Gaussians, in squared units of the features; never negative.

    |mean a - mean b|^2 + tr(A + B - 2 (A B)^(1/2)) (Heusel et al. 2017, arXiv:1706.08500, eq. 6). With roots
    A = R R^T and B = S S^T, tr (A B)^(1/2) = tr (A^(1/2) B A^(1/2))^(1/2) is the sum of the singular values of R^T S.
    Roots come from symmetric eigen-decompositions, without the directions of no variance: singular covariances need
    no offset, and fewer items than features make R and S narrow.
    """
    means = (a.mean.double() - b.mean.to(a.mean.device).double()).square().sum()
    root_a, root_b = _root(a.covariance), _root(b.covariance.to(a.covariance.device))
    overlap = torch.linalg.svdvals(root_a.T @ root_b).sum()
    return max((means + root_a.square().sum() + root_b.square().sum() - 2 * overlap).item(), 0.0)


def kernel_distance(
    real: Float[Tensor, "n f"], generated: Float[Tensor, "m _"], *, subsets: int = 100, size: int = 1000, seed: int = 0
) -> KernelDistance:
    """Kernel distance with the kernel (x . y / F + 1)^3 (Binkowski et al. 2018, arXiv:1801.01401, sec. 4).

    The mean over `subsets` random subsets of `size` items of each set, drawn without repetition. The estimate is
    unbiased: equal distributions give 0 on average, and negative values are as they should be. `size` is capped at
    the smaller set; when that takes all of both sets there is one subset only. Raw values: tables often show 1000
    times as much. UserError for fewer than 2 items.
    """
    if min(len(real), len(generated)) < 2:
        raise UserError(f"a kernel distance of {len(real)} and {len(generated)} features needs at least 2 of each")
    size = min(size, len(real), len(generated))
    subsets = 1 if size == len(real) == len(generated) else subsets
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(subsets):
        x, y = (
            features[torch.randperm(len(features), generator=generator)[:size].to(features.device)].double()
            for features in (real, generated)
        )
        values.append(_squared_mmd(x, y.to(x.device)))
    deviation, mean = torch.std_mean(torch.stack(values), correction=0)
    return KernelDistance(mean.item(), deviation.item(), subsets, size)


def precision_recall(
    real: Float[Tensor, "n f"], generated: Float[Tensor, "m _"], *, k: int = 3, chunk: int = CHUNK
) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991, eqs. 1 and 2).

    Every item of a set has a ball that reaches to its k-th nearest among the others of its set. Precision is the share
    of generated items inside a ball of a real one, recall the share of real items inside a ball of a generated one;
    the border is inside, up to rounding. Exact: every pair is looked at, `chunk` x `chunk` at a time. Both numbers
    depend on the counts and on k. UserError when k is not in 1..(smaller set - 1).
    """
    most = min(len(real), len(generated)) - 1
    if not 1 <= k <= most:
        raise UserError(
            f"k = {k} neighbours among {len(real)} real and {len(generated)} generated features: "
            + (f"allowed are 1..{most}" if most >= 1 else "at least 2 of each are needed")
        )
    centre = real.mean(dim=0, dtype=torch.float64)  # near the origin squared distances lose the least to rounding
    generated = generated.to(real.device)
    reach = [_reach(features, centre, k, chunk) for features in (real, generated)]
    covered = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    realistic = torch.zeros(len(generated), dtype=torch.bool, device=real.device)
    for i in range(0, len(real), chunk):
        x = real[i : i + chunk] - centre
        for j in range(0, len(generated), chunk):
            y = generated[j : j + chunk] - centre
            lengths = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
            squared = lengths * (1 - ROUNDING) - 2 * x @ y.T
            realistic[j : j + chunk] |= (squared <= reach[0][i : i + chunk, None]).any(dim=0)
            covered[i : i + chunk] |= (squared <= reach[1][j : j + chunk]).any(dim=1)
    return PrecisionRecall(realistic.double().mean().item(), covered.double().mean().item())


def _root(covariance: Tensor) -> Tensor:
    """R (F, rank) with R R^T = covariance; variances below the rounding of the largest are zero."""
    variances, directions = torch.linalg.eigh(covariance.double())
    kept = variances > len(variances) * torch.finfo(variances.dtype).eps * variances.abs().max()
    return directions[:, kept] * variances[kept].sqrt()


def _squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased MMD^2 of as many x as y: no item meets itself (Gretton et al. 2012, lemma 6)."""
    width, count = x.shape[1], len(x)
    xx, yy, xy = ((u @ v.T / width + 1) ** 3 for u, v in ((x, x), (y, y), (x, y)))
    within = xx.sum() - xx.trace() + yy.sum() - yy.trace()
    return within / (count * (count - 1)) - 2 * xy.mean()


def _reach(features: Tensor, centre: Tensor, k: int, chunk: int) -> Tensor:
    """Squared distance of each row to its k-th nearest other row; the row itself, at 0, is the first of k + 1."""
    shifted = features - centre  # float64
    return nearest(shifted, shifted, k + 1, chunk=chunk).distances[:, k].square()
