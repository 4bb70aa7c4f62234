"""Plans: the given steps of all stages times one factor, what is left is planned anew, and a model comes out always."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny

from ddmi import DDMIPipeline
from ddmi.base.errors import UserError
from ddmi.config import TrainingConfig, load
from ddmi.training import plan, run
from ddmi.training.plan import Costs, Plan, fitted

COSTS = Costs({"autoencoder": 0.5, "decoder": 0.5, "diffusion": 0.1, "distillation": 0.2}, encoding=100.0)


def test_all_stages_are_given_one_factor_of_their_steps():
    """2,000 s, of which 1,800 count and 100 encode: 1,700 s for steps that would take 850 s."""
    given = TrainingConfig(autoencoder_steps=1000, decoder_steps=100, diffusion_steps=2000, distillation_steps=500)
    planned = fitted(given, COSTS, 2000.0)
    assert planned == replace(
        given, autoencoder_steps=2000, decoder_steps=200, diffusion_steps=4000, distillation_steps=1000
    )
    assert fitted(given, COSTS, 2000.0, "distillation") == replace(given, distillation_steps=9000)
    without = replace(given, decoder_steps=0, distillation_steps=0)
    assert fitted(without, COSTS, 2000.0) == replace(without, autoencoder_steps=2428, diffusion_steps=4857)


@pytest.mark.parametrize("seconds", [-5.0, 0.0, 100.0])
def test_without_time_every_stage_has_some_steps(seconds):
    given = TrainingConfig(autoencoder_steps=1000, diffusion_steps=2000)
    least = replace(given, autoencoder_steps=plan.LEAST, diffusion_steps=plan.LEAST)
    assert fitted(given, COSTS, seconds) == least


def test_later_stages_are_planned_with_the_speed_of_the_earlier_ones(monkeypatch, caplog):
    """1,100 s: 990 count, 890 are for steps: 1,271 times 0.5 s in stage 1, which takes twice as long. With 500 s left,
    450 count; encoding takes 200, and a step 0.2.
    """
    now = [0.0]
    monkeypatch.setattr(plan.time, "monotonic", lambda: now[0])
    planned = Plan(COSTS, 1100.0)
    first = planned(TrainingConfig(autoencoder_steps=1000, diffusion_steps=2000))
    assert (first.autoencoder_steps, first.diffusion_steps) == (1271, 2542)
    now[0] = 2 * 0.5 * 1271
    planned.deadline = now[0] + 500
    second = planned(first, "diffusion")
    assert second.autoencoder_steps == 1271 and second.diffusion_steps == pytest.approx(1250, abs=1)
    assert caplog.text.count("plan for") == 2 and "steps, 4.2 min" in caplog.text


def test_a_run_of_no_time_ends_with_a_model_and_keeps_its_plan(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(plan, "LEAST", 2)
    config = tiny.config(autoencoder_steps=900, diffusion_steps=900)
    asked = replace(config, diffusion=replace(config.diffusion, condition="text", text_encoder="hash", text_width=64))
    assert run.train(asked, tmp_path / "run", pictures, minutes=1e-6)
    made = load(tmp_path / "run" / "config.json")
    assert (made.training.autoencoder_steps, made.training.diffusion_steps) == (2, 2)
    assert made.diffusion.condition == "none"  # the pictures have no captions
    assert DDMIPipeline.from_pretrained(tmp_path / "run" / "model")(seed=0, steps=1)[0].render(8).size == (8, 8)
    assert run.train(made, tmp_path / "run", pictures, resume=True, minutes=1.0)
    assert load(tmp_path / "run" / "config.json") == made


def test_costs_are_measured_on_the_data(pictures):
    config = tiny.config(autoencoder_steps=3, diffusion_steps=3)
    dataset = config.domain.dataset(config.domain.open(pictures), "train")
    found = plan.costs(config, dataset)
    assert set(found.steps) == set(plan.STAGES) and min(found.steps.values()) > 0 and found.encoding > 0
    assert found.steps["distillation"] > found.steps["diffusion"]


def test_one_stage_is_not_planned(tmp_path, pictures):
    with pytest.raises(UserError, match="minutes plan all stages, not stage diffusion"):
        run.train(tiny.config(), tmp_path / "run", pictures, stage="diffusion", minutes=1.0)
