"""`ddmi info`, what files say of themselves, prompts from a file, and what guidance leads away from."""

from __future__ import annotations

import pytest
import torch
from tiny import untrained

from ddmi import DDMIPipeline
from ddmi.cli import main
from ddmi.model.diffusion import Guidance
from ddmi.model.unet import Condition
from ddmi.recipe import Recipe
from ddmi.rendering import metadata


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("run"))


def test_a_sample_says_how_it_was_made(run, tmp_path, capsys):
    line = [
        "sample",
        str(run),
        "--size",
        "8",
        "--steps",
        "3",
        "--seed",
        "4",
        "--count",
        "2",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(line) == 0
    path = tmp_path / "out" / "sample-4-1.png"
    capsys.readouterr()
    assert main(["info", str(path)]) == 0
    said = capsys.readouterr().out
    assert "seed" in said and f"ddmi sample {run} --seed 4" in said and "--count 2" in said
    pipe = DDMIPipeline.from_pretrained(run)
    recipe = Recipe.read(metadata.read(path))
    assert recipe.digest == pipe.digest and len(pipe.digest) == 16
    assert torch.allclose(recipe.latent(pipe), pipe.latents(2, 4, steps=3)[1:], atol=1e-5)


def test_other_files_say_what_they_show(run, pictures, tmp_path, capsys):
    assert main(["reconstruct", str(run), str(pictures / "00.png"), "--size", "8", "--out", str(tmp_path)]) == 0
    assert main(["interpolate", str(run), "--frames", "2", "--size", "8", "--out", str(tmp_path / "way.gif")]) == 0
    for name, words in (("00.png", "reconstruction of 00.png"), ("way.gif", "from 0:0 to 0:1")):
        capsys.readouterr()
        assert main(["info", str(tmp_path / name)]) == 0
        assert words in capsys.readouterr().out
    assert main(["info", str(pictures / "00.png")]) == 2
    assert "no metadata of ddmi" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--negative", "red"], "--negative goes beside --text"),
        (["--text-file", "none.txt"], "none.txt is missing"),
        (["--text-file", "empty.txt"], "holds no prompt"),
        (["--text-file", "one.txt"], "without text"),
    ],
)
def test_prompts_of_a_file_are_checked(options, said, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "one.txt").write_text("a chair\n")
    assert main(["sample", str(run), "--out", "out", *options]) == 2
    assert said in capsys.readouterr().err


def test_a_shell_completes_commands_and_options(monkeypatch, capsys):
    for line, words in (("ddmi sa", ["sample"]), ("ddmi info --h", ["--help"])):
        told = {"_DDMI_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit):
            main([])
        assert capsys.readouterr().out.split() == words


def test_guidance_leads_away_from_the_negative_prompt():
    from dataclasses import replace

    from tiny import DIFFUSION, awake, image

    from ddmi.model.diffusion import Diffusion

    domain = image()
    diffusion = awake(Diffusion(replace(DIFFUSION, condition="text", text_width=6), domain.layout, 3)).eval()
    z, t = torch.randn(2, 3, 16), torch.full((2,), 20.0)
    asked, against = (Condition(torch.randn(2, n, 6), torch.ones(2, n, dtype=torch.bool)) for n in (3, 2))
    plain, away = (diffusion.epsilon(z, t, condition) for condition in (asked, against))
    got = diffusion.guided(z, t, replace(asked, against=against), Guidance(3.0, (0.0, 1.0), 1.0))
    assert torch.allclose(got, away + 3.0 * (plain - away), atol=1e-4)
    part = replace(asked, against=against).take(torch.tensor([1]))
    assert torch.equal(part.against.tokens, against.tokens[1:])
