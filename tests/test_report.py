"""The page of a run: complete, closed to the network, and without a number that metrics.json does not have."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from ddmi import report
from ddmi.base.errors import UserError
from ddmi.evaluation import Protocol
from ddmi.model.sampling import SamplingConfig
from ddmi.report import page as pages
from ddmi.report.numbers import Headline, Numbers
from ddmi.report.pictures import to_picture, to_tensor
from ddmi.report.plots import Axis, Line, plot
from ddmi.training.run import train

PROTOCOL = Protocol(samples=6, sampling=SamplingConfig(steps=2))
HOSTILE = "<script>alert('&\"')</script>"
SAMPLED = {"samples", "sizes", "interpolation", "neighbours"}
ALWAYS = {"training", "reconstructions", "zoom", "basis", "metrics"}


class Page(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.metrics: list[tuple[str, str, str]] = []  # place, exact value, text
        self.open: dict[str, str | None] = {}
        self.plain = path.read_text(encoding="utf-8")
        self.feed(self.plain)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "data":
            self.open = dict(attrs)

    def handle_data(self, data: str) -> None:
        if self.open:
            self.metrics.append((self.open["data-from"] or "", self.open["value"] or "", data))
            self.open = {}

    @property
    def sections(self) -> list[str]:
        return [about["id"] or "" for tag, about in self.tags if tag == "section"]


@pytest.fixture(scope="module", autouse=True)
def features():
    """A feature network that takes no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ddmi.metrics.features.load", lambda name: tiny.Features())
        yield


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, pictures):
    """Pictures in two classes; a class and all captions are written by someone who means ill."""
    folder = tmp_path_factory.mktemp("labelled")
    for name in ("<img src=x>", "plain"):
        (folder / name).mkdir()
    lines = []
    for k, file in enumerate(sorted(pictures.glob("*.png"))):
        place = Path("plain" if k % 2 else "<img src=x>") / file.name
        (folder / place).write_bytes(file.read_bytes())
        lines.append(json.dumps({"file": place.as_posix(), "text": f"{HOSTILE} {k}"}))
    (folder / "captions.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, labelled):
    folder = tmp_path_factory.mktemp("report") / "run"
    config = tiny.config(autoencoder_steps=3, diffusion_steps=3)
    train(replace(config, diffusion=replace(config.diffusion, condition="class")), folder, labelled)
    report.write(folder, labelled, PROTOCOL)
    return folder


@pytest.fixture(scope="module")
def page(run):
    return Page(run / "report.html")


def test_every_section_is_there_and_in_the_contents(page):
    assert set(page.sections) == ALWAYS | SAMPLED | {"prompts"}
    links = [about.get("href") for tag, about in page.tags if tag == "a"]
    assert links == [f"#{key}" for key in page.sections]


def test_nothing_is_loaded_from_anywhere(page):
    loads = {"src", "href", "srcset", "poster", "data", "action", "xlink:href"}
    for tag, about in page.tags:
        for name, value in about.items():
            assert name not in loads or (value or "").startswith(("data:", "#")), (tag, name, value)
        assert tag not in {"iframe", "object", "embed", "base"}
    assert not re.search(r"https?://|@import|url\(", page.plain)
    assert "default-src 'none'" in page.plain


def test_no_script_runs_but_those_of_the_program(page):
    """The policy names the SHA-256 of each script element, and allows no inline script beside them."""
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page.plain)[1]
    allowed = next(part for part in policy.split("; ") if part.startswith("script-src")).split()[1:]
    scripts = re.findall(r"<script>(.*?)</script>", page.plain, re.S)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert scripts and sorted(allowed) == sorted({f"'sha256-{digest}'" for digest in digests})
    for hostile in ("<script>alert(1)</script>", '<p onclick="alert(1)">'):
        section = pages.Section(key="a", title="a", lead="", body=hostile)
        whole = pages.assemble("title", "", [section], "")
        assert re.search(r"script-src [^;\"]*", whole)[0].split()[1:] == allowed


def test_every_number_comes_from_the_metrics_file(page, run):
    numbers = Numbers(json.loads((run / "metrics.json").read_text()))
    assert len(page.metrics) > 60
    for place, exact, shown in page.metrics:
        value = numbers.get(place)
        assert str(value) == exact, place
        if isinstance(value, float):
            digits = len(shown.rpartition(".")[2]) if "." in shown else 0
            tolerance = max(0.5 * 10**-digits, 1e-3 * abs(value)) * 1.001
            assert math.isclose(float(shown.replace(",", "")), value, abs_tol=tolerance), place
        else:
            assert shown.replace(",", "") == str(value), place


