"""What is trained: three modules whose one `forward` returns named loss terms, already weighted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from ddmi.base.errors import UserError
from ddmi.base.planes import pack, reduced, unpack
from ddmi.base.randomness import normal, uniform
from ddmi.config import Config
from ddmi.domains.base import Batch
from ddmi.model import flow
from ddmi.model.autoencoder import D2CVAE, as_channels_last
from ddmi.model.diffusion import Diffusion, DiffusionConfig, dropped
from ddmi.model.losses import (
    PatchDiscriminator,
    SpectralNorm,
    hinge_discriminator,
    hinge_generator,
    linear_anneal,
    noisy,
)
from ddmi.model.posterior import Posterior
from ddmi.training.latents import LatentBatch
from ddmi.training.precision import autocast, of_stage
from ddmi.training.trajectories import JumpBatch

Terms = dict[str, Tensor]


class AutoencoderObjective(nn.Module):
    """Stage 1, Eq. 9: likelihood + lambda_z KL + spectral regularisation (+ perceptual and adversarial options).

    `decoder_only` keeps the encoder as it is, so that the latents stay the same, and leaves out what shapes them: the
    KL and the spectral norms.
    """

    def __init__(self, config: Config, decoder_only: bool = False) -> None:
        super().__init__()
        self.config, self.settings, self.decoder_only = config, config.autoencoder.objective, decoder_only
        self.precision = of_stage(config.training, "autoencoder")
        self.model = as_channels_last(D2CVAE(config.autoencoder, config.domain))
        if decoder_only:
            for part in (self.model.encoder, self.model.moments):
                part.requires_grad_(False)
        self.spectral = None
        if self.settings.spectral_weight and not decoder_only:
            encoder = nn.ModuleList([self.model.encoder, self.model.moments])  # type: ignore[list-item]
            self.spectral = SpectralNorm(encoder, self.settings.spectral_iterations)
        self.perceptual: tuple[nn.Module, ...] = ()  # a tuple, so that its frozen weights enter no checkpoint
        if self.settings.perceptual:
            from ddmi.metrics.features.perceptual import load_perceptual

            self.perceptual = (load_perceptual(self.settings.perceptual),)
        self.discriminator = None
        if self.settings.adversarial_weight:
            self.discriminator = PatchDiscriminator(
                self.settings.discriminator_width, self.settings.discriminator_layers
            )

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the optimiser."""
        training = self.config.training
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        own = {"params": trained, "lr": training.autoencoder_learning_rate}
        if self.discriminator is None:
            return [own]
        other = {
            "params": list(self.discriminator.parameters()),
            "lr": self.settings.discriminator_learning_rate,
            "betas": (0.5, 0.9),
        }
        return [own, other]

    def forward(self, batch: Batch, progress: float) -> Terms:
        """Terms to be added up; `progress` is the share of training that is done."""
        with autocast(batch.x.device.type, self.precision):
            return self._terms(batch, progress)

    def _terms(self, batch: Batch, progress: float) -> Terms:
        settings, model = self.settings, self.model
        channels, cells = model.latent_shape  # type: ignore[misc]
        posterior = model.encode(batch.x)  # type: ignore[operator]
        z = posterior.sample(normal((channels, cells), batch.seeds, "posterior"))
        if most := settings.decoder_noise if self.decoder_only else settings.latent_noise:
            noise = normal((channels, cells), batch.seeds, "latent noise")
            share = most * uniform(batch.seeds, "latent noise share")
            z = unpack(noisy(pack(z, model.layout), noise, share), model.layout)  # type: ignore[arg-type]
        signal = model.decode(reduced(z, batch.shrink))  # type: ignore[operator]
        score = self.config.domain.likelihood(signal, batch)
        terms = {"reconstruction": score.loss}
        if not self.decoder_only:
            weight = linear_anneal(settings.kl_start, settings.kl_end, settings.kl_portion, progress)
            terms["kl"] = weight * posterior.kl().mean()
        if self.spectral is not None:
            weight = linear_anneal(settings.spectral_weight, 0.0, 1.0, progress) / (channels * cells)
            terms["spectral"] = weight * self.spectral()
        if not self.perceptual and self.discriminator is None:
            return terms
        if score.prediction is None or score.target is None:
            raise UserError(
                "perceptual and adversarial losses look at images: set domain.sampling=patch or domain.points=0"
            )
        for network in self.perceptual:
            distance = network.to(score.target.device)(score.prediction, score.target)
            terms["perceptual"] = settings.perceptual_weight * distance.mean()
        if self.discriminator is not None:
            terms |= self._adversarial(
                score.prediction, score.target, score.period, progress >= settings.adversarial_start
            )
        return terms

    def _adversarial(self, fake: Tensor, real: Tensor, period: float, joined: bool) -> Terms:
        """Hinge losses. The generator's goes through a frozen copy of the discriminator: one backward serves both."""
        assert self.discriminator is not None
        frozen = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        evaluated = functional_call(self.discriminator, frozen, (fake, period))
        loss = hinge_discriminator(self.discriminator(real, period), self.discriminator(fake.detach(), period))
        weight = self.settings.adversarial_weight if joined else 0.0
        return {"adversarial": weight * hinge_generator(evaluated), "discriminator": loss * float(joined)}


