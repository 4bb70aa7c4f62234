"""Sampling latents: jumps of a flow map, ancestral steps and DDIM, schedulers of diffusers, and the adaptive solver of
the probability-flow ODE (Table 12).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import Any, SupportsIndex, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ddmi.base.errors import UserError, unknown
from ddmi.base.planes import cells
from ddmi.base.randomness import derive, generator
from ddmi.model import flow
from ddmi.model.diffusion import Diffusion, DiffusionConfig, Guidance, Sampler, alpha_bar, betas, check_interval
from ddmi.model.ode import rk45
from ddmi.model.unet import Condition

SAMPLERS = get_args(Sampler)
DEFAULT_STEPS = {"flow": 4, "ddpm": 1000, "ddim": 50, "dpm": 25, "unipc": 20, "heun": 25, "rk45": 0}


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How to sample: the one way to say so, from the command line to the sampler.

    None, and 0 steps, stand for the model's own; `of` fills them in.

    Args:
        seed: sample k of a seed is always the same.
        sampler: "flow" (of a distilled model), "ddpm" (ancestral, section B.3), "ddim", "dpm" (DPM-Solver++ of order
            2), "unipc", "heun", or "rk45".
        steps: of another sampler than the model's, 0 stands for that sampler's default; without effect on "rk45".
        eta: noise of "ddim" and "flow": 0 deterministic, 1 ancestral (DDIM eq. 16), or renewed in every jump.
        tolerance: of "rk45".
        guidance_scale: w of classifier-free guidance; 1 is plain conditional. All guidance is fixed inside a flow map.
        guidance_interval: shares of the time axis between which both kinds of guidance apply.
        autoguidance: w of guidance by a weaker version of the model, which it must hold; 1: none.

    Raises:
        UserError: a sampler that does not exist, or a value out of its range.
    """

    seed: int = 0
    sampler: str | None = None
    steps: int = 0
    eta: float = 0.0
    tolerance: float = 1e-3
    guidance_scale: float | None = None
    guidance_interval: tuple[float, float] | None = None
    autoguidance: float | None = None

    def __post_init__(self) -> None:
        if self.sampler is not None and self.sampler not in SAMPLERS:
            raise unknown("sampler", self.sampler, SAMPLERS)
        if not isinstance(self.steps, SupportsIndex) or index(self.steps) < 0:
            raise UserError(f"steps must be a positive whole number (or 0 for the default), not {self.steps}")
        if not 0 <= self.eta <= 1:
            raise UserError(f"eta must be from 0 to 1, not {self.eta}")
        if not 0 < self.tolerance < 1:
            raise UserError(f"tolerance must be between 0 and 1, not {self.tolerance}")
        for name, weight in (("guidance scale", self.guidance_scale), ("weight of autoguidance", self.autoguidance)):
            if weight is not None and not math.isfinite(weight):
                raise UserError(f"the {name} must be a finite number, not {weight}")
        if self.guidance_interval is not None:
            check_interval("guidance_interval", self.guidance_interval)

    def of(self, model: DiffusionConfig) -> SamplingConfig:
        """The same with the model's own values where none are given; steps are then 0 for "rk45" alone.

        Raises:
            UserError: more steps than the model has timesteps, or other guidance than that inside its flow map.
        """
        sampler, steps = self.sampler or model.sampler, self.steps or (0 if self.sampler else model.sampling_steps)
        if sampler == "rk45":
            steps = 0  # as many as the tolerance needs
        elif steps > model.timesteps:
            raise UserError(f"steps must be at most {model.timesteps}, the timesteps of this model, not {steps}")
        else:
            steps = steps or min(DEFAULT_STEPS[sampler], model.timesteps)
        if sampler == "flow":
            for name in ("guidance_scale", "guidance_interval", "autoguidance"):
                if getattr(self, name) not in (None, own := getattr(model, name)):
                    raise UserError(
                        f"{name} is fixed at {own} inside the flow map of this model: leave it out, or choose another "
                        "sampler (ddpm, ddim, dpm, unipc, heun, rk45)"
                    )
        return replace(
            self,
            sampler=sampler,
            steps=steps,
            guidance_scale=model.guidance_scale if self.guidance_scale is None else self.guidance_scale,
            guidance_interval=self.guidance_interval or model.guidance_interval,
            autoguidance=model.autoguidance if self.autoguidance is None else self.autoguidance,
        )

    @property
    def guidance(self) -> Guidance:
        """Of a configuration that `of` has filled in."""
        assert self.guidance_scale is not None and self.guidance_interval is not None and self.autoguidance is not None
        return Guidance(self.guidance_scale, self.guidance_interval, self.autoguidance)

    def told(self, model: DiffusionConfig) -> dict[str, Any]:
        """What the samples of a model depend on, beside the seed: names of this class and their values."""
        filled = self.of(model)
        told = {"sampler": filled.sampler, "steps": filled.steps, "guidance_scale": filled.guidance_scale}
        if filled.sampler == "rk45":
            told["tolerance"] = self.tolerance
        if filled.sampler in ("ddim", "flow") and self.eta:
            told["eta"] = self.eta
        for name in ("guidance_interval", "autoguidance"):
            if getattr(filled, name) != getattr(model, name):
                told[name] = getattr(filled, name)
        return told


