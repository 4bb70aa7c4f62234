"""What all sources of files share: the files of a folder, their names, and what cannot be used."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ddmi.base.errors import UserError
from ddmi.data.captions import SYNSETS

log = logging.getLogger(__name__)

A = TypeVar("A")
B = TypeVar("B")

NOT_TEXT = "its name is not UTF-8"
_HELD_OUT_FOLDERS = {"test": "test", "val": "val", "valid": "val", "validation": "val"}


def files_below(root: Path) -> list[str]:
    """Names of all files below `root`, relative, with "/", sorted; each real folder is visited once.

    Hidden files and folders are passed over, links are followed.
    """
    names: list[str] = []
    seen: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        below[:] = [] if real in seen else sorted(name for name in below if not name.startswith("."))
        if real not in seen:
            seen.add(real)
            names += [(Path(folder) / name).relative_to(root).as_posix() for name in files if not name.startswith(".")]
    return sorted(names)


def is_text(name: str) -> bool:
    """Whether a file name is UTF-8. Bytes that are not stand in it as surrogates, which no hash or JSON file takes."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def printable(name: str) -> str:
    """A file name with what is not UTF-8 as escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(error: Exception) -> str:
    """An error's message in one line, its kind where it has none."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def in_threads(work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """What `work` makes of each item, in order."""
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "data")
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(cancel_futures=True)


def attempt(place: Path, work: Callable[[], B]) -> B | str:
    """What `work` returns, or why it fails, whatever that is: one bad file never stops the others."""
    try:
        return work()
    except UserError as error:
        return str(error)
    except Exception as error:
        return f"{place} cannot be read: {type(error).__name__}: {one_line(error)}"


def usable(
    root: Path, results: Iterable[tuple[str, B | str]], thing: str, on_bad: str = "skip"
) -> tuple[dict[str, B], list[tuple[str, str]]]:
    """What can be used, by its name, and (name, reason) of what is left out, which one warning counts.

    Args:
        results: of each item its name, and what was read or the reason why it cannot be used.
        thing: what an item is, in the singular.
        on_bad: "stop" raises at the first that cannot be used.

    Raises:
        UserError: nothing can be used, or a bad item under "stop".
    """
    if on_bad not in ("skip", "stop"):
        raise UserError(f"unknown on_bad {on_bad!r}: allowed are skip, stop")
    found: dict[str, B] = {}
    bad: list[tuple[str, str]] = []
    for name, result in results:
        if not isinstance(result, str):
            found[name] = result
        elif on_bad == "stop":
            raise UserError(
                f'bad {thing} {printable(name)} in {root}: {result}; on_bad="skip" leaves such {thing}s out'
            )
        else:
            bad.append((printable(name), result))
    if not found:
        raise UserError(f"no {thing} in {root} can be used, the first, {bad[0][0]}: {bad[0][1]}")
    warn_left_out(bad, len(found) + len(bad), f"{thing}s")
    return found, bad


def warn_left_out(bad: Sequence[tuple[str, str]], count: int, things: str) -> None:
    """One warning: how many of `count` items are left out, and the first three (name, reason)."""
    if bad:
        told = "; ".join(f"{name}: {reason}" for name, reason in bad[:3]) + ("; ..." if len(bad) > 3 else "")
        log.warning("%s of %s %s are left out: %s", len(bad), count, things, told)


def parts_of(names: Sequence[str]) -> list[str] | None:
    """The part of each file, by its top folder, when there are a train and a held-out folder; the rest is train."""
    parts = [_HELD_OUT_FOLDERS.get(name.split("/")[0].lower(), "train") if "/" in name else "train" for name in names]
    has_train = any(name.lower().startswith("train/") for name in names)
    return parts if has_train and set(parts) != {"train"} else None


def folders_of(names: Sequence[str], in_parts: bool) -> list[str]:
    """The folder of each file that says its class: the top one, below the parts where there are some; "" for none."""
    return [next(iter(name.split("/")[int(in_parts) : -1]), "") for name in names]


def classes_of(folders: Sequence[str]) -> tuple[list[int] | None, list[str]]:
    """The class of each item, an index, and their names: the folders that items lie in, ShapeNet's in words.

    (None, []) where there are fewer than two, or an item lies in none ("").
    """
    kinds = sorted(set(folders))
    if len(kinds) < 2 or "" in kinds:
        return None, []
    words = [SYNSETS.get(kind, kind) for kind in kinds]
    rank = {kind: index for index, kind in enumerate(kinds)}
    return [rank[folder] for folder in folders], words if len(set(words)) == len(words) else kinds
