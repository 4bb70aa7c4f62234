"""What a configuration costs before it is trained: parameters, memory, and the time of a step on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ddmi.base.planes import cells, dimensions
from ddmi.base.progress import working
from ddmi.config import Config
from ddmi.model.autoencoder import D2CVAE, as_channels_last
from ddmi.model.diffusion import Diffusion
from ddmi.model.encoders.base import Encoder
from ddmi.model.unet import Condition
from ddmi.training.precision import CANDIDATES, at_once, of_stage

TOKENS = 16
"""Tokens of the texts that a conditional denoiser is timed with."""
SHORTEST = 4
"""Fewer signals than this are not timed: small batches do not tell what large ones take."""
BUDGET = 0.5
"""Seconds of arithmetic, at the machine's product rate, up to which a step is timed instead of counted."""
PATIENCE = 2.0
"""A first step that took this many seconds is believed; there is no second one."""
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Step:
    """One optimiser step of a stage.

    Args:
        parameters: of everything that is trained in it.
        operations: floating-point operations of one signal, forwards and backwards, without the encoder's regulariser.
        weights, gradients, optimiser, averages, activations: bytes; activations are what one backward pass keeps.
        seconds: of a step here. timed: the number of signals that were timed; 0 where the operations were counted and
            divided by the machine's product rate, which no network reaches: a lower bound.
    """

    parameters: int
    operations: int
    weights: int
    gradients: int
    optimiser: int
    averages: int
    activations: int
    seconds: float
    timed: int

    @property
    def memory(self) -> int:
        """All of it, in bytes."""
        return self.weights + self.gradients + self.optimiser + self.averages + self.activations


Loss = Callable[[nn.Module, int], Tensor]
"""(networks, number of signals) -> a scalar that depends on all that a training step computes."""


def networks(config: Config, device: str = "meta") -> tuple[D2CVAE, Diffusion]:
    """Both networks, by default without memory for weights. "As many classes as the data has" counts as one."""
    diffusion = replace(config.diffusion, classes=config.diffusion.classes or ("any",))
    with torch.device(device):
        autoencoder = D2CVAE(config.autoencoder, config.domain)
        denoiser = Diffusion(diffusion, config.domain.layout, config.autoencoder.latent_channels)
    # Once transformers has loaded a model, torch.linspace may ignore the device context: it patches the function, and
    # torch remembers the patched one as the constructor to redirect.
    return autoencoder.to(device), denoiser.to(device)


def parameters(autoencoder: D2CVAE, denoiser: Diffusion) -> dict[str, int]:
    """Number of parameters of each part."""

    def count(*modules: nn.Module) -> int:
        return sum(p.numel() for module in modules for p in module.parameters())

    return {
        "encoder": count(autoencoder.encoder, autoencoder.moments),
        "decoder": count(autoencoder.decoder),
        "read-out": count(autoencoder.readout, autoencoder.head),
        "denoiser": count(denoiser),
    }


def autoencoder_loss(config: Config, encoder: Encoder) -> Loss:
    """Stage 1 on random signals, evaluated at `domain.points` points, or at as many as the encoder reads."""
    shape = encoder.shape
    points = config.domain.points or math.prod(shape[1:])
    axes = dimensions(config.domain.layout)

    def loss(model: nn.Module, count: int) -> Tensor:
        device = next(model.parameters()).device
        noise = torch.randn(count, *model.latent_shape, device=device)  # type: ignore[misc]
        posterior, signal = model(torch.rand(count, *shape, device=device), noise)
        periods = torch.ones(config.domain.periods, device=device) if config.domain.periods else None
        values = signal(torch.rand(count, points, axes, device=device) * 2 - 1, periods)
        return values.float().abs().mean() + posterior.kl().mean()

    return loss


def diffusion_loss(config: Config) -> Loss:
    """Stage 2 on random latents."""
    channels, length = config.autoencoder.latent_channels, cells(config.domain.layout)

    def loss(model: nn.Module, count: int) -> Tensor:
        device = next(model.parameters()).device
        condition = None
        if config.diffusion.condition == "text":
            tokens = torch.randn(count, TOKENS, config.diffusion.text_width, device=device)
            condition = Condition(tokens, torch.ones(count, TOKENS, dtype=torch.bool, device=device))
        elif config.diffusion.condition == "class":
            condition = Condition(labels=torch.zeros(count, dtype=torch.long, device=device))
        z, noise = (torch.randn(count, channels, length, device=device) for _ in range(2))
        return model(z, noise, torch.rand(count, device=device) * (config.diffusion.timesteps - 1), condition)

    return loss


