"""Distances between point clouds and between sets of them: Chamfer, earth mover's; MMD, coverage, 1-NNA.

The paper names MMD and coverage (section 4.2) without the number of points or their scale. PointFlow (Yang et al. 2019,
arXiv:1906.12320) compares clouds of 2,048 points; here each is brought to the unit sphere first. Published numbers
differ by convention (squared or not, mean or sum, halves, factors of 1e2 or 1e3); each function says what it computes,
and nothing is rescaled. A number says something only beside the distance, the points a cloud and the counts of clouds.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ddmi.base.errors import UserError, missing_extra
from ddmi.metrics.neighbours import Neighbours

Distance = Literal["chamfer", "emd"]


@dataclass(frozen=True)
class PointSetDistances:
    """How a set of generated clouds compares with a set of reference clouds (Yang et al. 2019, arXiv:1906.12320)."""

    mmd: float
    """Minimum matching distance, in the units of the distance; lower is better, 0 when every reference was made."""
    cov: float
    """Coverage, a share in [0, 1]; higher is better."""
    nna: float
    """Accuracy in [0, 1] of a 1-nearest-neighbour classifier of samples and references; 0.5 is best."""


def unit_sphere(points: Float[Tensor, "*b n 3"]) -> Float[Tensor, "*b n 3"]:
    """Each cloud shifted by its centroid (the mean of its points), and scaled so that the farthest point has length 1.

    The centroid, not the centre of the bounding box. Points that all coincide become 0.
    """
    centred = points - points.mean(dim=-2, keepdim=True)
    reach = centred.norm(dim=-1, keepdim=True).amax(dim=-2, keepdim=True)
    return centred / torch.where(reach > 0, reach, torch.ones_like(reach))


def nearest_points(queries: Float[Tensor, "n 3"], references: Float[Tensor, "m 3"]) -> Neighbours:
    """The nearest reference of each query: Euclidean distances in float64 and indices, both (n, 1), on the CPU.

    By a k-d tree, with as many threads as torch has: 100,000 points against as many take about 0.8 s on one.
    UserError when scipy is not installed.
    """
    distances, indices = _nearest(_array(queries), _array(references))
    return Neighbours(torch.from_numpy(distances)[:, None], torch.from_numpy(indices.astype(np.int64))[:, None])


def pairwise(
    clouds_a: Float[Tensor, "s n 3"], clouds_b: Float[Tensor, "r m 3"] | None = None, distance: Distance = "chamfer"
) -> Float[Tensor, "s _"]:
    """The distance of each cloud of a to each of b, (s, r); without b, among the clouds of a, (s, s), in half the time.

    "chamfer": mean over one cloud of the SQUARED distance to the nearest point of the other, plus the same the other
    way. In squared units of the coordinates: a sum of two means, not halved, as in the code of PointFlow (Yang et al.
    2019). About 2 to 2.5 ms a pair of clouds of 2048 points on one thread; threads are as many as torch has.

    "emd": mean Euclidean distance (not squared) of the points to their partners in the one-to-one assignment that is
    the exact optimum, where published tables mostly hold those of approximations. It grows with the cube of the number
    of points: about 5 ms for 256 points, 0.2 s for 1024, 1 to 2 s for 2048.

    The result is on the CPU, in float64. "emd" needs clouds of one size. UserError when scipy is not installed.
    """
    within = clouds_b is None
    a, b = _array(clouds_a), _array(clouds_a if clouds_b is None else clouds_b)
    if distance == "chamfer":
        found = _to_nearest(a, b)
        return torch.from_numpy(found + (found if within else _to_nearest(b, a)).T)
    found = np.zeros((len(a), len(b)))
    for i, j in combinations(range(len(a)), 2) if within else product(range(len(a)), range(len(b))):
        found[i, j] = _assigned(a[i], b[j])
    return torch.from_numpy(found + found.T if within else found)


def minimum_matching_distance(distances: Float[Tensor, "s r"]) -> float:
    """Mean over references (columns) of the distance to the nearest sample (rows), in the units of the distance.

    MMD of Achlioptas et al. 2018 (arXiv:1707.02392): how well each reference is matched. Says little about quality,
    as bad samples are nobody's nearest.
    """
    return distances.amin(dim=0).double().mean().item()


def coverage(distances: Float[Tensor, "s r"]) -> float:
    """Share of references (columns) that are the nearest reference of at least one sample (row), in [0, 1].

    COV of Achlioptas et al. 2018. Of references at the same distance the first counts. At most s / r. Two sets of one
    distribution do not reach 1 (of equal size: 0.5 to 0.6): compare with a second set of real shapes.
    """
    return len(distances.argmin(dim=1).unique()) / distances.shape[1]


def one_nearest_neighbour_accuracy(
    ss: Float[Tensor, "s s"], sr: Float[Tensor, "s r"], rr: Float[Tensor, "r r"]
) -> float:
    """Share of all clouds whose nearest other cloud is of their own set (leave one out), in [0, 1].

    Takes the distances among samples, of samples (rows) to references (columns), and among references (Lopez-Paz and
    Oquab 2017, arXiv:1610.06545; Yang et al. 2019). With equally large sets of one distribution 0.5, the best value;
    1 when the sets lie apart; below 0.5 when samples repeat references. With s != r one distribution gives
    (s (s - 1) + r (r - 1)) / ((s + r) (s + r - 1)). A cloud whose nearest own and other ones are at the same distance
    counts half. Both sets need 2 clouds or more.
    """
    right = 0.0
    for own, other in ((ss, sr.amin(dim=1)), (rr, sr.amin(dim=0))):
        own = own.masked_fill(torch.eye(len(own), dtype=torch.bool, device=own.device), torch.inf).amin(dim=1)
        right += (own < other).sum().item() + (own == other).sum().item() / 2
    return right / sum(sr.shape)


def compare(
    samples: Float[Tensor, "s n 3"], references: Float[Tensor, "r n 3"], distance: Distance = "chamfer"
) -> PointSetDistances:
    """MMD, coverage and 1-NNA of two sets of clouds, from all distances among them, each computed once.

    Bring the clouds to `unit_sphere` first where the protocol asks for it. `distance` and times are those of `pairwise`
    for one set of s + r clouds. All have one size: a denser cloud is nearer to everything. UserError for fewer than 2
    clouds in a set.
    """
    if min(len(samples), len(references)) < 2:
        raise UserError(f"{len(samples)} samples and {len(references)} references: at least 2 of each are needed")
    s = len(samples)
    among = pairwise(torch.cat([samples, references.to(samples)]), distance=distance)
    across = among[:s, s:]
    return PointSetDistances(
        mmd=minimum_matching_distance(across),
        cov=coverage(across),
        nna=one_nearest_neighbour_accuracy(among[:s, :s], across, among[s:, s:]),
    )


def _to_nearest(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Mean over each query cloud (rows) of the squared distance to the nearest point of each reference (columns)."""
    s, n, _ = queries.shape
    points = queries.reshape(s * n, 3)
    columns = [np.square(_nearest(points, reference)[0]).reshape(s, n).mean(axis=1) for reference in references]
    return np.stack(columns, axis=1)


def _nearest(queries: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    try:
        from scipy.spatial import cKDTree
    except ImportError as error:
        raise missing_extra("scipy", "metrics") from error
    found: Any = cKDTree(references).query(queries, workers=torch.get_num_threads())
    return found


def _assigned(a: np.ndarray, b: np.ndarray) -> float:
    try:
        from scipy.optimize import linear_sum_assignment
        from scipy.spatial.distance import cdist
    except ImportError as error:
        raise missing_extra("scipy", "metrics") from error
    lengths = cdist(a, b)
    return float(lengths[linear_sum_assignment(lengths)].mean())


def _array(clouds: Tensor) -> np.ndarray:
    return clouds.detach().double().cpu().numpy()