def test_captions_and_classes_are_text(page):
    assert [about for tag, about in page.tags if tag == "script"] == [{}]
    assert not [about for tag, about in page.tags if tag == "img" and about.get("src") == "x"]
    texts = [about.get("title") for tag, about in page.tags if tag == "img"]
    assert any(text and HOSTILE in text for text in texts)
    assert "&lt;img src=x&gt;" in page.plain


def test_pictures_are_what_render_gives(page, run, labelled):
    """The smallest of the sizes, decoded again, equals the sample rendered anew."""
    import io

    import numpy as np
    from PIL import Image

    from ddmi.evaluation import prepare

    title = "sample 0 at 8 pixels"
    sources = [about["src"] for tag, about in page.tags if tag == "img" and about.get("title") == title]
    stored = Image.open(io.BytesIO(base64.b64decode((sources[0] or "").partition(",")[2]))).convert("RGB")
    fresh = prepare(run, labelled, PROTOCOL).samples[0].render(8)
    np.testing.assert_array_equal(np.asarray(stored), np.asarray(fresh))


def test_headlines_are_read_from_the_metrics_file(run):
    lines = report.headlines(run)
    value = json.loads((run / "metrics.json").read_text())["memorisation"]["ratio"]
    assert f"memorisation ratio: {value:.2f}" in lines and "reconstruction PSNR at 2x" in lines[1]


def test_a_run_without_a_denoiser_has_a_page(tmp_path, pictures):
    train(tiny.config(autoencoder_steps=2), tmp_path / "run", pictures, stage="autoencoder")
    page = Page(report.write(tmp_path / "run", pictures))
    assert set(page.sections) == ALWAYS
    assert "second stage has not been trained" in page.plain


def test_one_picture_alone_has_a_page(tmp_path, pictures):
    train(tiny.config(autoencoder_steps=1, diffusion_steps=1), tmp_path / "run", pictures / "00.png")
    protocol = Protocol(samples=1, sampling=SamplingConfig(steps=1))
    page = Page(report.write(tmp_path / "run", pictures / "00.png", protocol))
    assert "reconstructions" not in page.sections and "samples" in page.sections


def test_a_domain_without_sections_has_curves_and_metrics(tmp_path, monkeypatch):
    import toy_wave

    monkeypatch.setitem(sys.modules, "toy_wave", toy_wave)
    train(tiny.config(toy_wave.Wave(), autoencoder_steps=2, diffusion_steps=2), tmp_path / "run")
    page = Page(report.write(tmp_path / "run", protocol=PROTOCOL))
    assert page.sections == ["training", "metrics"]
    assert "error/mean_squared_error" in [place for place, _, _ in page.metrics]


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="no run folder"):
        report.write(tmp_path / "nothing")


def test_numbers_are_stored_where_they_are_shown_from():
    numbers = Numbers({"a": {"b": [1.5, 2]}})
    numbers.put("a/c/d", {"x": math.inf, "y": 0.25})
    assert numbers.get("a/b/0") == 1.5 and numbers.get("a/b/7") is None and numbers.get("a/c/d/x") is None
    assert numbers.show("a/c/d/y", ".1%") == '<data value="0.25" data-from="a/c/d/y">25.0%</data>'
    assert numbers.headline(Headline("y", "a/c/d/y", ".2f", " dB", "b=a/b/0")) == "y: 0.25 dB (b 1.50 dB)"


@pytest.mark.parametrize(
    "axis, ticks",
    [
        (Axis(0, 100, 0, 1), [0, 20, 40, 60, 80, 100]),
        (Axis(1e-4, 1, 0, 1, True), [1e-4, 1e-3, 1e-2, 1e-1, 1]),
        (Axis(0.9, 11, 0, 1, True), [1, 2, 5, 10]),
    ],
)
def test_ticks_are_round(axis, ticks):
    assert axis.ticks() == pytest.approx(ticks)


def test_a_logarithmic_axis_has_equal_steps_for_equal_ratios():
    axis = Axis(0.01, 1, 200, 0, True)
    assert axis(0.01) == 200 and axis(0.1) == pytest.approx(100) and axis(1) == 0


def test_a_line_goes_through_its_points_and_leaves_out_what_has_no_logarithm():
    svg = plot([Line("a", [0, 1, 2, 3], [1.0, 0.0, 10.0, math.nan])], "x", "y")
    path = re.search(r'class="line c0" d="M([^"]+)"', svg)
    assert path and len(path[1].split("L")) == 2
    assert "Nothing was recorded" in plot([Line("a", [0], [0.0])], "x", "y")


def test_pictures_and_tensors_are_inverse():
    x = torch.randint(0, 256, (1, 3, 5, 4)).float() / 127.5 - 1
    assert torch.allclose(to_tensor([to_picture(x[0])]), x, atol=1e-6)
