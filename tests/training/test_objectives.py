"""Objectives are sums of named terms, each with the weight and the formula of the paper."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch

from ddmi.base.errors import UserError
from ddmi.base.planes import pack, unpack
from ddmi.base.randomness import normal, uniform
from ddmi.model.diffusion import Diffusion, alpha_bar
from ddmi.model.losses import ElboConfig, laplace
from ddmi.model.unet import Condition
from ddmi.training.latents import LatentBatch
from ddmi.training.objectives import AutoencoderObjective, DiffusionObjective, times


def batch(pictures, domain):
    dataset = tiny.dataset(domain, pictures, "train")
    return dataset.batch([0, 1], torch.Generator().manual_seed(0), [21, 22])


def objective(domain=None, decoder_only=False, **settings):
    config = tiny.config(domain)
    elbo = ElboConfig(**settings)
    torch.manual_seed(0)
    autoencoder = replace(config.autoencoder, objective=elbo)
    made = AutoencoderObjective(replace(config, autoencoder=autoencoder), decoder_only)
    tiny.awake(made, 0.05)
    return made


def test_stage_one_is_equation_9(pictures):
    made, given = objective(kl_start=0.1, kl_end=0.3, kl_portion=0.5), batch(pictures, tiny.image())
    terms = made(given, 0.25)
    assert terms.keys() == {"reconstruction", "kl", "spectral"}
    model = made.model
    with torch.no_grad():
        posterior, signal = model(given.x, normal((4, 16), [21, 22], "posterior"))
        assert torch.allclose(terms["reconstruction"], laplace(signal(given.coordinates, given.periods), given.targets))
        assert torch.allclose(terms["kl"], 0.2 * posterior.kl().mean())
    largest = sum(
        torch.linalg.svdvals(m.weight.flatten(1))[0]
        for m in [*model.encoder.modules(), model.moments]  # the moments are the last layer of the encoder
        if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)
    )
    assert terms["spectral"].item() == pytest.approx(10 * 0.75 * float(largest.detach()) / (4 * 16), rel=0.02)


def test_the_weights_move_with_training(pictures):
    made, given = objective(kl_start=0.1, kl_end=0.3), batch(pictures, tiny.image())
    early, late = made(given, 0.0), made(given, 1.0)
    assert (late["kl"] / early["kl"]).item() == pytest.approx(3.0, rel=1e-4)
    assert late["spectral"].item() == 0.0


def test_the_noise_belongs_to_the_items(pictures):
    made, given = objective(spectral_weight=0.0), batch(pictures, tiny.image())
    first = made(given, 0.0)["reconstruction"]
    torch.manual_seed(77)
    assert torch.equal(made(given, 0.0)["reconstruction"], first)
    assert not torch.equal(made(replace(given, seeds=(5, 6)), 0.0)["reconstruction"], first)
    assert "spectral" not in made(given, 0.0)


def test_the_mean_over_two_is_the_mean_of_each(pictures):
    """What lets a batch be divided between processes and passes."""
    made, dataset = objective(spectral_weight=0.0), tiny.dataset(tiny.image(), pictures, "train")
    parts = [dataset.batch([i], torch.Generator().manual_seed(0), [21 + i]) for i in (0, 1)]
    both = dataset.batch([0, 1], torch.Generator().manual_seed(0), [21, 22])
    for name, value in made(both, 0.3).items():
        assert torch.allclose(value, sum(made(part, 0.3)[name] for part in parts) / 2, atol=1e-6)


def test_every_parameter_is_trained(pictures):
    domain = tiny.image(points=64, sampling="patch")
    made = objective(
        domain, adversarial_weight=0.1, adversarial_start=0.5, discriminator_layers=2, discriminator_width=4
    )
    terms = made(batch(pictures, domain), 0.9)
    assert {"adversarial", "discriminator"} <= terms.keys()
    sum(terms.values()).backward()
    assert not [name for name, p in made.named_parameters() if p.grad is None]
    groups = made.groups()
    assert sum(len(g["params"]) for g in groups) == len(list(made.parameters()))
    assert groups[1]["betas"] == (0.5, 0.9) and groups[1]["lr"] == 5e-5


def test_the_adversary_waits_and_does_not_train_on_the_generators_term(pictures):
    domain = tiny.image(points=64, sampling="patch")
    made = objective(
        domain, adversarial_weight=0.1, adversarial_start=0.5, discriminator_layers=2, discriminator_width=4
    )
    given = batch(pictures, domain)
    early = made(given, 0.4)
    assert early["adversarial"].item() == early["discriminator"].item() == 0.0
    late = made(given, 0.5)
    gradients = torch.autograd.grad(late["adversarial"], list(made.discriminator.parameters()), allow_unused=True)
    assert all(g is None for g in gradients)
    ours = torch.autograd.grad(
        late["discriminator"], list(made.model.parameters()), allow_unused=True, retain_graph=True
    )
    assert all(g is None for g in ours)


def test_losses_that_look_at_pictures_need_some(pictures):
    made = objective(adversarial_weight=0.1, discriminator_layers=2, discriminator_width=4)
    with pytest.raises(UserError, match=r"domain.sampling=patch"):
        made(batch(pictures, tiny.image()), 0.9)


def latents(condition=None):
    numbers = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 3, 4, 16, generator=numbers).unbind(0)
    return LatentBatch(mean, log_variance, condition, (5, 6, 7))


def denoiser(**settings):
    config = replace(tiny.config(), diffusion=replace(tiny.DIFFUSION, **settings))
    model = tiny.awake(Diffusion(config.diffusion, config.domain.layout, 4), 0.1)
    model.mean.fill_(0.5)
    model.std.fill_(2.0)
    return DiffusionObjective(config, model)


def test_stage_two_is_equation_10():
    made, given = denoiser(), latents()
    z = (given.mean + (0.5 * given.log_variance).exp() * normal((4, 16), [5, 6, 7], "posterior") - 0.5) / 2
    noise, t = normal((4, 16), [5, 6, 7], "noise"), (uniform([5, 6, 7], "time") * 50).floor()
    assert ((t >= 0) & (t <= 49)).all()
    share = alpha_bar(made.model.config)[t.long()].float()[:, None, None]
    with torch.no_grad():
        predicted = made.model.epsilon(share.sqrt() * z + (1 - share).sqrt() * noise, t)
        assert torch.allclose(made(given, 0.0)["diffusion"], (predicted - noise).square().mean(), rtol=1e-5)


def test_conditions_are_dropped_as_often_as_asked():
    labels = Condition(labels=torch.tensor([0, 1, 2]))
    always = denoiser(condition="class", classes=("ant", "bee", "cat"), condition_dropout=1.0)
    null = Condition(labels=torch.tensor([3, 3, 3]))
    assert torch.allclose(always(latents(labels), 0.0)["diffusion"], always(latents(null), 0.0)["diffusion"])
    never = denoiser(condition="class", classes=("ant", "bee", "cat"), condition_dropout=0.0)
    assert not torch.allclose(
        never(latents(labels), 0.0)["diffusion"], never(latents(null), 0.0)["diffusion"], rtol=1e-5
    )
    keep = uniform(list(range(5000)), "condition") >= 0.1
    assert 0.88 < float(keep.float().mean()) < 0.92


@pytest.mark.parametrize("decoder_only", [False, True])
def test_noise_on_the_latent_is_interpolated_in_units_of_that_latent(decoder_only, pictures):
    setting = {"decoder_noise" if decoder_only else "latent_noise": 0.6}
    made = objective(decoder_only=decoder_only, spectral_weight=0.0, **setting)
    given = batch(pictures, tiny.image())
    model, seeds = made.model, [21, 22]
    with torch.no_grad():
        z = pack(model.encode(given.x).sample(normal((4, 16), seeds, "posterior")), model.layout)
        share = 0.6 * uniform(seeds, "latent noise share")[:, None, None]
        size = z.square().mean(dim=(1, 2), keepdim=True).sqrt()
        mixed = (1 - share) * z + share * size * normal((4, 16), seeds, "latent noise")
        signal = model.decode(unpack(mixed, model.layout))
        expected = laplace(signal(given.coordinates, given.periods), given.targets)
    assert torch.allclose(made(given, 0.0)["reconstruction"], expected, rtol=1e-4)
    plain = objective(spectral_weight=0.0)(given, 0.0)["reconstruction"]
    assert not torch.allclose(plain, expected, rtol=1e-3)


def test_reduced_planes_are_what_is_decoded(pictures):
    domain = tiny.image(equivariance=1.0)
    made, given = objective(domain, spectral_weight=0.0), batch(pictures, domain)
    model = made.model
    with torch.no_grad():
        z = model.encode(given.x).sample(normal((4, 16), [21, 22], "posterior"))
        small = torch.nn.functional.avg_pool2d(z["xy"], round(1 / given.shrink))
        expected = laplace(model.decode({"xy": small})(given.coordinates, given.periods), given.targets)
    assert torch.allclose(made(given, 0.0)["reconstruction"], expected, rtol=1e-4)


def test_decoder_only_training_leaves_the_encoder_alone(pictures):
    config, given = tiny.config(), batch(pictures, tiny.image())
    noise = replace(config.autoencoder, objective=ElboConfig(latent_noise=0.9))
    made = AutoencoderObjective(replace(config, autoencoder=noise), decoder_only=True)
    tiny.awake(made, 0.05)
    terms = made(given, 0.5)
    assert terms.keys() == {"reconstruction"}
    with torch.no_grad():
        _, signal = made.model(given.x, normal((4, 16), [21, 22], "posterior"))
        assert torch.allclose(terms["reconstruction"], laplace(signal(given.coordinates, given.periods), given.targets))
    terms["reconstruction"].backward()
    model = made.model
    still = {*model.encoder.parameters(), *model.moments.parameters()}
    trained = {parameter for group in made.groups() for parameter in group["params"]}
    assert all(parameter.grad is None for parameter in still) and not still & trained
    assert still | trained == set(model.parameters()) and all(p.grad is not None for p in trained)


def test_times_are_uniform_or_logit_normal():
    uniformly = times(replace(tiny.DIFFUSION, timesteps=1000), range(2000))
    assert uniformly.min() >= 0 and uniformly.max() <= 999 and (uniformly == uniformly.floor()).all()
    quantiles = torch.tensor([0.1587, 0.5, 0.8413])  # of the normal: mean -1, 0, +1 deviations
    assert torch.allclose(uniformly.quantile(quantiles), 1000 * quantiles, atol=40)
    few = times(replace(tiny.DIFFUSION, timesteps=4), range(2000))
    assert torch.allclose(few.long().bincount() / 2000, torch.full((4,), 0.25), atol=0.04)  # the last as the others
    settings = replace(tiny.DIFFUSION, timesteps=1000, times="logit-normal", times_mean=0.4, times_deviation=0.8)
    found = times(settings, range(2000))
    expected = 1000 * torch.sigmoid(torch.tensor([0.4 - 0.8, 0.4, 0.4 + 0.8]))
    assert torch.allclose(found.quantile(quantiles), expected, atol=20)  # four standard errors of a quantile
    assert found.max() <= 999 and (found == found.floor()).all()
