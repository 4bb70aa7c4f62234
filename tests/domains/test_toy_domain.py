"""The test of the design: a domain that lives here is trained, stored, loaded and sampled as any other."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
import toy_wave

from ddmi import Field, domains, presets, train
from ddmi.base.coordinates import axis
from ddmi.base.errors import UserError
from ddmi.base.planes import unpack
from ddmi.cli import main
from ddmi.config import from_dict, to_dict
from ddmi.domains.base import Evidence
from ddmi.field import fields_of
from ddmi.model.sampling import SamplingConfig, draw, sample_seeds
from ddmi.pretrained import load_autoencoder, load_diffusion, open_folder

WAVE = toy_wave.Wave()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wave")
    assert train(toy_wave.config(distillation_steps=4), folder)
    return folder


@pytest.fixture(scope="module")
def models(run):
    folder, config = open_folder(run)
    return config, load_autoencoder(folder, config), load_diffusion(folder, config)


def test_it_is_found_by_its_name_but_never_imported_for_a_file():
    assert domains.find("toy_wave") is toy_wave.Wave
    assert domains.name_of(WAVE) == "toy_wave"
    with pytest.raises(UserError, match="unknown domain 'never_imported'"):
        domains.find("never_imported")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """As an installed package would announce the domain."""
    about = tmp_path / "waves-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: waves\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[ddmi.domains]\nwave = toy_wave\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_the_command_line_serves_it_once_it_is_installed(installed, tmp_path, monkeypatch, capsys):
    """Demonstrated (trained and reported), sampled and evaluated."""
    assert domains.find("wave") is toy_wave.Wave and presets.demo("wave") == toy_wave.demo()
    monkeypatch.delitem(sys.modules, "toy_wave")  # its run names the module, which a new process has not imported
    assert domains.find("toy_wave").__name__ == "Wave"
    monkeypatch.setitem(sys.modules, "toy_wave", toy_wave)
    run = tmp_path / "run"
    assert main(["demo", "wave", "--out", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    page = (run / "report.html").read_text()
    assert "mean squared error" in page and "Stage 2" in page
    assert main(["sample", str(run), "--count", "2", "--steps", "2", "--out", str(tmp_path / "samples")]) == 0
    assert len(list((tmp_path / "samples").glob("*.npy"))) == 2
    assert main(["evaluate", str(run), "--samples", "2", "--metrics", "error", "--out", str(tmp_path / "m.json")]) == 0
    assert json.loads((tmp_path / "m.json").read_text())["error"]["mean_squared_error"] < 1


def test_an_installed_domain_without_a_demonstration_says_so(installed, capsys, monkeypatch):
    monkeypatch.delattr(toy_wave, "demo")
    assert main(["demo", "wave"]) == 2
    assert "the domain wave has no demonstration" in capsys.readouterr().err
    assert main(["demo", "wav"]) == 2
    assert "did you mean 'wave'" in capsys.readouterr().err


def test_its_settings_survive_json():
    config = toy_wave.config()
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


def test_the_run_folder_is_complete(run):
    assert {"config.json", "checkpoints", "model", "logs", "cache"} <= {path.name for path in run.iterdir()}
    lines = [json.loads(line) for line in (run / "logs" / "autoencoder.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 61))
    assert lines[-1]["reconstruction"] < 0.3 * lines[0]["reconstruction"]


def test_held_out_waves_are_reconstructed_better_than_by_silence(models):
    config, autoencoder, _ = models

    def reconstruct(dataset, indices):
        with torch.no_grad():
            signal = autoencoder.decode(autoencoder.encode(dataset.inputs(indices)).mode)
        return fields_of(signal, config.domain)

    domain = config.domain
    evidence = Evidence(tiny.dataset(domain, None, "train"), tiny.dataset(domain, None, "test"), reconstruct, [])
    found = domain.metrics().functions["error"](evidence)
    held_out = tiny.dataset(domain, None, "test")
    silence = float(torch.stack([held_out.value(i, axis(64)).square().mean() for i in range(2)]).mean())
    assert found["mean_squared_error"] < 0.5 * silence


def test_samples_are_functions_at_any_size_and_survive_a_file(models, tmp_path):
    config, autoencoder, diffusion = models
    drawn = draw(diffusion, sample_seeds(0, 0, 3), None, SamplingConfig(sampler="ddim", steps=5))
    with torch.no_grad():
        fields = fields_of(autoencoder.decode(unpack(drawn.z, config.domain.layout)), config.domain)
    assert len(fields) == 3
    coarse, fine = fields[0].render(7).values, fields[0].render(21).values
    assert coarse.shape == (7,) and np.allclose(coarse, fine[1::3], atol=1e-6)  # every third centre is a coarse one

    fields[1].save(tmp_path / "one.safetensors")
    again = Field.load(tmp_path / "one.safetensors")
    assert np.array_equal(again.render(40).values, fields[1].render(40).values)
    again.render(40).save(tmp_path / "one.npy")
    assert np.array_equal(np.load(tmp_path / "one.npy"), again.render(40).values)


def test_a_run_of_other_settings_is_refused(run):
    other = replace(toy_wave.config(), domain=toy_wave.Wave(samples=32))
    with pytest.raises(UserError, match=r"domain.samples was 16, not 32"):
        train(other, run, resume=True)
    with pytest.raises(UserError, match="already holds a run"):
        train(toy_wave.config(), run)
