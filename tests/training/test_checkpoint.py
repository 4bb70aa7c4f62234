"""Checkpoints hold everything, are found in order, and fit or say what does not."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ddmi.base.errors import UserError
from ddmi.training.checkpoint import FILES, find, newest, restore, save


def network(width=4):
    return nn.Sequential(nn.Conv2d(2, width, 3), nn.GroupNorm(2, width)).to(memory_format=torch.channels_last)


def trained(width=4, steps=3):
    torch.manual_seed(0)
    model = network(width)
    averaged = AveragedModel(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        step(model, averaged, optimiser)
    return {"model": model, "averaged": averaged}, optimiser


def step(model, averaged, optimiser):
    optimiser.zero_grad()
    model(torch.ones(2, 2, 5, 5) * torch.arange(5)).square().mean().backward()
    optimiser.step()
    averaged.update_parameters(model)


def test_a_restored_state_goes_on_bit_for_bit(tmp_path):
    modules, optimiser = trained()
    model, averaged = modules.values()
    stored = save(tmp_path, "autoencoder", 3, modules, optimiser, {"skipped": 1}, keep=2)
    for _ in range(3):
        step(model, averaged, optimiser)
    torch.manual_seed(9)
    other = network()
    mean = AveragedModel(other)
    fresh = torch.optim.AdamW(other.parameters(), lr=1e-2)
    assert restore(stored, {"model": other, "averaged": mean}, fresh) == {
        "stage": "autoencoder",
        "step": 3,
        "skipped": 1,
    }
    assert all(
        state["exp_avg"].stride() == p.stride() for p, state in fresh.state.items()
    )  # moments lie in memory as their parameters do, or sums would round differently
    for _ in range(3):
        step(other, mean, fresh)
    assert tiny.equal(model, other) and tiny.equal(averaged, mean)
    for a, b in zip(optimiser.state.values(), fresh.state.values(), strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_they_are_found_by_stage_oldest_first(tmp_path):
    parts = trained()
    for n in (2, 9, 10):
        save(tmp_path, "autoencoder", n, *parts, {}, keep=9)
    save(tmp_path, "diffusion", 4, *parts, {}, keep=9)
    assert [c.step for c in find(tmp_path, "autoencoder")] == [2, 9, 10]
    assert [c.step for c in find(tmp_path, "diffusion")] == [4]
    assert find(tmp_path / "nothing", "autoencoder") == []


def test_half_of_one_does_not_count(tmp_path):
    parts = trained()
    save(tmp_path, "autoencoder", 2, *parts, {}, keep=9)
    (tmp_path / ".autoencoder-00000003.writing").mkdir()
    (tmp_path / "autoencoder-00000004").mkdir()
    (tmp_path / "autoencoder-old").mkdir()
    assert [c.step for c in find(tmp_path, "autoencoder")] == [2]


def test_old_ones_go_but_those_of_the_other_stage_stay(tmp_path):
    parts = trained()
    save(tmp_path, "autoencoder", 1, *parts, {}, keep=2)
    for n in range(1, 6):
        save(tmp_path, "diffusion", n, *parts, {}, keep=2)
    assert [c.step for c in find(tmp_path, "diffusion")] == [4, 5]
    assert [c.step for c in find(tmp_path, "autoencoder")] == [1]


def test_one_of_another_shape_is_refused_in_one_line(tmp_path):
    stored = save(tmp_path, "autoencoder", 3, *trained(width=6), {}, keep=2)
    with pytest.raises(
        UserError, match=r"model.safetensors: 0.bias has the shape \(6,\), not \(4,\): .*other settings"
    ) as e:
        restore(stored, *trained(width=4))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("name", ["model.safetensors", "averaged.safetensors", "optimiser.safetensors"])
def test_a_missing_part_is_named(tmp_path, name):
    stored = save(tmp_path, "autoencoder", 3, *trained(), {}, keep=2)
    (stored.folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name} is missing"):
        restore(stored, *trained())


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_newest_falls_back_to_the_older(tmp_path, caplog, name, damage):
    older, last = (save(tmp_path, "autoencoder", n, *trained(steps=n), {}, keep=2) for n in (2, 3))
    assert newest(find(tmp_path, "autoencoder")) == last and not caplog.messages
    path = last.folder / name
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + (b"" if damage == "cut" else bytes([whole[middle] ^ 1]) + whole[middle + 1 :]))
    if damage == "gone" and name != "state.json":  # without it, it is none
        path.unlink()
    assert newest(find(tmp_path, "autoencoder")) == older
    (line,) = caplog.messages
    assert str(last.folder) in line and line.endswith("going on from the checkpoint of step 2")
    parts = trained(steps=1)
    restore(older, *parts)
    save(tmp_path, "autoencoder", 2, *parts, {}, keep=1)  # the damaged one does not push out a good one
    assert [c.step for c in find(tmp_path, "autoencoder")] == [2]
    (older.folder / "optimiser.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"optimiser.safetensors was altered"):
        newest(find(tmp_path, "autoencoder"))


def test_there_is_nothing_to_unpickle(tmp_path):
    stored = save(tmp_path, "autoencoder", 3, *trained(), {}, keep=2)
    assert {p.suffix for p in stored.folder.iterdir()} == {".safetensors", ".json"}
