"""The page: one HTML file that a browser opens without a network."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ddmi.report.content import Block, Section, figures_of

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).with_name("templates")
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; connect-src data:; "
    "style-src 'unsafe-inline'; script-src "
)
"""A browser that follows it loads nothing from anywhere; the digests of the scripts that may run stand behind it."""


@functools.cache
def environment() -> Environment:
    """The templates. What they are given is text: it is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def assemble(title: str, header: Sequence[Block], sections: Sequence[Section], footer: Sequence[Block] = ()) -> str:
    """The whole page, as HTML."""
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()]
    meshes: dict[str, list[tuple[str, str]]] = {}
    if any(section.meshes for section in sections):
        from ddmi.report import viewer

        for section in sections:
            meshes[section.key] = [(alt, viewer.encoded(mesh)) for alt, mesh in section.meshes]
        digests += [viewer.digest(mesh) for several in meshes.values() for _, mesh in several]
    moving = any(figure.still for blocks in (header, *(s.blocks for s in sections)) for figure in figures_of(blocks))
    return environment().get_template("page.html").render(
        title=title,
        header=header,
        sections=sections,
        footer=footer,
        meshes=meshes,
        viewer=viewer.document() if meshes else "",
        moving=moving,
        script=script,
        policy=POLICY + " ".join(f"'sha256-{digest}'" for digest in dict.fromkeys(digests)),
        style=(FOLDER / "page.css").read_text(encoding="utf-8"),
    )  # fmt: skip
