"""Pretrained models of the transformers library: in a folder, in the local cache of the hub, or fetched from it once.

Only `hub:owner/name` is ever looked for in the hub: what could be a path, such as `runs/typo`, never is. Whatever is
missing is an error of one line, never random weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ddmi.base.errors import UserError

PREFIX = "hub:"
FILES = ("config.json", "model.safetensors", "vocab.json", "merges.txt", "*token*.json")
"""Of a model of the hub: no weights in other formats, which may run code when they are opened."""

VOCABULARIES = ("tokenizer.json", "vocab.json")
"""A tokenizer of CLIP needs one of these."""


def name_of(place: str) -> str | None:
    """The name in the hub that a place stands for; None for a path. Raises UserError for a name that cannot be."""
    if not place.startswith(PREFIX):
        return None
    name = place.removeprefix(PREFIX)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise UserError(f"{place!r} is no name of the hub: it takes hub:owner/name")
    return name


def folder_of(
    place: str, what: str, otherwise: str, vocabularies: Sequence[str] = VOCABULARIES, *, fetch: bool = True
) -> Path:
    """The folder of a model: the one named, else that of a hub id, from the local cache or fetched into it.

    Args:
        place: a folder, or `hub:owner/name`. A plain `owner/name` that is no folder is looked for in the local cache
            of the hub alone.
        what: the kind of model, for errors: "CLIP model".
        otherwise: what helps when the hub is out of reach, for the error.
        vocabularies: see `lacking`.
        fetch: whether it may be fetched; False where the place is not the user's own word, but a file's.

    Raises:
        FileNotFoundError: a folder does not exist.
        UserError: the model is neither in the cache nor within reach.
    """
    name = name_of(place)
    if name is None:
        folder = Path(place).expanduser()
        if folder.is_dir():
            return folder
        if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", place):
            raise FileNotFoundError(f"no folder with a {what} at {place}")
    from huggingface_hub import snapshot_download

    for local in (True, False) if fetch and name is not None else (True,):
        try:
            folder = Path(snapshot_download(name or place, allow_patterns=list(FILES), local_files_only=local))
        except (OSError, ValueError):  # not cached, no network, no such model, not a name of the hub
            continue
        if not lacking(folder, vocabularies):
            return folder
    if name is None:
        raise FileNotFoundError(f"no folder with a {what} at {place}; one of the hub is {PREFIX}{place}")
    why = "cannot be fetched" if fetch else "is not fetched because a file asks for it"
    raise UserError(f"the {what} {place} is not in the local cache and {why}: {otherwise}")


def lacking(folder: Path, vocabularies: Sequence[str] = VOCABULARIES) -> str:
    """What a folder needs to be a model with its tokenizer and does not have; empty when it has all.

    One of the vocabularies is enough.
    """
    if not (folder / "config.json").is_file():
        return "config.json"
    if not any(folder.glob("*.safetensors")):
        return "weights (.safetensors)"
    if not any((folder / file).is_file() for file in vocabularies):
        return f"a vocabulary ({', '.join(vocabularies[:-1])} or {vocabularies[-1]})"
    return ""


@contextmanager
def quiet() -> Iterator[None]:
    """No log lines and no progress bars of transformers while loading; its settings are put back."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