class DiffusionObjective(nn.Module):
    """Stage 2, Eq. 10, on cached posteriors: z is sampled anew at each visit, and the encoder never runs."""

    def __init__(self, config: Config, model: Diffusion) -> None:
        super().__init__()
        self.config, self.precision = config, of_stage(config.training, "diffusion")
        self.model = as_channels_last(model)

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the optimiser."""
        return [{"params": list(self.model.parameters()), "lr": self.config.training.diffusion_learning_rate}]

    def forward(self, batch: LatentBatch, progress: float) -> Terms:
        """{"diffusion": mean squared error of the predicted noise}."""
        with autocast(batch.mean.device.type, self.precision):
            return {"diffusion": denoising_loss(self.model, batch)}  # type: ignore[arg-type]


class DistillationObjective(nn.Module):
    """Stage 3: a flow map that starts as the denoiser learns the jumps between states of its trajectories."""

    def __init__(self, config: Config, teacher: Diffusion) -> None:
        super().__init__()
        self.config, self.precision = config, of_stage(config.training, "distillation")
        self.model = as_channels_last(flow.student_of(teacher))

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the optimiser."""
        return [{"params": list(self.model.parameters()), "lr": self.config.training.diffusion_learning_rate}]

    def forward(self, batch: JumpBatch, progress: float) -> Terms:
        """{"distillation": mean squared error of the v of each jump}."""
        model: Diffusion = self.model  # type: ignore[assignment]
        turn = model.angle(batch.t) - model.angle(batch.s)
        condition = model.null(len(batch.t)) if batch.condition is None else batch.condition
        with autocast(batch.t.device.type, self.precision):
            v = model.velocity(batch.start, batch.t, batch.s, condition)
        return {"distillation": (v - flow.slope(batch.start, batch.end, turn)).square().mean()}


def denoising_loss(model: Diffusion, batch: LatentBatch) -> Float[Tensor, ""]:
    """Eq. 10 on a batch: z, noise, time and whether the condition is seen depend on the seeds of the batch alone."""
    posterior = Posterior(batch.mean, batch.log_variance, model.layout)
    shape, device = tuple(batch.mean.shape[1:]), batch.mean.device
    deviation = torch.exp(0.5 * posterior.log_variance)
    z = model.normalise(posterior.mean + deviation * normal(shape, batch.seeds, "posterior").to(device))
    noise = normal(shape, batch.seeds, "noise").to(device)
    t = times(model.config, batch.seeds).to(device)
    condition = batch.condition
    null = model.null(len(z))
    if condition is not None and null is not None and model.config.condition_dropout:
        keep = uniform(batch.seeds, "condition").to(device) >= model.config.condition_dropout
        condition = dropped(condition, null, keep)
    return model(z, noise, t, condition)


def times(config: DiffusionConfig, seeds: Sequence[int]) -> Float[Tensor, "b"]:
    """Diffusion times of a training step, whole numbers in [0, T)."""
    if config.times == "uniform":
        share = uniform(seeds, "time")
    else:
        share = torch.sigmoid(config.times_mean + config.times_deviation * normal((), seeds, "time"))
    return (share * config.timesteps).floor().clamp(max=config.timesteps - 1)
