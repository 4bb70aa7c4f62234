"""Averages of other lengths, made after a training, are those that would have been kept during it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ddmi.base.errors import UserError
from ddmi.model.diffusion import DiffusionConfig
from ddmi.training.averages import (
    LENGTHS,
    Average,
    PowerAverage,
    Snapshots,
    averaged,
    best,
    coefficients,
    exponent_of,
    profile,
)

STEPS = 400


def test_the_length_is_the_deviation_of_the_weights():
    for length in (0.01, 0.05, 0.1, 0.25):
        weights = profile(exponent_of(length), 100_000, 100_000)
        steps = np.arange(1, 100_001) / 100_000
        mean = (weights * steps).sum()
        assert weights.sum() == pytest.approx(1)
        assert np.sqrt((weights * (steps - mean) ** 2).sum()) == pytest.approx(length, rel=1e-3)


def test_a_profile_is_what_the_updates_come_to():
    """Replayed with weights that are 1 at one step and 0 at the others."""
    rule, value = PowerAverage(6.9), [torch.zeros(20, dtype=torch.float64)]
    for step in range(1, 16):
        rule(value, [torch.eye(20, dtype=torch.float64)[step - 1]], step)
    assert np.allclose(value[0].numpy(), profile(6.9, 15, 20), atol=1e-12)


def test_the_average_warms_up_to_its_decay():
    """(1 + n) / (10 + n) of the old value after n updates, at most the decay."""
    for seen, decay in ((0, 0.1), (8, 0.5), (1000, 1001 / 1010), (10**6, 0.9999)):
        value = [torch.tensor([2.0])]
        Average(0.9999)(value, [torch.tensor([4.0])], torch.tensor(seen))
        assert value[0].item() == pytest.approx(2 * decay + 4 * (1 - decay), rel=1e-6)


def walk() -> list[torch.Tensor]:
    """A training: weights that run towards a goal, in noise."""
    noise = torch.Generator().manual_seed(4)
    path, at = [], torch.full((3,), 5.0)
    for _ in range(STEPS):
        at = at - 0.01 * at + 0.1 * torch.randn(3, generator=noise)
        path.append(at)
    return path


def trained(rules, snapshots=None):
    """The averages of a linear layer over that training."""
    model = nn.Linear(3, 1, bias=False)
    found = [averaged(model, rule) for rule in rules]
    for step, weights in enumerate(walk(), start=1):
        model.weight.data.copy_(weights[None])
        for average in found:
            average.update_parameters(model)
        if snapshots is not None:
            snapshots.store(step, found)
    return [average.module for average in found]


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory):
    lengths = (0.05, 0.1)
    found = Snapshots(tmp_path_factory.mktemp("checkpoints"), "diffusion", lengths, STEPS)
    trained([PowerAverage(exponent_of(length)) for length in lengths], found)
    return found


@pytest.mark.parametrize("length", [0.03, 0.05, 0.07, 0.1, 0.14])
def test_a_length_made_afterwards_is_that_kept_during_training(snapshots, length):
    """The weights move by about 0.5 along the way; half precision rounds by 0.001."""
    (direct,) = trained([PowerAverage(exponent_of(length))])
    made = nn.Linear(3, 1, bias=False)
    snapshots.combine(made, length)
    assert torch.allclose(made.weight, direct.weight, atol=0.01)
    (other,) = trained([PowerAverage(exponent_of(0.25))])
    assert not torch.allclose(direct.weight, other.weight, atol=0.1)


def test_the_lengths_that_are_kept_need_no_other(snapshots):
    found = coefficients((0.05, 0.1), [200, 400], 400, 0.1)
    assert np.allclose(found, [[0, 0], [0, 1]], atol=1e-8)
    for length in LENGTHS:  # weights that never change stay as they are
        assert coefficients((0.05, 0.1), [100, 200, 300, 400], 400, length).sum() == pytest.approx(1, abs=1e-12)


def test_the_least_loss_chooses(snapshots, caplog):
    (goal,), (kept,) = trained([PowerAverage(exponent_of(0.13))]), trained([Average(0.5)])

    def loss(model):
        return float((model.weight - goal.weight).detach().square().sum())

    chosen = best(kept, snapshots, loss)
    assert loss(chosen) < 1e-3 < loss(kept)
    assert len(caplog.messages) == 1 and all(f"{length:g}: " in caplog.messages[0] for length in LENGTHS)
    assert best(kept, snapshots, lambda model: float(model is not kept)) is kept


def test_snapshots_of_another_network_are_refused(snapshots):
    with pytest.raises(UserError, match="averages of diffusion are of another network"):
        snapshots.combine(nn.Linear(4, 1), 0.05)


@pytest.mark.parametrize("length", [0.0, 0.3])
def test_impossible_lengths_are_named(length):
    with pytest.raises(UserError, match=r"ema_lengths must be more than 0 and at most 0.25"):
        DiffusionConfig(ema_lengths=(length,))
