"""The page: one HTML file that a browser opens without a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

STYLE = Path(__file__).with_name("page.css")
SCRIPT = Path(__file__).with_name("page.js")

POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src 'unsafe-inline'"
"""A browser that follows it loads nothing from anywhere; `_policy` adds the scripts that may run."""


@dataclass(frozen=True)
class Section:
    """A part of the page with its own heading.

    Args:
        key: its anchor, one word. title: plain text.
        lead: what is to be seen, HTML. body: HTML.
        short: the title's word in the list of contents; by default the title.
    """

    key: str
    title: str
    lead: str
    body: str
    short: str = ""


def script(path: Path) -> str:
    """A script file of this folder as an element of the page."""
    return f"<script>{path.read_text(encoding='utf-8')}</script>"


def _policy(content: str) -> str:
    """The policy of a page with this content: only the script files beside this one run, each known by its digest."""
    scripts = [path for path in sorted(SCRIPT.parent.glob("*.js")) if script(path) in content]
    digests = (base64.b64encode(hashlib.sha256(path.read_text(encoding="utf-8").encode()).digest()) for path in scripts)
    return POLICY + "; script-src " + " ".join(f"'sha256-{digest.decode()}'" for digest in digests)


def assemble(title: str, header: str, sections: Sequence[Section], footer: str) -> str:
    """The whole page. `title` is plain text, `header` and `footer` are HTML."""
    links = "".join(f'<a href="#{s.key}">{escape(s.short or s.title)}</a>' for s in sections)
    contents = f"<nav>{links}</nav>" if len(sections) > 1 else ""
    body = "\n".join(
        f'<section id="{s.key}"><h2>{escape(s.title)}</h2><p class="lead">{s.lead}</p>{s.body}</section>'
        for s in sections
    )
    content = f"""<header>{header}{contents}</header>
<main>
{body}
</main>
<footer>{footer}</footer>
{script(SCRIPT)}"""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(content)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
{content}
</body>
</html>
"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are HTML, the first of a row names it."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(entries: Sequence[tuple[str, str]]) -> str:
    """Names, which are plain text, with their values, which are HTML."""
    return '<dl class="facts">' + "".join(f"<div><dt>{escape(n)}</dt><dd>{v}</dd></div>" for n, v in entries) + "</dl>"
