"""The command line from end to end on a tiny model, and every error as one line with the right exit status."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from ddmi import config as configuration
from ddmi.cli import main

PYTHON = [sys.executable, "-m", "ddmi"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A folder with tiny.json and a run of both stages, made by the command line."""
    folder = tmp_path_factory.mktemp("cli")
    configuration.save(tiny.config(), folder / "tiny.json")
    call = ["train", str(folder / "tiny.json"), "--data", str(pictures), "--out", str(folder / "run")]
    assert main([*call, "--set", "training.diffusion_steps=3", "--set", "domain.points=12"]) == 0
    return folder


def ok(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    """The lines that a command prints as its results."""
    capsys.readouterr()
    status = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert status == 0, err
    return out.splitlines()


def refused(capsys: pytest.CaptureFixture[str], status: int, *arguments: object) -> str:
    """The one line with which a command fails; nothing else reaches standard error."""
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == status
    err = capsys.readouterr().err
    assert err.startswith("ddmi: error: ") and err.count("\n") == 1 and err.endswith("\n"), err
    assert "Traceback" not in err
    return err


def pixels(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


# the program ---------------------------------------------------------------------------------------------------------


def test_help_imports_no_torch():
    script = (
        "import sys; from ddmi.cli import main; assert main(['--help']) == 0; assert main(['train', '--help']) == 0;"
        "heavy = {'torch', 'numpy', 'PIL', 'accelerate', 'diffusers'} & sys.modules.keys(); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Commands:" in done.stdout and "--max-minutes" in done.stdout


def test_the_module_is_the_program():
    done = subprocess.run([*PYTHON, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ddmi 0.1.0\n", "")
    done = subprocess.run([*PYTHON, "show", "emoji-33"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "did you mean 'emoji-" in done.stderr
    shown = subprocess.run([*PYTHON, "show", "nope"], capture_output=True, text=True, env={**os.environ, "RANK": "1"})
    assert (shown.returncode, shown.stderr) == (2, "")  # of several processes, the first one talks


def test_a_standard_output_that_is_closed_is_no_error():
    """Not even the number of its descriptor is given to a file, which would then hold what is printed."""
    script = "import os, sys; from ddmi.__main__ import main; status = main(); os.fstat(1); sys.exit(status)"
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        command = ["sh", "-c", f'"$0" -c "$1" presets {closed}', sys.executable, script]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), closed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_standard_output_on_a_full_disk_is_one_line():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*PYTHON, "presets"], stdout=full, stderr=subprocess.PIPE, text=True)
    told = "ddmi: error: cannot write to the standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_a_traceback_is_shown_on_request():
    environment = {**os.environ, "DDMI_TRACEBACK": "1"}
    done = subprocess.run([*PYTHON, "sampel"], capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_nothing_is_help(capsys):
    assert any(line.startswith("Usage: ddmi") for line in ok(capsys))


def test_presets_are_listed_with_their_domain(capsys):
    from ddmi.presets import functions

    lines = ok(capsys, "presets")
    assert [line.split()[0] for line in lines[1:]] == sorted(functions())
    assert all("  image  " in line for line in lines if line.startswith(("emoji", "afhq", "cifar")))


def test_the_list_of_presets_is_what_their_functions_give():
    """It is read from the files, without calling or importing them."""
    import inspect

    from ddmi import domains, presets

    made = []
    for name, function in presets.functions().items():
        made.append((name, domains.name_of(function().domain), (inspect.getdoc(function) or "").partition("\n")[0]))
    assert presets.listed() == made


@pytest.mark.parametrize("command", ["presets", "models"])
def test_lists_import_no_torch(command):
    script = f"import sys; from ddmi.cli import main; main(['{command}']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout and not done.stderr


def test_show_says_the_sizes(home, capsys):
    shown = json.loads("\n".join(ok(capsys, "show", home / "tiny.json", "--json")))
    assert shown["config"] == configuration.to_dict(tiny.config())
    assert shown["latent"] == {"xy": [4, 4, 4]}
    assert shown["basis_fields"] == [{"xy": [6, n, n]} for n in (4, 8, 16)]
    assert set(shown["parameters"]) == {"encoder", "decoder", "read-out", "denoiser"}
    text = "\n".join(ok(capsys, "show", home / "run", "--set", "training.batch_size=7"))
    assert "batch_size: 7" in text and "points: 12" in text and "denoiser" in text


# training ------------------------------------------------------------------------------------------------------------


def test_a_dry_run_prints_the_configuration_and_writes_nothing(home, tmp_path, capsys):
    settings = ["--set", "training.batch_size=2", "--set", "domain.scales=[1.0, 3]", "--set", "domain.flip=True"]
    lines = ok(capsys, "train", home / "tiny.json", "--out", tmp_path / "run", "--dry-run", *settings)
    plain = json.loads("\n".join(lines))
    assert plain["training"]["batch_size"] == 2 and plain["domain"]["scales"] == [1.0, 3.0] and plain["domain"]["flip"]
    assert not (tmp_path / "run").exists()


def test_a_run_folder_holds_what_the_contract_says(home):
    run = home / "run"
    assert {"config.json", "checkpoints", "model", "logs"} <= {p.name for p in run.iterdir()}
    assert json.loads((run / "config.json").read_text())["domain"]["points"] == 12


def test_training_stops_early_and_goes_on(home, pictures, tmp_path, capsys, monkeypatch):
    from ddmi.base.interruption import Interruption

    call = ["train", home / "tiny.json", "--data", pictures, "--out", tmp_path / "run"]
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(Interruption, "due", True)  # as after Ctrl-C in a step
        assert main([str(a) for a in [*call, "--resume"]]) == 130
    notes = capsys.readouterr().err
    assert "ddmi: stopped at step 1 of the autoencoder; go on with --resume" in notes.splitlines()
    assert "already holds a run" in refused(capsys, 2, *call)
    assert ok(capsys, *call, "--resume") == [str(tmp_path / "run" / "model")]
    assert (tmp_path / "run" / "model" / "diffusion.safetensors").is_file()
    # a resumed run takes its own settings: here those of the run, not of the file it was started from
    changed = tmp_path / "tiny.json"
    configuration.save(tiny.config(tiny.image(resolution=16)), changed)
    assert ok(capsys, "train", changed, "--data", pictures, "--out", tmp_path / "run", "--resume")
    line = refused(capsys, 2, *call, "--resume", "--set", "autoencoder.latent_channels=8")
    assert "config.json" in line and "autoencoder.latent_channels was 4, not 8" in line
    assert "'tiny', not of 'emoji-" in refused(
        capsys, 2, "train", "emoji-32", "--data", pictures, "--out", tmp_path / "run", "--resume"
    )


def test_stages_are_trained_apart(home, pictures, tmp_path, capsys):
    call = ["train", home / "tiny.json", "--data", pictures, "--out", tmp_path]
    ok(capsys, *call, "--stage", "autoencoder")
    assert not (tmp_path / "model" / "diffusion.safetensors").exists()
    assert "--stage diffusion" in refused(capsys, 2, "sample", tmp_path, "--out", tmp_path / "samples")
    ok(capsys, *call, "--stage", "diffusion", "--resume")
    assert ok(capsys, "sample", tmp_path, "--steps", 2, "--out", tmp_path / "samples")


# using ---------------------------------------------------------------------------------------------------------------


def test_sizes_are_width_by_height(home, tmp_path, capsys):
    (path,) = ok(capsys, "sample", home / "run", "--size", "50x30", "--steps", 2, "--out", tmp_path / "s")
    assert path == str(tmp_path / "s" / "sample-0-0.png") and Image.open(path).size == (50, 30)
    (path,) = ok(capsys, "sample", home / "run", "--size", 40, "--steps", 2, "--out", tmp_path, "--format", "jpg")
    assert path.endswith("sample-0-0.jpg") and Image.open(path).size == (40, 40)


def test_a_window_is_that_part_of_the_frame(home, tmp_path, capsys):
    call = ["sample", home / "run", "--steps", 2, "--seed", 4, "--out"]
    (whole,) = ok(capsys, *call, tmp_path / "whole", "--size", 16)
    (part,) = ok(capsys, *call, tmp_path / "part", "--size", 8, "--window", "-1,0,0,1")
    assert abs(pixels(whole)[8:, :8] - pixels(part)).max() <= 1


def test_samples_depend_on_seed_and_number_alone(home, tmp_path, capsys):
    call = ["sample", home / "run", "--size", 16, "--steps", 3, "--seed", 7]
    few = ok(capsys, *call, "--count", 2, "--out", tmp_path / "few")
    again = ok(capsys, *call, "--count", 2, "--out", tmp_path / "again")
    assert [Path(p).read_bytes() for p in few] == [Path(p).read_bytes() for p in again]
    many = ok(capsys, *call, "--count", 5, "--batch-size", 3, "--sheet", "--out", tmp_path / "many")
    assert [Path(p).name for p in many] == [*(f"sample-7-{k}.png" for k in range(5)), "sheet-7.png"]
    for a, b in zip(few, many, strict=False):
        assert abs(pixels(a) - pixels(b)).max() <= 1
    assert abs(pixels(many[0]) - pixels(many[1])).max() > 10


def test_the_adaptive_solver_counts_its_evaluations(home, tmp_path, capsys):
    capsys.readouterr()
    call = ["sample", home / "run", "--sampler", "rk45", "--tolerance", "0.1", "--steps", "9", "--out", tmp_path]
    assert main([str(a) for a in call]) == 0
    notes = capsys.readouterr().err
    assert "function evaluations on average" in notes and "--steps has no effect on rk45" in notes


def test_large_pictures_are_streamed(home, tmp_path, capsys, monkeypatch):
    tifffile = pytest.importorskip("tifffile")
    from ddmi.cli import rendering

    call = ["sample", home / "run", "--steps", 2, "--size", "40x20", "--out", tmp_path]
    (path,) = ok(capsys, *call, "--format", "tif")
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff and file.pages[0].is_tiled and file.pages[0].shape == (20, 40, 3)
    (png,) = ok(capsys, *call)
    assert tiny.alike(tifffile.imread(path), pixels(png))
    monkeypatch.setattr(rendering, "STREAMED", 100)
    assert ok(capsys, *call, "--seed", 1) == [str(tmp_path / "sample-1-0.tif")]
    assert "--sheet" in "".join(refused(capsys, 2, *call, "--sheet", "--format", "tif"))


def test_files_that_are_read_are_never_written(home, pictures, tmp_path, capsys):
    """Into the folder of its own files, a reconstruction gets another name; an interpolation is refused."""
    mine = tmp_path / "mine"
    mine.mkdir()
    shutil.copy(sorted(pictures.glob("*.png"))[0], mine / "cat.png")
    before = (mine / "cat.png").read_bytes()
    lines = ok(capsys, "reconstruct", home / "run", mine / "cat.png", "--size", 8, "--out", mine)
    assert lines == [str(mine / "cat-2.png")] and (mine / "cat.png").read_bytes() == before
    ends = ["--from", mine / "cat.png", "--to", "0:1", "--frames", 2, "--size", 8]
    said = refused(capsys, 2, "interpolate", home / "run", *ends, "--out", mine / "." / "cat.png")
    assert "cat.png" in said and (mine / "cat.png").read_bytes() == before


def test_reconstructions_and_bad_files(home, pictures, tmp_path, capsys):
    good, cut, dot = pictures / "00.png", tmp_path / "cut.jpg", tmp_path / "dot.png"
    Image.open(good).save(cut)
    cut.write_bytes(cut.read_bytes()[:-200])
    Image.new("RGB", (1, 1)).save(dot)
    call = ["reconstruct", home / "run", "--size", "20x10", "--out", tmp_path / "r"]
    (path,) = ok(capsys, *call, good)
    assert path == str(tmp_path / "r" / "00.png") and Image.open(path).size == (20, 10)
    for bad in (cut, dot, home / "tiny.json", tmp_path / "none.png", tmp_path):
        Path(path).unlink()
        assert str(bad) in refused(capsys, 2, *call, bad, good)
        assert Path(path).is_file()  # the good one is written all the same


def test_interpolations(home, pictures, tmp_path, capsys):
    strip, clip = tmp_path / "strip.png", tmp_path / "new" / "clip.gif"
    assert ok(capsys, "interpolate", home / "run", "--frames", 4, "--size", 10, "--out", strip) == [str(strip)]
    assert Image.open(strip).size == (4 * 12 - 2, 10)
    ends = ["--from", pictures / "00.png", "--to", "3:1"]
    ok(capsys, "interpolate", home / "run", *ends, "--frames", 5, "--size", "30x20", "--out", clip)
    with Image.open(clip) as opened:
        assert opened.n_frames == 5 and opened.size == (30, 20)
    assert "--to" in refused(capsys, 2, "interpolate", home / "run", "--to", "nowhere", "--out", strip)
    assert ".gif" in refused(capsys, 2, "interpolate", home / "run", "--out", tmp_path / "strip.xyz")


def test_an_evaluation_is_a_table_and_a_file(home, pictures, tmp_path, capsys):
    call = ["evaluate", home / "run", "--data", pictures, "--samples", 4, "--steps", 2]
    lines = ok(capsys, *call, "--metrics", "reconstruction", "--out", tmp_path / "m.json")
    assert lines[-1] == str(tmp_path / "m.json") and any("psnr" in line for line in lines)
    found = json.loads((tmp_path / "m.json").read_text())
    assert found["reconstruction"]["protocol"] and found["sampling"]["steps"] == 2 and "memorisation" not in found
    assert "did you mean 'reconstruction'" in refused(capsys, 2, *call, "--metrics", "reconstructions")
    assert ".json" in refused(capsys, 2, *call, "--out", tmp_path / "m.txt")


def test_an_evaluation_looks_with_what_it_is_told(home, pictures, tmp_path, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr("ddmi.metrics.features.load", lambda name: shown.append(name) or tiny.Features())
    call = ["evaluate", home / "run", "--data", pictures, "--samples", 6, "--steps", 2, "--out", tmp_path / "m.json"]
    lines = ok(capsys, *call, "--metrics", "distributions", "--neighbours-k", 2, "--features", "of-mine")
    found = json.loads((tmp_path / "m.json").read_text())["distributions"]
    assert found["protocol"]["k"] == 2 and set(shown) == {"of-mine"}
    assert any(line.split()[:2] == ["distributions", "frechet"] for line in lines)


def test_one_set_of_samples_is_measured_at_several_sizes(home, pictures, tmp_path, capsys, monkeypatch):
    """Tables 1, 3 and 4."""
    monkeypatch.setattr("ddmi.metrics.features.load", lambda name: tiny.Features())
    call = ["evaluate", home / "run", "--data", pictures, "--samples", 6, "--out", tmp_path / "m.json"]
    call += ["--sampler", "ddim", "--eta", 0.5, "--steps", 2, "--limit", 8]
    lines = ok(capsys, *call, "--sizes", "8,12")
    found = json.loads((tmp_path / "m.json").read_text())
    for size in (8, 12):
        assert found[f"distributions@{size}"]["protocol"]["size"] == size
        assert found[f"distributions@{size}"]["protocol"]["training_pictures"] <= 8
        assert found[f"memorisation@{size}"]["protocol"]["size"] == size
        assert found[f"reconstruction@{size}"]["psnr"] > 0
    assert found["sampling"]["eta"] == 0.5 and "distributions" not in found
    assert any(line.split()[:2] == ["distributions@12", "frechet"] for line in lines)
    assert "prompts is taken at one size" in refused(capsys, 2, *call, "--sizes", "8", "--metrics", "prompts")


def test_quality_against_evaluations_is_a_table_a_file_and_a_page(home, pictures, tmp_path, capsys, monkeypatch):
    from ddmi.evaluation import nfe

    monkeypatch.setattr("ddmi.metrics.features.load", lambda name: tiny.Features())
    monkeypatch.setattr(nfe, "WAYS", nfe.WAYS[4:6])
    call = ["evaluate", home / "run", "--data", pictures, "--nfe", "--samples", 5, "--out", tmp_path / "m.json"]
    lines = ok(capsys, *call)
    assert [line.split()[:4] for line in lines[1:3]] == [["dpm", "10", "steps", "10"], ["dpm", "20", "steps", "20"]]
    assert lines[3:] == [str(tmp_path / "m.json"), str(tmp_path / "nfe.html")]
    before = (tmp_path / "m.json").read_text()
    assert ok(capsys, *call) == lines and (tmp_path / "m.json").read_text() == before


def test_an_ablation_takes_a_preset_and_a_budget(home, pictures, tmp_path, capsys, monkeypatch):
    from ddmi.evaluation import ablation

    asked = []

    def run(config, out, data, **options):
        asked.append((config.name, out, options["budget"], options["seeds"], options["protocol"].samples))
        rows = [{**v._asdict(), "runs": [], "mean": {"psnr_1x": 1.5}, "deviation": {}} for v in ablation.VARIANTS]
        out.mkdir(parents=True)
        found = {"protocol": {"preset": "tiny", "seeds": 1}, "rows": rows}
        (out / ablation.FILE).write_text(json.dumps(found))
        return found

    monkeypatch.setattr(ablation, "run", run)
    monkeypatch.chdir(tmp_path)
    call = ["evaluate", home / "tiny.json", "--ablation", "--data", pictures, "--samples", 9, "--seeds", 1]
    lines = ok(capsys, *call, "--budget", "30,60")
    assert [line.split() for line in lines[:2]] == [
        ["model", "HDBF", "CFC", "PSNR", "at", "1x", "(dB)"],
        ["full", "yes", "yes", "1.500"],
    ]
    folder = Path("runs") / "ablation-tiny"
    assert lines[-2:] == [str(folder / "ablation.json"), str(folder / "ablation.html")]
    ok(capsys, *call, "--budget", "7", "--out", "other")
    ok(capsys, *call, "--out", "third")
    assert asked == [
        ("tiny", folder, (30, 60), 1, 9),
        ("tiny", Path("other"), (7, 7), 1, 9),
        ("tiny", Path("third"), None, 1, 9),
    ]


# errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "{tmp}/s", "--stpes", "3"], "unknown option '--stpes': did you mean '--steps'?"),
        (["--out", "{tmp}/s", "--count", "0"], "--count"),
        (["--out", "{tmp}/s", "--count", "many"], "--count"),
        ([], "--out"),
        (["--out", "{tmp}/s", "--size", "0"], "--size"),
        (["--out", "{tmp}/s", "--size", "30x0"], "--size"),
        (["--out", "{tmp}/s", "--size", "abc"], "--size takes a positive number or WIDTHxHEIGHT"),
        (["--out", "{tmp}/s", "--window", "-2,0,1,1"], "[-1, 1]"),
        (["--out", "{tmp}/s", "--window", "0,0,0,1"], "--window"),
        (["--out", "{tmp}/s", "--window", "a,b"], "--window"),
        (["--out", "{tmp}/s", "--sampler", "dpmm"], "unknown sampler 'dpmm': did you mean 'dpm'?"),
        (["--out", "{tmp}/s", "--sampler", "rk45", "--tolerance", "2"], "tolerance"),
        (["--out", "{tmp}/s", "--eta", "-1"], "eta"),
        (["--out", "{tmp}/s", "--guidance", "nan"], "guidance scale must be a finite number"),
        (["--out", "{tmp}/s", "--steps", "2000"], "steps must be at most 50, the timesteps of this model, not 2000"),
        (["--out", "{tmp}/s", "--seed", "-1"], "--seed"),
        (["--out", "{tmp}/s", "--text", "a dog"], "--text"),
        (["--out", "{tmp}/s", "--label", "1"], "--label"),
        (["--out", "{tmp}/file"], "file"),
        (["--out", "{tmp}/file/below"], "file"),
        (["--out", "{tmp}/s", "--steps", "2", "--format", "xyz"], "xyz"),
    ],
)
def test_sample_refuses(home, tmp_path, capsys, arguments, said):
    (tmp_path / "file").write_text("")
    call = [a.replace("{tmp}", str(tmp_path)) for a in arguments]
    assert said in refused(capsys, 2, "sample", home / "run", *call)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["emoji-3"], "unknown preset 'emoji-3': did you mean 'emoji-"),
        (["{home}/none.json"], "none.json does not exist"),
        (["{home}/tiny.json", "--set", "training.batchsize=3"], "did you mean 'training.batch_size'?"),
        (["{home}/tiny.json", "--set", "training.batch_size=many"], "training.batch_size must be of type int"),
        (["{home}/tiny.json", "--set", "training.batch_size"], "--set takes NAME=VALUE"),
        (["{home}/tiny.json", "--stage", "decoder"], "--stage"),
        (["{home}/tiny.json", "--max-minutes", "0"], "--max-minutes"),
        (["{home}/tiny.json", "--out", "{home}/tiny.json"], "tiny.json is a file"),
        (["{home}/tiny.json"], "--data is missing"),
        (["{home}/tiny.json", "--data", "{tmp}/none"], "none"),
        (["{home}/tiny.json", "--set", "training.seed=-1"], "training.seed must be from 0"),
        (["{home}/tiny.json", "--set", "diffusion.guidance_scale=NaN"], "must be a finite number"),
        (["{home}/tiny.json", "--data", "{tmp}/no\x1b]0;title\x07ne"], "no\\x1b]0;title\\x07ne"),
        (["{home}/tiny.json", "--data", "{tmp}/empty"], "empty"),
        (["{home}/tiny.json", "--data", "{tmp}/texts"], "texts"),
        (["{home}/tiny.json", "--data", "{tmp}/dots"], "dots"),
    ],
)
def test_train_refuses(home, tmp_path, capsys, arguments, said):
    for name in ("empty", "texts", "dots"):
        (tmp_path / name).mkdir()
    (tmp_path / "texts" / "a.png").write_text("no picture")
    Image.new("RGB", (1, 1)).save(tmp_path / "dots" / "a.png")
    call = [a.replace("{tmp}", str(tmp_path)).replace("{home}", str(home)) for a in arguments]
    line = refused(capsys, 2, "train", *([] if "--out" in call else ["--out", tmp_path / "run"]), *call)
    assert said in line and len(line) < 1500


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nfe", "--ablation"], "--nfe and --ablation exclude one another"),
        (["--features", "vgg"], "unknown features 'vgg': allowed are efficientnet-lite0"),
        (["--features", "inception-v3"], "needs its file of weights"),
        (["--features", "{tmp}/weights.pth"], "weights.pth"),
        (["--neighbours-k", "0"], "--neighbours-k"),
        (["--guidance", "nan"], "guidance scale must be a finite number"),
        (["--seed", "-1"], "--seed"),
        (["--sizes", "64x64"], "--sizes takes pixels a side"),
        (["--sizes", "0"], "--sizes takes pixels a side"),
        (["--eta", "2"], "eta must be from 0 to 1"),
        (["--tolerance", "0"], "tolerance must be between 0 and 1"),
        (["--ablation", "--budget", "many"], "--budget takes steps"),
        (["--ablation", "--budget", "0"], "--budget takes steps"),
        (["--ablation", "--out", "{tmp}/file"], "file"),
        (["--ablation", "--seeds", "0"], "--seeds"),
        (["--nfe", "--out", "{tmp}/table.txt"], "must end in .json"),
    ],
)
def test_evaluate_refuses(home, tmp_path, capsys, arguments, said):
    (tmp_path / "file").write_text("")
    call = [a.replace("{tmp}", str(tmp_path)) for a in arguments]
    assert said in refused(capsys, 2, "evaluate", home / "run", *call)


