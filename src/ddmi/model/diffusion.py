"""Latent diffusion (section 3.2, B.2): noise schedule, mixed parameterisation, denoising loss, guidance.

The network does not know what it predicts; this module does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddmi.base.errors import UserError, check_share
from ddmi.base.planes import Layout, pack, unpack
from ddmi.model.unet import Condition, UNet, UNetConfig

Sampler = Literal["flow", "ddpm", "ddim", "dpm", "unipc", "heun", "rk45"]


LEAST_SIGNAL = 0.25
"""Share of the signal's amplitude below which a flow map divides by no less: an error of epsilon would grow 84 times on
the way to v at the last time.
"""


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """Stage 2.

    Args:
        unet: the denoiser.
        timesteps: T, from 2 to 100,000.
        beta_start: first value of a schedule that is linear in sqrt(β).
        beta_end: its last value.
        parameterisation: "mixed" (LSGM, section B.2), "epsilon", or "v": the network gives sqrt(ᾱ) ε - sqrt(1 - ᾱ) z
            (Salimans & Ho 2022, arXiv:2202.00512). As in "mixed", a zero network is then exact for standard normal
            latents; unlike there, no error is enlarged on the way to z, even at the last time.
        times: of the training steps: "uniform" (section 3.2), or "logit-normal": logit(t / T) is normal (Esser et al.
            2024, arXiv:2403.03206).
        times_mean: mean of that normal.
        times_deviation: its standard deviation.
        snr_cap: w(t) = min(SNR, cap) / SNR in Eq. 10 (Hang et al. 2023, arXiv:2303.09556), by which a short training
            learns coarse structure first; 0: w(t) = 1, as in the paper.
        mixing_init: initial logit of a, the share of the network in the mixed prediction, one a channel.
        condition: "text" is cross-attention on token states.
        classes: names of the classes; empty: those of the data.
        text_encoder: "minilm", "clip", "clip:hub:owner/name", "clip:" with a folder, or "hash".
        text_width: width of that encoder's states: 384 for "minilm", 64 for "hash".
        condition_dropout: share of the training samples that see the null condition.
        guidance_scale: default w of sampling; 1 is plain conditional.
        guidance_interval: shares of T between which it applies; outside, w is 1, at one evaluation a step instead of
            two (Kynkäänniemi et al. 2024, arXiv:2404.07724).
        guide_at: share of the training at which a weaker version of the denoiser is kept in the model, for autoguidance
            (Karras et al. 2024, arXiv:2406.02507): its averaged weights, in half precision. 0: none.
        autoguidance: default w of autoguidance, within the same interval, at one evaluation more a step; 1: none.
        sampler: default sampler.
        sampling_steps: default number of steps; 0: the sampler's own.
        ema_decay: of the averaged weights that are sampled from, reached by a warm-up; 0: none.
        ema_lengths: lengths of further averages, as shares of the training, for example 0.05 and 0.1 (Karras et al.
            2024, arXiv:2312.02696): averages of other lengths are made of them afterwards, and the one with the least
            loss on held-out data is sampled from. Empty: none.
    """

    unet: UNetConfig = field(default_factory=UNetConfig)
    timesteps: int = 1000
    beta_start: float = 0.0015
    beta_end: float = 0.0195
    parameterisation: Literal["mixed", "epsilon", "v"] = "mixed"
    times: Literal["uniform", "logit-normal"] = "uniform"
    times_mean: float = 0.0
    times_deviation: float = 1.0
    snr_cap: float = 0.0
    mixing_init: float = -6.0
    condition: Literal["none", "text", "class"] = "none"
    classes: tuple[str, ...] = ()
    text_encoder: str = "clip"
    text_width: int = 768
    condition_dropout: float = 0.1
    guidance_scale: float = 1.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    guide_at: float = 0.0
    autoguidance: float = 1.0
    sampler: Sampler = "dpm"
    sampling_steps: int = 0
    ema_decay: float = 0.9999
    ema_lengths: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 2 <= self.timesteps <= 100_000:
            raise UserError(f"diffusion.timesteps must be from 2 to 100000, not {self.timesteps}")
        if not 0 < self.beta_start <= self.beta_end < 1:
            ends = f"{self.beta_start:g} and {self.beta_end:g}"
            raise UserError(f"diffusion.beta_start and beta_end must rise and lie between 0 and 1, not {ends}")
        if not self.times_deviation > 0:
            raise UserError(f"diffusion.times_deviation must be more than 0, not {self.times_deviation:g}")
        check_interval("diffusion.guidance_interval", self.guidance_interval)
        check_share("diffusion.guide_at", self.guide_at)
        check_share("diffusion.condition_dropout", self.condition_dropout)
        for length in self.ema_lengths:
            if not 0 < length <= 0.25:
                raise UserError(f"diffusion.ema_lengths must be more than 0 and at most 0.25, not {length:g}")
        if self.ema_lengths and not self.ema_decay:
            raise UserError("diffusion.ema_lengths needs an average to compare with: set diffusion.ema_decay")
        if self.autoguidance != 1 and not self.guide_at:
            raise UserError(
                "diffusion.autoguidance needs a weaker version of the model: set diffusion.guide_at, e.g. 0.1"
            )
        if self.snr_cap < 0:
            raise UserError(f"diffusion.snr_cap must be 0 (none) or more, not {self.snr_cap:g}")
        if not 0 <= self.sampling_steps <= self.timesteps:
            allowed = f"from 0 (the sampler's own) to {self.timesteps}, the timesteps"
            raise UserError(f"diffusion.sampling_steps must be {allowed}, not {self.sampling_steps}")


def check_interval(name: str, ends: tuple[float, float]) -> None:
    """Raises UserError for what is no part of [0, 1]."""
    if not 0 <= ends[0] <= ends[1] <= 1:
        raise UserError(f"{name} must rise from 0 to 1 at most, not {list(ends)}")


@dataclass(frozen=True)
class Guidance:
    """Weights of classifier-free guidance and autoguidance (1: none), and the shares of T between which both apply."""

    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    auto: float = 1.0


def betas(config: DiffusionConfig) -> Float[Tensor, "t"]:
    """beta_1 .. beta_T, linear in their square roots (diffusers calls it scaled_linear)."""
    ends = config.beta_start**0.5, config.beta_end**0.5
    return torch.linspace(*ends, config.timesteps, dtype=torch.float64, device="cpu").square()


def alpha_bar(config: DiffusionConfig) -> Float[Tensor, "t"]:
    """The share of the signal's variance at times 0 .. T - 1, in float64 on the CPU: some devices have no float64."""
    return torch.cumprod(1 - betas(config), 0)


