"""The model folder: verified when it is opened; what is saved into it is there as a whole or not at all."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch

from ddmi import pretrained as models
from ddmi.base.errors import UserError, WorkError
from ddmi.base.storage import seal
from ddmi.model.autoencoder import D2CVAE
from ddmi.model.diffusion import Diffusion
from ddmi.model.flow import student_of
from ddmi.pretrained import export, folder_of, load_autoencoder, load_diffusion, open_folder

CONFIG = tiny.config()
WRITTEN = {*models.FILES} - {models.FLOW}
"""Where there is no flow map."""


def networks(seed=0):
    torch.manual_seed(seed)
    autoencoder = D2CVAE(CONFIG.autoencoder, CONFIG.domain)
    return tiny.awake(autoencoder), tiny.awake(Diffusion(CONFIG.diffusion, CONFIG.domain.layout, 4))


@pytest.fixture
def folder(tmp_path):
    export(tmp_path / "run" / "model", CONFIG, *networks())
    return tmp_path / "run" / "model"


def test_what_is_stored_comes_back(folder):
    opened, config = open_folder(folder)
    assert config == CONFIG
    for loaded, made in zip(
        (load_autoencoder(opened, config), load_diffusion(opened, config)), networks(), strict=True
    ):
        assert tiny.equal(loaded, made)
        assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


def test_a_flow_map_is_a_further_file_of_the_folder(folder):
    """A model without one is as valid, and a new denoiser has none yet."""
    denoiser = networks()[1]
    assert load_diffusion(folder, CONFIG).flow is None
    before = (folder / "diffusion.safetensors").read_bytes()
    student = tiny.awake(student_of(denoiser))
    export(folder, CONFIG, flow=student)
    opened, config = open_folder(folder)
    assert "flow.safetensors" in json.loads((folder / "manifest.json").read_text())
    loaded = load_diffusion(opened, config)
    assert tiny.equal(loaded.flow, student) and (folder / "diffusion.safetensors").read_bytes() == before
    (folder / "flow.safetensors").write_bytes(before)
    with pytest.raises(UserError, match=r"flow.safetensors was altered"):
        open_folder(folder)
    export(folder, CONFIG, diffusion=denoiser)
    assert load_diffusion(*open_folder(folder)).flow is None and not (folder / "flow.safetensors").exists()


def test_a_run_stands_for_its_model(folder):
    assert folder_of(folder.parent) == folder_of(folder) == folder


def test_where_there_is_no_model_the_way_to_one_is_named(tmp_path):
    with pytest.raises(UserError, match="nothing does not exist"):
        folder_of(tmp_path / "nothing")
    with pytest.raises(UserError, match="holds no model: train one into it first"):
        folder_of(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "autoencoder.safetensors", "diffusion.safetensors", "manifest.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name} is missing"):
        open_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "autoencoder.safetensors", "diffusion.safetensors"])
def test_one_changed_byte_is_noticed(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[-10] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} was altered"):
        open_folder(folder)


def test_a_new_denoiser_keeps_the_autoencoder(folder):
    _, other = networks(seed=1)
    export(folder, CONFIG, diffusion=other)
    opened, config = open_folder(folder)
    assert tiny.equal(load_diffusion(opened, config), other)
    assert tiny.equal(load_autoencoder(opened, config), networks()[0])


def test_a_new_autoencoder_drops_the_denoiser_of_the_old(folder):
    export(folder, CONFIG, autoencoder=networks(seed=1)[0])
    opened, config = open_folder(folder)
    assert load_diffusion(opened, config) is None
    assert not (folder / "diffusion.safetensors").exists()


def test_a_crash_leaves_the_old_model(folder, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(models, "seal", full)
    with pytest.raises(WorkError, match="No space left"):
        export(folder, CONFIG, *networks(seed=1))
    opened, config = open_folder(folder)
    assert tiny.equal(load_autoencoder(opened, config), networks()[0])
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("survived", range(1, 6))
def test_an_export_that_is_killed_leaves_the_old_model_or_the_new(folder, monkeypatch, survived):
    """Killed before the file number `survived` takes its place; what cleans up at an error never runs then."""
    old, new = networks(), networks(1)
    left, move = [survived], os.replace

    def killed(*paths):
        left[0] -= 1
        if not left[0]:
            raise SystemExit
        move(*paths)

    monkeypatch.setattr(os, "replace", killed)
    with suppress(SystemExit):
        export(folder, CONFIG, *new)
    monkeypatch.undo()
    expected = old if survived == 1 else new
    opened, config = open_folder(folder.parent)
    assert tiny.equal(load_autoencoder(opened, config), expected[0])
    assert tiny.equal(load_diffusion(opened, config), expected[1])
    assert {path.name for path in folder.iterdir()} == WRITTEN


def test_an_export_that_two_processes_finish_is_whole(folder, monkeypatch):
    """The second waits for the first, and then finds nothing to do."""
    new, locked = networks(1), models.locked

    def late(place, *, wait):
        monkeypatch.undo()
        models._settle(place)
        return locked(place, wait=wait)

    monkeypatch.setattr(models, "locked", late)
    export(folder, CONFIG, *new)
    opened, config = open_folder(folder)
    assert tiny.equal(load_autoencoder(opened, config), new[0])
    assert {path.name for path in folder.iterdir()} == WRITTEN


def test_what_else_is_in_the_folder_stays(tmp_path, monkeypatch):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text.tex").write_text("of the user")
    (tmp_path / "notes.txt").write_text("of the user")
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):  # a new one, then in its place
        export(Path(), CONFIG, *networks(seed))
        assert tiny.equal(load_autoencoder(*open_folder(".")), networks(seed)[0])
    assert {path.name for path in tmp_path.iterdir()} == {"thesis", "notes.txt", *WRITTEN}
    assert (tmp_path / "thesis" / "text.tex").read_text() == (tmp_path / "notes.txt").read_text() == "of the user"


@pytest.mark.parametrize("name", models.FILES)
def test_a_file_of_the_user_is_not_replaced(tmp_path, name):
    (tmp_path / name).write_text('{"of": "the user"}')
    with pytest.raises(UserError, match=f"{name} is not of a model"):
        export(tmp_path, CONFIG, *networks())
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == '{"of": "the user"}'


def test_weights_of_another_configuration_are_refused(folder):
    opened, config = open_folder(folder)
    wider = replace(config, autoencoder=replace(config.autoencoder, latent_channels=6))
    with pytest.raises(UserError, match=r"autoencoder.safetensors: .* has the shape"):
        load_autoencoder(opened, wider)
    with pytest.raises(UserError, match=r"diffusion.safetensors: .* has the shape"):
        load_diffusion(opened, wider)


def test_the_null_text_is_as_long_as_its_encoder_made_it(tmp_path):
    diffusion = replace(CONFIG.diffusion, condition="text", text_width=6)
    config = replace(CONFIG, diffusion=diffusion)
    model = Diffusion(diffusion, CONFIG.domain.layout, 4)
    model.null_tokens, model.null_mask = torch.randn(5, 6), torch.tensor([True] * 4 + [False])
    export(tmp_path / "model", config, networks()[0], model)
    loaded = load_diffusion(*open_folder(tmp_path / "model"))
    assert torch.equal(loaded.null(2).tokens[1], model.null_tokens) and loaded.null(2).mask.sum() == 8


HOSTILE = {
    "autoencoder.decoder.base": 1 << 40,
    "autoencoder.decoder.blocks": 1 << 40,
    "autoencoder.decoder.middle": -1,
    "autoencoder.latent_channels": 0,
    "autoencoder.readout.width": 1 << 20,
    "autoencoder.readout.blocks": 1 << 50,
    "diffusion.unet.base": 1 << 30,
    "diffusion.unet.blocks": 1 << 40,
    "diffusion.unet.head_width": 0,
    "diffusion.unet.patch": 0,
    "diffusion.timesteps": 1 << 40,
    "diffusion.beta_end": float("nan"),
    "domain.resolution": 1 << 20,
    "domain.name": "os",
    "domain.scales": [1e999],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_configuration_is_one_line(folder, name):
    """It is sealed as it should be: what stops it is that the weights are others, or that it is no configuration."""
    path = folder / "config.json"
    content = json.loads(path.read_text())
    *places, last = name.split(".")
    place = content
    for key in places:
        place = place[key]
    assert last in place
    place[last] = HOSTILE[name]
    path.write_text(json.dumps(content))
    seal(folder)
    with pytest.raises(UserError) as error:
        opened, config = open_folder(folder)
        load_autoencoder(opened, config)
        load_diffusion(opened, config)
    assert str(folder) in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 1500


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 10_000, "[]", '{"name": ' * 50_000, " " * (1 << 21)])
def test_a_configuration_that_is_none_is_one_line(folder, text):
    (folder / "config.json").write_text(text)
    seal(folder)
    with pytest.raises(UserError, match=r"config\.json|configuration") as error:
        open_folder(folder)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1500


def test_what_the_manifest_does_not_list_is_not_read(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["diffusion.safetensors"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"diffusion.safetensors is not listed in manifest.json"):
        open_folder(folder)


def test_half_precision_rounds_parameters_and_nothing_else(tmp_path):
    """float16 has 10 bits behind the point: within 2^-11 of every normal number. The latent's statistics stay."""
    autoencoder, diffusion = networks()
    diffusion.mean += 1 / 3
    export(tmp_path / "model", CONFIG, autoencoder, diffusion, half=True)
    export(tmp_path / "whole", CONFIG, autoencoder, diffusion)
    loaded = load_diffusion(*open_folder(tmp_path / "model"))
    parameters = dict(diffusion.named_parameters())
    changed = 0
    for name, value in loaded.state_dict().items():
        assert value.dtype == diffusion.state_dict()[name].dtype
        if name in parameters:
            assert torch.allclose(value, parameters[name], rtol=2**-11, atol=2**-25)
            changed += int(not torch.equal(value, parameters[name]))
        else:
            assert torch.equal(value, diffusion.state_dict()[name])
    assert changed
    half, whole = ((tmp_path / name / "diffusion.safetensors").stat().st_size for name in ("model", "whole"))
    assert half < 0.7 * whole


def test_a_name_that_ships_is_found_unless_a_model_stands_here(folder, tmp_path, monkeypatch):
    shipped = tmp_path / "package"
    models.export(shipped / "apples", CONFIG, *networks(seed=1))
    monkeypatch.setattr(models.weights, "ROOT", shipped)
    monkeypatch.chdir(tmp_path)
    assert folder_of("apples") == shipped / "apples"
    (tmp_path / "apples").mkdir()  # a folder without a model does not hide it, one with a model does
    assert folder_of("apples") == shipped / "apples"
    with pytest.raises(UserError, match="apples holds no model"):
        folder_of("./apples")
    models.export(tmp_path / "apples", CONFIG, *networks())
    assert str(folder_of("apples")) == "apples"
    with pytest.raises(UserError, match=r"pears does not exist.*comes with the package \(apples\)"):
        folder_of("pears")
