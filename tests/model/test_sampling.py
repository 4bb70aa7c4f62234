"""Samplers with an oracle denoiser: of a Gaussian the exact noise is known, and so is every sample."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import tiny
import torch

from ddmi.base.errors import UserError
from ddmi.base.planes import Plane
from ddmi.base.randomness import generator
from ddmi.model.diffusion import Diffusion, DiffusionConfig, Guidance, alpha_bar, betas
from ddmi.model.flow import student_of
from ddmi.model.sampling import DEFAULT_STEPS, SAMPLERS, SamplingConfig, draw, sample_seeds, scheduler, times
from ddmi.model.unet import Condition

LAYOUT = (Plane(name="xy", axes=(0, 1), size=(4, 4)),)
MEAN, DEVIATION = 0.5, 0.8


class Oracle(Diffusion):
    """Of N(m, s^2): E[noise | z_t] = sqrt(1 - a) (z_t - sqrt(a) m) / (a s^2 + 1 - a), a = alpha-bar."""

    def epsilon(self, z, t, condition=None):
        signal, spread = self.shares(t)
        return spread.sqrt() * (z - signal.sqrt() * MEAN) / (signal * DEVIATION**2 + spread)


@pytest.fixture(scope="module")
def oracle():
    return Oracle(DiffusionConfig(unet=tiny.DIFFUSION.unet), LAYOUT, 4).eval()


def start(seeds):
    return torch.stack([torch.randn(4, 16, generator=generator(seed, "sampling")) for seed in seeds])


def exact(diffusion, seeds):
    """The flow of probability carries each point of a Gaussian along its own quantile."""
    share = alpha_bar(diffusion.config)[-1]
    spread = (share * DEVIATION**2 + 1 - share).sqrt()
    return (MEAN + DEVIATION * (start(seeds) - share.sqrt() * MEAN) / spread).float()


RANDOM = {
    "ddpm": SamplingConfig(sampler="ddpm"),
    "ddim": SamplingConfig(sampler="ddim", steps=500, eta=1.0),
}
DETERMINISTIC = {  # with the largest mean error that is allowed: a few times what was measured
    "ddim": (SamplingConfig(sampler="ddim", steps=200), 0.03),
    "dpm": (SamplingConfig(sampler="dpm", steps=100), 0.02),
    "unipc": (SamplingConfig(sampler="unipc", steps=100), 0.02),
    "heun": (SamplingConfig(sampler="heun", steps=100), 0.02),
    "rk45": (SamplingConfig(sampler="rk45", tolerance=1e-5), 0.004),
}


@pytest.mark.parametrize("name", RANDOM)
def test_random_samplers_find_the_gaussian(oracle, name):
    """1024 numbers: the standard errors of mean and deviation are 0.025 and 0.018."""
    z = draw(oracle, sample_seeds(0, 0, 16), None, RANDOM[name]).z
    assert float(z.mean()) == pytest.approx(MEAN, abs=0.075)
    assert float(z.std()) == pytest.approx(DEVIATION, abs=0.055)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_deterministic_samplers_follow_the_flow_of_probability(oracle, name):
    config, tolerance = DETERMINISTIC[name]
    seeds = sample_seeds(1, 0, 32)
    z = draw(oracle, seeds, None, config).z
    assert float((z - exact(oracle, seeds)).abs().mean()) < tolerance
    assert float(z.mean()) == pytest.approx(MEAN, abs=0.055)
    assert float(z.std()) == pytest.approx(DEVIATION, abs=0.05)


def test_more_steps_are_nearer(oracle):
    seeds = sample_seeds(1, 0, 4)
    flow = exact(oracle, seeds)
    errors = [
        float((draw(oracle, seeds, None, SamplingConfig(sampler="ddim", steps=n)).z - flow).abs().mean())
        for n in (10, 40, 160)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_latents_are_returned_in_their_own_units(oracle):
    scaled = Oracle(oracle.config, LAYOUT, 4).eval()
    scaled.mean.fill_(5.0)
    scaled.std.fill_(2.0)
    seeds, config = sample_seeds(0, 0, 2), SamplingConfig(sampler="ddim", steps=10)
    plain = draw(oracle, seeds, None, config).z
    assert torch.allclose(draw(scaled, seeds, None, config).z, 2 * plain + 5, atol=1e-5)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    config = replace(tiny.DIFFUSION, condition="class", classes=("ant", "bee", "cat"))
    denoiser = tiny.awake(Diffusion(config, LAYOUT, 4), 0.1)
    denoiser.flow = tiny.awake(student_of(denoiser), 0.1)
    return denoiser.eval()


LABELS = Condition(labels=torch.tensor([0, 1, 2, 0, 1]))


@pytest.mark.parametrize(
    "config",
    [
        SamplingConfig(sampler="flow"),
        SamplingConfig(sampler="flow", steps=3, eta=0.7),
        SamplingConfig(sampler="ddpm", steps=6, guidance_scale=2.0),
        SamplingConfig(sampler="ddim", steps=6, guidance_scale=2.0),
        SamplingConfig(sampler="ddim", steps=6, eta=1.0),
        SamplingConfig(sampler="dpm", steps=6),
        SamplingConfig(sampler="unipc", steps=6),
        SamplingConfig(sampler="heun", steps=4),
        SamplingConfig(sampler="rk45", tolerance=0.05, guidance_scale=2.0),
    ],
    ids=lambda c: f"{c.sampler}-{c.eta:g}",
)
def test_sample_k_does_not_know_its_company(network, config):
    seeds = sample_seeds(3, 0, 5)
    together = draw(network, seeds, LABELS, config)
    parts = [draw(network, seeds[a:b], LABELS.take(torch.arange(a, b)), config) for a, b in ((0, 1), (1, 4), (4, 5))]
    assert torch.allclose(together.z, torch.cat([p.z for p in parts]), atol=1e-5)
    apart = (together.evaluations - torch.cat([p.evaluations for p in parts])).abs()
    assert apart.max() <= (6 if config.sampler == "rk45" else 0)  # rounding may decide over a step, 6 evaluations
    assert torch.equal(draw(network, seeds, LABELS, config).z, together.z)  # and knows no call before


def test_seeds_and_conditions_make_different_samples(network):
    config = SamplingConfig(sampler="ddim", steps=6, guidance_scale=3.0)
    z = draw(network, sample_seeds(3, 0, 2), Condition(labels=torch.tensor([0, 0])), config).z
    assert not torch.allclose(z[0], z[1], atol=0.1)
    other = draw(network, sample_seeds(3, 0, 2), Condition(labels=torch.tensor([0, 1])), config).z
    assert torch.allclose(other[0], z[0], atol=1e-5) and not torch.allclose(other[1], z[1], atol=1e-4)


def test_seeds_belong_to_their_place():
    assert sample_seeds(0, 3, 2) == sample_seeds(0, 0, 5)[3:]
    assert len({*sample_seeds(0, 0, 100), *sample_seeds(1, 0, 100)}) == 200


@pytest.mark.parametrize("name", ["dpm", "unipc", "heun"])
def test_schedulers_have_our_schedule_and_clip_nothing(oracle, name):
    steps = scheduler(oracle, name)
    assert torch.allclose(steps.alphas_cumprod.double(), alpha_bar(oracle.config), atol=1e-6)
    assert not steps.config.get("clip_sample", False)
    assert steps.config.prediction_type == "epsilon"
    steps.set_timesteps(10)
    assert int(steps.timesteps[0]) == 999  # from pure noise, which is where sampling starts
    assert scheduler(oracle, name) is not steps


def test_dpm_steps_are_even_in_log_snr(oracle):
    steps = scheduler(oracle, "dpm")
    steps.set_timesteps(20)
    share = alpha_bar(oracle.config)[steps.timesteps]
    jumps = share.logit().diff()
    assert int(steps.timesteps[-1]) == 0
    assert float(jumps.min()) > 0.5 * float(jumps.mean()) and float(jumps.max()) < 1.5 * float(jumps.mean())


@pytest.mark.parametrize("name", ["unipc", "heun"])
def test_steps_lie_as_karras_et_al_have_them(oracle, name):
    """Their eq. 5 with rho = 7: even in the seventh root of sigma, from the most noise to the least."""
    steps = scheduler(oracle, name)
    steps.set_timesteps(12)
    sigmas = torch.unique(steps.sigmas[steps.sigmas > 0].double()).flip(0)  # Heun evaluates twice at most of them
    share = alpha_bar(oracle.config)
    most, least = ((1 - share) / share)[[-1, 0]].sqrt()
    roots = torch.linspace(most ** (1 / 7), least ** (1 / 7), 12, dtype=torch.float64)
    torch.testing.assert_close(sigmas, roots**7, rtol=1e-4, atol=0)


def test_ancestral_steps_and_ddim_end_at_no_noise():
    assert times(1000, 1000) == [*range(999, -1, -1)]
    assert times(1000, 3) == [999, 500, 0] and times(1000, 1) == [999]
    for steps in (10, 50, 333, 999):
        visited = times(1000, steps)
        assert (visited[0], visited[-1]) == (999, 0) and len({*visited}) == steps
        assert visited == sorted(visited, reverse=True)


@pytest.mark.parametrize(("name", "eta"), [("ddpm", 1.0), ("ddim", 0.0), ("ddim", 0.5)])
def test_a_thousand_steps_are_those_of_diffusers(oracle, name, eta):
    """Section B.3, against an independent implementation that visits the same times there. Rounding differs."""
    import diffusers

    seeds = sample_seeds(0, 0, 2)
    made = {"ddpm": diffusers.DDPMScheduler, "ddim": diffusers.DDIMScheduler}[name]
    steps = made(trained_betas=betas(oracle.config).numpy(), clip_sample=False, timestep_spacing="trailing")
    steps.set_timesteps(1000)
    options = {"ddpm": {}, "ddim": {"eta": eta}}[name]
    generators = [generator(seed, "sampling") for seed in seeds]
    z = torch.stack([torch.randn(4, 16, generator=g) for g in generators])
    for t in steps.timesteps:
        noise = oracle.epsilon(z, t.expand(2).float())
        z = steps.step(noise, t, z, return_dict=False, generator=generators if eta else None, **options)[0]
    config = SamplingConfig(sampler=name, steps=1000, eta=0.0 if name == "ddpm" else eta)
    ours = draw(oracle, seeds, None, config).z
    assert torch.allclose(ours, z, atol=1e-3)


WEIGHTS, CENTRES, WIDTHS = (torch.tensor(v) for v in ([0.3, 0.5, 0.2], [-1.35, 0.12, 1.48], [0.06, 0.11, 0.03]))


class Mixture(Diffusion):
    """A mixture of three narrow Gaussians of variance 1 altogether: E[noise | z_t] from the posterior of the parts."""

    def epsilon(self, z, t, condition=None):
        signal, spread = (share[..., None] for share in self.shares(t))
        variance = signal * WIDTHS**2 + spread
        apart = z[..., None] - signal.sqrt() * CENTRES
        part = torch.softmax(WEIGHTS.log() - 0.5 * variance.log() - 0.5 * apart.square() / variance, dim=-1)
        return (part * spread.sqrt() * apart / variance).sum(-1)


def kolmogorov_smirnov(z):
    z = z.flatten().sort().values
    exact = (WEIGHTS * torch.special.ndtr((z[:, None] - CENTRES) / WIDTHS)).sum(1)
    return float((exact - torch.arange(len(z)) / len(z)).abs().max())


@pytest.mark.parametrize("name, most", [("ddpm", 0.094), ("ddim", 0.07), ("dpm", 0.05)])
def test_few_steps_on_an_exact_mixture(name, most):
    """Largest difference of distribution functions; 65,536 numbers have a standard error of about 0.003.

    Even times that end at 39 and not at 0 measure 0.105 for "ddpm" and 0.099 for "ddim".
    """
    layout = (Plane(name="xy", axes=(0, 1), size=(64, 64)),)
    mixture = Mixture(DiffusionConfig(unet=tiny.DIFFUSION.unet), layout, 4).eval()
    z = draw(mixture, sample_seeds(0, 0, 4), None, SamplingConfig(sampler=name, steps=25)).z
    assert kolmogorov_smirnov(z) < most


def test_the_price_is_reported(oracle):
    seeds = sample_seeds(0, 0, 2)
    for name in ("ddim", "dpm", "unipc"):
        assert draw(oracle, seeds, None, SamplingConfig(sampler=name, steps=7)).evaluations.tolist() == [7, 7]
        default = draw(oracle, seeds[:1], None, SamplingConfig(sampler=name)).evaluations
        assert default.tolist() == [DEFAULT_STEPS[name]]
    assert draw(oracle, seeds, None, SamplingConfig(sampler="heun", steps=7)).evaluations.tolist() == [13, 13]
    costs = [
        int(draw(oracle, seeds, None, SamplingConfig(sampler="rk45", tolerance=t)).evaluations[0])
        for t in (1e-2, 1e-4, 1e-6)
    ]
    assert costs == sorted(costs) and len(set(costs)) == 3


def test_the_solver_goes_from_the_last_time_to_the_first():
    asked = []

    class Watched(Oracle):
        def epsilon(self, z, t, condition=None):
            asked.extend(t.tolist())
            return super().epsilon(z, t, condition)

    watched = Watched(DiffusionConfig(unet=tiny.DIFFUSION.unet), LAYOUT, 4).eval()
    draw(watched, sample_seeds(0, 0, 1), None, SamplingConfig(sampler="rk45"))
    assert asked[0] == pytest.approx(999, abs=1e-3) and asked[-2] == pytest.approx(0, abs=1e-3) and asked[-1] == 0
    assert min(asked) >= 0 and max(asked) <= 999.001


@pytest.mark.parametrize("name", [s for s in SAMPLERS if s != "flow"])
def test_every_sampler_ends_at_the_data(name):
    """All data at one value: what is left of the noise at t = 0, 0.04, goes with the last denoising step."""

    class Single(Diffusion):
        def epsilon(self, z, t, condition=None):
            signal, spread = self.shares(t)
            return (z - signal.sqrt() * MEAN) / spread.sqrt()

    single = Single(DiffusionConfig(unet=tiny.DIFFUSION.unet), LAYOUT, 4).eval()
    z = draw(single, sample_seeds(0, 0, 2), None, SamplingConfig(sampler=name, steps=20)).z
    assert torch.allclose(z, torch.full_like(z, MEAN), atol=1e-3)


def test_standard_normal_latents_cost_the_solver_next_to_nothing():
    """In half log-SNR the flow stands still for them."""
    diffusion = Diffusion(DiffusionConfig(unet=tiny.DIFFUSION.unet, mixing_init=-50.0), LAYOUT, 4).eval()
    seeds = sample_seeds(0, 0, 2)
    drawn = draw(diffusion, seeds, None, SamplingConfig(sampler="rk45"))
    assert int(drawn.evaluations.max()) <= 20
    assert torch.allclose(drawn.z, start(seeds) * alpha_bar(diffusion.config)[0].sqrt().float(), atol=1e-3)


def test_what_is_left_open_is_the_models_own():
    own = DiffusionConfig(
        sampler="ddim",
        sampling_steps=7,
        guidance_scale=3.0,
        guidance_interval=(0.1, 0.6),
        guide_at=0.1,
        autoguidance=2.0,
    )
    filled = SamplingConfig(seed=5).of(own)
    assert (filled.sampler, filled.steps, filled.guidance) == ("ddim", 7, Guidance(3.0, (0.1, 0.6), 2.0))
    assert filled.of(own) == filled and filled.seed == 5
    given = SamplingConfig(sampler="dpm", guidance_scale=1.0, guidance_interval=(0.0, 0.5), autoguidance=1.0)
    assert (given.of(own).steps, given.of(own).guidance) == (DEFAULT_STEPS["dpm"], Guidance(1.0, (0.0, 0.5), 1.0))
    assert SamplingConfig(steps=3).of(own).sampler == "ddim" and SamplingConfig(steps=3).of(own).steps == 3
    assert SamplingConfig().told(own) == {"sampler": "ddim", "steps": 7, "guidance_scale": 3.0}
    assert given.told(own)["autoguidance"] == 1.0 and given.told(own)["guidance_interval"] == (0.0, 0.5)


class Blurred(Oracle):
    """A weaker model of the same Gaussian, which takes it to be twice as wide."""

    def epsilon(self, z, t, condition=None):
        signal, spread = self.shares(t)
        return spread.sqrt() * (z - signal.sqrt() * MEAN) / (signal * (2 * DEVIATION) ** 2 + spread)


@pytest.mark.parametrize("weight", [1.0, 2.0, 3.0])
def test_autoguidance_of_gaussians_by_hand(weight):
    """With x = z / sqrt(a), s the deviation of the model and S that of the weaker one, the flow is d(x - m) / dsigma
    = sigma (x - m) (w / (s^2 + sigma^2) + (1 - w) / (S^2 + sigma^2)), so x - m goes as (s^2 + sigma^2)^(w / 2) (S^2 +
    sigma^2)^((1 - w) / 2).
    """
    model = Oracle(DiffusionConfig(unet=tiny.DIFFUSION.unet), LAYOUT, 4).eval()
    model.guide = Blurred(model.config, LAYOUT, 4).eval()
    seeds = sample_seeds(1, 0, 8)
    z = draw(model, seeds, None, SamplingConfig(sampler="rk45", tolerance=1e-5, autoguidance=weight)).z
    share = float(alpha_bar(model.config)[-1])
    sigma = (1 - share) / share  # squared
    narrow, wide = (deviation**2 / (deviation**2 + sigma) for deviation in (DEVIATION, 2 * DEVIATION))
    shrunk = narrow ** (weight / 2) * wide ** ((1 - weight) / 2)
    expected = MEAN + shrunk * (start(seeds) / share**0.5 - MEAN)
    assert torch.allclose(z, expected, atol=0.01)
    assert float((z - MEAN).std()) < 0.81 * DEVIATION or weight == 1  # samples draw together where models disagree


def test_autoguidance_needs_a_weaker_model(oracle):
    with pytest.raises(UserError, match=r"holds no weaker version of itself .* diffusion.guide_at"):
        draw(oracle, [0], None, SamplingConfig(autoguidance=2.0))
    with pytest.raises(UserError, match=r"diffusion.autoguidance needs .* diffusion.guide_at"):
        DiffusionConfig(autoguidance=2.0)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"steps": -1}, "steps must be a positive whole number"),
        ({"eta": 1.5}, "eta must be from 0 to 1"),
        ({"tolerance": 0.0}, "tolerance must be between 0 and 1"),
        ({"guidance_scale": float("nan")}, "guidance scale must be a finite number, not nan"),
        ({"autoguidance": float("nan")}, "weight of autoguidance must be a finite number, not nan"),
        ({"guidance_interval": (0.5, 0.1)}, "guidance_interval must rise from 0 to 1"),
        ({"sampler": "ddmp"}, "unknown sampler 'ddmp': did you mean 'ddpm'"),
        ({"guidance_scale": float("inf")}, "guidance scale must be a finite number, not inf"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        SamplingConfig(**settings)


@pytest.mark.parametrize("name", [s for s in SAMPLERS if s != "rk45"])
def test_steps_are_at_most_the_timesteps_of_the_model(oracle, name):
    message = "steps must be at most 1000, the timesteps of this model, not 2000"
    with pytest.raises(UserError, match=message):
        SamplingConfig(sampler=name, steps=2000).of(oracle.config)
    with pytest.raises(UserError, match=message):
        draw(oracle, [0], None, SamplingConfig(sampler=name, steps=2000))
    short = replace(oracle.config, timesteps=10)
    cut = SamplingConfig(sampler=name).of(short)
    usual = SamplingConfig(sampler=name).of(oracle.config).steps
    assert (cut.sampler, cut.steps) == (name, min(usual, 10))  # a default is cut to what there is
    with pytest.raises(UserError, match=r"diffusion.sampling_steps must be from 0 .* to 10"):
        replace(short, sampling_steps=11)


@pytest.mark.parametrize(("seed", "first"), [(-1, 0), (0, -1)])
def test_negative_seeds_are_refused(seed, first):
    with pytest.raises(UserError, match="0 or more, not -1"):
        sample_seeds(seed, first, 1)


def test_whole_numbers_are_those_of_numpy_too_and_nothing_else():
    """In a process of its own: here types are checked at each call, as they are not for users."""
    script = """if True:
        import numpy as np
        from ddmi.base.errors import UserError
        from ddmi.model.sampling import SamplingConfig, sample_seeds
        assert sample_seeds(np.int64(3), np.int64(0), 2) == sample_seeds(3, 0, 2)
        assert SamplingConfig(steps=np.int64(3)).steps == 3
        for wrong in (1.5, None, "1"):
            for call in (lambda: sample_seeds(wrong, 0, 1), lambda: SamplingConfig(steps=wrong)):
                try:
                    call()
                except UserError as error:
                    assert "whole number" in str(error), error
                else:
                    raise AssertionError(wrong)
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
