"""The nearest training items of a sample: is it new, or a copy?"""

from __future__ import annotations

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


@dataclass(frozen=True)
class Memorisation:
    """How near samples lie to the training set, against how near unseen real items lie to it.

    A `ratio` near 1 is what new items from the same distribution give; well below 1 the samples repeat the training
    set; above 1 they lie away from the data.
    """

    ratio: float
    sample_median: float
    held_out_median: float


def nearest(
    queries: Float[Tensor, "n ..."], references: Float[Tensor, "m ..."], k: int = 1, *, chunk: int = 256
) -> Neighbours:
    """The k nearest references of each query under the Euclidean distance, on pixels or any features (N, F).

    Items are flattened. At most `chunk` queries meet `chunk` references at a time, so memory does not grow with the
    sets. Candidates are found through |q - r|^2 = |q|^2 - 2 q.r + |r|^2 in float64, and their distances then computed
    directly: an exact copy is at distance 0. UserError when k is not in 1..M or the items differ in shape.
    """
    if queries.shape[1:] != references.shape[1:]:
        raise UserError(
            f"queries and references differ in shape: {tuple(queries.shape[1:])} and {tuple(references.shape[1:])}"
        )
    if not 1 <= k <= len(references):
        raise UserError(f"k = {k} neighbours asked of {len(references)} references: allowed are 1..{len(references)}")
    queries, references = queries.flatten(1), references.flatten(1)
    parts = [_nearest_of_chunk(part, references, k, chunk) for part in queries.split(chunk)]
    return Neighbours(torch.cat([part.distances for part in parts]), torch.cat([part.indices for part in parts]))


def memorisation(sample_to_train: Float[Tensor, "n ..."], held_out_to_train: Float[Tensor, "m ..."]) -> Memorisation:
    """Ratio of the median nearest distances to the training set: of samples, over that of held-out items.

    Takes the distances of `nearest`; of several neighbours the first counts. The same features for both.
    """
    samples, held_out = (d.flatten(1)[:, 0] if d.ndim > 1 else d for d in (sample_to_train, held_out_to_train))
    if not len(samples) or not len(held_out):
        raise UserError("memorisation needs at least one sample and one held-out item")
    sample_median, held_out_median = (d.double().quantile(0.5).item() for d in (samples, held_out))
    ratio = sample_median / held_out_median if held_out_median > 0 else float("nan")
    return Memorisation(ratio, sample_median, held_out_median)


def memorised(
    sample_to_train: Float[Tensor, "n ..."], held_out_to_train: Float[Tensor, "m ..."], seed: int = 0
) -> dict[str, float]:
    """The numbers of `memorisation` by name, with the bootstrapped standard error of the ratio where there is one."""
    distances = [d.flatten(1)[:, 0] if d.ndim > 1 else d for d in (sample_to_train, held_out_to_train)]
    error = bootstrap(distances, lambda a, b: memorisation(a, b).ratio, seed=seed)
    found = dict(vars(memorisation(*distances)))
    return found if error is None else {**found, "ratio_standard_error": error}


def _nearest_of_chunk(queries: Tensor, references: Tensor, k: int, chunk: int) -> Neighbours:
    exact = queries.double()
    best = exact.new_full((len(queries), 0), 0.0)
    indices = torch.zeros(len(queries), 0, dtype=torch.long, device=queries.device)
    for start in range(0, len(references), chunk):
        part = references[start : start + chunk].to(exact)
        squared = part.square().sum(dim=1) - 2 * exact @ part.T  # |q|^2 is the same for all references
        best = torch.cat([best, squared], dim=1)
        here = torch.arange(start, start + len(part), device=queries.device).expand(len(queries), -1)
        indices = torch.cat([indices, here], dim=1)
        best, order = best.topk(min(k, best.shape[1]), dim=1, largest=False)
        indices = indices.gather(1, order)
    direct = [(references[column.to(references.device)].to(exact) - exact).norm(dim=1) for column in indices.T]
    distances, order = torch.stack(direct, dim=1).sort(dim=1, stable=True)
    return Neighbours(distances.to(queries.dtype), indices.gather(1, order))
