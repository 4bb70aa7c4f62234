"""Every command of the README works when all are run in order in one folder, at tiny sizes."""

from __future__ import annotations

import glob
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddmi.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text()

TINY = {
    "sample": "--size 16 --count 1 --steps 1",
    "reconstruct": "--size 16",
    "interpolate": "--size 16 --frames 2",
    "train": "--set training.autoencoder_steps=1 --set training.diffusion_steps=1 --set training.batch_size=2 "
    "--set training.diffusion_batch_size=2 --set training.precision=fp32 --set training.preview_every=0 "
    "--set diffusion.sampling_steps=1",
    "prepare": "--surface 1000",
    "evaluate": "--samples 2",
}
"""Options that make each command short; the last of a repeated option counts."""
OF_KIND = {"shapes": " --queries 1000", "views": " --views 3 --size 16"}
ELSEWHERE = {"demo", "report", "app"}
"""Commands whose own tests run them: they have no options for tiny sizes, or serve until they are stopped."""


def commands() -> list[list[str]]:
    """The `ddmi` commands in their order, those of tables too."""
    found = re.findall(r"^(?:\| [^|`]+ \| `)?ddmi (.*?)(?:`.*|  +#.*)?$", README, re.MULTILINE)
    return [shlex.split(line) for line in found]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a person who reads the README works, with a few images, clips and meshes of their own."""
    import trimesh

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for kind in ("photos", "clips", "meshes"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for k in range(40):
        pixels = np.repeat(np.repeat(random.integers(0, 256, (4, 4, 3), np.uint8), 20, 0), 20, 1)
        Image.fromarray(pixels).save(tmp_path / "data" / "photos" / f"{k}.png")
    for k in range(3):
        frames = [Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8)) for _ in range(34)]
        place = tmp_path / "data" / "clips" / f"{k}.gif"
        frames[0].save(place, save_all=True, append_images=frames[1:], duration=40)
    for k in range(8):
        extents = random.uniform(0.4, 1, 3)
        trimesh.creation.box(extents).export(tmp_path / "data" / "meshes" / f"box{k}.ply")
    return tmp_path


@pytest.mark.slow
def test_the_commands_run_in_order(folder, capsys):
    run = [line for line in commands() if line[0] not in ELSEWHERE]
    assert {line[0] for line in run} == set(TINY), "a command is neither run here nor elsewhere"
    for name, *arguments in run:
        given = [file for text in arguments for file in (sorted(glob.glob(text)) if "*" in text else [text])]
        short = shlex.split(TINY[name] + OF_KIND.get(arguments[0], "") * (name == "prepare"))
        assert main([name, *given, *short]) == 0, f"{name} {given}: {capsys.readouterr().err}"
    assert {path.suffix for path in (folder / "out").rglob("*.*")} == {".png", ".glb", ".mp4", ".gif"}


def test_no_two_commands_write_to_one_place():
    places = [Path(line[line.index("--out") + 1]) for line in commands() if "--out" in line]
    places += [Path(line[-1]) for line in commands() if line[0] == "prepare"]
    assert len(places) == len(set(places)) > 10
    assert not [(a, b) for a in places for b in places if a in b.parents]


@pytest.mark.parametrize("page", ["README.md", "docs/models/README.md"])
def test_the_numbers_of_the_pretrained_models_are_those_of_their_cards(page):
    """Each, as rounded, is a number of the card, or a share of it in per cent."""
    root = Path(__file__).parent.parent
    rows = re.findall(r"^\| \[?`([\w-]+)`.*?\| (.*) \|$", (root / page).read_text(), re.MULTILINE)
    assert {name for name, _ in rows} >= {"emoji-64", "furniture", "clips", "furniture-views"}
    for name, row in rows:
        if not (root / "docs" / "models" / f"{name}.md").exists():
            continue
        card = (root / "docs" / "models" / f"{name}.md").read_text()
        known = [float(text.replace(",", "")) for text in re.findall(r"\d[\d,]*(?:\.\d+)?(?:e-\d+)?", card)]
        row = re.sub(r"\]\([^)]*\)|\d+ × \d+|1-NNA|of \d+ samples|of 100", "", row)
        for text in re.findall(r"\d+(?:\.\d+)?", row):
            half = 0.5 * 10.0 ** -len(text.partition(".")[2]) + 1e-9
            assert any(abs(scale * x - float(text)) <= half for x in known for scale in (1, 100)), f"{name}: {text}"
