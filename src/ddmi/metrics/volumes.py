"""How alike two shapes are: overlap of their insides, nearness of their surfaces, agreement of their normals.

`iou` and `total_mutual_difference` take which of the same query points are inside; the others take points of the two
surfaces, uniform by area (Occupancy Networks: 100,000 of each). Lengths are in units of the coordinates.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ddmi.metrics.points import nearest_points


class FScore(NamedTuple):
    """Shares in [0, 1]: of made points near the true surface, of true points near the made one, their harmonic mean."""

    precision: float
    recall: float
    f: float


def iou(a: Bool[Tensor, "..."] | Bool[np.ndarray, "..."], b: Bool[Tensor, "..."] | Bool[np.ndarray, "..."]) -> float:
    """Points inside both shapes over points inside at least one, in [0, 1]; two empty shapes give 1.

    Entry k of both says whether the same point k is inside. Of points uniform in space this estimates intersection over
    union of volumes (Occupancy Networks: 100,000 points of the bounding cube).
    """
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    return mutual_iou(torch.stack([a.flatten(), b.to(a.device).flatten()]))[0, 1].item()


def mutual_iou(inside: Bool[Tensor, "k n"]) -> Float[Tensor, "k k"]:
    """IoU of each of k shapes with each, in float64: row i says which of n points are inside shape i."""
    counted = inside.double()
    both = counted @ counted.T
    volume = both.diagonal()
    either = volume[:, None] + volume - both
    return torch.where(either > 0, both / either.clamp_min(1), torch.ones_like(both))


def total_mutual_difference(stacks: Iterable[Bool[Tensor, "_ _"]]) -> float:
    """The paper's TMD (section C.2, after Li et al. 2023, arXiv:2212.03293), in [0, 1]: LOWER is more diverse.

    Each stack (k, n) holds the k shapes of one text (the paper: ten) at n points. The mean IoU of a shape with the
    other k - 1 >= 1, averaged over the shapes of a text, then over texts. An overlap in spite of its name, and not the
    sum of Chamfer distances that Wu et al. 2020 (arXiv:2003.08933) call so.
    """
    values = []
    for inside in stacks:
        k, overlap = len(inside), mutual_iou(inside)
        values.append(((overlap.sum() - overlap.trace()) / (k * (k - 1))).item())
    return sum(values) / len(values)


def f_score(made: Float[Tensor, "n 3"], true: Float[Tensor, "m 3"], threshold: float) -> FScore:
    """F-score of points of a made surface against points of the true one (Tatarchenko et al. 2019, arXiv:1905.03678).

    Near means a distance (not squared) below `threshold`, in units of the coordinates. Tatarchenko et al. use 1% of
    the side of the volume: 0.02 in [-1, 1]^3. Swapping the surfaces swaps precision and recall.
    """
    precision, recall = (
        (nearest_points(a, b).distances < threshold).double().mean().item() for a, b in ((made, true), (true, made))
    )
    return FScore(precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0)


def normal_consistency(
    a: Float[Tensor, "n 3"], a_normals: Float[Tensor, "n 3"], b: Float[Tensor, "m 3"], b_normals: Float[Tensor, "m 3"]
) -> float:
    """Mean |cosine| of the normals of nearest points, over a and over b, and the mean of the two, in [0, 1].

    As Occupancy Networks do (Mescheder et al. 2019, arXiv:1812.03828): 1 for equal surfaces, and blind to normals
    that point the other way. Normals need not have unit length; those of length 0 agree with nothing.
    """
    a_units, b_units = (F.normalize(normals.double().cpu(), dim=1) for normals in (a_normals, b_normals))
    means = [
        (units * others[nearest_points(x, y).indices[:, 0]]).sum(dim=1).abs().mean().item()
        for x, units, y, others in ((a, a_units, b, b_units), (b, b_units, a, a_units))
    ]
    return sum(means) / 2
