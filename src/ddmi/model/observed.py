"""Latents that agree with observations, sampled with the denoiser as it is: decoupled noise annealing (Zhang et al.
2024, arXiv:2407.01521) with samples by perturbation and optimisation (Papandreou & Yuille 2010).

At each noise level the denoiser gives the mean of z_0, N(mean, r^2) stands for p(z_0 | z_t), and z_0 is sampled from
its product with the likelihood: the mean and the observed values are perturbed by their own noise, and the perturbed
posterior is minimised, with gradients through decoder and read-out alone. Then z_0 is diffused to the next, lower level
with fresh noise. r^2 is the mean variance of z_0 by Tweedie's formula of second order: the slope of the denoiser (Boys
et al. 2023, arXiv:2310.06721). Exact for independent Gaussian latents of one variance and a linear Gaussian likelihood;
elsewhere an approximation that more steps improve.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ddmi.base.errors import UserError, check_positive
from ddmi.base.planes import cells
from ddmi.base.randomness import generator
from ddmi.model.diffusion import Diffusion, alpha_bar
from ddmi.model.sampling import Drawn, SamplingConfig, check_guide, times
from ddmi.model.unet import Condition

ITERATIONS = 10
"""Gradient steps at each noise level."""
FIRST = 0.05
"""Root mean square of the first of them, in normalised latents."""
STEPS = 50
"""Noise levels in place of "flow" and "rk45", which take few steps or as many as they need."""
FARTHER = 4.0
"""How much larger than the least sum so far one may become before its step is taken back."""
CONTRADICTION = 10.0
"""How many deviations of their noise two values at one place may be apart, but at most 0.5."""


@dataclass(frozen=True, eq=False)
class Observations:
    """Values that a signal is known to have.

    Args:
        coordinates: where, (n, d) in [-1, 1]; (n, k, d): each value is the mean of the signal at k points. Of a
            radiance field (n, 6): origins and unit directions of rays.
        values: (n, c), what the signal is there: colours in [-1, 1], 1 inside a shape, 0 outside, 0.5 on its surface;
            colours of rays in [0, 1].
        noise: standard deviation of the values; of a shape's 0 and 1 the probability that one is wrong.
        mix: weights of the signal's channels; the values, (n, 1), are then of the weighted sum. None: of each channel.

    Raises:
        UserError: nothing is observed, shapes that do not fit, or values that are not finite.
    """

    coordinates: Tensor
    values: Tensor
    noise: float = 0.1
    mix: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        at, values = (torch.as_tensor(x, dtype=torch.float32) for x in (self.coordinates, self.values))
        object.__setattr__(self, "coordinates", at)
        object.__setattr__(self, "values", values)
        check_positive("the noise of observations", self.noise)
        if at.dim() not in (2, 3) or values.dim() != 2 or len(at) != len(values):
            shapes = f"{tuple(at.shape)} and {tuple(values.shape)}"
            raise UserError(f"observations are coordinates (n, d) or (n, k, d) and values (n, c), not {shapes}")
        if not len(at):
            raise UserError("nothing is observed: sample without observations")
        if not torch.isfinite(at).all() or not torch.isfinite(values).all():
            raise UserError("coordinates and values of observations must be finite numbers")

    def within(self, axes: int) -> Observations:
        """The same, checked against a signal of so many coordinates.

        Raises:
            UserError: points outside of the box [-1, 1], or two values at one place that noise cannot explain.
        """
        at, values = self.coordinates, self.values
        if at.shape[-1] != axes:
            raise UserError(f"observations of this model have {axes} coordinates, not {at.shape[-1]}")
        outside = (at.abs() > 1).flatten(1).any(1)
        if outside.any():
            first = [round(x, 4) for x in at[outside][0].flatten()[:axes].tolist()]
            raise UserError(f"{int(outside.sum())} observations lie outside of [-1, 1], the first at {first}")
        _, place = torch.unique(at.flatten(1), dim=0, return_inverse=True)
        if int(place.max()) + 1 < len(at):
            spread, none = place[:, None].expand_as(values), torch.zeros_like(values)
            low, high = (none.scatter_reduce(0, spread, values, end, include_self=False) for end in ("amin", "amax"))
            gap = (high - low).amax(1)
            if float(gap.max()) > min(CONTRADICTION * self.noise, 0.5):
                where = [round(x, 4) for x in at[place == int(gap.argmax())][0].flatten()[:axes].tolist()]
                raise UserError(
                    f"observations contradict one another at {where}: values differ by {float(gap.max()):g}"
                )
        return self

    def take(self, rows: Int[Tensor, "m"]) -> Observations:
        """Some of them."""
        return replace(self, coordinates=self.coordinates[rows], values=self.values[rows])

    def thinned(self, most: int) -> Observations:
        """At most so many of them, a random part that is always the same."""
        if len(self.values) <= most:
            return self
        return self.take(torch.randperm(len(self.values), generator=generator("observations"))[:most])

    def to(self, device: torch.device | str) -> Observations:
        """The same on another device."""
        return replace(self, coordinates=self.coordinates.to(device), values=self.values.to(device))


Misfit = Callable[[Tensor, Tensor], tuple[Float[Tensor, "b"], Float[Tensor, "b c l"]]]
"""(latents, standard normal perturbations (b, n, c) of the values) -> negative log-likelihoods and their gradients."""


@torch.no_grad()
def draw_observed(
    diffusion: Diffusion,
    seeds: Sequence[int],
    condition: Condition | None,
    config: SamplingConfig,
    misfit: Misfit,
    shape: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> Drawn:
    """As `sampling.draw`, from the posterior given observations; the sampler of `config` counts for its steps alone.

    Args:
        misfit: of latents as the autoencoder knows them. shape: (n, c) of the observed values.
        progress: called with (noise levels done, in all).
    """
    config = config.of(diffusion.config)
    check_guide(diffusion, config)
    device = diffusion.mean.device
    generators = [generator(seed, "sampling") for seed in seeds]
    latent = (diffusion.channels, cells(diffusion.layout))
    zero = torch.zeros(1, *latent, device=device)
    scale = diffusion.restore(zero + 1) - diffusion.restore(zero)

    def noise(size: Sequence[int]) -> Tensor:
        return torch.stack([torch.randn(*size, generator=g) for g in generators]).to(device)

    def normalised(z: Tensor, jitter: Tensor) -> tuple[Tensor, Tensor]:
        loss, slope = misfit(diffusion.restore(z), jitter)
        return loss, slope * scale

    own = config.steps if config.sampler not in ("flow", "rk45") else STEPS
    visited = times(diffusion.config.timesteps, min(own, diffusion.config.timesteps))
    shares = [*alpha_bar(diffusion.config)[visited].tolist(), 1.0]
    z = noise(latent)
    for i, t in enumerate(visited):
        now, then = shares[i : i + 2]
        with torch.enable_grad():
            z = z.requires_grad_()
            predicted = diffusion.guided(z, z.new_full((len(z),), t), condition, config.guidance)
            probe = noise(latent)
            (slope,) = torch.autograd.grad(predicted, z, probe)  # Hutchinson's estimate of the trace of the Jacobian
        z, predicted = z.detach(), predicted.detach()
        left = 1 - math.sqrt(1 - now) * (probe * slope).mean((1, 2), keepdim=True)
        variance = ((1 - now) / now * left).clamp((1 - now) * 0.02, 1 - now)
        mean = (z - math.sqrt(1 - now) * predicted) / math.sqrt(now)
        mean, jitter = mean + variance.sqrt() * noise(latent), noise(shape)
        z = minimised(lambda z, jitter=jitter: normalised(z, jitter), mean, variance)  # type: ignore[misc]
        if then < 1:
            z = math.sqrt(then) * z + math.sqrt(1 - then) * noise(latent)
        if progress:
            progress(i + 1, len(visited))
    return Drawn(diffusion.restore(z), torch.full((len(z),), len(visited), device=device))


def minimised(
    loss: Callable[[Tensor], tuple[Float[Tensor, "b"], Float[Tensor, "b c l"]]],
    mean: Float[Tensor, "b c l"],
    variance: Float[Tensor, "b 1 1"],
    iterations: int = ITERATIONS,
) -> Float[Tensor, "b c l"]:
    """The z of least loss(z) + |z - mean|^2 / (2 variance) that gradient steps from the mean meet, each row for itself.

    Their lengths are those of Barzilai & Borwein (1988); a step to a much larger sum is taken back and shortened.
    """

    def at(z: Tensor) -> tuple[Tensor, Tensor]:
        """The sum, times the variance, and its gradient."""
        value, slope = loss(z)
        apart = z - mean
        return variance * value[:, None, None] + 0.5 * _dot(apart, apart), variance * slope + apart

    least, slope = at(mean)
    best, best_slope, here, here_slope = mean, slope, mean, slope
    length = (FIRST / slope.square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-12)).clamp(max=1.0)
    for _ in range(iterations):
        z = here - length * here_slope
        total, slope = at(z)
        moved, turned = z - here, slope - here_slope
        curved = _dot(moved, turned)
        length = torch.where(curved > 0, curved / _dot(turned, turned).clamp(min=1e-30), 0.5 * length).clamp(max=1.0)
        lost = ~(total <= FARTHER * least)  # also of NaN
        length = torch.where(lost, 0.25 * length.nan_to_num(nan=FIRST), length)
        here, here_slope = torch.where(lost, best, z), torch.where(lost, best_slope, slope)
        better = total < least
        best, best_slope = torch.where(better, z, best), torch.where(better, slope, best_slope)
        least = torch.where(better, total, least)
    return best


def _dot(a: Tensor, b: Tensor) -> Float[Tensor, "b 1 1"]:
    return (a * b).sum((1, 2), keepdim=True)
