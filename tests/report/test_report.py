"""The page of a run: complete, closed to the network, and without a number that metrics.json does not have."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
import shlex
import sys
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from ddmi import report
from ddmi.base.errors import UserError
from ddmi.evaluation import Protocol
from ddmi.model.sampling import SamplingConfig
from ddmi.rendering.clip import Clip
from ddmi.report import overview
from ddmi.report.content import Pair, Row, Section, Table, Text, figure, full, to_image, to_tensor
from ddmi.report.numbers import Numbers
from ddmi.report.page import assemble
from ddmi.report.plots import chart
from ddmi.report.scene import makers
from ddmi.report.words import form, headlines, with_unit, words
from ddmi.training.run import train

PROTOCOL = Protocol(samples=6, sampling=SamplingConfig(steps=2))
HOSTILE = "<script>alert('&\"')</script>"
SAMPLED = {"samples", "sizes", "interpolation", "neighbours"}
ALWAYS = {"training", "reconstructions", "zoom", "basis", "metrics"}
LOADS = {"src", "href", "srcset", "srcdoc", "poster", "data", "action", "xlink:href"}


class Page(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, plain: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.metrics: list[tuple[str, str, str]] = []  # place, exact value, text
        self.titles: list[str] = []
        self._open: tuple[str, dict[str, str | None]] = ("", {})
        self.plain = plain
        self.feed(plain)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._open = (tag, dict(attrs))
        self.tags.append(self._open)

    def handle_data(self, data: str) -> None:
        tag, about = self._open
        if tag == "data":
            self.metrics.append((about["data-from"] or "", about["value"] or "", data))
        if tag == "h2":
            self.titles.append(data)
        self._open = ("", {})

    @property
    def sections(self) -> list[str]:
        return [about["id"] or "" for tag, about in self.tags if tag == "section"]

    def images(self, alt: str) -> list[Image.Image]:
        """The images whose alternative text this is, opened."""
        found = [about["src"] or "" for tag, about in self.tags if tag == "img" and about["alt"] == alt]
        return [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in found]

    def meshes(self, section: str) -> list[bytes]:
        """The GLB files that a section's viewer holds."""
        own = self.plain.partition(f'<section id="{section}">')[2].partition("</section>")[0]
        found = re.search(r'<script type="application/json">(.*?)</script>', own, re.S)
        return [base64.b64decode(one) for one in json.loads(found[1])] if found else []

    def check(self, numbers: Numbers) -> None:
        """Nothing is loaded from anywhere, no text is markup, images have words, and numbers are those of the file."""
        for tag, about in self.tags:
            for name, value in about.items():
                assert name not in LOADS or (value or "").startswith(("data:", "#")), (tag, name, value)
            assert tag not in {"object", "embed", "base", "video"}
            assert tag != "img" or (about["alt"] and about["width"]), about
        shown = re.sub(r'<script type="application/json".*?</script>', "", self.plain, flags=re.S)
        assert not re.search(r"https?://|@import|url\(|\beval\b|new Function|Worker\(", shown)
        assert HOSTILE not in self.plain and "default-src 'none'" in unescape(self.plain)
        for place, exact, shown in self.metrics:
            value = numbers.get(place)
            assert str(value) == exact, place
            number = re.match(r"-?[\d,]*\d(\.\d+)?(e-?\d+)?%?", shown)
            if isinstance(value, float) and number and not number[0].endswith("%"):
                digits = len(number[0].partition("e")[0].rpartition(".")[2]) if "." in number[0] else 0
                tolerance = max(0.5 * 10**-digits, 1e-3 * abs(value)) * 1.001
                assert math.isclose(float(number[0].replace(",", "")), value, abs_tol=tolerance), place


def written(scene: Any) -> Page:
    """The page of a domain's sections and hero, checked."""
    sections = [section for section in scene.sections() if section is not None]
    page = Page(assemble("page", scene.hero(), sections))
    page.check(scene.numbers)
    return page


