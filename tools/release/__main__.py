"""The command: `python -m tools.release weights NAME` trains a model that ships, `gallery` draws all of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import tools.release
from ddmi.base.errors import unknown
from ddmi.base.terminal import failed, say, talking
from tools.release.recipes import RECIPES


def main(arguments: list[str] | None = None) -> int:
    """Train, or draw."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=tools.release.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    weights = commands.add_parser("weights", help="train a model, judge it, and put it into the package")
    weights.add_argument("name", choices=sorted(RECIPES))
    weights.add_argument("--data", type=Path, metavar="DIR", help="where the model needs data")
    weights.add_argument("run", type=Path, nargs="?", metavar="RUN", help="run folder (runs/NAME)")
    weights.add_argument("--out", type=Path, metavar="DIR", help="model folder (its place in the package)")
    weights.add_argument("--max-minutes", type=float, metavar="M", help="stop training after so long; goes on later")
    weights.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="replace a setting")
    gallery = commands.add_parser("gallery", help="draw what ships, without choosing, and copy the cards beside")
    gallery.add_argument("names", nargs="*", metavar="NAME", help="models (all)")
    gallery.add_argument("--out", type=Path, default=Path("docs/gallery"), metavar="DIR", help="(docs/gallery)")
    given = parser.parse_args(arguments)
    with talking():
        try:
            return _weights(given) if given.command == "weights" else _gallery(given)
        except (Exception, KeyboardInterrupt) as error:
            return failed(error)


def _weights(given: argparse.Namespace) -> int:
    from ddmi.config import pairs
    from tools.release.making import make

    run = given.run or Path("runs") / given.name
    settings = pairs(given.set)
    made = make(given.name, run, given.data, target=given.out, settings=settings, max_minutes=given.max_minutes)
    if made is not None:
        say(str(made))
    return 0


def _gallery(given: argparse.Namespace) -> int:
    from tools.release.card import copied
    from tools.release.gallery import gallery

    for name in given.names:
        if name not in RECIPES:
            raise unknown("model", name, RECIPES)
    for path in [*gallery(given.out, given.names or None), *copied(given.out.parent / "models", Path("../gallery"))]:
        say(str(path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
