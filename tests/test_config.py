"""Configurations survive JSON, and whatever is not theirs is named with the nearest thing that is."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import tiny

from ddmi import config as configuration
from ddmi import domains, presets
from ddmi.base.errors import UserError
from ddmi.config import Config, TrainingConfig, from_dict, names, override, to_dict
from ddmi.domains.image import Image
from ddmi.model.decoder import DecoderConfig, Level


@pytest.mark.parametrize("name", presets.functions())
def test_every_preset_survives_json(name):
    config = presets.find(name)
    assert config.name == name
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    settings = names(to_dict(config))
    for promised in ("autoencoder_steps", "diffusion_steps", "checkpoint_every", "batch_size", "precision", "seed"):
        assert f"training.{promised}" in settings


def test_a_preset_that_is_not_there_is_named_with_the_nearest():
    with pytest.raises(UserError, match="unknown preset 'emoji-23': did you mean 'emoji-32'"):
        presets.find("emoji-23")


def test_a_file_gives_the_same_configuration(tmp_path):
    config = tiny.config(seed=5)
    configuration.save(config, tmp_path / "config.json")
    assert configuration.load(tmp_path / "config.json") == config


def test_what_is_left_out_has_its_default():
    plain = {"name": "a", "domain": {"name": "image"}}
    assert from_dict(plain) == Config(name="a", domain=Image())


def test_lists_of_records_come_back_as_records():
    plain = json.loads(
        json.dumps(to_dict(DecoderConfig(levels=(Level(multiplier=3, field=False), Level(multiplier=1)))))
    )
    assert from_dict(plain, DecoderConfig).levels == (Level(multiplier=3, field=False), Level(multiplier=1))


WRONG = [
    ({"trainig": {}}, r"unknown setting 'trainig': did you mean 'training'"),
    ({"training": {"batchsize": 3}}, r"unknown setting 'training.batchsize': did you mean 'training.batch_size'"),
    ({"domain": {"name": "image", "encode": {"bases": 3}}}, r"did you mean 'domain.encode.base'"),
    (
        {"autoencoder": {"decoder": {"levels": [{"multiplyer": 1}]}}},
        r"levels\[0\].multiplyer.*did you mean .*multiplier",
    ),
    ({"autoencoder": {"decoder": {"levels": [{}]}}}, r"levels\[0\].multiplier is missing"),
    ({"training": {"batch_size": "8"}}, r"training.batch_size must be of type int, not '8'"),
    ({"training": {"batch_size": 8.5}}, r"training.batch_size must be of type int, not 8.5"),
    ({"training": {"batch_size": True}}, r"training.batch_size must be of type int, not True"),
    ({"training": {"compile": 1}}, r"training.compile must be of type bool, not 1"),
    ({"training": {"clip": "1"}}, r"training.clip must be of type float"),
    ({"training": {"betas": [0.9]}}, r"training.betas must have 2 values, not 1"),
    ({"training": {"betas": 0.9}}, r"training.betas must be a list"),
    ({"training": {"precision": "fp64"}}, r"training.precision.*'fp64'.*allowed are auto, bf16, fp16, fp32"),
    ({"training": 3}, r"training must be an object"),
    ({"domain": {"name": "imgae"}}, r"unknown domain 'imgae': did you mean 'image'"),
    ({"domain": {"name": 3}}, r"domain must be an object with a name"),
    ({"domain": {}}, r"domain must be an object with a name"),
    ({"training": {"batch_size": 0}}, r"training.batch_size must be at least 1, not 0"),
    ({"training": {"accumulation": 3}}, r"training.accumulation 3 must divide the batch size 32"),
]


@pytest.mark.parametrize("part, message", WRONG, ids=[str(part) for part, _ in WRONG])
def test_what_is_wrong_is_named_with_its_place(part, message):
    with pytest.raises(UserError, match=message):
        from_dict({"name": "a", "domain": {"name": "image"}, **part})


def test_required_settings_are_required():
    with pytest.raises(UserError, match="setting domain is missing"):
        from_dict({"name": "a"})
    with pytest.raises(UserError, match="the configuration must be an object"):
        from_dict([1])


def test_whole_numbers_are_fractions_too():
    assert from_dict({"clip": 2}, TrainingConfig).clip == 2.0
    assert isinstance(from_dict({"clip": 2}, TrainingConfig).clip, float)


def test_settings_are_overridden_by_dotted_names():
    config = override(
        tiny.config(),
        {
            "training.batch_size": "16",
            "training.precision": "bf16",
            "domain.scales": "[1, 2.5]",
            "domain.flip": "True",
            "autoencoder.readout.planes": "concatenate",
        },
    )
    assert (config.training.batch_size, config.training.precision) == (16, "bf16")
    assert config.domain.scales == (1.0, 2.5) and config.domain.flip is True
    assert config.autoencoder.readout.planes == "concatenate"
    assert replace(config.training, batch_size=4, precision="fp32") == tiny.config().training


@pytest.mark.parametrize(
    "setting, value, message",
    [
        ("training.batchsize", "3", "did you mean 'training.batch_size'"),
        ("batch_size", "3", "unknown setting 'batch_size'"),
        ("training.batch_size", "many", "training.batch_size must be of type int, not 'many'"),
        ("training.batch_size.deep", "3", "unknown setting 'training.batch_size.deep'"),
        ("training", "3", "training must be an object"),
        ("domain.points", "99", "domain.points must be from 0"),
    ],
)
def test_overrides_that_cannot_be_are_named(setting, value, message):
    with pytest.raises(UserError, match=message):
        override(tiny.config(), {setting: value})


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing.json does not exist"):
        configuration.load(tmp_path / "nothing.json")
    (tmp_path / "broken.json").write_text('{"name": ')
    with pytest.raises(UserError, match=r"broken.json is not valid JSON"):
        configuration.load(tmp_path / "broken.json")
    (tmp_path / "other.json").write_text('{"name": "a", "domain": {"name": "image"}, "epochs": 3}')
    with pytest.raises(UserError, match=r"other.json: unknown setting 'epochs'"):
        configuration.load(tmp_path / "other.json")


@pytest.mark.parametrize("name", domains.names())
def test_domains_are_found_by_the_name_of_their_file(name):
    kind = domains.find(name)
    assert kind.__module__ == f"ddmi.domains.{name}"
    assert domains.name_of(kind()) == name


def test_a_module_without_a_domain_is_none():
    with pytest.raises(UserError, match="unknown domain 'json'"):
        domains.find("json")


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("autoencoder.objective.latent_noise=1.5", r"autoencoder\.objective\.latent_noise must be from 0 to 1"),
        ("training.decoder_steps=-1", r"training\.decoder_steps must be at least 0"),
        ("diffusion.unet.groups=0", r"diffusion\.unet\.groups must be at least 1"),
        ("diffusion.unet.patch=0", r"diffusion\.unet\.patch must be at least 1"),
        ("diffusion.unet.dropout=1.5", r"diffusion\.unet\.dropout must be from 0 to 1"),
        ("diffusion.condition_dropout=-0.1", r"diffusion\.condition_dropout must be from 0 to 1"),
        ("domain.encode.patch=0", r"encode\.patch must be at least 1"),
        ("domain.equivariance=-0.1", r"domain\.equivariance must be from 0 to 1"),
    ],
)
def test_a_number_out_of_its_range_is_named(setting, complaint):
    name, value = setting.split("=")
    with pytest.raises(UserError, match=complaint):
        override(tiny.config(), {name: value})
