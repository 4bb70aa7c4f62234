"""Terms of the training objectives: likelihoods, regularisers, adversarial losses (Eq. 9 to 12, section B.1)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ddmi.base.errors import check_share


@dataclass(frozen=True, kw_only=True)
class ElboConfig:
    """Table 10, rows "First stage training", and options that the paper does not use.

    Args:
        kl_start: λ_z at the beginning, of a KL in nats per latent dimension, beside a likelihood per signal value. Eq.
            9 read literally has the divergence of the whole latent there.
        kl_end: λ_z at the end; it rises linearly.
        kl_portion: share of training over which it rises.
        spectral_weight: of the spectral norms of the encoder and the layer of its moments, divided by the number of
            latent dimensions as the KL is; falls linearly to 0 at the end. 0: off.
        spectral_iterations: power iterations a step; the vectors are kept from step to step.
        latent_noise: z is decoded as (1 - τ) z + τ r ε, with τ uniform up to this for each signal and r the root mean
            square of that z: a decoder that tolerates what the denoiser leaves (Yang et al. 2025, arXiv:2507.15856). 0:
            off.
        decoder_noise: the same in the steps of `training.decoder_steps`, where more of it costs the latents nothing.
        perceptual: "" (off), "efficientnet-lite0", or the path of a file of LPIPS-VGG weights. Needs patch sampling.
        perceptual_weight: of that term.
        adversarial_weight: of the generator's hinge loss; 0: no discriminator. Needs patch sampling.
        adversarial_start: share of training after which the patch discriminator joins.
        discriminator_width: of the patch discriminator.
        discriminator_layers: of the patch discriminator.
        discriminator_learning_rate: of the patch discriminator.
    """

    kl_start: float = 1e-4
    kl_end: float = 1e-3
    kl_portion: float = 0.9
    spectral_weight: float = 10.0
    spectral_iterations: int = 1
    latent_noise: float = 0.0
    decoder_noise: float = 0.0
    perceptual: str = ""
    perceptual_weight: float = 0.1
    adversarial_weight: float = 0.0
    adversarial_start: float = 0.8
    discriminator_width: int = 64
    discriminator_layers: int = 3
    discriminator_learning_rate: float = 5e-5

    def __post_init__(self) -> None:
        check_share("autoencoder.objective.latent_noise", self.latent_noise)
        check_share("autoencoder.objective.decoder_noise", self.decoder_noise)


def noisy(
    z: Float[Tensor, "b c l"], noise: Float[Tensor, "b c l"], share: Float[Tensor, "b"]
) -> Float[Tensor, "b c l"]:
    """(1 - share) z + share r noise, r being the root mean square of each z, which takes no gradient."""
    scale = z.detach().square().mean(dim=(1, 2), keepdim=True).sqrt()
    share = share[:, None, None].to(z)
    return (1 - share) * z + share * scale * noise.to(z)


def linear_anneal(start: float, end: float, portion: float, progress: float) -> float:
    """`start` at progress 0, `end` from progress = portion on, a straight line between."""
    share = 1.0 if portion <= 0 else min(max(progress, 0.0) / portion, 1.0)
    return start + (end - start) * share


def laplace(prediction: Float[Tensor, "*s"], target: Float[Tensor, "*s"]) -> Float[Tensor, ""]:
    """-log p of a Laplace likelihood of unit scale up to a constant: the mean absolute difference (l1, section B.1)."""
    return (prediction.float() - target.float()).abs().mean()


def gaussian(prediction: Float[Tensor, "*s"], target: Float[Tensor, "*s"]) -> Float[Tensor, ""]:
    """-log p of Eq. 11 at sigma = 1 up to a constant: half the mean squared difference."""
    return 0.5 * (prediction.float() - target.float()).square().mean()


def bernoulli(logits: Float[Tensor, "*s"], target: Float[Tensor, "*s"]) -> Float[Tensor, ""]:
    """-log p of Eq. 12 with omega-hat = sigmoid(logits), in nats a value."""
    return F.binary_cross_entropy_with_logits(logits.float(), target.float())


class SpectralNorm(nn.Module):
    """Sum of the largest singular values of a network's weight matrices (Vahdat et al. 2021), by power iteration.

    Convolutions count as matrices (outputs, rest). Equal shapes are iterated together; the singular vectors are buffers
    that each call improves by a few iterations, so that the estimate follows the weights at almost no cost.
    """

    FIRST = 20  # iterations of the first call
    calls: Tensor

    def __init__(self, network: nn.Module, iterations: int) -> None:
        super().__init__()
        self.iterations = iterations
        groups: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                groups[(module.weight.shape[0], module.weight[0].numel())].append(module.weight)
        self._weights = list(groups.values())  # a plain list: the network owns its parameters
        for i, (shape, weights) in enumerate(groups.items()):
            self.register_buffer(f"v{i}", F.normalize(torch.randn(len(weights), shape[1], 1), dim=1))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self) -> Float[Tensor, ""]:
        total = torch.zeros((), device=self.calls.device)
        iterations = self.FIRST if int(self.calls) == 0 else self.iterations
        for i, weights in enumerate(self._weights):
            matrix = torch.stack([weight.flatten(1) for weight in weights]).float()
            v: Tensor = getattr(self, f"v{i}")
            with torch.no_grad():
                for _ in range(max(iterations, 1)):
                    u = F.normalize(matrix @ v, dim=1)
                    v = F.normalize(matrix.transpose(1, 2) @ u, dim=1)
                getattr(self, f"v{i}").copy_(v)
            total = total + (u * (matrix @ v)).sum()
        self.calls += 1
        return total


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017) that also sees the sampling period, as a fourth channel."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Conv2d(4, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for i in range(1, layers):
            inputs, outputs = width * min(2 ** (i - 1), 8), width * min(2**i, 8)
            parts += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.GroupNorm(1, outputs), nn.LeakyReLU(0.2)]
        parts.append(nn.Conv2d(width * min(2 ** (layers - 1), 8), 1, 3, padding=1))
        self.layers = nn.Sequential(*parts)

    def forward(self, image: Float[Tensor, "b 3 h w"], period: float) -> Float[Tensor, "b 1 p q"]:
        scale = torch.full_like(image[:, :1], period)
        return self.layers(torch.cat([image, scale], dim=1))


def hinge_discriminator(real: Tensor, fake: Tensor) -> Float[Tensor, ""]:
    """Hinge loss of the discriminator (Lim & Ye 2017)."""
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def hinge_generator(fake: Tensor) -> Float[Tensor, ""]:
    """Hinge loss of the generator."""
    return -fake.mean()
