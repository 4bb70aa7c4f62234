"""The nearest training items of a sample: is it new, or a copy?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ddmi.base.errors import UserError
from ddmi.metrics.uncertainty import bootstrap


@dataclass(frozen=True)
class Neighbours:
    """For each query, its nearest references, nearest first."""

    distances: Float[Tensor, "n k"]
    indices: Int[Tensor, "n k"]


def nearest(
    queries: Float[Tensor, "n ..."],
    references: Float[Tensor, "m ..."] | Iterable[Float[Tensor, "_ ..."]],
    k: int = 1,
    *,
    chunk: int = 256,
) -> Neighbours:
    """The k nearest references of each query under the Euclidean distance, on pixels or any features (N, F).

    Items are flattened. References may come in parts that are not all in memory, and are read once. At most `chunk`
    queries meet `chunk` references at a time, so memory does not grow with the sets. Candidates are found through
    |q - r|^2 = |q|^2 - 2 q.r + |r|^2 in float64, and their distances then computed directly: an exact copy is at
    distance 0. UserError when k is not in 1..M.
    """
    flat, count = queries.flatten(1), 0
    distances = flat.new_zeros(len(flat), 0, dtype=torch.float64)
    indices = torch.zeros(len(flat), 0, dtype=torch.long, device=flat.device)
    for items in [references] if isinstance(references, Tensor) else references:
        for part in items.flatten(1).split(chunk):
            rows = part.to(flat.device).double()
            met = [_met(few.double(), rows, k) for few in flat.split(chunk)]
            distances = torch.cat([distances, torch.cat([near for near, _ in met])], dim=1)
            indices = torch.cat([indices, count + torch.cat([where for _, where in met])], dim=1)
            distances, order = distances.sort(dim=1, stable=True)
            distances, indices = distances[:, :k], indices.gather(1, order)[:, :k]
            count += len(rows)
    if not 1 <= k <= count:
        raise UserError(f"k = {k} neighbours asked of {count} references: allowed are 1..{count}")
    return Neighbours(distances.to(queries.dtype), indices)


def memorised(
    sample_to_train: Float[Tensor, "n ..."], held_out_to_train: Float[Tensor, "m ..."], seed: int = 0
) -> dict[str, float]:
    """How near samples lie to the training set, against how near unseen real items lie to it.

    `ratio` is that of the medians of the nearest distances: near 1 is what new items from the same distribution give;
    well below 1 the samples repeat the training set; above 1 they lie away from the data. Beside it are both medians,
    and the bootstrapped standard error of the ratio where there is one. Takes distances of `nearest` on the same
    features for both; of several neighbours the first counts.
    """
    both = [d.flatten(1)[:, 0] if d.ndim > 1 else d for d in (sample_to_train, held_out_to_train)]
    if not all(map(len, both)):
        raise UserError("memorisation needs at least one sample and one held-out item")

    def median(distances: Tensor) -> float:
        return float(distances.double().quantile(0.5))

    def ratio(a: Tensor, b: Tensor) -> float:
        return median(a) / median(b) if median(b) > 0 else float("nan")

    error = bootstrap(both, ratio, seed=seed)
    found = {"ratio": ratio(*both), "sample_median": median(both[0]), "held_out_median": median(both[1])}
    return found if error is None else {**found, "ratio_standard_error": error}


def _met(queries: Tensor, references: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Distances and indices (n, at most k) of the nearest of a few references."""
    squared = references.square().sum(dim=1) - 2 * queries @ references.T  # |q|^2 is the same for all references
    indices = squared.topk(min(k, len(references)), dim=1, largest=False).indices
    return torch.stack([(references[column] - queries).norm(dim=1) for column in indices.T], dim=1), indices