class Diffusion(nn.Module):
    """A denoiser of normalised latents.

    Latents travel packed (b, c, l). `mean` and `std` are the latent's statistics by plane and channel, measured on the
    training set; the network only sees latents normalised by them. `null_tokens` is the null condition of a text model.
    `guide` is a weaker version of the same denoiser, where there is one. `flow` is its flow map: a network of the same
    kind with a second time, its `target`, see `flow.py`.
    """

    log_share: Tensor
    mean: Tensor
    std: Tensor
    null_tokens: Tensor
    null_mask: Tensor
    guide: Diffusion | None
    flow: Diffusion | None

    def __init__(self, config: DiffusionConfig, layout: Layout, channels: int, *, target: bool = False) -> None:
        super().__init__()
        self.config, self.layout, self.channels = config, layout, channels
        self.unet = UNet(
            config.unet,
            layout,
            channels,
            text=config.text_width if config.condition == "text" else 0,
            classes=len(config.classes) if config.condition == "class" else 0,
            target=target,
        )
        if config.parameterisation == "mixed":
            self.mixing = nn.Parameter(torch.full((channels, 1), config.mixing_init))
        logs = alpha_bar(config).log().float()
        self.register_buffer("mean", torch.zeros(len(layout), channels))
        logs = nn.functional.pad(logs, (1, 0)).to(self.mean.device)  # of times -1 .. T - 1
        self.register_buffer("log_share", logs, persistent=False)
        self.register_buffer("std", torch.ones(len(layout), channels))
        if config.condition == "text":
            self.register_buffer("null_tokens", torch.zeros(1, config.text_width))
            self.register_buffer("null_mask", torch.ones(1, dtype=torch.bool))
        self.guide = self.flow = None

    # statistics ------------------------------------------------------------------------------------------------------

    def _spread(self, statistic: Float[Tensor, "p c"]) -> Float[Tensor, "c l"]:
        counts = torch.tensor([plane.shape[0] * plane.shape[1] for plane in self.layout], device=statistic.device)
        return torch.repeat_interleave(statistic, counts, dim=0).t()

    def normalise(self, z: Float[Tensor, "b c l"]) -> Float[Tensor, "b c l"]:
        """Latents with mean 0 and standard deviation 1 in each channel of each plane."""
        return (z - self._spread(self.mean)) / self._spread(self.std)

    def restore(self, z: Float[Tensor, "b c l"]) -> Float[Tensor, "b c l"]:
        """The inverse of `normalise`."""
        return z * self._spread(self.std) + self._spread(self.mean)

    # the forward process ---------------------------------------------------------------------------------------------

    def shares(self, t: Float[Tensor, "b"]) -> tuple[Float[Tensor, "b 1 1"], Float[Tensor, "b 1 1"]]:
        """alpha-bar and 1 - alpha-bar at times t in [-1, T - 1], log-linear between whole times: 1 and 0 at -1.

        Both are float32 with a relative error of about 1e-6: near t = 0 a plain difference would lose two digits.
        """
        low = t.floor().clamp(-1, self.config.timesteps - 1)
        high = (low + 1).clamp(max=self.config.timesteps - 1)
        ends = self.log_share[low.long() + 1], self.log_share[high.long() + 1]
        log = torch.lerp(*ends, (t - low).to(self.log_share))
        return log.exp()[:, None, None], -log.expm1()[:, None, None]

    def angle(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b 1 1"]:
        """phi in [0, pi / 2], with z_t = cos(phi) z + sin(phi) noise."""
        signal, spread = self.shares(t)
        return torch.atan2(spread.sqrt(), signal.sqrt())

    def diffuse(
        self, z: Float[Tensor, "b c l"], noise: Float[Tensor, "b c l"], t: Float[Tensor, "b"]
    ) -> Float[Tensor, "b c l"]:
        """z_t = sqrt(alpha-bar) z + sqrt(1 - alpha-bar) noise."""
        signal, spread = self.shares(t)
        return signal.sqrt().to(z.dtype) * z + spread.sqrt().to(z.dtype) * noise

    # the network's prediction ----------------------------------------------------------------------------------------

    def epsilon(
        self, z: Float[Tensor, "b c l"], t: Float[Tensor, "b"], condition: Condition | None = None
    ) -> Float[Tensor, "b c l"]:
        """The predicted noise. Mixed parameterisation (LSGM eq. 10): (1 - a) sqrt(1 - alpha-bar) z_t + a net(z_t, t).

        The first part is the exact answer for standard normal latents; the network learns the rest. With "v" it is
        sqrt(1 - alpha-bar) z_t + sqrt(alpha-bar) net(z_t, t).
        """
        output = self._output(z, t, condition)
        if self.config.parameterisation == "epsilon":
            return output
        signal, spread = (share.sqrt().to(z.dtype) for share in self.shares(t))
        if self.config.parameterisation == "v":
            return spread * z + signal * output
        share = torch.sigmoid(self.mixing)
        return (1 - share) * spread * z + share * output

    def velocity(
        self, z: Float[Tensor, "b c l"], t: Float[Tensor, "b"], s: Float[Tensor, "b"], condition: Condition | None
    ) -> Float[Tensor, "b c l"]:
        """Of a flow map: v = cos(phi) epsilon - sin(phi) x of the jump from time t to s; for s = t the denoiser's.

        The output of its network means what it means in the denoiser: v, or epsilon, with the mixed part where there is
        one. From epsilon, v = (epsilon - sin(phi) z_t) / cos(phi), whose divisor is kept from 0.
        """
        output = self._output(z, t, condition, s)
        if self.config.parameterisation == "v":
            return output
        signal, spread = (share.sqrt() for share in self.shares(t))
        beyond = (output - spread * z) / signal.clamp(min=LEAST_SIGNAL)
        return torch.sigmoid(self.mixing) * beyond if self.config.parameterisation == "mixed" else beyond

    def _output(self, z: Tensor, t: Tensor, condition: Condition | None, target: Tensor | None = None) -> Tensor:
        return pack(self.unet(unpack(z, self.layout), t, condition, target), self.layout).float()

    def forward(
        self,
        z: Float[Tensor, "b c l"],
        noise: Float[Tensor, "b c l"],
        t: Float[Tensor, "b"],
        condition: Condition | None = None,
    ) -> Float[Tensor, ""]:
        """Eq. 10 as a mean over latent dimensions; z is normalised."""
        predicted = self.epsilon(self.diffuse(z, noise, t), t, condition)
        return (self.weight(t) * (predicted - noise).square()).mean()

    def weight(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b 1 1"]:
        """w(t) of Eq. 10: min(SNR, cap) / SNR with SNR = alpha-bar / (1 - alpha-bar). Without a cap it is 1, or, of a
        network that predicts v, 1 / alpha-bar: then the loss is the squared error of v.
        """
        signal, spread = self.shares(t)
        if self.config.snr_cap:
            return (self.config.snr_cap * spread / signal).clamp(max=1.0)
        return 1 / signal if self.config.parameterisation == "v" else torch.ones_like(signal)

    # conditions ------------------------------------------------------------------------------------------------------

    def null(self, batch: int) -> Condition | None:
        """The null condition for a batch; None for an unconditional model."""
        if self.config.condition == "text":
            return Condition(self.null_tokens.expand(batch, -1, -1), self.null_mask.expand(batch, -1))
        if self.config.condition == "class":
            return Condition(labels=torch.full((batch,), len(self.config.classes), device=self.mean.device))
        return None

    def guided(
        self,
        z: Float[Tensor, "b c l"],
        t: Float[Tensor, "b"],
        condition: Condition | None,
        guidance: Guidance,
    ) -> Float[Tensor, "b c l"]:
        """The predicted noise, guided within the interval of times; outside, it is plain conditional.

        e(condition) + (w - 1) (e(condition) - e(null)) + (v - 1) (e(condition) - e'(condition)), with the weight w of
        classifier-free guidance (section 4.2), and the weight v of guidance by the weaker model e' (Karras et al. 2024,
        eq. 4). At w = 0 the condition is null throughout. A negative prompt, `condition.against`, takes the place of
        the null condition. Only what counts is evaluated.
        """
        null = self.null(len(z)) if condition is None or condition.against is None else condition.against
        first, last = (share * (self.config.timesteps - 1) for share in guidance.interval)
        inside = ((first <= t) & (t <= last))[:, None, None]
        guided = bool(inside.any())
        asked = null if condition is None or null is None or guidance.scale == 0 else condition
        if asked is None or asked is null or null is None or guidance.scale == 1 or not guided:
            strong = noise = self.epsilon(z, t, asked)
        else:
            both = self.epsilon(torch.cat([z, z]), torch.cat([t, t]), null.join(asked))
            without, strong = both.chunk(2)
            noise = without + torch.where(inside, guidance.scale, 1.0) * (strong - without)
        if self.guide is not None and guidance.auto != 1 and guided:
            weak = self.guide.epsilon(z, t, asked)
            noise = noise + torch.where(inside, guidance.auto - 1, 0.0) * (strong - weak)
        return noise


def dropped(condition: Condition, null: Condition, keep: Tensor) -> Condition:
    """The condition where `keep` (b,) is True, the null condition elsewhere."""
    joined = condition.join(null)
    batch = len(keep)
    index = torch.arange(batch, device=keep.device)
    return joined.take(torch.where(keep, index, index + batch))
