"""An adaptive Runge-Kutta solver in which every row of a batch takes steps of its own.

Many library solvers (scipy's, torchdiffeq's) share one step size over the batch, so that a sample would depend on its
neighbours. Here row k follows the same steps alone and in company, and its function evaluations are counted for itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Dormand & Prince (1980): nodes, stage weights, fifth-order weights, and their difference to the fourth-order ones.
NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0)
STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
)
FIFTH = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0

Derivative = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(states (k, ...), times (k,), rows (k,)) -> derivatives (k, ...); `rows` says which rows of the batch are asked."""


def rk45(
    derivative: Derivative,
    state: Float[Tensor, "b ..."],
    start: float,
    stop: float,
    tolerance: float,
    most: int = 10_000,
) -> tuple[Float[Tensor, "b ..."], Int[Tensor, "b"]]:
    """Integrate every row from `start` to `stop`.

    Args:
        state: its type is also that of the times.
        tolerance: relative and absolute; a step is accepted when the root mean square of error / (tolerance *
            (1 + max(|old|, |new|))) is at most 1.
        most: function evaluations a row after which ValueError is raised.

    Returns:
        The states at `stop`, and the number of function evaluations of each row.
    """
    rows = torch.arange(state.shape[0], device=state.device)
    direction = 1.0 if stop > start else -1.0
    time = torch.full((len(rows),), start, dtype=state.dtype, device=state.device)
    least = 4 * torch.finfo(state.dtype).eps * max(abs(start), abs(stop))  # a shorter step does not move the time
    step = torch.full_like(time, 0.01 * (stop - start))
    evaluations = torch.ones_like(rows)
    state = state.clone()
    slope = derivative(state, time, rows)

    while len(rows):
        x, t, k0 = state[rows], time[rows], slope[rows]
        last = (t + step[rows] - stop) * direction >= 0
        h = torch.where(last, stop - t, step[rows])
        wide = h.view(-1, *[1] * (x.dim() - 1))
        slopes = [k0]
        for node, weights in zip(NODES[1:], STAGES[1:], strict=True):
            middle = x + wide * _combine(weights, slopes)
            slopes.append(derivative(middle, t + node * h, rows))
        new = x + wide * _combine(FIFTH, slopes)
        slopes.append(derivative(new, t + h, rows))  # first same as last
        allowed = tolerance * (1.0 + torch.maximum(x.abs(), new.abs()))
        error = (wide * _combine(ERROR, slopes) / allowed).flatten(1).square().mean(1).sqrt()
        error = error.nan_to_num(nan=torch.inf, posinf=torch.inf)  # an overflow in a step too wide: try a shorter one
        evaluations[rows] += 6
        accepted = error <= 1.0
        stuck = bool((~accepted & (h.abs() < least)).any())
        if stuck or int(evaluations.max()) > most:
            raise ValueError(
                f"the solver did not reach the end within {most} function evaluations at tolerance {tolerance}"
            )
        taken = rows[accepted]
        state[taken], slope[taken] = new[accepted], slopes[-1][accepted]
        time[taken] = (t + h)[accepted]
        factor = (SAFETY * error.clamp(min=1e-10) ** -0.2).clamp(SHRINK, GROW)
        step[rows] = h * torch.where(accepted, factor, factor.clamp(max=1.0))
        rows = rows[~(accepted & last)]
    return state, evaluations


def _combine(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    terms = [weight * slope for weight, slope in zip(weights, slopes, strict=True) if weight]
    return sum(terms[1:], terms[0])
