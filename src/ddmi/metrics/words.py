"""The nouns of a caption, by lists and endings: what its image shows, but not how many, how, or where.

The lists stand in nouns.toml. They are strict, and when in doubt a word is no noun: so with one that is also an
attribute ("orange"), that names nothing to be shown ("speech", "health"), or that is part of the names of unlike things
("ice", "post").
"""

from __future__ import annotations

import functools
import re
import tomllib
from pathlib import Path
from typing import Any

PEOPLE = frozenset({"man", "woman", "person", "boy", "girl", "child", "adult"})
"""Nouns that say that there is somebody, and not who."""

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")


@functools.cache
def _lists() -> dict[str, Any]:
    read = tomllib.loads(Path(__file__).with_name("nouns.toml").read_text(encoding="utf-8"))
    singular = dict(pair.split(":") for pair in read["nouns"].pop("singular").split())
    nouns = {name: frozenset(words.split()) for name, words in read["nouns"].items()}
    return {**nouns, "no_nouns": frozenset(" ".join(read["no_nouns"].values()).split()), "singular": singular}


def nouns(caption: str) -> frozenset[str]:
    """The nouns of a caption in lower case, several as one: "Two women holding hands" -> {"woman", "hand"}.

    No nouns are function words, attributes (colours and tones, sizes, shapes, quantities, places, states), owners
    ("man's"), words of fewer than three letters but "ox", words with digits, and words on -ing and -ed that are no
    things ("smiling", not "ring"). Nor are "button", "symbol", "sign" and "mark": they stand in the names of images
    that have nothing in common, and tell nothing of what is on them. "face", "hand", "flag" and "letter" tell what is
    to be seen, and count. What follows "flag of" is a name, and of a flag only "flag" counts: the Isle of Man is no
    man.
    """
    words = re.sub(r"\bflags? of\b.*", "flag", caption.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    found = (_noun(word) for word in _WORD.findall(re.sub(r"\w*\d\w*", " ", words)))
    return frozenset(word for word in found if word)


def _noun(word: str) -> str:
    """The word as one of its kind, "" where it is no noun."""
    lists, one = _lists(), _singular(word)
    if "'" in word or word in lists["no_nouns"] or one in lists["no_nouns"] or (len(one) < 3 and one != "ox"):
        return ""
    return one if one in lists["like_participles"] or not one.endswith(("ing", "ed")) else ""


def _singular(word: str) -> str:
    lists = _lists()
    if word in lists["singular"]:
        return lists["singular"][word]
    if word in lists["uncounted"] or len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("xes", "ches", "shes", "sses")) else word[:-1]