@dataclass(frozen=True)
class Drawn:
    """Latents as the autoencoder knows them, and the function evaluations that each one cost."""

    z: Float[Tensor, "b c l"]
    evaluations: Int[Tensor, "b"]


def scheduler(diffusion: Diffusion, sampler: str | None) -> Any:
    """A fresh diffusers scheduler of "dpm", "unipc" or "heun" with our noise schedule; schedulers keep state.

    Its times are spaced evenly in log-SNR (or as Karras et al. 2022 have it) down to the least noise: a last jump from
    far away would smooth out fine detail.
    """
    import diffusers

    common: dict[str, Any] = {
        "num_train_timesteps": diffusion.config.timesteps,
        "trained_betas": betas(diffusion.config).numpy(),
        "prediction_type": "epsilon",
        "timestep_spacing": "linspace",
    }
    if sampler == "dpm":
        return diffusers.DPMSolverMultistepScheduler(
            **common, algorithm_type="dpmsolver++", solver_order=2, use_lu_lambdas=True
        )
    if sampler == "unipc":
        return diffusers.UniPCMultistepScheduler(**common, use_karras_sigmas=True)
    return diffusers.HeunDiscreteScheduler(**common, use_karras_sigmas=True)


@torch.no_grad()
def draw(
    diffusion: Diffusion,
    seeds: Sequence[int],
    condition: Condition | None,
    config: SamplingConfig,
) -> Drawn:
    """One latent for each of these seeds (of `sample_seeds`); row k depends on seeds[k] and on its row of the condition
    alone.

    Raises:
        UserError: autoguidance of a model that holds no weaker version of itself, "flow" of one that was not distilled,
            or too many steps.
    """
    config = config.of(diffusion.config)
    guidance = config.guidance
    if config.sampler == "flow" and diffusion.flow is None:
        raise UserError(
            "this model has no flow map: distil it (ddmi train RUN --stage distillation), or choose another sampler"
        )
    if config.sampler != "flow":
        check_guide(diffusion, config)
    shape = diffusion.channels, cells(diffusion.layout)
    device = diffusion.mean.device
    generators = [generator(seed, "sampling") for seed in seeds]
    z = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)
    if diffusion.flow is not None and config.sampler == "flow":
        z = flow.follow(diffusion.flow, z, condition, config.steps, config.eta, generators)
        return Drawn(diffusion.restore(z), torch.full((len(z),), config.steps, device=device))
    if config.sampler == "rk45":
        return _solve(diffusion, z, condition, guidance, config.tolerance)
    if config.sampler in ("ddpm", "ddim"):
        eta = 1.0 if config.sampler == "ddpm" else config.eta
        return _descend(diffusion, z, condition, guidance, config.steps, eta, generators)

    steps = scheduler(diffusion, config.sampler)
    steps.set_timesteps(config.steps, device=device)
    z = z * steps.init_noise_sigma
    for t in steps.timesteps:
        scaled = steps.scale_model_input(z, t)
        noise = diffusion.guided(scaled.float(), t.expand(len(z)).float(), condition, guidance)
        z = steps.step(noise, t, z, return_dict=False)[0]
    evaluations = torch.full((len(z),), len(steps.timesteps), device=device)
    return Drawn(diffusion.restore(z.float()), evaluations)


