"""The precision of a stage: what is set, or the faster one, measured once and stored."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch

from ddmi.base.errors import UserError
from ddmi.base.planes import cells
from ddmi.config import TrainingConfig, load
from ddmi.model.diffusion import Diffusion
from ddmi.training import precision
from ddmi.training.latents import LatentBatch
from ddmi.training.objectives import AutoencoderObjective, DiffusionObjective
from ddmi.training.run import train


def test_stage_2_may_have_a_precision_of_its_own():
    assert precision.of_stage(TrainingConfig(precision="bf16"), "diffusion") == "bf16"
    both = TrainingConfig(precision="bf16", diffusion_precision="fp32")
    assert [precision.of_stage(both, stage) for stage in ("autoencoder", "diffusion")] == ["bf16", "fp32"]
    with pytest.raises(UserError, match=r"training\.diffusion_precision must be same or fp32"):
        TrainingConfig(precision="fp16", diffusion_precision="bf16")


def test_on_cuda_nothing_is_timed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for bf16, expected in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda bf16=bf16: bf16)
        assert precision.at_once(TrainingConfig()).precision == expected
        assert precision.at_once(TrainingConfig(precision="fp32")).precision == "fp32"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert precision.at_once(TrainingConfig()).precision == "auto"


def test_an_objective_casts_as_its_precision_says():
    seen, config = [], tiny.config()
    channels, layout = config.autoencoder.latent_channels, config.domain.layout
    model = Diffusion(config.diffusion, layout, channels)
    model.register_forward_pre_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    zeros = torch.zeros(1, channels, cells(layout))
    for around in (False, True):
        for told in ("fp32", "bf16"):
            settings = replace(config.training, precision="fp32", diffusion_precision=told)
            with torch.autocast("cpu", torch.bfloat16, enabled=around):
                DiffusionObjective(replace(config, training=settings), model)(
                    LatentBatch(zeros, zeros, None, (0,)), 0.0
                )
    assert seen == [False, True, False, True]


def test_timing_leaves_no_trace(pictures, monkeypatch):
    monkeypatch.setattr(precision, "SECONDS", 0.0)
    dataset = tiny.dataset(tiny.image(), pictures, "train")
    objective = AutoencoderObjective(tiny.config())
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    random = torch.get_rng_state()
    found = precision.timed(objective, dataset.batch([0, 1], torch.Generator().manual_seed(0), [1, 2]))
    assert found.keys() == {"fp32", "bf16"} and all(0 < seconds < 60 for seconds in found.values())
    assert tiny.equal(before, objective.state_dict()) and torch.equal(random, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in objective.parameters())


def test_the_choice_is_stored_and_made_once(pictures, tmp_path, monkeypatch, caplog):
    """Here bf16 is faster in stage 1, and not by the margin in stage 2. A resumed run does not time again."""
    times = iter([{"fp32": 1.2, "bf16": 1.0}, {"fp32": 1.05, "bf16": 1.0}])
    monkeypatch.setattr(precision, "timed", lambda *_: next(times))
    config = tiny.config(precision="auto")
    assert train(config, tmp_path, pictures)
    training = load(tmp_path / "config.json").training
    assert (training.precision, training.diffusion_precision) == ("bf16", "fp32")
    assert "autoencoder: a pass takes fp32 1.2 s, bf16 1 s; trained in bf16" in caplog.text
    longer = replace(config, training=replace(config.training, autoencoder_steps=6))  # its precision is "auto" again
    assert train(longer, tmp_path, pictures, stage="autoencoder", resume=True)
    after = load(tmp_path / "config.json").training
    assert (after.precision, after.diffusion_precision) == ("bf16", "fp32")
