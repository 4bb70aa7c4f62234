"""Archives of meshes, and the catalogue of a Sweet Home 3D furniture library.

A `.sh3f` file is a zip with `PluginFurnitureCatalog.properties`: `id#n`, `name#n`, `tags#n`, `category#n`, `model#n`
(the path of a mesh in the archive), `modelRotation#n` (a 3x3 matrix, row by row), `creator#n`, and one `license` for
all. https://www.sweethome3d.com/documentation/
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from ddmi.base.errors import UserError

ARCHIVES = (".zip", ".sh3f")
CATALOGUE = "PluginFurnitureCatalog.properties"
LARGEST_MEMBER = 512 << 20
"""Bytes that one member may unpack to: the largest meshes of ShapeNet take a tenth of it."""

_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
_ENTRY = re.compile(r"((?:\\.|[^\\=:\s])+)\s*[=:]?\s*(.*)")
_SENDERS = frozenset({"scpts"})  # a tag that names who sent the models, not what they are


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One model of a furniture library."""

    key: str  # the catalogue's own id, unique in it
    category: str
    about: dict[str, Any]  # `member`, `captions`, `rotation` and `credit` of `ddmi.data.meshes.Model`


@lru_cache(maxsize=4)
def opened(path: Path) -> zipfile.ZipFile:
    """An archive, opened once in a process.

    Raises:
        UserError: it is damaged, or a member's name climbs out of it.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path} is no zip archive, or a damaged one: {error}") from error
    for name in archive.namelist():
        parts = re.split(r"[/\\]", name)
        if ".." in parts or not parts[0] or parts[0].endswith(":"):
            raise UserError(f"{path} is refused: its member {name!r} climbs out of the archive")
    return archive


def unpacked(path: Path, member: str) -> bytes:
    """The bytes of one member; nothing is written to the disk.

    Raises:
        UserError: there is no such member, it is damaged or encrypted, or it unpacks to more than `LARGEST_MEMBER`.
    """
    try:
        info = opened(path).getinfo(member)
        if info.file_size > LARGEST_MEMBER:
            raise UserError(
                f"{path}: {member} unpacks to {info.file_size >> 20} MiB, at most {LARGEST_MEMBER >> 20} are read"
            )
        with opened(path).open(info) as file:
            return file.read(info.file_size)  # a member that claims less than it holds is cut there: a damaged one
    except KeyError as error:
        raise UserError(f"{path} has no member {member}") from error
    except UserError:
        raise
    except Exception as error:  # zlib, lzma, a missing password: nearly every kind of error
        raise UserError(f"{path}: {member} cannot be unpacked: {error}") from error


def members(path: Path, endings: tuple[str, ...]) -> list[str]:
    """Names of the files in an archive that end so, sorted; hidden ones and those of macOS are passed over."""
    found = (name for name in opened(path).namelist() if PurePosixPath(name).suffix.lower() in endings)
    return sorted(n for n in found if not any(p.startswith((".", "__MACOSX")) for p in PurePosixPath(n).parts))


def entries(path: Path) -> list[Entry] | None:
    """The models that an archive's catalogue lists, in its order; None when it has no catalogue."""
    if CATALOGUE not in opened(path).namelist():
        return None
    table = properties(unpacked(path, CATALOGUE))
    source = table.get("name", path.stem)
    found = []
    for number in sorted(int(key[6:]) for key in table if re.fullmatch(r"model#\d+", key)):
        key, name, tags, category, creator = (
            table.get(f"{field}#{number}", "").strip() for field in ("id", "name", "tags", "category", "creator")
        )
        member = table[f"model#{number}"].strip().lstrip("/")
        licence = table.get(f"license#{number}", table.get("license", ""))
        credit = {"title": name, "creator": creator, "license": licence, "source": source}
        about = {
            "member": member,
            "captions": _captions(name, tags.split(","), {source.lower(), creator.lower()}),
            "rotation": _rotation(table.get(f"modelRotation#{number}", ""), path, number),
            "credit": {key: value for key, value in credit.items() if value},
        }
        found.append(Entry(key=key.rpartition("#")[2] or PurePosixPath(member).stem, category=category, about=about))
    return found


def licences(path: Path) -> str:
    """The text of the licence file at the top of an archive, "" where there is none."""
    for name in opened(path).namelist():
        if re.fullmatch(r"(LICEN[SC]E|COPYING)(\.txt|\.md)?", name, re.IGNORECASE):
            return unpacked(path, name).decode("utf-8", errors="replace").strip()
    return ""


def properties(content: bytes) -> dict[str, str]:
    """A Java properties file: Latin-1, comments, `key=value` or `key: value`, continued lines, escaped characters.

    https://docs.oracle.com/javase/8/docs/api/java/util/Properties.html#load-java.io.Reader-
    """
    found: dict[str, str] = {}
    pending = ""
    for line in content.decode("latin-1").splitlines():
        line = line.lstrip()
        if not pending and line[:1] in ("#", "!"):
            continue
        line = pending + line
        slashes = len(line) - len(line.rstrip("\\"))
        pending = line[:-1] if slashes % 2 else ""
        if not pending and (match := _ENTRY.match(line)):
            key, value = (_ESCAPE.sub(_unescaped, text) for text in match.groups())
            found[key] = value
    return found


def _unescaped(match: re.Match[str]) -> str:
    if match[1]:
        return chr(int(match[1], 16))
    return {"n": "\n", "t": "\t", "r": "\r", "f": "\f"}.get(match[2], match[2])


def _captions(name: str, tags: list[str], sources: set[str]) -> tuple[str, ...]:
    """The name, and the name with those tags that say more: not its own words, not where the model comes from."""
    name = _plain(name)
    known = {name.lower(), *name.lower().split(), *_SENDERS}
    more = []
    for tag in map(_plain, tags):
        if tag and tag.lower() not in known and not any(source.startswith(tag.lower()) for source in sources):
            more.append(tag)
            known.add(tag.lower())
    with_tags = ", ".join([name, *more] if name else more)
    return tuple(dict.fromkeys(text for text in (name, with_tags) if text))


def _plain(text: str) -> str:
    """Words that begin with a capital in lower case; those written in capitals (TV, LCD) and (iPad) as they are."""
    return " ".join(word.lower() if word[1:].islower() or len(word) == 1 else word for word in text.split())


def _rotation(text: str, path: Path, number: int) -> tuple[float, ...] | None:
    if not text.strip():
        return None
    try:
        values = tuple(float(value) for value in text.split())
    except ValueError:
        values = ()
    if len(values) != 9:
        raise UserError(f"{path}: modelRotation#{number} must be 9 numbers, not {text!r}")
    return values
