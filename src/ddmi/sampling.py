"""Drawing latents: discrete schedulers of diffusers, and the adaptive solver of the probability-flow ODE (Table 12)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ddmi.diffusion import Diffusion, DiffusionConfig, Sampler, alpha_bar, betas
from ddmi.errors import UserError, unknown
from ddmi.ode import rk45
from ddmi.randomness import derive, generator
from ddmi.unet import Condition

SAMPLERS = get_args(Sampler)
DEFAULT_STEPS = {"ddpm": 1000, "ddim": 50, "dpm": 25, "unipc": 20, "heun": 25, "rk45": 0}


def check_sampler(name: str) -> None:
    """Raises UserError for a sampler that does not exist."""
    if name not in SAMPLERS:
        raise unknown("sampler", name, SAMPLERS)


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How latents are drawn.

    Args:
        sampler: "ddpm" (ancestral, section B.3), "ddim", "dpm" (DPM-Solver++ of order 2), "unipc", "heun", or "rk45".
        steps: 0 for the sampler's own default; without effect on "rk45".
        eta: noise of "ddim": 0 deterministic, 1 ancestral (DDIM eq. 16).
        tolerance: of "rk45".
        guidance_scale: w of classifier-free guidance.
    """

    sampler: Sampler = "dpm"
    steps: int = 0
    eta: float = 0.0
    tolerance: float = 1e-3
    guidance_scale: float = 1.0

    def __post_init__(self) -> None:
        check_sampler(self.sampler)
        if self.steps < 0:
            raise UserError(f"steps must be a positive whole number (or 0 for the default), not {self.steps}")
        if not 0 <= self.eta <= 1:
            raise UserError(f"eta must be from 0 to 1, not {self.eta}")
        if not 0 < self.tolerance < 1:
            raise UserError(f"tolerance must be between 0 and 1, not {self.tolerance}")
        if not math.isfinite(self.guidance_scale):
            raise UserError(f"the guidance scale must be a finite number, not {self.guidance_scale}")


def own_way(config: DiffusionConfig, sampler: str | None = None, steps: int = 0) -> tuple[str, int]:
    """Sampler and steps: what is asked for, else the model's own; of another sampler than its own, that one's steps.

    Steps are never 0 but for "rk45", which takes as many as its tolerance needs.

    Raises:
        UserError: an unknown sampler, or more steps than the model has timesteps.
    """
    if not sampler:
        sampler, steps = config.sampler, steps or config.sampling_steps
    check_sampler(sampler)
    return sampler, _steps(config, sampler, steps)


def _steps(config: DiffusionConfig, sampler: str, steps: int) -> int:
    """The steps of a sampler, its default where `steps` is 0; never more than the model has timesteps."""
    if sampler == "rk45":
        return 0
    if steps > config.timesteps:
        raise UserError(f"steps must be at most {config.timesteps}, the timesteps of this model, not {steps}")
    return steps or min(DEFAULT_STEPS[sampler], config.timesteps)


@dataclass(frozen=True)
class Drawn:
    """Latents as the autoencoder knows them, and the function evaluations that each one cost."""

    z: Float[Tensor, "b c l"]
    evaluations: Int[Tensor, "b"]


def scheduler(diffusion: Diffusion, config: SamplingConfig) -> Any:
    """A fresh diffusers scheduler with our noise schedule: schedulers keep state, so there is one for each call."""
    import diffusers

    # DDIM takes the paper's times. The others are spaced evenly in log-SNR down to the least noise: a last jump from
    # far away would smooth out fine detail.
    even = config.sampler in ("dpm", "unipc", "heun")
    common: dict[str, Any] = {
        "num_train_timesteps": diffusion.config.timesteps,
        "trained_betas": betas(diffusion.config).numpy(),
        "prediction_type": "epsilon",
        "timestep_spacing": "linspace" if even else "trailing",
    }
    if config.sampler == "ddpm":
        return diffusers.DDPMScheduler(**common, clip_sample=False, variance_type="fixed_small")
    if config.sampler == "ddim":
        return diffusers.DDIMScheduler(**common, clip_sample=False, set_alpha_to_one=True)
    if config.sampler == "dpm":
        return diffusers.DPMSolverMultistepScheduler(
            **common, algorithm_type="dpmsolver++", solver_order=2, use_lu_lambdas=True
        )
    if config.sampler == "unipc":
        return diffusers.UniPCMultistepScheduler(**common, use_karras_sigmas=True)
    return diffusers.HeunDiscreteScheduler(**common, use_karras_sigmas=True)


@torch.no_grad()
def draw(
    diffusion: Diffusion,
    seeds: Sequence[int],
    condition: Condition | None,
    config: SamplingConfig,
    progress: Callable[[int, int], None] | None = None,
) -> Drawn:
    """One latent for each seed; row k depends on seeds[k] and on its row of the condition alone.

    Args:
        progress: called with (steps done, steps in all); of "rk45" the number is not known before.
    """
    cells = sum(plane.shape[0] * plane.shape[1] for plane in diffusion.layout)
    device = diffusion.mean.device
    generators = [generator(seed, "sampling") for seed in seeds]
    z = torch.stack([torch.randn(diffusion.channels, cells, generator=g) for g in generators]).to(device)
    if config.sampler == "rk45":
        return _solve(diffusion, z, condition, config)

    steps = scheduler(diffusion, config)
    steps.set_timesteps(_steps(diffusion.config, config.sampler, config.steps), device=device)
    z = z * steps.init_noise_sigma
    options: dict[str, Any] = {"ddpm": {"generator": generators}}.get(config.sampler, {})
    if config.sampler == "ddim":
        options = {"eta": config.eta, "generator": generators if config.eta else None}
    for i, t in enumerate(steps.timesteps):
        scaled = steps.scale_model_input(z, t)
        noise = diffusion.guided(scaled.float(), t.expand(len(z)).float(), condition, config.guidance_scale)
        z = steps.step(noise, t, z, return_dict=False, **options)[0]
        if progress:
            progress(i + 1, len(steps.timesteps))
    evaluations = torch.full((len(z),), len(steps.timesteps), device=device)
    return Drawn(diffusion.restore(z.float()), evaluations)


def _solve(diffusion: Diffusion, z: Tensor, condition: Condition | None, config: SamplingConfig) -> Drawn:
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
        noise = diffusion.guided(state, time(u), part, config.guidance_scale)
        return spread * (noise - spread * state)

    z, evaluations = rk45(derivative, z, *ends, config.tolerance)
    first = torch.zeros(len(z), device=z.device)
    noise = diffusion.guided(z, first, condition, config.guidance_scale)
    signal, spread = diffusion.shares(first)
    z = (z - spread.sqrt() * noise) / signal.sqrt()  # the last denoising step, from t = 0 to data
    return Drawn(diffusion.restore(z), evaluations + 1)


def sample_seeds(seed: int, first: int, count: int) -> list[int]:
    """The seeds of samples first .. first + count - 1 under `seed`: sample k has its own, whatever comes with it.

    Raises:
        UserError: a negative seed or number.
    """
    if seed < 0 or first < 0:
        raise UserError(f"a seed and the number of a sample are 0 or more, not {min(seed, first)}")
    return [derive(seed, "sample", k) for k in range(first, first + count)]
