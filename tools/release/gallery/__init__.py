"""Pictures of the models that ship, drawn without choosing, and the two pages that show them.

One seed for everything; the samples are the first ones of that seed, and none is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ddmi.base.errors import unknown
from ddmi.base.storage import aside
from ddmi.domains import name_of
from ddmi.pipeline import DDMIPipeline
from tools.release.gallery.drawing import DRAWN
from tools.release.gallery.model import Again, Model, Shown
from tools.release.gallery.pages import markdown, web
from tools.release.recipes import RECIPES

__all__ = ["gallery"]


def gallery(out: Path, names: Sequence[str] | None = None) -> list[Path]:
    """Draw the models that ship, and write their pictures and two pages, `index.html` and `gallery.md`, into a folder.

    Every picture's name begins with that of its model; those of other models are left alone. The pages show the
    models of this call. The same models give the same files.

    Args:
        out: the folder; made where it is missing.
        names: models that ship, or folders of others; None for all that ship.

    Returns:
        The files, the pages last.

    Raises:
        UserError: a name that is no model, or a model of a domain that has no gallery.
        WorkError: the folder cannot be written.
    """
    shown: dict[str, tuple[Model, list[Shown], Again]] = {}
    for name in RECIPES if names is None else names:
        pipe = DDMIPipeline.from_pretrained(name)
        domain = name_of(pipe.config.domain)
        if domain not in DRAWN:
            raise unknown("domain of a gallery", domain, DRAWN)
        model = Model(str(name), pipe, Path(out))
        shown[model.stem] = (model, *DRAWN[domain](model))
    found = [one.path for _, several, _ in shown.values() for one in several]
    for name, text in (("index.html", web(shown)), ("gallery.md", markdown(shown))):
        with aside(Path(out) / name) as scratch:
            scratch.write_text(text, encoding="utf-8")
        found.append(Path(out) / name)
    return found
