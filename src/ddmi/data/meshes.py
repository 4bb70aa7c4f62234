"""Meshes of users: found in folders and archives, read, refused with a reason, and put into our frame.

The frame: [-1, 1] along x, y, z; y is up, z towards the viewer. A shape is centred on the middle of its bounding box,
whose longest side is 2 / 1.1.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float

from ddmi.data.catalogues import ARCHIVES, entries, members, unpacked
from ddmi.errors import UserError, missing_extra

if TYPE_CHECKING:
    import trimesh

Up = Literal["y", "z"]

EXTENSIONS = (".obj", ".glb", ".ply", ".off", ".stl")
LONGEST = 2 / 1.1
"""The longest side of a shape's box."""
MOST_FACES = 2_000_000
FEWEST_SHARE = 0.5
"""Of the longest side, at least what 99.5 % of the surface must span; below it a stray speck decides the frame."""

_SAYS_NOTHING = frozenset({"model", "models", "model_normalized", "mesh", "meshes", "untitled"})


class Rejected(UserError):
    """A mesh that no shape can be made of: one line with the reason."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """Where one mesh is, and what is known of it before it is read."""

    name: str  # "<class>/<model>", or "<model>" when the set has no classes; fit for a path
    file: Path  # the mesh, or the archive that it is in
    member: str = ""  # its name in the archive
    captions: tuple[str, ...] = ()
    rotation: tuple[float, ...] | None = None  # 9 numbers, row by row: turns the mesh upright
    credit: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """What an error message calls it."""
        return f"{self.file}:{self.member}" if self.member else str(self.file)


def find(root: str | Path) -> list[Model]:
    """All models at a path, sorted by name: a mesh file, an archive, or a folder of both at any depth.

    A name is made of the folders and the file, without an ending and without words that say nothing
    (`chair/1a2b/models/model_normalized.obj` is "chair/1a2b"): the first folder is the class. In a furniture library
    the class is the category and the model the catalogue's id. Hidden files are passed over.

    Raises:
        UserError: there is nothing at the path, no mesh in it, or an archive that is damaged or unsafe.
    """
    root = Path(root)
    if not root.exists():
        raise UserError(f"{root} does not exist: meshes are files ending in {', '.join(EXTENSIONS + ARCHIVES)}")
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    base = root.parent if root.is_file() else root
    found: list[Model] = []
    for path in files:
        inside = path.relative_to(base)
        if any(part.startswith(".") for part in inside.parts):
            continue
        ending = path.suffix.lower()
        if ending in EXTENSIONS:
            found.append(Model(name=_name(inside.with_suffix("").parts), file=path))
        elif ending in ARCHIVES:
            found += _in_archive(path, inside)
    if not found:
        raise UserError(f"no mesh in {root}: files that count end in {', '.join(EXTENSIONS)}, also in .zip and .sh3f")
    if len({"/" in model.name for model in found}) == 2:  # a few beside the folders of classes
        found = [model if "/" in model.name else replace(model, name=f"other/{model.name}") for model in found]
    return sorted(_told_apart(found), key=lambda model: model.name)


def read(model: Model | str | Path) -> trimesh.Trimesh:
    """The geometry of a model as its file has it, turned upright where its catalogue says how; no materials.

    Raises:
        Rejected: the file is not a mesh, damaged, empty, or has more than `MOST_FACES` faces.
        MissingPackage: trimesh is not installed.
    """
    try:
        import trimesh
    except ImportError as error:
        raise missing_extra("trimesh", "mesh") from error

    if not isinstance(model, Model):
        model = Model(name=Path(model).stem, file=Path(model))
    ending = PurePosixPath(model.member or model.file.name).suffix.lower()
    if ending not in EXTENSIONS:
        raise Rejected(f"{model.place}: a mesh ends in {', '.join(EXTENSIONS)}, not in {ending or 'nothing'}")
    try:
        content = unpacked(model.file, model.member) if model.member else model.file.read_bytes()
    except UserError as error:
        raise Rejected(str(error)) from error
    except OSError as error:
        raise Rejected(f"{model.place} cannot be read: {error.strerror or error}") from error
    try:
        mesh = trimesh.load(
            io.BytesIO(content), file_type=ending[1:], force="mesh", process=False, skip_materials=True, resolver=None
        )
    except Exception as error:  # readers raise nearly every kind of error on a broken file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Rejected(f"{model.place} is damaged or no {ending} file: {reason[:200]}") from error
    if not isinstance(mesh, trimesh.Trimesh) or not len(mesh.faces):
        raise Rejected(f"{model.place} has no faces")
    if len(mesh.faces) > MOST_FACES:
        raise Rejected(f"{model.place} has {len(mesh.faces):,} faces, at most {MOST_FACES:,} are allowed")
    faces = np.asarray(mesh.faces, np.int64)
    if faces.min() < 0 or faces.max() >= len(mesh.vertices):
        raise Rejected(f"{model.place} is damaged: a face names a vertex that does not exist")
    vertices = np.asarray(mesh.vertices, np.float64)
    if model.rotation is not None:
        vertices = vertices @ np.asarray(model.rotation, np.float64).reshape(3, 3).T
    return trimesh.Trimesh(vertices, faces, process=False)


def normalised(mesh: trimesh.Trimesh, up: Up = "y") -> trimesh.Trimesh:
    """A mesh in our frame, without faces of no area; whatever units it came in.

    Args:
        up: the axis that points up in the mesh; "z" (as in most STL and CAD files) is turned to y.

    Raises:
        Rejected: vertices that are not numbers, no area, a flat box, a single face with more than half of the area
            (in a closed surface the area vectors of all faces add up to zero, so none outweighs the others together),
            or specks far away that hold less than half a percent of the area and decide the box.
    """
    import trimesh

    if up not in ("y", "z"):
        raise UserError(f"unknown up {up!r}: allowed are y, z")
    used, faces = np.unique(np.asarray(mesh.faces), return_inverse=True)
    vertices = np.asarray(mesh.vertices, np.float64)[used]
    faces = faces.reshape(-1, 3)
    if not len(faces):
        raise Rejected("no faces")
    if not np.isfinite(vertices).all():
        raise Rejected("vertices that are not finite numbers")
    if up == "z":
        vertices = vertices[:, [0, 2, 1]] * [1.0, 1.0, -1.0]
    low, high = vertices.min(0), vertices.max(0)
    longest = float((high - low).max())
    if not 0 < longest < np.inf:
        raise Rejected("all vertices are one point" if longest == 0 else "vertices too far apart")
    vertices = (vertices - (low / 2 + high / 2)) * (LONGEST / longest)

    corners = vertices[faces]  # (f, 3, 3)
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    if areas.sum() < 1e-9:
        raise Rejected("no area")
    if ((high - low) < 1e-6 * longest).any():
        raise Rejected("flat: its box has no volume")
    if areas.max() > areas.sum() / 2 * (1 + 1e-6):
        raise Rejected("one triangle has more than half of the area, which no closed surface allows")
    kept = trimesh.Trimesh(vertices, faces[areas > 1e-14], process=False)
    sides = _spanned(kept)
    if sides.max() < FEWEST_SHARE * LONGEST:
        raise Rejected(
            f"99.5 % of its surface spans {sides.max() / LONGEST:.0%} of its box: something small lies far away"
        )
    return kept


def _spanned(mesh: trimesh.Trimesh, samples: int = 20_000) -> Float[np.ndarray, "3"]:
    """The sides of the box that holds 99.5 % of the surface along each axis."""
    from trimesh.sample import sample_surface

    points, _ = sample_surface(mesh, samples, seed=0)
    low, high = np.quantile(np.asarray(points), [0.0025, 0.9975], axis=0)
    return high - low


def _in_archive(path: Path, inside: Path) -> list[Model]:
    listed = entries(path)
    if listed is not None:
        return [
            Model(
                name=_name((entry.category.lower() or "other", entry.key)),
                file=path,
                member=entry.member,
                captions=entry.captions,
                rotation=entry.rotation,
                credit=entry.credit,
            )
            for entry in listed
        ]
    found = []
    for member in members(path, EXTENSIONS):
        parts = PurePosixPath(member).with_suffix("").parts
        folders = () if len(parts) > 1 else (*inside.parts[:-1], path.stem)
        found.append(Model(name=_name((*folders, *parts)), file=path, member=member))
    return found


def _name(parts: Sequence[str]) -> str:
    """The folders and the stem that lead to a mesh as "<class>/<model>", or "<model>" when there is but one."""
    kept: list[str] = []
    for part in parts[:-1]:
        if part.lower() not in _SAYS_NOTHING:
            kept.append(part)
    stem = parts[-1]
    if not kept or (stem.lower() not in _SAYS_NOTHING and stem != kept[-1]):
        kept.append(stem)
    plain = [re.sub(r"[^\w.+-]+", "-", part.lower() if " " in part else part).strip("-.") or "_" for part in kept]
    return "/".join([plain[0], "-".join(plain[1:])]) if len(plain) > 1 else plain[0]


def _told_apart(models: list[Model]) -> list[Model]:
    """Models of one name get their ending or their archive added to it where that differs, at last a number."""
    same: dict[str, list[Model]] = {}
    for model in models:
        same.setdefault(model.name, []).append(model)
    named = []
    for group in same.values():
        for extra in (_ending, lambda model: model.file.stem):
            added = [_name([extra(model)]) for model in group]
            if len(group) > 1 and len(set(added)) == len(group):
                group = [replace(model, name=f"{model.name}-{more}") for model, more in zip(group, added, strict=True)]
                break
        named += group
    taken: set[str] = set()
    apart = []
    for model in named:
        candidates = (model.name if number == 1 else f"{model.name}-{number}" for number in count(1))
        name = next(name for name in candidates if name not in taken)
        taken.add(name)
        apart.append(replace(model, name=name))
    return apart


def _ending(model: Model) -> str:
    return PurePosixPath(model.member or model.file.name).suffix.lower()[1:]