def test_a_table_of_samples_needs_a_denoiser(home, pictures, tmp_path, capsys):
    shutil.copytree(home / "run", tmp_path / "run")
    model = tmp_path / "run" / "model"
    (model / "diffusion.safetensors").unlink()
    told = json.loads((model / "manifest.json").read_text())
    (model / "manifest.json").write_text(json.dumps({k: v for k, v in told.items() if k != "diffusion.safetensors"}))
    line = refused(capsys, 2, "evaluate", tmp_path / "run", "--data", pictures, "--nfe")
    assert "no denoiser yet: train its second stage" in line


def test_commands_refuse_what_is_not_there(home, tmp_path, capsys):
    assert "did you mean 'sample'?" in refused(capsys, 2, "sampel")
    assert "none" in refused(capsys, 2, "sample", tmp_path / "none", "--out", tmp_path / "s")
    assert "holds no model" in refused(capsys, 2, "sample", tmp_path, "--out", tmp_path / "s")
    assert "none" in refused(capsys, 2, "report", tmp_path / "none")
    assert "did you mean 'image'?" in refused(capsys, 2, "demo", "imagee")
    assert "--nothing" in refused(capsys, 2, "--nothing")


def test_a_model_of_the_package_has_no_place_for_its_numbers(capsys):
    assert "add --out emoji-64.json" in refused(capsys, 2, "evaluate", "emoji-64")