def count(loss: Loss, model: nn.Module, batch: int) -> tuple[int, int]:
    """(operations, bytes kept for the backward pass) of one step on networks without memory (device "meta")."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    own = {p.untyped_storage()._cdata for p in model.parameters()}
    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            value = loss(model, batch)
        value.backward()
    model.zero_grad()
    return counter.get_total_flops(), sum(s.nbytes() for key, s in kept.items() if key not in own)


def product_rate(precision: str = "fp32", rows: int = 8192, width: int = 256, total: int = 1 << 16) -> float:
    """Floating-point operations a second of a (total x width) @ (width x width) product here, `rows` at a time.

    What the read-out does, and an upper bound of what any network does. Takes some tenths of a second.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a = torch.randn(total, width, device=device, dtype=PRECISIONS[precision])
    b = torch.randn(width, width, device=device, dtype=PRECISIONS[precision])
    out = torch.empty(min(rows, total), width, device=device, dtype=PRECISIONS[precision])

    def run() -> None:
        for part in a.split(rows):
            torch.mm(part, b, out=out[: len(part)])

    return 2 * total * width * width / seconds(run, repeats=5)


def seconds(work: Callable[[], object], repeats: int = 3, warm: bool = True) -> float:
    """Median time of some work, after a first run that does not count (unless `warm` is False)."""
    times = []
    for _ in range(repeats + warm):
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return median(times[int(warm) :])


def time_step(loss: Loss, model: nn.Module, batch: int, precision: str) -> float:
    """Seconds of a forward pass, a backward pass and a step of AdamW with `batch` signals on this machine."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = as_channels_last(model.to(device))
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.0)
    mixed = torch.autocast(device, PRECISIONS[precision]) if precision != "fp32" else nullcontext()

    def run() -> None:
        with mixed:
            value = loss(model, batch)
        value.backward()
        optimiser.step()
        optimiser.zero_grad()

    first = seconds(run, repeats=1, warm=False)
    return first if first > PATIENCE else min(first, seconds(run, repeats=1, warm=False))


@working("counting operations, and timing a few steps")
def steps(config: Config) -> dict[str, Step]:
    """The cost of a step of each stage."""
    autoencoder, denoiser = networks(config)
    training = at_once(config.training)
    kept = int(config.diffusion.ema_decay > 0) + len(config.diffusion.ema_lengths)
    stages: dict[str, tuple[nn.Module, Loss, int, int]] = {
        "autoencoder": (
            autoencoder,
            autoencoder_loss(config, autoencoder.encoder),
            training.batch_size,
            int(training.autoencoder_ema > 0),
        ),
        "diffusion": (denoiser, diffusion_loss(config), training.diffusion_batch, kept),
    }
    found = {}
    for k, (name, (model, loss, batch, averages)) in enumerate(stages.items()):
        own = of_stage(training, name)
        rates = {precision: product_rate(precision) for precision in (CANDIDATES if own == "auto" else (own,))}
        rate = max(rates.values())
        single, _ = count(loss, model, 1)
        micro = batch // training.accumulation
        size = 4 * sum(p.numel() for p in model.parameters())
        signals = min(batch, int(BUDGET * rate / single))
        took, timed = single * batch / rate, 0
        if signals >= min(SHORTEST, batch):
            timed = signals
            network = networks(config, "cpu")[k]
            took = min(time_step(loss, network, signals, precision) for precision in rates) * batch / signals
        found[name] = Step(
            parameters=size // 4,
            operations=single,
            weights=size,
            gradients=size,
            optimiser=2 * size,
            averages=size * averages,
            activations=count(loss, model, micro)[1] // (2 if max(rates, key=lambda p: rates[p]) != "fp32" else 1),
            seconds=took,
            timed=timed,
        )
    return found
