"""Stage 3: what its trajectories are, and that a run of it can be stopped, shared and told where it lacks something."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import tiny
import torch

import ddmi.training.run as runs
from ddmi import DDMIPipeline
from ddmi.base.errors import UserError
from ddmi.base.planes import Plane
from ddmi.base.processes import Processes
from ddmi.base.storage import load_tensors
from ddmi.cli import main
from ddmi.model.diffusion import Diffusion, Guidance
from ddmi.model.flow import STEPS, grid
from ddmi.training.batches import Batches
from ddmi.training.checkpoint import find
from ddmi.training.latents import Conditions
from ddmi.training.run import train
from ddmi.training.trajectories import CHUNK, Trajectories

LAYOUT = (Plane(name="xy", axes=(0, 1), size=(2, 2)),)
DATA = 0.5


class Single(Diffusion):
    """All data at one value, which is its own class: the ODE leads there from everywhere."""

    def epsilon(self, z, t, condition=None):
        signal, spread = self.shares(t)
        value = DATA if condition is None else condition.labels[:, None, None].float()
        return (z - signal.sqrt() * value) / spread.sqrt()


@pytest.fixture(scope="module")
def single():
    return Single(replace(tiny.DIFFUSION, timesteps=1000), LAYOUT, 4).eval()


@pytest.fixture(scope="module")
def classes():
    names = tuple("abcdefgh")
    config = replace(tiny.DIFFUSION, condition="class", classes=names, condition_dropout=0.25)
    return Single(config, LAYOUT, 4).eval()


def source(teacher, folder, conditions=None, processes=None, **training):
    settings = replace(tiny.TRAINING, distillation_steps=40, **training)
    given = conditions or Conditions(), 8, folder, "key", settings, processes or Processes()
    return Trajectories(teacher, Guidance(), *given)


def batches(source, steps, size=4):
    made = Batches(source, "distillation", 0, size, 1, 0, 1)
    return [made[step][0] for step in range(steps)]


def test_a_batch_leads_from_more_noise_to_less(single, tmp_path):
    """Were the ends of a pair taken for one another, the start would be the data."""
    made = batches(source(single, tmp_path, trajectory_uses=1), 40)
    t, s = (torch.cat([getattr(batch, name) for batch in made]) for name in "ts")
    start, end = (torch.cat([getattr(batch, name) for batch in made]) for name in ("start", "end"))
    assert (t > s).all() and {*t.tolist(), *s.tolist()} == {*grid(single.config).float().tolist()}
    for states, times in ((start, t), (end, s)):
        signal, spread = single.shares(times)
        noise = (states - signal.sqrt() * DATA) / spread.sqrt().clamp(min=1e-3)
        assert torch.allclose(states[times == -1], torch.tensor(DATA), atol=2e-3)
        assert float(noise[times >= 0].square().mean()) == pytest.approx(1, abs=0.15)
    whole = (t == single.config.timesteps - 1) & (s == -1)
    assert 0 < int(whole.sum()) < len(t) / 4  # one step is one of seven jumps in half of the visits, and of 136 else


def test_trajectories_are_made_anew_within_their_space(single, tmp_path):
    """40 steps of 4, each trajectory twice: 80 of them. 1 MB holds all; of a bound of 20, rounds of 20."""
    all_at_once = source(single, tmp_path, trajectory_uses=2, trajectory_megabytes=1)
    assert (all_at_once.count, all_at_once.length) == (80, 160)
    made = batches(all_at_once, 40)
    kept = load_tensors(all_at_once.folder / f"{CHUNK:08d}.safetensors")["states"]
    assert kept.shape == (CHUNK, STEPS + 1, 4, 4) and kept.dtype == torch.float16
    rounds = source(single, tmp_path, trajectory_uses=2)
    assert not all_at_once.folder.exists() or rounds.folder == all_at_once.folder
    rounds.count, rounds.length = 20, 40
    starts = [round(float(batch.start.sum()), 3) for batch in batches(rounds, 40)]
    assert sorted(path.name for path in rounds.folder.iterdir()) == ["00000060.safetensors"]
    assert starts != [round(float(batch.start.sum()), 3) for batch in made]
    again = source(single, tmp_path, trajectory_uses=2)
    again.count, again.length = 20, 40
    late = Batches(again, "distillation", 0, 4, 1, 0, 1)[25][0]  # as a resumed run begins
    assert round(float(late.start.sum()), 3) == starts[25]
    again.remove()
    assert not list(tmp_path.iterdir())


def test_a_trajectory_has_the_condition_of_an_item_or_none(classes, tmp_path):
    made = batches(source(classes, tmp_path, Conditions(labels=range(8)), trajectory_uses=1), 40)
    labels = torch.cat([batch.condition.labels for batch in made])
    assert {*labels.tolist()} == {*range(9)}
    assert 0.1 < float((labels == 8).float().mean()) < 0.45  # the null class
    ends = torch.cat([batch.end.mean((1, 2)) for batch in made])
    data = torch.cat([batch.s for batch in made]) == -1
    assert torch.allclose(ends[data], labels[data].float(), atol=1e-2)


def test_processes_share_the_work(single, tmp_path, monkeypatch):
    monkeypatch.setattr(Processes, "wait", lambda self: None)
    alone = source(single, tmp_path / "one", trajectory_uses=1, trajectory_megabytes=1)
    batches(alone, 1)
    second = source(single, tmp_path / "two", processes=Processes(1, 2), trajectory_uses=1, trajectory_megabytes=1)
    with pytest.raises(UserError, match=r"00000000.safetensors is missing"):  # of the first, which is not here
        batches(second, 1)
    made = sorted(path.name for path in second.folder.iterdir())
    assert made == ["00000032.safetensors", "00000096.safetensors"]
    for name in made:
        one, two = (load_tensors(folder / name)["states"] for folder in (alone.folder, second.folder))
        assert torch.equal(one, two)


def test_a_damaged_file_is_made_again(single, tmp_path, caplog):
    first = batches(source(single, tmp_path), 1)[0]
    path = next(tmp_path.rglob("*.safetensors"))
    content = path.read_bytes()
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    assert torch.equal(batches(source(single, tmp_path), 1)[0].start, first.start)
    assert any("its trajectories are made again" in line for line in caplog.messages)


# runs -----------------------------------------------------------------------------------------------------------------

CONFIG = tiny.config(distillation_steps=4, trajectory_uses=2, preview_every=4)


@pytest.fixture(scope="module")
def whole(pictures, tmp_path_factory):
    """The unbroken run of all stages."""
    run = tmp_path_factory.mktemp("whole")
    assert train(CONFIG, run, pictures)
    return run


def newest(run, name):
    return load_tensors(find(run / "checkpoints", "distillation")[-1].folder / f"{name}.safetensors")


def test_it_is_the_last_part_of_a_run(whole):
    pipe = DDMIPipeline.from_pretrained(whole)
    assert pipe.config.diffusion.sampler == "flow" and "flow map" in repr(pipe)
    pipe.latents(2, seed=0)
    assert pipe.last_evaluations == [4, 4]
    pipe.latents(2, seed=0, sampler="dpm", steps=7)
    assert pipe.last_evaluations == [7, 7]
    assert json.loads((whole / "config.json").read_text())["diffusion"]["sampler"] == "dpm"  # of the run
    assert (whole / "samples" / "distillation-000004.png").is_file()
    assert not list((whole / "cache").glob("trajectories-*"))
    lines = [json.loads(line) for line in (whole / "logs" / "distillation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    averaged = newest(whole, "averaged")
    for name, tensor in load_tensors(whole / "model" / "flow.safetensors").items():
        assert torch.equal(tensor, averaged[f"module.{name}"])


@pytest.mark.parametrize("stop", [9, 11])
def test_a_distillation_that_was_interrupted_goes_on_as_if_nothing_had_been(
    whole, pictures, tmp_path, stop, monkeypatch
):
    """Stopped after the first step of stage 3, and after the third."""
    from test_run import StopAt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "Interruption", lambda deadline: StopAt(stop))
        assert not train(CONFIG, tmp_path, pictures)
    assert find(tmp_path / "checkpoints", "distillation")[-1].step == stop - 8
    assert train(CONFIG, tmp_path, pictures, resume=True)
    for name in ("model", "averaged", "optimiser"):
        assert tiny.equal(newest(whole, name), newest(tmp_path, name))
    assert tiny.equal(*(load_tensors(run / "model" / "flow.safetensors") for run in (whole, tmp_path)))


def test_the_command_distils_a_run_and_a_copy_of_a_model_folder(pictures, tmp_path, capsys):
    run, settings = tiny.untrained(tmp_path / "run"), ["--set", "training.distillation_steps=2"]
    told = ["train", str(run / "model"), "--stage", "distillation", "--data", str(pictures)]
    assert main(told) == 2 and "it is a model and no run: choose another --out" in capsys.readouterr().err
    assert main([*told, "--out", str(tmp_path / "new")]) == 2
    assert "training.distillation_steps is 0: say how many, e.g. --set" in capsys.readouterr().err
    assert main([*told, "--out", str(tmp_path / "new"), *settings]) == 0
    denoisers = [load_tensors(folder / "model" / "diffusion.safetensors") for folder in (run, tmp_path / "new")]
    assert tiny.equal(*denoisers)
    capsys.readouterr()
    again = ["train", str(tmp_path / "new"), "--stage", "distillation"]  # the run itself: finished, and its data known
    assert main(again) == 0 and capsys.readouterr().out.strip().endswith("new/model")
    assert DDMIPipeline.from_pretrained(tmp_path / "new").diffusion.flow is not None


def test_what_it_lacks_is_named(whole, pictures, tmp_path):
    with pytest.raises(UserError, match=r"diffusion.safetensors is missing: train stage 2 first"):
        train(CONFIG, tmp_path, pictures, stage="distillation")
    run = shutil.copytree(whole, tmp_path / "copy")
    (run / "model" / "flow.safetensors").unlink()
    other = tiny.untrained(tmp_path / "other", seed=5)
    for name in ("diffusion.safetensors", "manifest.json", "autoencoder.safetensors"):
        shutil.copy(other / "model" / name, run / "model" / name)
    with pytest.raises(UserError, match=r"checkpoints of the distillation for another denoiser or other data: remove"):
        train(CONFIG, run, pictures, stage="distillation", resume=True)
    content = (run / "model" / "diffusion.safetensors").read_bytes()
    (run / "model" / "diffusion.safetensors").write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    with pytest.raises(UserError, match=r"diffusion.safetensors was altered: train stage 2 with --resume"):
        train(CONFIG, run, pictures, stage="distillation", resume=True)


def test_settings_of_it_are_checked():
    for name in ("trajectory_uses", "trajectory_megabytes"):
        with pytest.raises(UserError, match=f"training.{name} must be at least 1, not 0"):
            tiny.config(**{name: 0})
    with pytest.raises(UserError, match=r"training.distillation_steps must be at least 0, not -1"):
        tiny.config(distillation_steps=-1)
