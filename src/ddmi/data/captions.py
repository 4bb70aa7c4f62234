"""Captions as files have them, matched with the names of items; and one for each item that has several."""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from ddmi.base.errors import UserError
from ddmi.base.randomness import derive
from ddmi.base.storage import read_text

log = logging.getLogger(__name__)

TABLE = "captions.jsonl"

SYNSETS = {
    "02691156": "airplane",
    "02828884": "bench",
    "02933112": "cabinet",
    "02958343": "car",
    "03001627": "chair",
    "03211117": "display",
    "03636649": "lamp",
    "03691459": "loudspeaker",
    "04090263": "rifle",
    "04256520": "sofa",
    "04379243": "table",
    "04401088": "telephone",
    "04530566": "vessel",
}
"""The 13 classes of ShapeNet that Occupancy Networks released, in words."""


def one_of_each(names: Sequence[str], phrasings: Sequence[Sequence[str]]) -> list[str]:
    """The caption of each item, chosen by its name and not always the first: they differ in what they tell.

    Args:
        names: of the items. phrasings: the captions of each; "" is told of one without any.
    """
    told = zip(names, phrasings, strict=True)
    return [texts[derive("caption", name) % len(texts)] if texts else "" for name, texts in told]


def json_captions(path: Path, *keys: str) -> Iterator[tuple[str, str]]:
    """The name, under one of `keys`, and the `text` of each line of a file of JSON objects.

    Raises:
        UserError: a line is no such object; the file and the line are named.
    """
    # Not str.splitlines, which also ends a line at the U+2028, U+2029 and U+0085 that may stand inside a JSON string.
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            try:
                entry = json.loads(line)
                name = next(entry[key] for key in keys if key in entry)
                yield PurePosixPath(name).as_posix(), " ".join(entry["text"].split())
            except (ValueError, TypeError, KeyError, AttributeError, StopIteration) as error:
                raise UserError(f'{path}, line {number}: needs {{"{keys[0]}": ..., "text": ...}}') from error


def matched(
    where: Path, pairs: Iterable[tuple[str, str]], names: Sequence[str], things: str, others: Sequence[str] = ()
) -> list[list[str]]:
    """The captions of each name, each once; names that differ only in how accents are encoded (NFC, NFD) are the same.

    One warning counts the pairs that name nothing and the items without a caption.

    Args:
        where: the file or folder that messages name.
        pairs: (name, caption); an empty caption counts as none.
        names: of the items, at least one. things: what these are, in the plural.
        others: names of items that were left out, which may have captions.

    Raises:
        UserError: no pair names an item.
    """
    texts: dict[str, list[str]] = {composed(name): [] for name in names}
    known = {composed(name) for name in others}
    count = lost = passed = 0
    for name, text in pairs:
        count += 1
        if (key := composed(name)) in texts:
            texts[key] += [text] if text else []
        elif key in known:
            passed += 1
        else:
            lost += 1
    if lost + passed == count:
        raise UserError(f"{where} names none of the {things}: a name is like {names[0]!r}")
    found = [list(dict.fromkeys(texts[composed(name)])) for name in names]
    if lost or [] in found:
        told = f"{lost} of {count} captions name none of the {things}, "
        log.warning("%s: %s", where, told + f"{found.count([])} of {len(found)} {things} have no caption")
    return found


def composed(name: str) -> str:
    """A name in which all names that look the same are the same (NFC)."""
    return unicodedata.normalize("NFC", name)
