"""Trained models that come with the package, found by their bare names: each a model folder with its card.

`<name>/` holds what every model folder holds (config.json, the weights as safetensors in half precision, and a manifest
of digests), and `README.md`: what it was trained on and how, what it is good at and what not.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent
CARD = "README.md"
"""In a model's folder."""
LARGEST = 16_000_000
"""Bytes that one model may take."""


def names() -> list[str]:
    """The models that are there, in order."""
    return sorted(path.parent.name for path in ROOT.glob("*/config.json"))


def title(name: str) -> str:
    """What a model draws, in one line: the first paragraph of its card."""
    card = ROOT / name / CARD
    paragraphs = card.read_text(encoding="utf-8").split("\n\n") if card.is_file() else []
    return paragraphs[1].replace("\n", " ") if len(paragraphs) > 1 else ""


def size(name: str) -> int:
    """Bytes that a model takes."""
    return sum(path.stat().st_size for path in (ROOT / name).iterdir())


def find(name: str | Path) -> Path | None:
    """The folder of the model of that bare name; None when there is none."""
    return ROOT / name if isinstance(name, str) and name in names() else None