def test_samples_of_a_page_are_those_that_were_evaluated():
    """Further samples are taken with all settings of the protocol; neighbours of other samples are not shown."""
    from types import SimpleNamespace

    from ddmi.report.scene import Scene

    protocol = {"samples": 4, "seed": 1, "sampler": "ddim", "steps": 5, "eta": 0.5, "guidance_interval": (0.2, 0.8)}
    scene = Scene.__new__(Scene)
    scene.evaluated = SimpleNamespace(protocol=protocol)
    scene.samples = [None] * 4
    assert scene.settings() == {name: value for name, value in protocol.items() if name != "samples"}
    stored = {"memorisation/neighbours": [3, 1], "memorisation/protocol/sampling": json.loads(json.dumps(protocol))}
    scene.numbers = stored
    assert scene.neighbours() == [3, 1]
    stored["memorisation/protocol/sampling"]["guidance_interval"] = [0.0, 0.8]
    assert scene.neighbours() == []


@pytest.fixture(scope="module", autouse=True)
def features():
    """A feature network that takes no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ddmi.metrics.features.load", lambda name: tiny.Features())
        yield


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, pictures):
    """Images in two classes; a class and all captions are hostile."""
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
    return Page((run / "report.html").read_text(encoding="utf-8"))


def test_the_page_is_whole_offline_and_equal_to_the_metrics_file(page, run):
    assert set(page.sections) == ALWAYS | SAMPLED | {"prompts"}
    links = [about.get("href") for tag, about in page.tags if tag == "a"]
    assert links == [f"#{key}" for key in page.sections]
    page.check(Numbers(json.loads((run / "metrics.json").read_text())))
    assert len(page.metrics) > 60
    assert all(len(title.split()) > 3 for title in page.titles)  # sentences


def test_no_script_runs_but_those_of_the_program(page):
    """The policy names the SHA-256 of each script element, and allows no inline script beside them."""
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page.plain)[1]
    allowed = unescape(policy).partition("script-src ")[2].split()
    scripts = re.findall(r"<script>(.*?)</script>", page.plain, re.S)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert len(scripts) == 1 and allowed == [f"'sha256-{digest}'" for digest in digests]


def test_hostile_captions_and_classes_are_text(page):
    assert not [about for tag, about in page.tags if tag == "img" and about.get("src") == "x"]
    assert any(HOSTILE in (about.get("title") or "") for tag, about in page.tags if tag == "img")
    assert "&lt;img src=x&gt;" in page.plain


def test_images_are_what_render_gives(page, run, labelled):
    from ddmi.evaluation import prepare

    fresh = prepare(run, labelled, PROTOCOL).samples[0].render(8)
    np.testing.assert_array_equal(np.asarray(page.images("sample 0 at 8 pixels")[0].convert("RGB")), np.asarray(fresh))


def test_precision_stands_beside_recall_and_few_samples_are_named(page):
    text = re.sub(r"<[^>]*>", "", page.plain)
    assert re.search(r"precision of samples *[\d.]+ \(recall [\d.]+\); few samples: 6", text)
    assert "precision (share) (few samples: 6)" in text and "recall (share) (few samples: 6)" in text


def test_headlines_are_read_from_the_metrics_file(run):
    lines = report.headlines(run)
    value = json.loads((run / "metrics.json").read_text())["memorisation"]["ratio"]
    assert f"memorisation ratio: {value:.2f}" in lines and "reconstruction PSNR at 2x" in lines[1]


def test_the_command_names_the_folder_and_every_setting_that_differs(monkeypatch, tmp_path, run, labelled):
    from ddmi import presets

    preset = tiny.config()
    monkeypatch.setattr(presets, "functions", lambda: {"tiny": lambda: preset})
    monkeypatch.setattr(presets, "find", lambda name: preset)
    report.write(run, labelled, PROTOCOL)
    page = (run / "report.html").read_text()
    train_again, report_again = unescape(re.search(r"<pre>(.*?)</pre>", page, re.S)[1]).strip().splitlines()
    assert shlex.split(report_again) == ["ddmi", "report", str(run), "--data", str(labelled)]
    words = shlex.split(train_again)
    assert words[:7] == ["ddmi", "train", "tiny", "--data", str(labelled), "--out", str(run)]
    changed = dict(pair.split("=", 1) for pair in words[8::2])
    assert changed["diffusion.condition"] == "class" and changed["training.autoencoder_steps"] == "3"
    from ddmi.config import load, override

    assert override(preset, changed) == load(run / "config.json")
    marked = re.findall(r"<mark>(.*?) = ", page)
    assert marked == list(changed) and "preset: none" in page


def test_settings_of_a_run_that_no_preset_has_are_not_marked():
    assert all(preset is None for _, _, preset in overview.compared(tiny.config()))


def test_a_run_without_a_denoiser_has_a_page(tmp_path, pictures):
    train(tiny.config(autoencoder_steps=2), tmp_path / "run", pictures, stage="autoencoder")
    page = Page(report.write(tmp_path / "run", pictures).read_text())
    assert set(page.sections) == ALWAYS
    assert "second stage has not been trained" in page.plain


def test_one_image_alone_has_a_page(tmp_path, pictures):
    train(tiny.config(autoencoder_steps=1, diffusion_steps=1), tmp_path / "run", pictures / "00.png")
    few = Protocol(samples=1, sampling=SamplingConfig(steps=1))
    page = Page(report.write(tmp_path / "run", pictures / "00.png", few).read_text())
    assert "reconstructions" not in page.sections and "samples" in page.sections


def test_a_domain_without_sections_has_curves_and_metrics(tmp_path, monkeypatch):
    import toy_wave

    monkeypatch.setitem(sys.modules, "toy_wave", toy_wave)
    train(tiny.config(toy_wave.Wave(), autoencoder_steps=2, diffusion_steps=2), tmp_path / "run")
    page = Page(report.write(tmp_path / "run", protocol=PROTOCOL).read_text())
    assert page.sections == ["training", "metrics"]
    assert "error/mean_squared_error" in [place for place, _, _ in page.metrics]


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="no run folder"):
        report.write(tmp_path / "nothing")


def test_numbers_are_stored_where_they_are_shown_from():
    numbers = Numbers({"a": {"b": [1.5, 2]}})
    numbers.put("a/c/d", {"x": math.inf, "y": 0.25})
    assert numbers.get("a/b/0") == 1.5 and numbers.get("a/b/7") is None and numbers.get("a/c/d/x") is None
    shown = numbers.show("a/c/d/y", ".1%")
    assert (shown.place, shown.value, str(shown)) == ("a/c/d/y", 0.25, "25.0%")
    page = assemble("t", [Text(("y: ", shown, HOSTILE))], [])
    assert 'y: <data value="0.25" data-from="a/c/d/y">25.0%</data>' in page and HOSTILE not in page


def svg(plot: Any) -> str:
    return base64.b64decode(plot.source.partition(",")[2]).decode()


@pytest.mark.parametrize("values", [[0.31, 0.34, 0.36], [2.0, 5.0, 9.0], [0.9, 11.0], [1e-4, 1.0], [5.0, 5.0]])
def test_an_axis_has_two_numbers_or_more_also_within_one_decade(monkeypatch, values):
    """Text is not drawn as outlines here, so that the numbers can be read."""
    from ddmi.report import plots

    monkeypatch.setitem(plots.STYLE, "svg.fonttype", "none")
    plot = svg(chart({"a": (list(range(len(values))), values)}, "step", "loss (no unit)", log_y=True))
    texts = [unescape(text).replace("−", "-") for text in re.findall(r"<text[^>]*>([^<]*)</text>", plot)]
    axis = plot.partition('id="matplotlib.axis_2"')[2]
    numbers = [float(unescape(t).replace("−", "-")) for t in re.findall(r"<text[^>]*>([-−\d.e]+)</text>", axis)]
    assert len(numbers) >= 2 and "loss (no unit)" in texts and "step" in texts
    assert min(numbers) <= max(values) * 1.3 and max(numbers) >= min(values) * 0.7


def test_a_chart_leaves_out_what_has_no_logarithm_and_has_a_unit():
    plot = chart({HOSTILE: ([0, 1, 2, 3], [1.0, 0.0, 10.0, math.nan])}, "step", "loss (no unit)", log_y=True)
    assert plot.alt.startswith("loss (no unit) against step") and "http" not in plot.source
    for key in ("psnr", "precision", "frechet", "depth_error", "anything_else"):
        assert re.search(r"\(.+\)$", with_unit(key)), key


def test_rows_are_full_on_every_screen():
    shown = [figure(Image.new("RGB", (4, 4)), f"image {k}") for k in range(20)]
    for count in range(1, 21):
        row = full(shown[:count], 8)
        assert len(row.figures) % row.columns == 0 and row.columns <= 8
        own_row = row.columns > 3 and row.columns % 2
        assert (len(row.figures) - bool(own_row)) % row.narrow == 0


def test_a_clip_can_be_paused_and_plays_its_frames_for_as_long_as_it_lasts():
    frames = np.zeros((16, 24, 40, 3), np.uint8)
    frames[..., 1] = (37 * np.arange(16) % 256)[:, None, None]
    page = Page(assemble("t", [Row([figure(Clip.of(frames, 12.5), 'a "clip"')], 1)], []))
    (moving,), (still,) = page.images('a "clip"'), page.images('a "clip" (paused)')
    times = []
    for k in range(moving.n_frames):
        moving.seek(k)
        moving.load()
        times.append(moving.info["duration"])
    assert moving.n_frames == 16 and sum(times) == 1280 and moving.info["loop"] == 0
    assert getattr(still, "n_frames", 1) == 1 and still.size == (40, 24)
    boxes = [about for tag, about in page.tags if tag == "input"]
    assert boxes == [{"type": "checkbox", "aria-label": 'pause: a "clip"'}]
    assert any(tag == "button" and about["class"] == "pause" for tag, about in page.tags)


def test_every_mesh_of_a_section_can_be_chosen_and_only_its_script_runs():
    import trimesh

    box = trimesh.creation.box((0.5, 0.5, 0.5))
    rows = [Row([figure(Image.new("RGB", (4, 4)), f"{HOSTILE} {k}", mesh=box)], 1) for k in range(2)]
    nothing = figure(Image.new("RGB", (4, 4)), "empty", mesh=trimesh.Trimesh())
    html = assemble("t", [], [Section("a", "A", "Meshes", "", [Pair(rows), Row([nothing], 1)])])
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("option") == 2 and HOSTILE not in html
    assert ("iframe", {"sandbox": "allow-scripts", "title": "A mesh that can be turned"}) in page.tags
    assert html == assemble("t", [], [Section("a", "A", "Meshes", "", [Pair(rows), Row([nothing], 1)])])
    first = trimesh.load(io.BytesIO(page.meshes("a")[0]), file_type="glb", force="mesh")
    np.testing.assert_allclose(first.bounds, box.bounds, atol=1e-6)
    viewer = json.loads(re.search(r'id="viewer">(.*?)</script>', html, re.S)[1])
    encoded = base64.b64encode(page.meshes("a")[0]).decode()
    script = viewer.replace("@mesh@", encoded).partition("<script>")[2].rpartition("</script>")[0]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in html
    assert not re.search(r'(?:src|href)="', viewer)


def test_images_and_tensors_are_inverse():
    x = torch.randint(0, 256, (1, 3, 5, 4)).float() / 127.5 - 1
    assert torch.allclose(to_tensor([to_image(x[0])]), x, atol=1e-6)


def test_small_numbers_keep_three_digits():
    values = (0.001234, 0.000567, 0.0456, 0.4567, 45.678, 0.0, 1e-12)
    shown = ["0.00123", "0.000567", "0.0456", "0.457", "45.68", "0.000", "0.000000000"]
    assert [format(v, form(v)) for v in values] == shown
    assert format(-0.00123, form(-0.00123)) == "-0.00123" and format(1234, form(1234)) == "1,234"
    assert words("mmd") == "MMD" and words("some_key") == "some key" and headlines("no domain", Numbers({})) == []


def test_makers_of_the_models_are_named_with_their_licence(tmp_path):
    assert makers(tmp_path) == []
    rows = [("a", "Zoe", "CC-BY"), ("b", "Ada", "CC-BY"), ("c", "Ada", "CC-BY"), ("d", "Ada", "CC0")]
    lines = [json.dumps({"model": m, "creator": c, "license": li}) for m, c, li in rows]
    lines += ["", "[1]", "a word", json.dumps({"model": "e", "source": "a set"})]
    (tmp_path / "credits.jsonl").write_text("\n".join(lines))
    expected = ["Models in the data: a set.", "Models in the data, CC-BY: Ada, Zoe.", "Models in the data, CC0: Ada."]
    assert makers(tmp_path) == expected


def test_on_a_phone_a_wide_table_says_the_name_of_each_value():
    page = Page(assemble("t", [Table(["model", "a", "b", HOSTILE], [["one", "1", "2", "3"]])], []))
    assert [about["data-label"] for tag, about in page.tags if tag == "td"] == ["a", "b", HOSTILE]
    assert [about for tag, about in page.tags if tag == "table"] == [{"class": "many"}]
