"""The one loop: resuming is exact, divided work is the same work, and bad steps do no harm."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import tiny
import torch
from torch import nn

from ddmi.base.errors import UserError, WorkError
from ddmi.base.interruption import Interruption
from ddmi.training import checkpoint
from ddmi.training.averages import Average
from ddmi.training.loop import Stage, accelerate, fit, schedule


class Stopping(Interruption):
    """Asks to stop after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__(None)
        self.left = steps

    @property
    def due(self) -> bool:
        self.left -= 1
        return self.left <= 0


@dataclass
class Rows:
    x: torch.Tensor
    y: torch.Tensor

    def to(self, device):
        return Rows(self.x.to(device), self.y.to(device))


class Table:
    """Points of a plane in space; items named in `broken` have a target that is not finite."""

    def __init__(self, broken: tuple[int, ...] = ()) -> None:
        numbers = torch.Generator().manual_seed(5)
        self.x = torch.randn(24, 3, generator=numbers)
        self.y = self.x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.3
        self.y[list(broken)] = torch.nan

    def epoch(self, generator):
        return list(range(24))

    def batch(self, indices, choice, seeds):
        return Rows(self.x[indices], self.y[indices])


class Regression(nn.Module):
    def __init__(self, rate: float = 1e-2) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Dropout(0.2), nn.Linear(5, 1))
        self.rate = rate

    def groups(self):
        return [{"params": list(self.model.parameters()), "lr": self.rate}]

    def forward(self, batch, progress):
        return {"error": (self.model(batch.x) - batch.y).square().mean(), "size": 0 * self.model[0].weight.sum()}


def run(folder, steps=8, objective=None, table=None, interruption=None, ema=0.9, **training):
    config = replace(tiny.TRAINING, **training)
    objective = objective or Regression()
    stage = Stage("autoencoder", steps, config.batch_size, ema)
    engine = accelerate(config, folder)
    return objective, fit(
        objective, table or Table(), stage, config, folder, engine, interruption or Interruption(None)
    )


def test_the_learning_rate_by_hand():
    config = replace(tiny.TRAINING, warmup_steps=4, final_learning_rate=0.1)
    rates = [schedule(step, 44, config) for step in range(44)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[24] == pytest.approx(0.1 + 0.9 * 0.5)  # half of the cosine
    assert rates[43] == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi * 39 / 40)))
    assert all(a >= b for a, b in pairwise(rates[4:]))
    assert schedule(0, 20, replace(config, warmup_steps=1000)) == 0.5  # the warm-up is at most a tenth: two steps
    assert schedule(0, 5, replace(config, warmup_steps=1000)) == 1.0


def test_the_average_by_hand():
    averaged, decay = [torch.zeros(1)], Average(0.5)
    values = [4.0, -2.0, 8.0, 1.0, 0.5, 3.0, 7.0, 5.0, 6.0, 2.0]
    expected = 0.0
    for n, value in enumerate(values, 1):
        decay(averaged, [torch.tensor([value])], torch.tensor(n))
        share = min(0.5, (1 + n) / (10 + n))  # 2/11, 3/12, ... until 0.5 at n = 8
        expected = share * expected + (1 - share) * value
    assert averaged[0].item() == pytest.approx(expected, rel=1e-6)


def test_the_average_of_a_run_is_that_of_its_weights(tmp_path):
    """Replayed from the checkpoints of every step."""
    start = [p.detach().clone() for p in Regression().model.parameters()]
    _, fitted = run(tmp_path, steps=6, checkpoint_every=1, ema=0.9)
    for n, found in enumerate(checkpoint.find(tmp_path / "checkpoints", "autoencoder"), 1):
        tensors = checkpoint.load_tensors(found.folder / "model.safetensors")
        share = min(0.9, (1 + n) / (10 + n))
        for average, (name, _) in zip(start, Regression().model.named_parameters(), strict=True):
            average.lerp_(tensors[f"model.{name}"], 1 - share)
    for average, kept in zip(start, fitted.model.parameters(), strict=True):
        assert torch.allclose(average, kept, atol=1e-6)


@pytest.mark.parametrize("stop", [1, 3, 6])
def test_resuming_is_exact(tmp_path, stop):
    whole, whole_fitted = run(tmp_path / "whole")
    _, first = run(tmp_path / "parts", interruption=Stopping(stop))
    assert (first.step, first.finished) == (stop, False)
    torch.manual_seed(99)  # the second half draws nothing from what was before
    parts, fitted = run(tmp_path / "parts")
    assert fitted.finished and fitted.step == 8
    assert tiny.equal(whole, parts) and tiny.equal(whole_fitted.model, fitted.model)
    for name in ("model", "averaged", "optimiser"):
        tensors = [
            checkpoint.load_tensors(tmp_path / run / "checkpoints/autoencoder-00000008" / f"{name}.safetensors")
            for run in ("whole", "parts")
        ]
        assert tiny.equal(*tensors)


def test_a_resumed_log_has_every_step_once(tmp_path):
    run(tmp_path, interruption=Stopping(5))
    path = tmp_path / "logs" / "autoencoder.jsonl"
    path.write_text(path.read_text() + json.dumps({"step": 6}) + "\n{half a li")  # what a crash may leave
    run(tmp_path)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == list(range(1, 9))


def test_a_finished_stage_does_nothing_more(tmp_path):
    objective, _ = run(tmp_path)
    again, fitted = run(tmp_path)
    assert fitted.finished and tiny.equal(objective, again)


