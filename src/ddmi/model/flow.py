"""The flow map: one evaluation leads from any time of the probability-flow ODE to any less noisy one.

In the coordinates z_t = cos(phi) x + sin(phi) epsilon, a jump from t to s is a rotation by D = phi_t - phi_s,

    z_s = cos(D) z_t - sin(D) v(z_t, t, s),

exact for one v, which a network learns by regression on the trajectories of a guided denoiser (consistency
mid-training, Hu et al. 2025, arXiv:2509.24526). At s = t it is the v of the denoiser, where the network starts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from ddmi.model.diffusion import Diffusion, DiffusionConfig, Guidance, alpha_bar
from ddmi.model.unet import Condition

STEPS = 16
"""Of the solver that trajectories are made with; a flow map learns the jumps between their states."""


def grid(config: DiffusionConfig) -> Float[Tensor, "k"]:
    """Times of the STEPS + 1 states of a trajectory, in float64: from T - 1 to 0 even in log-SNR, then -1, the data."""
    import numpy as np

    shares = alpha_bar(config)
    first, last = shares[[-1, 0]].logit().tolist()
    logs = torch.nn.functional.logsigmoid(torch.linspace(first, last, STEPS, dtype=torch.float64))
    times = np.interp(-logs.numpy(), -shares.log().numpy(), np.arange(config.timesteps))  # log-linear, as `shares`
    return torch.tensor([config.timesteps - 1, *times[1:-1], 0, -1], dtype=torch.float64)


def at(config: DiffusionConfig, places: Float[Tensor, "m"]) -> Float[Tensor, "m"]:
    """The times at these places of the grid, from 0 (noise) to STEPS (data), linear between the states."""
    times = grid(config)
    low = places.floor().clamp(max=STEPS - 1).long()
    return torch.lerp(times[low], times[low + 1], places - low)


@torch.no_grad()
def trajectory(
    teacher: Diffusion, z: Float[Tensor, "b c l"], condition: Condition | None, guidance: Guidance
) -> Float[Tensor, "k b c l"]:
    """All states on the way of the probability-flow ODE from this noise to data, at the times of `grid`.

    DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, algorithm 2): a DDIM step towards the predicted data, which is
    extrapolated from the last two predictions; in the first step and in the last, down to no noise, it is not.
    """
    times = grid(teacher.config).float().to(z.device)
    angles = teacher.angle(times).flatten().tolist()
    states, before = [z], None
    for i, (now, then) in enumerate(pairwise(angles)):
        noise = teacher.guided(z, times[i].expand(len(z)), condition, guidance)
        x = (z - math.sin(now) * noise) / math.cos(now)
        ahead = x if before is None or i == STEPS - 1 else 1.5 * x - 0.5 * before
        keep = math.sin(then) / math.sin(now)
        z, before = keep * z + (math.cos(then) - keep * math.cos(now)) * ahead, x
        states.append(z)
    return torch.stack(states)


def student_of(teacher: Diffusion) -> Diffusion:
    """A flow map that is the denoiser still: its second time has no effect yet. It is trained without dropout."""
    config = replace(teacher.config, unet=replace(teacher.config.unet, dropout=0.0))
    student = Diffusion(config, teacher.layout, teacher.channels, target=True)
    if config.condition == "text":
        student.null_tokens, student.null_mask = teacher.null_tokens.clone(), teacher.null_mask.clone()
    own = student.state_dict()
    student.load_state_dict({name: t for name, t in teacher.state_dict().items() if name in own}, strict=False)
    return student


def slope(
    z_t: Float[Tensor, "b c l"], z_s: Float[Tensor, "b c l"], turn: Float[Tensor, "b 1 1"]
) -> Float[Tensor, "b c l"]:
    """The v of the jump between two states of a trajectory: v = (cos(D) z_t - z_s) / sin(D), D = phi_t - phi_s > 0."""
    return (turn.cos() * z_t - z_s) / turn.sin()


def jump(
    student: Diffusion,
    z: Float[Tensor, "b c l"],
    t: Float[Tensor, "b"],
    s: Float[Tensor, "b"],
    condition: Condition | None,
) -> Float[Tensor, "b c l"]:
    """z_s of z_t, by one evaluation."""
    turn = student.angle(t) - student.angle(s)
    return turn.cos() * z - turn.sin() * student.velocity(z, t, s, condition)


@torch.no_grad()
def follow(
    student: Diffusion,
    z: Float[Tensor, "b c l"],
    condition: Condition | None,
    steps: int,
    eta: float = 0.0,
    generators: Sequence[torch.Generator] = (),
) -> Float[Tensor, "b c l"]:
    """From noise to data in so many jumps, even in `grid`.

    With eta > 0 each jump but the last goes further, at eta = 1 to the data, and new noise of the generators, one for
    each row, leads back to where it was to end (gamma-sampling of Kim et al. 2023, arXiv:2310.02279).
    """
    places = torch.linspace(0, STEPS, steps + 1, dtype=torch.float64)
    ends = at(student.config, places).tolist()
    further = at(student.config, places + eta * (STEPS - places)).tolist()
    condition = student.null(len(z)) if condition is None else condition
    for now, then, beyond in zip(ends[:-1], ends[1:], further[1:], strict=True):
        t, s, u = (z.new_full((len(z),), time) for time in (now, then, beyond))
        z = jump(student, z, t, u, condition)
        if beyond < then:
            (signal, spread), (there, left) = student.shares(s), student.shares(u)
            fresh = torch.stack([torch.randn(z.shape[1:], generator=g) for g in generators]).to(z)
            z = (signal / there).sqrt() * z + (spread - signal * left / there).sqrt() * fresh
    return z
