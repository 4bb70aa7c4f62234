"""Samples are drawn once, the same ones whatever the process, and decoded to what the pipeline gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from ddmi.base.coordinates import grid
from ddmi.base.errors import UserError
from ddmi.base.processes import Processes
from ddmi.base.storage import load_metadata, load_tensors
from ddmi.evaluation import Protocol, prepare, samples
from ddmi.model.sampling import SamplingConfig

TESTS = Path(__file__).parents[1]
PROTOCOL = Protocol(samples=10, sampling=SamplingConfig(seed=3, steps=2))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny.untrained(tmp_path_factory.mktemp("run"))


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setitem(samples.BATCHES, "cpu", 4)


def latents(evaluated):
    return np.concatenate([evaluated.samples.batches(k)["z"].numpy() for k in range(-(-len(evaluated.samples) // 4))])


def test_lazy_samples_are_those_of_the_pipeline(run, pictures):
    evaluated = prepare(run, pictures, PROTOCOL)
    eager = evaluated.pipe(10, 3, steps=2, batch_size=4)
    at = grid((5, 4))
    assert len(evaluated.samples) == 10
    for lazy, field in zip(evaluated.samples, eager, strict=True):
        assert torch.equal(lazy(at), field(at))
    assert torch.equal(evaluated.samples[-1](at), eager[9](at))
    assert all(torch.equal(a(at), b(at)) for a, b in zip(evaluated.samples[2:7:2], eager[2:7:2], strict=True))
    with pytest.raises(IndexError):
        evaluated.samples[10]


def test_only_one_batch_is_decoded_at_a_time(run, pictures):
    evaluated = prepare(run, pictures, PROTOCOL)
    decoded, decode = [], evaluated.samples.decode
    evaluated.samples.decode = lambda z: decoded.append(len(z)) or decode(z)
    evaluated.samples._batch = (-1, [])  # type checks of the tests look at an item
    for _ in evaluated.samples:
        pass
    assert decoded == [4, 4, 2] and len(evaluated.samples._batch[1]) == 2


def test_samples_are_drawn_once_and_an_interrupted_drawing_goes_on(run, pictures, monkeypatch):
    protocol = Protocol(samples=10, sampling=SamplingConfig(seed=4, steps=2))
    drawn, draw = [], type(prepare(run, pictures, PROTOCOL).pipe).latents

    def counted(self, number, *arguments, first, **options):
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(first)
        return draw(self, number, *arguments, first=first, **options)

    monkeypatch.setattr("ddmi.pipeline.DDMIPipeline.latents", counted)
    with pytest.raises(KeyboardInterrupt):
        prepare(run, pictures, protocol)
    assert drawn == [0, 4]
    drawn[:] = [-1]
    evaluated = prepare(run, pictures, protocol)
    assert drawn == [-1, 8]
    monkeypatch.undo()
    monkeypatch.setitem(samples.BATCHES, "cpu", 4)
    assert np.array_equal(latents(evaluated), evaluated.pipe.latents(10, 4, steps=2, batch_size=4).numpy())
    again = prepare(run, pictures, protocol)
    assert again.protocol["sampling_seconds"] == evaluated.protocol["sampling_seconds"] > 0


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_damaged_samples_are_drawn_again_with_a_line(run, pictures, monkeypatch, caplog, damage):
    protocol = Protocol(samples=10, sampling=SamplingConfig(seed=5, steps=2))
    right, drawn = latents(prepare(run, pictures, protocol)), []
    draw = type(prepare(run, pictures, PROTOCOL).pipe).latents

    def counted(self, number, *arguments, first, **options):
        drawn.append(first)
        return draw(self, number, *arguments, first=first, **options)

    monkeypatch.setattr("ddmi.pipeline.DDMIPipeline.latents", counted)
    assert np.array_equal(latents(prepare(run, pictures, protocol)), right) and not drawn and not caplog.messages
    path = next(p for p in run.rglob("000008.safetensors") if json.loads(load_metadata(p)["about"])["seed"] == 5)
    content = path.read_bytes()
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:] if damage == "flipped" else content[:20])
    assert np.array_equal(latents(prepare(run, pictures, protocol)), right)
    (line,) = caplog.messages
    assert drawn == [8] and str(path) in line and "drawn again" in line


def test_another_model_seed_or_sampler_draws_anew(run, pictures, tmp_path):
    other = tiny.untrained(tmp_path, seed=1)
    first = latents(prepare(run, pictures, PROTOCOL))
    (run / "cache" / "samples").rename(other / "samples")
    (other / "cache").mkdir()
    (other / "samples").rename(other / "cache" / "samples")
    assert not np.array_equal(first, latents(prepare(other, pictures, PROTOCOL)))
    assert not np.array_equal(
        first, latents(prepare(run, pictures, Protocol(samples=10, sampling=SamplingConfig(seed=4, steps=2))))
    )
    assert not np.array_equal(
        first, latents(prepare(run, pictures, Protocol(samples=10, sampling=SamplingConfig(seed=3, steps=3))))
    )


def test_a_model_without_a_run_is_evaluated_in_memory(run, pictures):
    evaluated = prepare(run / "model", pictures, PROTOCOL)
    assert evaluated.cache is None
    assert np.array_equal(latents(evaluated), latents(prepare(run, pictures, PROTOCOL)))
    assert not (run / "model" / "cache").exists()
    with pytest.raises(UserError, match="through the run folder"):
        samples.draw(lambda first, number: None, list, 2, {"sampler": "dpm"}, None, Processes(0, 2))  # type: ignore[arg-type, return-value]


def test_the_protocol_counts_evaluations(run, pictures):
    told = prepare(run, pictures, Protocol(samples=3, sampling=SamplingConfig(sampler="ddim", steps=7))).protocol
    assert told["evaluations"] == 7 and told["samples"] == 3
    told = prepare(run, pictures, Protocol(samples=3, sampling=SamplingConfig(sampler="rk45", tolerance=0.1))).protocol
    assert told["tolerance"] == 0.1 and told["steps"] == 0 and told["evaluations"] > 6


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from ddmi.evaluation import Protocol, prepare, samples
from ddmi.model.sampling import SamplingConfig
samples.BATCHES["cpu"] = 4
evaluated = prepare(sys.argv[1], sys.argv[2], Protocol(samples=10, sampling=SamplingConfig(seed=3, steps=2)))
assert evaluated.processes.count == 2 and len(evaluated.samples) == 10
assert evaluated.protocol["processes"] == 2
"""


def test_two_processes_draw_what_one_draws(run, pictures, tmp_path):
    one = latents(prepare(run / "model", pictures, PROTOCOL))
    two = tiny.untrained(tmp_path / "two")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(TESTS)))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}  # and as many threads as here: these decide the bits
    command = [sys.executable, *launcher, str(script), str(two), str(pictures)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stderr
    files = sorted((two / "cache" / "samples").glob("*/*.safetensors"))
    assert [file.stem for file in files] == ["000000", "000004", "000008"]
    found = [load_tensors(file) for file in files]
    assert np.array_equal(torch.cat([part["z"] for part in found]), one)
    assert all((part["evaluations"] == 2).all() for part in found)