def check_guide(diffusion: Diffusion, config: SamplingConfig) -> None:
    """Raises UserError for autoguidance of a model that holds no weaker version of itself."""
    if config.guidance.auto != 1 and diffusion.guide is None:
        raise UserError("this model holds no weaker version of itself for autoguidance: train with diffusion.guide_at")


def times(timesteps: int, steps: int) -> list[int]:
    """The times that "ddpm" and "ddim" visit: evenly spaced from T - 1 down to 0, all of them where steps = T.

    The last one is 0 and not T / steps - 1: a jump to the data from there would smooth out fine detail.
    """
    return [round(t) for t in torch.linspace(timesteps - 1, 0, steps, dtype=torch.float64).tolist()]


def _descend(
    diffusion: Diffusion,
    z: Tensor,
    condition: Condition | None,
    guidance: Guidance,
    steps: int,
    eta: float,
    generators: Sequence[torch.Generator],
) -> Drawn:
    """DDIM eq. 12 with the noise of eq. 16: at eta = 1 ancestral sampling (DDPM eq. 7, posterior variance)."""
    visited = times(diffusion.config.timesteps, steps)
    shares = [*alpha_bar(diffusion.config)[visited].tolist(), 1.0]  # the last step leads to the data
    for i, t in enumerate(visited):
        now, then = shares[i : i + 2]
        noise = diffusion.guided(z, z.new_full((len(z),), t), condition, guidance)
        variance = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
        keep = math.sqrt(then / now)
        z = keep * z + (math.sqrt(1 - then - variance) - keep * math.sqrt(1 - now)) * noise
        if variance:
            fresh = torch.stack([torch.randn(z.shape[1:], generator=g) for g in generators])
            z = z + math.sqrt(variance) * fresh.to(z)
    return Drawn(diffusion.restore(z), torch.full((len(z),), len(visited), device=z.device))


def _solve(diffusion: Diffusion, z: Tensor, condition: Condition | None, guidance: Guidance, tolerance: float) -> Drawn:
    """The probability-flow ODE (Song et al. 2021, eq. 13) in u = log(sigma), sigma^2 = (1 - a) / a, a = alpha-bar.

    There it reads dz/du = sqrt(1 - a) (epsilon(z) - sqrt(1 - a) z): zero for standard normal latents, so the solver
    only has to follow what is not normal about them.
    """
    log_sigma = -0.5 * alpha_bar(diffusion.config).logit()  # (T,), rising
    ends = float(log_sigma[-1]), float(log_sigma[0])
    log_sigma = log_sigma.to(z)

    def time(u: Tensor) -> Tensor:
        """The (fractional) diffusion time at which log(sigma) is u."""
        u = u.clamp(log_sigma[0], log_sigma[-1])
        high = torch.searchsorted(log_sigma, u.contiguous()).clamp(1, len(log_sigma) - 1)
        below, above = log_sigma[high - 1], log_sigma[high]
        return (high - 1) + (u - below) / (above - below)

    def derivative(state: Tensor, u: Tensor, rows: Tensor) -> Tensor:
        spread = torch.sigmoid(2 * u).sqrt()[:, None, None]  # sqrt(1 - a)
        part = None if condition is None else condition.take(rows)
        noise = diffusion.guided(state, time(u), part, guidance)
        return spread * (noise - spread * state)

    z, evaluations = rk45(derivative, z, *ends, tolerance)
    first = torch.zeros(len(z), device=z.device)
    noise = diffusion.guided(z, first, condition, guidance)
    signal, spread = diffusion.shares(first)
    z = (z - spread.sqrt() * noise) / signal.sqrt()  # the last denoising step, from t = 0 to data
    return Drawn(diffusion.restore(z), evaluations + 1)


def sample_seeds(seed: int, first: int, count: int) -> list[int]:
    """The seeds of samples first .. first + count - 1 under `seed`: sample k has its own, whatever comes with it.

    Raises:
        UserError: a seed or number that is negative or not whole.
    """
    try:
        seed, first = index(seed), index(first)  # one of numpy is the same number
    except TypeError as error:
        raise UserError(f"a seed and the number of a sample are whole numbers, not {seed!r} and {first!r}") from error
    if seed < 0 or first < 0:
        raise UserError(f"a seed and the number of a sample are 0 or more, not {min(seed, first)}")
    return [derive(seed, "sample", k) for k in range(first, first + count)]
