"""The house stands: imports go to lower floors only, and a few things are written nowhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import ddmi

ROOT = Path(ddmi.__file__).parent

FLOORS = {
    "base": 0,
    "weights": 0,
    "model": 1,
    "rendering": 1,
    "metrics": 1,
    "data": 1,
    "domains.base": 2,  # the interface, below the domains that answer it
    "domains.gallery": 2,  # what the metrics of all of them share
    "domains": 3,
    "config": 4,
    "field": 4,
    "pretrained": 4,
    "training": 5,
    "pipeline": 5,
    "presets": 5,
    "evaluation": 6,
    "recipe": 6,
    "report": 7,
    "app": 7,
    "cli": 8,
    "__main__": 9,
}
"""Floor of every file and folder. A folder's files are on its floor, unless they have a line of their own."""

FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
SOURCES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(ROOT.rglob("*.py"))}


def module_of(path: Path) -> str:
    """Dotted name inside the package: domains/image.py is "domains.image", model/nn/__init__.py is "model.nn"."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def home(module: str) -> str:
    """The entry of the table that a module belongs to: its own, or that of the folder it lies in."""
    parts = module.split(".")
    names = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    for name in names:
        if name in FLOORS:
            return name
    raise AssertionError(f"{module} has no floor")


def folder(name: str) -> str:
    """Folders are apart from one another; plain files of a floor stand side by side."""
    return name if (ROOT / name.replace(".", "/")).is_dir() else ""


def imported(tree: ast.AST, package: str) -> set[str]:
    """First-party modules that are imported anywhere in a file, inside functions too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = ["ddmi", *(package.split(".") if package else [])]
                above = above[: len(above) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            if base == "ddmi" or base.startswith("ddmi."):
                for a in node.names:
                    whole = f"{base}.{a.name}".removeprefix("ddmi.")
                    found.add(f"ddmi.{whole}" if whole in MODULES else base)
    return {name.removeprefix("ddmi.") for name in found if name.startswith("ddmi.")}


def edges(module: str, at_once: bool = False) -> set[str]:
    """What a module imports; `at_once`: only what it needs before it can itself be imported."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text())
    if at_once:
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return imported(tree, package) - {module}


def test_every_file_has_a_floor_and_every_line_of_the_table_a_reader():
    for module in MODULES:
        home(module)
    assert set(FLOORS) <= set(MODULES) | {m.rpartition(".")[0] for m in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    here = home(module)
    for there in map(home, edges(module)):
        beside = folder(there) == folder(here) and FLOORS[there] == FLOORS[here]
        assert FLOORS[there] < FLOORS[here] or beside, f"{module} reaches from {here} up to {there}"


def test_no_import_goes_round():
    waiting = {module: edges(module, at_once=True) & MODULES.keys() for module in MODULES}
    while waiting:
        done = {module for module, needs in waiting.items() if not needs & waiting.keys()}
        assert done, f"these import one another: {sorted(waiting)}"
        waiting = {module: needs for module, needs in waiting.items() if module not in done}


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("domains.") and m != "domains.base"])
def test_a_domain_knows_neither_siblings_nor_networks_above(module):
    own = module.split(".")[1]
    for there in edges(module):
        inside = there.split(".")[:2] == ["domains", own]
        assert inside or there == "domains.base" or FLOORS[home(there)] <= 2, f"{module} imports {there}"


def test_storage_imports_errors_alone():
    assert edges("base.storage") == {"base.errors"}


def test_only_presets_reports_and_programs_name_a_domain():
    """Below them, a concrete domain is reached by its name alone."""
    for module in MODULES:
        if FLOORS[home(module)] < 5 and not module.startswith("domains"):
            concrete = {there for there in edges(module) if there.startswith("domains.")} - {"domains.base"}
            assert not concrete, f"{module} names the domain {concrete}"


def test_the_lower_floors_do_not_import_the_domains():
    for module in MODULES:
        if FLOORS[home(module)] < 2:
            assert not {there for there in edges(module) if there.startswith("domains")}, module


def test_the_tests_lie_as_the_rooms_do():
    """Every folder of tests/ is a folder of src/ddmi/, or the one outside of the wheel."""
    here = Path(__file__).parent
    for path in here.rglob("test_*.py"):
        folder = path.parent.relative_to(here)
        assert (ROOT / folder).is_dir() or folder == Path("tools"), f"tests/{folder} is no room of src/ddmi"


BANNED = {
    r"\.module\.": "reaches through a wrapper",
    r"\bexcept\s*:": "a bare except",
    r"\.cuda\(": "a device guess",
    r"LeakyReLU\(True": "slope 1",
    r"(?<![\w.])eval\(|(?<![\w.])exec\(": "runs text",
}


@pytest.mark.parametrize("pattern", BANNED)
def test_is_written_nowhere(pattern):
    for name, source in SOURCES.items():
        for number, line in enumerate(source.splitlines(), 1):
            assert not re.search(pattern, line), f"{name}:{number} {BANNED[pattern]}"


def calls(source: str, name: str) -> list[ast.Call]:
    """All calls of a (dotted) name."""
    return [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call) and ast.unparse(n.func) == name]


def test_nothing_prints():
    assert not [name for name, source in SOURCES.items() if calls(source, "print")]


def test_nothing_is_unpickled_but_checked_cifar_batches():
    for name, source in SOURCES.items():
        for call in calls(source, "torch.load"):
            assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords), name
        for call in [*calls(source, "np.load"), *calls(source, "numpy.load")]:
            assert not any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in call.keywords), name
        if name != "data/cifar.py":
            assert not re.search(r"\b(pickle|dill|cloudpickle|shelve|marshal)\.(?!UnpicklingError)", source), name
            assert not re.search(r"\bfrom (pickle|dill|cloudpickle|shelve|marshal)\b", source), name


def test_images_need_no_package_of_another_domain():
    """Finding the image domain imports no optional package, and `import ddmi` imports next to nothing."""
    import subprocess
    import sys

    script = (
        "import sys, ddmi; assert 'torch' not in sys.modules, 'import ddmi brings torch';"
        "from ddmi import domains; domains.find('image');"
        "heavy = {'diffusers', 'transformers', 'matplotlib', 'torchmetrics', 'tifffile', 'scipy', 'accelerate'};"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT.parent)
    assert done.returncode == 0, done.stderr
