"""From a recipe to a model that ships: pieces of training, numbers, half precision, the card."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch

from ddmi import DDMIPipeline, presets, weights
from ddmi.base.errors import UserError
from ddmi.base.interruption import Interruption
from ddmi.base.storage import digest, read_json
from ddmi.evaluation.nfe import Way
from tools.release import making
from tools.release.__main__ import main
from tools.release.recipes import RECIPES, Recipe

RECIPE = Recipe(
    title="Squares",
    data="Squares of one colour.",
    sampling="Few are enough.",
    limits="Everything.",
    samples=4,
    compared=3,
)


@pytest.fixture
def recipe(monkeypatch, tmp_path):
    """A recipe of a few steps, and a package without models."""
    monkeypatch.setattr("ddmi.metrics.features.load", lambda name: tiny.Features())
    monkeypatch.setitem(RECIPES, "squares", RECIPE)
    monkeypatch.setattr(presets, "find", lambda name: tiny.config())
    monkeypatch.setattr(making, "WAYS", (Way(sampler="ddim", steps=2), Way(sampler="dpm", steps=3)))
    monkeypatch.setattr(weights, "ROOT", tmp_path / "package")
    return "squares"


class AfterAStep(Interruption):
    """The time is up in the first step."""

    due = property(lambda self: True)  # type: ignore[assignment]


def first_piece(recipe, run, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ddmi.training.run.Interruption", lambda deadline: AfterAStep(None))
        assert making.make(recipe, run, data, max_minutes=60) is None


def test_every_recipe_has_a_preset_of_its_name_that_fits():
    """Two bytes a parameter, and something for configuration and card."""
    from ddmi.training import estimate

    for name in RECIPES:
        config = presets.find(name)
        assert config.name == name
        assert 2 * sum(estimate.parameters(*estimate.networks(config)).values()) < 0.95 * weights.LARGEST
        assert (RECIPES[name].prompt != "") == (config.diffusion.condition == "text")


def test_a_model_is_trained_in_pieces_and_put_into_the_package(recipe, pictures, tmp_path, capsys):
    run = tmp_path / "run"
    first_piece(recipe, run, pictures)
    assert not (tmp_path / "package").exists()
    made = making.make(recipe, run, pictures)
    assert made == tmp_path / "package" / "squares" and weights.names() == ["squares"]
    assert weights.find("squares") == made and weights.find("circles") is None
    assert weights.title("squares") == "Squares."
    assert weights.size("squares") == sum(path.stat().st_size for path in made.iterdir())
    card = (made / "README.md").read_text()
    assert len(read_json(run / "pieces.json")) == 2
    assert all(piece["commit"] in card for piece in read_json(run / "pieces.json"))
    for name in ("autoencoder.safetensors", "diffusion.safetensors"):
        assert digest(made / name) in card
    rows = read_json(run / "metrics.json")["nfe"]["rows"]
    assert [(row["sampler"], row["steps"]) for row in rows] == [("ddim", 2), ("dpm", 3)]
    for row in rows:
        assert f"| {row['sampler']} | {row['steps']} steps |" in card
    shipped = DDMIPipeline.from_pretrained("squares")
    first, again = shipped.latents(2, seed=3), DDMIPipeline.from_pretrained(run).latents(2, seed=3)
    assert not first.equal(again) and first.allclose(again, atol=0.05)


def test_what_rounding_changes_is_relative(tmp_path):
    """Against (3, 4), of length 5, (3, 0) is off by 4."""
    assert making._relative(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 0.0])) == pytest.approx(0.8)
    a = DDMIPipeline.from_pretrained(tiny.untrained(tmp_path / "a"))
    same = making.difference(a, a)
    assert same == {"latents": 0.0, "fields": 0.0}
    b = DDMIPipeline.from_pretrained(tiny.untrained(tmp_path / "b", seed=5))
    assert min(making.difference(a, b).values()) > 0.01


def test_weights_that_are_too_large_leave_those_that_are_there(recipe, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("")
    monkeypatch.setattr(weights, "LARGEST", 1000)
    with pytest.raises(UserError, match="at most 1,000 are allowed"):
        making.ship(recipe, tiny.untrained(tmp_path / "run"), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["README.md"]


def test_the_command_says_what_is_wrong(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(RECIPES, "furniture", RECIPES["furniture"])
    assert main(["weights", "furniture", str(tmp_path / "run")]) == 2
    assert "furniture needs data: a folder of prepared catalogues" in capsys.readouterr().err
    assert main(["weights", "emoji-64", "--set", "precision"]) == 2
    assert "--set takes NAME=VALUE" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["weights", "emoji-46"])


def test_a_run_of_another_model_is_not_shipped(recipe, tmp_path, capsys, pictures, monkeypatch):
    run = tmp_path / "run"
    first_piece(recipe, run, pictures)
    before = (run / "config.json").read_bytes()
    monkeypatch.setattr(presets, "find", lambda name: replace(tiny.config(), name=name))
    with pytest.raises(UserError, match="belongs to a run of 'tiny', not of 'squares'"):
        making.make(recipe, run, pictures)
    assert (run / "config.json").read_bytes() == before and len(read_json(run / "pieces.json")) == 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (["weights", "clips", "--max-minutes", "-1"], "--max-minutes must be more than 0, not -1"),
        (["weights", "clips", "--set", "training.stepz=1"], "unknown setting 'training.stepz'"),
        (["weights", "clips", "--set", "diffusion.sampler=dpmm"], "unknown value of diffusion.sampler: 'dpmm'"),
        (["weights", "clips", "--set", "diffusion.sampling_steps=-1"], "diffusion.sampling_steps must be from 0"),
        (["gallery", "emoji-46"], "unknown model 'emoji-46': did you mean 'emoji-64'?"),
    ],
)
def test_a_wrong_value_is_one_line(call, said, tmp_path, capsys):
    given = [*call[:2], str(tmp_path / "run"), *call[2:]] if call[0] == "weights" else call
    assert main(given) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and said in error[0]
