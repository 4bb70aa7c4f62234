"""What the names of objects say: parts and classes by the folders above them, and captions in `captions.jsonl`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ddmi.data.captions import SYNSETS, TABLE, json_captions, matched

_PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class Folders:
    """What the folders that names begin with say; as in `ddmi.domains.nerf.views.ViewSource`."""

    parts: list[str] | None
    labels: list[int] | None
    classes: list[str]
    groups: list[list[int]]


def folders_of(names: list[str]) -> Folders:
    """Parts, labels, classes and groups; the same name in two parts is one subject."""
    parts, kinds = [], []
    subjects: dict[tuple[str, ...], list[int]] = {}
    for index, name in enumerate(names):
        *folders, own = name.split("/")
        part, left = "train", []
        for folder in folders:
            words = re.split(r"[_-]", folder)
            found = [_PARTS[word.lower()] for word in words if word.lower() in _PARTS]
            part = found[0] if found else part
            rest = "_".join(word for word in words if word.lower() not in _PARTS)
            left += [rest] if rest else []
        parts.append(part)
        kinds.append(left[0] if left else "")
        subjects.setdefault((*left, own), []).append(index)
    classes = sorted(set(kinds))
    labels = None
    if len(classes) < 2 or "" in classes:
        classes = []
    else:
        labels = [classes.index(kind) for kind in kinds]
        words = [SYNSETS.get(kind, kind) for kind in classes]
        classes = words if len(set(words)) == len(words) else classes
    split = parts if "train" in parts and set(parts) != {"train"} else None
    return Folders(parts=split, labels=labels, classes=classes, groups=list(subjects.values()))


def captions_of(root: Path, names: list[str]) -> list[list[str]] | None:
    """The captions of each object, each once; None where the root has no `captions.jsonl`.

    Raises:
        UserError: a line is damaged, or none is of an object; the file and the line are named.
    """
    path = root / TABLE
    if not path.is_file():
        return None
    captions = matched(path, json_captions(path, "model"), names, "objects")
    return captions if any(captions) else None
