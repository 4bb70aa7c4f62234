"""The model folder: verified when it is opened, replaced as a whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch

from ddmi import model as models
from ddmi.autoencoder import D2CVAE
from ddmi.diffusion import Diffusion
from ddmi.errors import UserError, WorkError
from ddmi.model import export, folder_of, load_autoencoder, load_diffusion, open_folder

CONFIG = tiny.config()


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