def test_accumulated_steps_are_whole_steps(tmp_path):
    plain = [nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)) for _ in range(2)]
    plain[1].load_state_dict(plain[0].state_dict())
    weights = []
    for model, accumulation in zip(plain, (1, 4), strict=True):
        objective = Regression()
        objective.model = model
        run(tmp_path / str(accumulation), objective=objective, batch_size=8, accumulation=accumulation)
        weights.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.allclose(*weights, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_gradient_is_the_mean_over_the_whole_batch(tmp_path, monkeypatch, accumulation):
    """The norm that is clipped, and logged loss, are those of the batch: neither is summed over micro-batches."""
    norms, clip = [], torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *a: norms.append(float(n := clip(*a))) or n)
    objective = Regression()
    objective.model = nn.Linear(3, 1)
    weight, bias = objective.model.weight.detach().clone(), objective.model.bias.detach().clone()
    monkeypatch.setattr(Regression, "forward", lambda s, b, p: {"error": (s.model(b.x) - b.y).square().mean()})
    run(tmp_path, steps=1, objective=objective, accumulation=accumulation)
    x, y = Table().x[:4], Table().y[:4]
    residual = x @ weight.T + bias - y
    gradient = torch.cat([(2 * residual * x).mean(0), (2 * residual).mean(0)])
    assert norms[0] == pytest.approx(float(gradient.norm()), rel=1e-5)
    line = json.loads((tmp_path / "logs" / "autoencoder.jsonl").read_text())
    assert line["error"] == pytest.approx(float(residual.square().mean()), rel=1e-5)


def test_the_step_is_clipped(tmp_path):
    """Adam's first moment after one step is (1 - beta_1) times the clipped gradient."""
    run(tmp_path, steps=1, clip=0.01)
    moments = checkpoint.load_tensors(tmp_path / "checkpoints/autoencoder-00000001/optimiser.safetensors")
    gradient = torch.cat([t.flatten() for name, t in moments.items() if name.endswith("exp_avg")]) / 0.1
    assert float(gradient.norm()) == pytest.approx(0.01, rel=1e-3)


def test_a_bad_step_is_skipped_and_counted(tmp_path, caplog):
    broken = Table(broken=(5,))  # of step 2, whose items are 4 .. 7
    _, fitted = run(tmp_path, steps=5, table=broken, checkpoint_every=1)
    assert all(torch.isfinite(p).all() for p in fitted.model.parameters())
    assert "step 2 is not finite" in caplog.text
    state = json.loads((tmp_path / "checkpoints/autoencoder-00000005/state.json").read_text())
    assert state["skipped"] == 1
    steps = [found.step for found in checkpoint.find(tmp_path / "checkpoints", "autoencoder")]
    assert steps == [1, 3, 4, 5]  # no checkpoint of a bad step
    adam = checkpoint.load_tensors(tmp_path / "checkpoints/autoencoder-00000005/optimiser.safetensors")
    assert float(adam["0.step"]) == 4
    lines = (tmp_path / "logs" / "autoencoder.jsonl").read_text()
    assert "NaN" not in lines


def test_a_diverged_run_stops_and_leaves_the_last_good_checkpoint(tmp_path):
    broken = Table(broken=tuple(range(8, 24)))  # from step 3 on
    with pytest.raises(
        WorkError, match=r"3 non-finite steps in a row at step 5 .* checkpoint is .*autoencoder-00000002"
    ):
        run(tmp_path, steps=20, table=broken, non_finite_limit=3, checkpoint_every=1)
    found = checkpoint.find(tmp_path / "checkpoints", "autoencoder")
    assert [c.step for c in found] == [1, 2]
    tensors = checkpoint.load_tensors(found[-1].folder / "model.safetensors")
    assert all(torch.isfinite(t).all() for t in tensors.values())


def test_the_time_limit_stops_with_a_checkpoint(tmp_path):
    _, fitted = run(tmp_path, steps=50, interruption=Interruption(deadline=0.0))
    assert (fitted.step, fitted.finished) == (1, False)
    assert [c.step for c in checkpoint.find(tmp_path / "checkpoints", "autoencoder")] == [1]


def test_only_the_newest_checkpoints_stay(tmp_path):
    run(tmp_path, checkpoint_every=1, keep=3)
    assert [c.step for c in checkpoint.find(tmp_path / "checkpoints", "autoencoder")] == [6, 7, 8]


def test_previews_do_not_change_the_run(tmp_path):
    calls = []

    def preview(model, step):
        assert not model.training
        calls.append(step)
        torch.rand(3)

    config = replace(tiny.TRAINING, preview_every=3)
    objective = Regression()
    stage = Stage("autoencoder", 8, config.batch_size, 0.0)
    fit(objective, Table(), stage, config, tmp_path / "a", accelerate(config, tmp_path), Interruption(None), preview)
    assert calls == [3, 6, 8]
    without, _ = run(tmp_path / "b", ema=0.0)
    assert tiny.equal(objective, without)


def test_learning_goes_somewhere(tmp_path):
    objective = Regression(rate=3e-2)
    objective.model[2].p = 0.0
    run(tmp_path, steps=100, objective=objective, batch_size=24, log_every=50, checkpoint_every=0)
    lines = [json.loads(line) for line in (tmp_path / "logs" / "autoencoder.jsonl").read_text().splitlines()]
    assert lines[1]["error"] < 0.1 * lines[0]["error"]


def test_a_launch_that_lost_its_processes_is_refused(tmp_path, monkeypatch):
    accelerate(tiny.TRAINING, tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="2 processes were launched, but only 1"):
        accelerate(tiny.TRAINING, tmp_path)
