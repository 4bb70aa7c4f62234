"""Table 12: what is counted, and that no row is measured twice."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import tiny

from ddmi.base.errors import UserError
from ddmi.domains.base import Metrics
from ddmi.evaluation import Protocol, nfe, richer
from ddmi.evaluation.evaluated import Evaluated, opened
from ddmi.evaluation.nfe import Way
from ddmi.model.flow import student_of
from ddmi.model.sampling import SamplingConfig

WAYS = (
    Way(sampler="dpm", steps=20),
    Way(sampler="ddim", steps=10),
    Way(sampler="rk45", tolerance=0.1),
    Way(sampler="rk45", tolerance=0.001),
)
PROTOCOL = Protocol(samples=6)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny.untrained(tmp_path_factory.mktemp("run"))


@pytest.fixture(autouse=True)
def features(monkeypatch):
    monkeypatch.setattr("ddmi.metrics.features.load", lambda name: tiny.Features())


def table(run, pictures, protocol=PROTOCOL, ways=WAYS):
    return nfe.measure(opened(run, pictures, denoiser=True), protocol, run / "metrics.json", ways)


def test_the_table_of_the_paper_and_of_fast_samplers():
    asked = {(way.sampler, way.steps or way.tolerance) for way in nfe.WAYS}
    assert asked == {
        ("ddpm", 1000),
        *(("rk45", t) for t in (1e-5, 1e-4, 1e-3, 1e-2)),
        *((sampler, n) for sampler in ("ddim", "dpm") for n in (10, 20, 50)),
        *(("flow", n) for n in (1, 2, 4)),
        ("dpm", 4),
    }


def test_no_sampler_takes_more_steps_than_there_are_times():
    assert nfe.ways_for(replace(tiny.DIFFUSION, timesteps=1000), True) == list(nfe.WAYS)
    short = nfe.ways_for(replace(tiny.DIFFUSION, timesteps=20), False)
    assert "flow" not in {way.sampler for way in short}
    assert [way.steps for way in short if way.sampler == "ddim"] == [10, 20]
    assert short[-1] == Way(sampler="ddpm", steps=20)


def test_evaluations_are_those_of_the_sampler(run, pictures):
    rows = table(run, pictures)["rows"]
    counts = {(row["sampler"], row["steps"] or row["tolerance"]): row["evaluations"] for row in rows}
    assert counts["dpm", 20] == 20 and counts["ddim", 10] == 10
    assert 6 < counts["rk45", 0.1] < counts["rk45", 0.001]
    assert all(row["scores"]["frechet"] > 0 and "sliced_wasserstein" in row["scores"] for row in rows)
    shown = list(nfe.lines({"rows": rows}))
    assert shown[1][:3] == ("dpm", "20 steps", "20") and shown[3][1] == "tolerance 0.1"
    assert {len(line) for line in shown} == {len(shown[0])}


def test_a_flow_map_has_rows_of_its_own_unless_other_guidance_is_asked_for(run, pictures, caplog):
    evaluated = opened(run, pictures, denoiser=True)
    assert not nfe._flow(evaluated, SamplingConfig())
    evaluated.pipe.diffusion.flow = student_of(evaluated.pipe.diffusion)
    assert nfe._flow(evaluated, SamplingConfig()) and nfe._flow(evaluated, SamplingConfig(guidance_scale=1.0))
    assert not nfe._flow(evaluated, SamplingConfig(guidance_scale=2.0))
    assert "its guidance is fixed" in caplog.text


def test_standard_errors_stand_beside_their_numbers():
    row = {"sampler": "flow", "steps": 2, "tolerance": None, "evaluations": 2.0, "samples_per_second": 3.0}
    row |= {"scores": {"frechet": 1.25, "recall": 0.5}, "standard_errors": {"frechet": 0.04}}
    assert list(nfe.lines({"rows": [row]}))[1] == ("flow", "2 steps", "2", "1.25 ± 0.04", "0.5", "3")


def test_rows_are_measured_once_and_no_table_is_lost(run, pictures, monkeypatch):
    first = table(run, pictures)
    drawn, draw = [], Evaluated.drawn
    monkeypatch.setattr(
        Evaluated, "drawn", lambda self, p: drawn.append((p.sampling.sampler, p.sampling.steps)) or draw(self, p)
    )
    assert table(run, pictures) == first and not drawn
    stored = json.loads((run / "metrics.json").read_text())
    stored["nfe"]["rows"] = stored["nfe"]["rows"][:1]  # as an interruption would leave it
    (run / "metrics.json").write_text(json.dumps({**stored, "other": 1}))
    again = table(run, pictures, ways=WAYS[:2])
    assert drawn == [("ddim", 10)]
    assert [row["scores"] for row in again["rows"]] == [row["scores"] for row in first["rows"][:2]]
    assert json.loads((run / "metrics.json").read_text())["other"] == 1
    table(run, pictures, ways=WAYS[1:2])
    assert len(json.loads((run / "metrics.json").read_text())["nfe"]["rows"]) == 2
    with pytest.raises(UserError, match=r"another samples \(6, not 5\): name another file"):
        table(run, pictures, Protocol(samples=5), WAYS[:2])
    for other in ({"guidance_interval": (0.2, 0.8)}, {"eta": 0.5}):
        with pytest.raises(UserError, match=f"another {next(iter(other))} .*: name another file"):
            table(run, pictures, Protocol(samples=6, sampling=SamplingConfig(**other)), WAYS[:2])
    assert len(json.loads((run / "metrics.json").read_text())["nfe"]["rows"]) == 2
    assert drawn == [("ddim", 10)]


def test_too_few_samples_are_refused_before_a_row_is_written(run, pictures, tmp_path, monkeypatch):
    metrics = replace(tiny.image().metrics(), quality={"frechet": "distributions/frechet"})
    monkeypatch.setattr(tiny.Image, "metrics", lambda domain: metrics)
    with pytest.raises(UserError, match="too few to compare"):
        nfe.measure(opened(run, pictures), Protocol(samples=1), tmp_path / "m.json", WAYS[:1])
    assert not (tmp_path / "m.json").exists()


def test_other_pictures_under_the_same_names_are_other_data(run, pictures, tmp_path):
    import shutil

    from PIL import Image, ImageOps

    other = shutil.copytree(pictures, tmp_path / "other")
    same = nfe.identity(opened(run, pictures), Protocol(samples=6))
    assert nfe.identity(opened(run, other), Protocol(samples=6)) == same
    for path in other.rglob("*.png"):
        ImageOps.invert(Image.open(path).convert("RGB")).save(path)
    changed = nfe.identity(opened(run, other), Protocol(samples=6))
    assert [name for name in same if same[name] != changed[name]] == ["data"]


def test_a_metric_of_more_samples_of_the_same_model_is_kept():
    before = {"a": {"x": 1, "protocol": {"samples": 9, "model": "m"}}, "b": {"protocol": {"samples": 9, "model": "n"}}}
    now = {name: {"x": 2, "protocol": {"samples": 5, "model": "m"}} for name in "abc"}
    assert richer(before, now) == {"a": before["a"]}
    assert richer(now, before) == {}


def test_a_domain_without_such_numbers_is_refused(run, pictures, monkeypatch):
    monkeypatch.setattr(tiny.Image, "metrics", lambda domain: Metrics({}))
    with pytest.raises(UserError, match="no metric that compares sets of samples"):
        table(run, pictures)


def test_a_model_without_a_denoiser_is_refused(run, tmp_path, pictures):
    from ddmi import DDMIPipeline

    pipe = DDMIPipeline.from_pretrained(run)
    pipe.diffusion = None
    pipe.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match="no denoiser yet: train its second stage"):
        opened(tmp_path, pictures, denoiser=True)


def test_the_page_shows_the_table(run, pictures):
    from ddmi.report.tables import write_nfe

    table(run, pictures)
    page = write_nfe(run, run / "metrics.json").read_text()
    charts = [tag for tag in page.split("<img ") if "image/svg+xml" in tag]
    assert len(charts) == 2 and all("against function evaluations per sample" in tag for tag in charts)
    assert 'data-from="nfe/rows/1/evaluations">10<' in page