def test_models_that_are_not_what_they_were(home, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(home / "run" / "model", model)
    path = model / "diffusion.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    line = refused(capsys, 2, "sample", model, "--out", tmp_path / "s")
    assert str(path) in line and "altered" in line
    path.unlink()
    line = refused(capsys, 2, "sample", model, "--out", tmp_path / "s")
    assert str(path) in line and "missing" in line


def test_a_full_disk_keeps_the_last_checkpoint(home, pictures, tmp_path, capsys, monkeypatch):
    from ddmi.training import checkpoint

    call = ["train", home / "tiny.json", "--data", pictures, "--out", tmp_path, "--stage", "autoencoder"]
    save = checkpoint.save_tensors

    def full(tensors, path, *rest):
        if "00000004" in str(path) and path.name == "optimiser.safetensors":
            path.write_bytes(b"half of it")
            raise OSError(28, "No space left on device", str(path))
        save(tensors, path, *rest)

    monkeypatch.setattr(checkpoint, "save_tensors", full)
    capsys.readouterr()
    assert main([str(a) for a in call]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("ddmi: error: cannot write") and "No space left on device" in line
    assert [p.name for p in sorted((tmp_path / "checkpoints").iterdir())] == ["autoencoder-00000002"]
    monkeypatch.undo()
    assert ok(capsys, *call, "--resume")
    names = [p.name for p in sorted((tmp_path / "checkpoints").iterdir())]
    assert names == ["autoencoder-00000002", "autoencoder-00000004"]


def test_what_is_wrong_with_the_data_is_said_once(home, pictures, tmp_path, capsys):
    """Training and evaluation read the folder once for each part of it."""
    shutil.copytree(pictures, tmp_path / "data")
    (tmp_path / "data" / "broken.png").write_text("no image")
    capsys.readouterr()
    assert main(["train", str(home / "tiny.json"), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "r")]) == 0
    assert capsys.readouterr().err.count("broken.png") == 1
    assert main(["evaluate", str(tmp_path / "r"), "--data", str(tmp_path / "data"), "--metrics", "reconstruction"]) == 0
    assert capsys.readouterr().err.count("broken.png") == 1  # a command of its own says it again


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError(), OSError(28, "No space left on device")])
def test_what_fails_leaves_no_empty_folder(home, tmp_path, monkeypatch, error):
    from ddmi.domains.image import Image as Images

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(Images, "render", fail)
    assert main(["sample", str(home / "run"), "--out", str(tmp_path / "new" / "samples")])
    assert main(["interpolate", str(home / "run"), "--out", str(tmp_path / "new" / "walk.png")])
    assert main(["reconstruct", str(home / "run"), str(tmp_path / "no"), "--out", str(tmp_path / "new")])
    assert main(["train", str(home / "tiny.json"), "--data", str(tmp_path / "no"), "--out", str(tmp_path / "new")])
    assert main(["prepare", "shapes", str(tmp_path / "no"), str(tmp_path / "new")])
    assert not list(tmp_path.iterdir())


