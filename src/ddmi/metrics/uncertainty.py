"""How far a number may be off because only so many items were looked at."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

GROUPS = 10


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1) of repeated measurements; None for the deviation of a single one."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def share_error(share: float, count: int) -> float:
    """Standard error of the share of `count` independent items: sqrt(p (1 - p) / n)."""
    return math.sqrt(share * (1 - share) / count)


def jackknife(count: int, statistic: Callable[[Int[Tensor, " m"]], float], groups: int = GROUPS) -> float | None:
    """Standard error of a statistic of `count` items, each group of them left out once (Efron 1982, eq. 3.1).

    Group g holds the items g, g + groups, ...; `statistic` gets the indices that stay. What a smaller set adds to
    every value alike, as the bias of a Fréchet distance, drops out. None with fewer than two items a group.
    """
    if count < 2 * groups:
        return None
    items = torch.arange(count)
    values = torch.tensor([statistic(items[items % groups != g]) for g in range(groups)], dtype=torch.float64)
    return math.sqrt((groups - 1) / groups * float((values - values.mean()).square().sum()))


def bootstrap(
    samples: Sequence[Float[Tensor, " _"]], statistic: Callable[..., float], *, repeats: int = 200, seed: int = 0
) -> float | None:
    """Standard error of a statistic of several sets, all drawn again with replacement (Efron 1979).

    None when a set has fewer than two items or a repetition gives no finite value.
    """
    if min(len(values) for values in samples) < 2:
        return None
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(repeats):
        again = [v[torch.randint(len(v), (len(v),), generator=generator)] for v in samples]
        found.append(statistic(*again))
    error = float(torch.tensor(found, dtype=torch.float64).std())
    return error if math.isfinite(error) else None
