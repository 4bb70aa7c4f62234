"""Table 8: four models that differ in two switches alone, at one budget."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import tiny
import torch

from ddmi.base.errors import UserError, WorkError
from ddmi.config import names, override, save, to_dict
from ddmi.evaluation import Protocol, ablation
from ddmi.evaluation.ablation import VARIANTS, budgeted, trained_as
from ddmi.model.decoder import Decoder
from ddmi.model.sampling import SamplingConfig

PROTOCOL = Protocol(samples=6, sampling=SamplingConfig(steps=2))
SWITCHES = ["autoencoder.decoder.hierarchical", "autoencoder.readout.coarse_to_fine"]


def settings(config):
    plain = to_dict(config)
    found = {}
    for name in names(plain):
        place = plain
        for key in name.split("."):
            place = place[key]
        found[name] = place
    return found


def test_the_variants_differ_in_the_two_switches_alone():
    config = tiny.config()
    values = {}
    for variant in VARIANTS:
        own = settings(variant.of(config))
        changed = {name for name, value in own.items() if value != settings(config)[name]}
        assert changed <= set(SWITCHES)
        values[variant.name] = tuple(own[name] for name in SWITCHES)
    assert values == {
        "full": (True, True),
        "no-cfc": (True, False),
        "no-hdbf": (False, True),
        "neither": (False, False),
    }


def test_a_single_field_has_no_order_to_leave_out():
    """The two rows without hierarchy are one network: the same parameters, so it is trained once."""
    from ddmi.model.readout import Readout

    config = tiny.config()
    assert [trained_as(v, config).name for v in VARIANTS] == ["full", "no-cfc", "no-hdbf", "no-hdbf"]
    networks = []
    for variant in VARIANTS[2:]:
        torch.manual_seed(0)
        own = variant.of(config).autoencoder
        fields = len(Decoder(own.decoder, 4, config.domain.layout).config.fields)
        networks.append(Readout(own.readout, fields, own.decoder.field_width, 1, 1))
    assert fields == 1 and tiny.equal(*[n.state_dict() for n in networks])
    x = [torch.randn(2, 3, own.decoder.field_width)]
    values = [network.at(torch.ones(1))(x) for network in networks]
    assert torch.equal(*values)
    summed = override(config, {"autoencoder.readout.conditioning": "sum"})
    assert [trained_as(v, summed).name for v in VARIANTS] == [v.name for v in VARIANTS]


def test_the_budget_is_equal():
    config = tiny.config()
    for seed in (0, 1):
        trainings = {budgeted(v.of(config), (5, 7), seed).training for v in VARIANTS}
        (training,) = trainings
        assert (training.autoencoder_steps, training.diffusion_steps, training.seed) == (5, 7, seed)
        assert training.batch_size == config.training.batch_size
    assert budgeted(config, None, 0).training.autoencoder_steps == config.training.autoencoder_steps


def test_means_and_spreads_are_over_seeds():
    def one(value):
        return {"scores": {"psnr_1x": value}, "seconds": 10 * value, "parameters": 3}

    found = {"full": [one(1.0), one(2.0), one(6.0)], "no-cfc": [one(4.0)], "no-hdbf": [one(2.0), one(4.0)]}
    rows = {row["name"]: row for row in ablation.summary(tiny.config(), None, PROTOCOL, found)["rows"]}
    assert rows["full"]["mean"]["psnr_1x"] == 3 and rows["full"]["deviation"]["psnr_1x"] == pytest.approx(7**0.5)
    assert rows["full"]["mean"]["seconds"] == 30
    assert rows["no-cfc"]["deviation"]["psnr_1x"] is None
    assert rows["neither"]["mean"] == rows["no-hdbf"]["mean"] and rows["neither"]["same_network_as"] == "no-hdbf"


@pytest.fixture
def quick(monkeypatch):
    """Metrics without heavy imports."""
    monkeypatch.setattr("ddmi.metrics.features.load", lambda name: tiny.Features())
    monkeypatch.setattr("ddmi.metrics.pixels.ssim", lambda a, b: torch.zeros(len(a)))


def untrained(config, folder):
    """A run folder as training leaves it, with random weights."""
    tiny.untrained(folder, config.training.seed, config)
    save(config, folder / "config.json")
    for stage in ablation.STAGES:
        state = folder / "checkpoints" / f"{stage}-00000001" / "state.json"
        state.parent.mkdir(parents=True, exist_ok=True)
        state.write_text('{"step": 1, "seconds": 4.0}')


def test_every_model_is_trained_and_judged_once(tmp_path, pictures, monkeypatch, quick):
    trained, evaluated, evaluate = [], [], ablation.evaluate

    def train(config, folder, data, *, resume):
        assert resume and data == pictures
        trained.append(folder.name)
        if len(trained) == 3:
            raise KeyboardInterrupt
        if not (folder / "model").exists():
            untrained(config, folder)
        return len(trained) != 5

    monkeypatch.setattr(ablation, "train", train)
    monkeypatch.setattr(ablation, "evaluate", lambda *a: evaluated.append(1) or evaluate(*a))
    config = tiny.config()
    call = {"budget": (2, 1), "seeds": 2, "protocol": PROTOCOL}
    with pytest.raises(KeyboardInterrupt):
        ablation.run(config, tmp_path, pictures, **call)
    assert json.loads((tmp_path / "ablation.json").read_text())["rows"][0]["mean"] and len(evaluated) == 2
    with pytest.raises(WorkError, match=r"stopped in .*no-cfc-seed-0; the same command goes on"):
        ablation.run(config, tmp_path, pictures, **call)
    found = ablation.run(config, tmp_path, pictures, **call)
    folders = {f"{name}-seed-{seed}" for name in ("full", "no-cfc", "no-hdbf") for seed in (0, 1)}
    assert set(trained) == folders and len(evaluated) == 6
    assert found == json.loads((tmp_path / "ablation.json").read_text())
    for row in found["rows"]:
        psnr = [one["scores"]["psnr_1x"] for one in row["runs"]]
        assert row["mean"]["psnr_1x"] == pytest.approx(sum(psnr) / 2)
        assert row["deviation"]["psnr_1x"] == pytest.approx(abs(psnr[0] - psnr[1]) / 2**0.5)
        assert row["mean"]["frechet"] > 0 and row["mean"]["seconds"] == 8
    assert found["protocol"]["steps"] == {"autoencoder": 2, "diffusion": 1} and found["protocol"]["points"] == 16
    assert ablation.run(config, tmp_path, pictures, **call) == found and len(evaluated) == 6
    assert len([*(tmp_path / "cache" / "features").glob("train-*")]) == 1  # the data was looked at once for all
    with pytest.raises(UserError, match=r"training.autoencoder_steps = 2, not 3: choose another --out"):
        ablation.run(config, tmp_path, pictures, **{**call, "budget": (3, 1)})

    from ddmi.report import tables

    page = tables.write_ablation(tmp_path).read_text()
    assert "the network of no-hdbf" in tables.text(tables.ablation_table(tables.ablation_numbers(tmp_path)))
    assert "the network of no-hdbf" in page and 'data-from="ablation/rows/0/deviation/frechet"' in page


def test_a_model_is_trained_at_the_budget(tmp_path, pictures, monkeypatch, quick):
    monkeypatch.setattr(ablation, "VARIANTS", VARIANTS[:1])
    protocol = replace(PROTOCOL, size=12)  # 384 is 1.5 times the resolution in Table 8
    found = ablation.run(tiny.config(), tmp_path, pictures, budget=(1, 2), seeds=1, protocol=protocol)
    (row,) = found["rows"]
    assert found["protocol"]["size"] == 12 and {"psnr", "psnr_1x", "frechet"} <= row["mean"].keys()
    assert row["mean"]["psnr"] != row["mean"]["psnr_1x"]
    measured = json.loads((tmp_path / "full-seed-0" / "metrics.json").read_text())
    assert measured["distributions"]["protocol"]["size"] == measured["reconstruction"]["protocol"]["size"] == 12
    assert row["mean"]["psnr"] == measured["reconstruction"]["scales"]["1.5x"]["psnr"]
    assert row["mean"]["seconds"] > 0 and row["deviation"]["psnr_1x"] is None
    checkpoints = {p.name for p in (tmp_path / "full-seed-0" / "checkpoints").iterdir() if p.is_dir()}
    assert checkpoints == {"autoencoder-00000001", "diffusion-00000002"}


def test_a_domain_without_such_numbers_is_refused(tmp_path):
    import toy_wave

    with pytest.raises(UserError, match="no metrics that compare models"):
        ablation.run(replace(tiny.config(), domain=toy_wave.Wave()), tmp_path)
