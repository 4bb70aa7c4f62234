"""The documentation says what the program does: links, settings, commands, Python, and a site without a warning."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
import re
import shlex
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from ddmi import DDMIPipeline, domains
from ddmi.cli import app
from ddmi.config import Config
from ddmi.domains.base import Domain

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
WRITTEN = [page for page in PAGES if page.parent in (ROOT, DOCS) and page.name != "CHANGELOG.md"]


def called(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """The text of a page without its code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", lambda code: code[0].replace("](", "] ("), text)


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links, on the site and where the repository is browsed."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=called)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def configurations(kind: type) -> set[type]:
    """A dataclass, and the dataclasses of its fields at any depth."""
    hints = typing.get_type_hints(kind)
    inner = [t for f in dataclasses.fields(kind) for t in (hints[f.name], *typing.get_args(hints[f.name]))]
    return {kind}.union(*(configurations(t) for t in inner if dataclasses.is_dataclass(t)))


def test_every_setting_is_described_on_the_page_of_settings():
    shown = re.findall(r"^::: (\S+)$", (DOCS / "settings.md").read_text(), re.MULTILINE)
    for kind in configurations(Config).union(*(configurations(domains.find(name)) for name in domains.names())):
        if kind not in (Config, Domain):
            assert f"{kind.__module__}.{kind.__qualname__}" in shown, kind
            for f in dataclasses.fields(kind):
                assert re.search(rf"^ +{f.name}: ", kind.__doc__ or "", re.MULTILINE), f"{kind.__name__}.{f.name}"


def commands(page: Path) -> list[str]:
    """The `ddmi` commands of a page, and those that torchrun starts."""
    lines = "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    plain = [line.partition("  #")[0].strip() for line in lines]
    return [re.sub(r"^.* -m ddmi ", "ddmi ", line) for line in plain if re.match(r"ddmi |torchrun .* -m ddmi ", line)]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=called)
def test_commands_exist_with_their_options(page):
    group = typer.main.get_command(app)
    for line in commands(page):
        _, name, *arguments = shlex.split(line)
        assert name in group.commands, line
        command = group.commands[name]
        with command.make_context(name, list(arguments), resilient_parsing=True) as context:
            command.make_parser(context).parse_args(list(arguments))  # raises for an option that does not exist


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=called)
def test_python_names_what_there_is(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "ddmi":
                module = importlib.import_module(node.module)
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.parametrize("page", WRITTEN, ids=called)
def test_names_of_modules_exist(page):
    """Dotted names such as `ddmi.rendering.mesh`, and paths such as `src/ddmi/model/`, are those of the package."""
    text = page.read_text()
    for dotted in re.findall(r"`(ddmi(?:\.\w+)+)", text):
        parts = dotted.split(".")
        found = importlib.import_module("ddmi")
        for k, part in enumerate(parts[1:], 2):
            found = getattr(found, part) if hasattr(found, part) else importlib.import_module(".".join(parts[:k]))
    for path in re.findall(r"`((?:src|tests|tools|docs|examples)/[\w./-]+)`", text):
        assert (ROOT / path).exists() or "NAME" in path, path


def test_the_page_of_the_architecture_names_every_room():
    from test_floors import FLOORS

    text = (DOCS / "architecture.md").read_text()
    rows = re.findall(r"^\| (\d) \| (.*?) \|", text, re.MULTILINE)
    for room, floor in FLOORS.items():
        name = room.replace(".", "/")
        named = [int(number) for number, rooms in rows if re.search(rf"`{name}(/|\.py)", rooms)]
        assert floor in named, f"{room} is on floor {floor}, not {named}"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_or_a_request(tmp_path):
    pytest.importorskip("material", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        fetched = re.findall(r"<(?:script|link|img|iframe)[^>]*\s(?:src|href)=\"(https?:[^\"]*)\"", page.read_text())
        assert not fetched, f"{page}: {fetched}"


SMALLER = {
    r"\b(128|256|512|1024)\b": "16",
    r"\(300, 500\)": "(12, 20)",
    r"40_000": "40",
    r"num_samples=4": "num_samples=1",
    r"frames=64": "frames=4",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("page", "model"),
    [("concepts", "emoji-64"), ("sampling", "emoji-64"), ("shapes", "furniture"), ("video", "clips"),
     ("nerf", "furniture-views")],
)  # fmt: skip
def test_python_of_the_pages_runs_at_small_sizes(page, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "one.jpg", "two.jpg"):
        Image.new("RGB", (80, 80), "red").save(name)
    pipe = DDMIPipeline.from_pretrained(model)
    fields = pipe(1, seed=0, sampler="dpm", steps=5, text=None if model == "clips" else "a red chair")
    known: dict[str, object] = {"pipe": pipe, "fields": fields, "field": fields[0], "coordinates": torch.zeros(3, 2)}
    known |= {"points": torch.zeros(3, 3), "directions": torch.tensor([[0.0, 0.0, -1.0]]).expand(3, 3)}
    for block in blocks(DOCS / f"{page}.md", "python"):
        for pattern, small in SMALLER.items():
            block = re.sub(pattern, small, block)
        exec(compile(block, f"{page}.md", "exec"), known)
    assert page in ("concepts", "nerf") or any(tmp_path.iterdir())


@pytest.mark.slow
def test_the_domain_of_the_page_is_trained_and_sampled(tmp_path, monkeypatch):
    domain, preset = blocks(DOCS / "adding-a-domain.md", "python")
    (tmp_path / "waves.py").write_text(domain)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(compile(preset.replace("_steps=500", "_steps=5"), "adding-a-domain.md", "exec"), {})
    assert np.load("wave.npy").shape == (1000,)


def test_the_notebook_runs(tmp_path, monkeypatch):
    """Its code, cell by cell, in a folder of its own."""
    notebook = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text())
    monkeypatch.chdir(tmp_path)
    names_of_cells: dict[str, object] = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "outputs are not stored"
            exec(compile("".join(cell["source"]), "quickstart.ipynb", "exec"), names_of_cells)
    assert (tmp_path / "sample.png").is_file()