def test_a_file_of_something_else_is_no_file_of_metrics(home, tmp_path, capsys):
    (tmp_path / "a.json").write_text("[1, 2]")
    line = refused(capsys, 2, "evaluate", home / "run", "--data", tmp_path / "no", "--out", tmp_path / "a.json")
    assert "a.json holds something else than metrics" in line and (tmp_path / "a.json").read_text() == "[1, 2]"


def test_an_interruption_is_one_line(home, tmp_path, capsys, monkeypatch):
    from ddmi.pipeline import DDMIPipeline

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(DDMIPipeline, "__call__", interrupted)
    capsys.readouterr()
    assert main(["sample", str(home / "run"), "--out", str(tmp_path)]) == 130
    told = "ddmi: error: interrupted; the same command starts again"
    assert capsys.readouterr().err.splitlines()[-1] == told


def test_a_training_that_a_signal_ends_says_how_to_go_on(home, pictures, tmp_path, capsys, monkeypatch):
    """Here between the stages; a time limit is no interruption, and has the exit status of success."""
    import signal

    from ddmi.training import latents

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may ignore it
    monkeypatch.setattr(latents, "encode", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT) or [0] * 1000)
    call = ["train", str(home / "tiny.json"), "--data", str(pictures), "--out", str(tmp_path)]
    capsys.readouterr()
    assert main(call) == 130
    told = "ddmi: stopped at step 4 of the autoencoder; go on with --resume"
    assert capsys.readouterr().err.splitlines()[1:] == [told]  # behind the bar of stage 1
    monkeypatch.undo()
    assert main([*call, "--resume", "--max-minutes", "1e-9"]) == 0
    assert capsys.readouterr().err == told + "\n"
    assert main([*call, "--resume"]) == 0
    signal.signal(signal.SIGINT, before)
