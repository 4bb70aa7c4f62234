"""Flow maps against exact ones: of a Gaussian and of a mixture, every jump of the probability-flow ODE is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import tiny
import torch
from torch import nn

from ddmi.base.errors import UserError
from ddmi.base.planes import Plane
from ddmi.base.randomness import generator
from ddmi.model import flow
from ddmi.model.diffusion import LEAST_SIGNAL, Diffusion, DiffusionConfig, Guidance
from ddmi.model.sampling import SamplingConfig, draw, sample_seeds
from ddmi.model.unet import Condition

LAYOUT = (Plane(name="xy", axes=(0, 1), size=(4, 4)),)
CONFIG = DiffusionConfig(unet=tiny.DIFFUSION.unet, parameterisation="v")
MEAN, DEVIATION = 0.5, 0.3


def carried(diffusion, z, t, s):
    """The flow of probability carries each point of a Gaussian along its own quantile, from time t to s."""
    means, spreads = [], []
    for time in (t, s):
        signal, spread = diffusion.shares(time)
        means.append(signal.sqrt() * MEAN)
        spreads.append((signal * DEVIATION**2 + spread).sqrt())
    return means[1] + spreads[1] / spreads[0] * (z - means[0])


class Gaussian(Diffusion):
    """The denoiser of N(m, s^2), and its flow map."""

    def epsilon(self, z, t, condition=None):
        signal, spread = self.shares(t)
        return spread.sqrt() * (z - signal.sqrt() * MEAN) / (signal * DEVIATION**2 + spread)

    def velocity(self, z, t, s, condition):
        return flow.slope(z, carried(self, z, t, s), self.angle(t) - self.angle(s))


@pytest.fixture(scope="module")
def gaussian():
    return Gaussian(CONFIG, LAYOUT, 4).eval()


def noise(count, channels=4, cells=16):
    return torch.randn(count, channels, cells, generator=torch.Generator().manual_seed(0))


def times(*values):
    return [torch.full((3,), value) for value in values]


def test_the_grid_leads_from_the_last_time_to_the_data_even_in_log_snr(gaussian):
    grid = flow.grid(CONFIG)
    assert grid.shape == (17,) and grid[[0, -2, -1]].tolist() == [999.0, 0.0, -1.0]
    signal, spread = gaussian.shares(grid[:-1].float())
    steps = (signal / spread).log().flatten().diff()
    assert torch.allclose(steps, steps.mean().expand(15), rtol=2e-3)
    signal, spread = gaussian.shares(grid[-1:].float())
    assert (float(signal), float(spread)) == (1.0, 0.0)
    assert torch.equal(flow.at(CONFIG, torch.arange(17.0, dtype=torch.float64)), grid)
    assert (flow.grid(replace(CONFIG, timesteps=2)).diff() < 0).all()


def test_jumps_compose(gaussian):
    z = noise(3)
    for t, s, r in [(999.0, 600.0, 30.5), (999.0, 450.0, -1.0), (120.0, 2.0, -1.0)]:
        at, between, end = times(t, s, r)
        one = flow.jump(gaussian, z, at, end, None)
        two = flow.jump(gaussian, flow.jump(gaussian, z, at, between, None), between, end, None)
        assert torch.allclose(one, two, atol=1e-4)
        assert torch.allclose(one, carried(gaussian, z, at, end), atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 16, 20])
def test_an_exact_map_needs_one_step_and_takes_any_number(gaussian, steps):
    z = noise(3)
    assert torch.allclose(flow.follow(gaussian, z, None, steps), carried(gaussian, z, *times(999.0, -1.0)), atol=1e-3)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_renewed_noise_changes_samples_and_not_their_distribution(gaussian, eta):
    """2048 numbers: the standard errors of mean and deviation are 0.007 and 0.005."""
    z = noise(32)
    made = [
        flow.follow(gaussian, z, None, 4, eta, [generator(seed, k) for k in range(32)])
        for seed in ("one", "one", "two")
    ]
    assert torch.equal(made[0], made[1]) and float((made[0] - made[2]).abs().mean()) > 0.05
    assert float(made[0].mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(made[0].std()) == pytest.approx(DEVIATION, abs=0.02)


def test_trajectories_follow_the_ode(gaussian):
    z = noise(3)
    states = flow.trajectory(gaussian, z, None, Guidance())
    assert torch.equal(states[0], z)
    for state, time in zip(states, flow.grid(CONFIG).tolist(), strict=True):
        assert float((state - carried(gaussian, z, *times(999.0, time))).abs().mean()) < 0.03  # 0.02 was measured


def test_a_pair_of_states_is_not_taken_for_its_reverse(gaussian):
    """Noise in the place of data: the slope of the reversed pair leads elsewhere."""
    t, s = times(900.0, 50.0)
    start = noise(3)
    end, turn = carried(gaussian, start, t, s), gaussian.angle(t) - gaussian.angle(s)
    assert torch.allclose(turn.cos() * start - turn.sin() * flow.slope(start, end, turn), end, atol=1e-5)
    assert float((flow.slope(start, end, turn) - gaussian.velocity(start, t, s, None)).abs().max()) < 1e-4
    assert float((flow.slope(end, start, turn) - gaussian.velocity(start, t, s, None)).abs().mean()) > 0.5


@pytest.mark.parametrize("parameterisation", ["mixed", "epsilon", "v"])
def test_a_student_starts_as_its_teacher(parameterisation):
    """As s goes to t the flow map is the denoiser, and as long as its second time is silent for every s."""
    config = replace(CONFIG, parameterisation=parameterisation, mixing_init=0.3, condition="class", classes=("a", "b"))
    config = replace(config, unet=replace(config.unet, dropout=0.2))
    teacher = tiny.awake(Diffusion(config, LAYOUT, 4), 0.1).eval()
    student = flow.student_of(teacher)  # in training: dropout is gone
    condition = Condition(labels=torch.tensor([0, 1, 2]))
    z, (t, s) = noise(3), times(500.0, 20.0)
    assert float(teacher.shares(t)[0].sqrt().min()) > LEAST_SIGNAL
    signal, spread = (share.sqrt() for share in teacher.shares(t))
    epsilon = teacher.epsilon(z, t, condition)
    expected = signal * epsilon - spread * (z - spread * epsilon) / signal
    for target in (t, s):
        assert torch.allclose(student.velocity(z, t, target, condition), expected, atol=1e-4)
    tiny.awake(student.unet.target, 0.1)
    assert not torch.allclose(student.velocity(z, t, s, condition), expected, atol=1e-2)
    own = {name for name, _ in student.named_parameters()} - {name for name, _ in teacher.named_parameters()}
    assert own and all(name.startswith("unet.target.") for name in own)


WEIGHTS, CENTRES, WIDTHS = (torch.tensor(v, dtype=torch.float64) for v in ([0.4, 0.6], [-0.8, 0.6], [0.45, 0.4]))


class Line(Diffusion):
    """One number, a mixture of two Gaussians; its network has some hundred weights."""

    def __init__(self):
        super().__init__(CONFIG, (Plane(name="x", axes=(0,), size=(1,)),), 1)
        torch.manual_seed(0)
        self.unet = Curve()

    def parts(self, t):
        signal, spread = (share.double() for share in self.shares(t))
        return signal.sqrt() * CENTRES, (signal * WIDTHS**2 + spread).sqrt()

    def quantile(self, z, t):
        centres, widths = self.parts(t)
        return (WEIGHTS * torch.special.ndtr((z - centres) / widths)).sum(-1, keepdim=True)

    def epsilon(self, z, t, condition=None):
        spread = self.shares(t)[1]
        centres, widths = (part.to(z) for part in self.parts(t))
        part = torch.softmax(WEIGHTS.log().to(z) - widths.log() - 0.5 * ((z - centres) / widths).square(), dim=-1)
        return (part * spread.sqrt() * (z - centres) / widths.square()).sum(-1, keepdim=True)

    def carried(self, z, t, s):
        """The point at time s below which there is as much as below z at time t, by bisection."""
        wanted, low, high = self.quantile(z, t), torch.full_like(z, -9.0).double(), torch.full_like(z, 9.0).double()
        for _ in range(50):
            middle = (low + high) / 2
            below = self.quantile(middle, s) < wanted
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return low.to(z)


class Curve(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
        ).double()

    def forward(self, planes, t, condition, target):
        told = torch.stack([planes["x"].flatten(), t / 500 - 1, target / 500 - 1], dim=1)
        return {"x": self.layers(told.double())[:, :, None, None]}


def test_one_jump_of_a_trained_network_is_the_solution_of_the_ode():
    """The jumps of one and two steps, learnt from the slopes of pairs of states, which the solver finds as well."""
    line = Line()
    z = torch.linspace(-2, 2, 32)[:, None, None]
    places = flow.at(CONFIG, torch.tensor([0.0, 8.0, 16.0], dtype=torch.float64)).float()
    start, middle, end = ((torch.full((32,), float(time))) for time in places)
    states = [z, line.carried(z, start, middle), line.carried(z, start, end)]
    pairs = [(0, 1), (1, 2), (0, 2)]
    starts, ends = (torch.cat([states[pair[k]] for pair in pairs]) for k in (0, 1))
    t, s = (torch.cat([(start, middle, end)[pair[k]] for pair in pairs]) for k in (0, 1))
    target = flow.slope(starts, ends, line.angle(t) - line.angle(s))
    optimiser = torch.optim.LBFGS(
        line.unet.parameters(),
        max_iter=600,
        history_size=40,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def loss():
        optimiser.zero_grad()
        found = (line.velocity(starts, t, s, None) - target).square().mean()
        found.backward()
        return found

    optimiser.step(loss)
    solved = line.carried(z, start, end)
    for steps in (1, 2):
        assert float((flow.follow(line, z, None, steps) - solved).square().mean().sqrt()) < 1e-3
    seeds = sample_seeds(0, 0, 4)
    first = torch.stack([torch.randn(1, 1, generator=generator(seed, "sampling")) for seed in seeds])
    ode = draw(line, seeds, None, SamplingConfig(sampler="rk45", tolerance=1e-5)).z
    assert torch.allclose(ode, line.carried(first, start[:4], end[:4]), atol=5e-3)


def test_more_jumps_come_nearer_where_a_map_is_not_exact(gaussian):
    """A student that is still the denoiser makes first-order steps."""

    class Started(Gaussian):
        def velocity(self, z, t, s, condition):
            signal, spread = (share.sqrt() for share in self.shares(t))
            epsilon = self.epsilon(z, t)
            return signal * epsilon - spread * (z - spread * epsilon) / signal

    started = Started(CONFIG, LAYOUT, 4).eval()
    z = noise(3)
    flown = carried(gaussian, z, *times(999.0, -1.0))
    errors = [float((flow.follow(started, z, None, n) - flown).abs().mean()) for n in (1, 2, 4, 8, 16)]
    assert all(a > b for a, b in pairwise(errors))


def test_a_model_without_a_map_and_another_guidance_are_refused():
    own = replace(CONFIG, guidance_scale=3.0, sampler="flow")
    assert SamplingConfig().of(own).steps == 4
    with pytest.raises(UserError, match=r"no flow map: distil it \(ddmi train RUN --stage distillation\), or choose"):
        draw(Diffusion(own, LAYOUT, 4), [0], None, SamplingConfig())
    with pytest.raises(UserError, match=r"guidance_scale is fixed at 3.0 inside the flow map .* or choose another"):
        SamplingConfig(guidance_scale=2.0).of(own)
    for settings in ({"guidance_scale": 3.0}, {"guidance_scale": 2.0, "sampler": "ddim"}):
        SamplingConfig(**settings).of(own)
