"""Meshes of users: found in folders and archives, read, refused with a reason, and put into our frame.

The frame: [-1, 1] along x, y, z; y is up, z towards the viewer. A shape is centred on the middle of its bounding box,
whose longest side is 2 / 1.1.
"""

from __future__ import annotations

import io
import logging
import os
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from ddmi.base.errors import MissingPackage, UserError, missing_extra
from ddmi.data import gltf, off, wavefront
from ddmi.data.catalogues import ARCHIVES, entries, members, opened, unpacked
from ddmi.data.folders import files_below, printable
from ddmi.data.polygons import triangulated

if TYPE_CHECKING:
    import trimesh

log = logging.getLogger(__name__)

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
    root: Path | None = None  # the folder of data that it lies in: nothing outside of it is read
    captions: tuple[str, ...] = ()
    rotation: tuple[float, ...] | None = None  # 9 numbers, row by row: turns the mesh upright
    credit: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """What an error message calls it."""
        return printable(f"{self.file}:{self.member}" if self.member else str(self.file))


def find(root: str | Path) -> list[Model]:
    """All models at a path, sorted by name: a mesh file, an archive, or a folder of both at any depth.

    A name is made of the folders and the file, without an ending and without words that say nothing
    (`chair/1a2b/models/model_normalized.obj` is "chair/1a2b"): the first folder is the class. In a furniture library
    the class is the category and the model the catalogue's id. Hidden files are passed over, links are followed. An
    archive in a folder that is damaged or unsafe is left out, with a warning.

    Raises:
        UserError: there is nothing at the path, or no mesh in it that can be read.
    """
    root = Path(root)
    if not root.exists():
        raise UserError(f"{root} does not exist: meshes are files ending in {', '.join(EXTENSIONS + ARCHIVES)}")
    base, names = (root.parent, [root.name]) if root.is_file() else (root, files_below(root))
    found: list[Model] = []
    damaged: list[UserError] = []
    for inside in sorted(map(PurePosixPath, names)):
        path = base / inside
        ending = path.suffix.lower()
        if ending in EXTENSIONS:
            found.append(Model(name=_name(inside.with_suffix("").parts), file=path, root=base))
        elif ending in ARCHIVES:
            try:
                found += _in_archive(path, inside)
            except UserError as error:
                damaged.append(error)
    if damaged and not found:
        raise damaged[0]
    for reason in damaged:
        log.warning("left out: %s", printable(str(reason)))
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
    if not isinstance(model, Model):
        model = Model(name=Path(model).stem, file=Path(model))
    return joined(load(model), model.rotation)


def joined(scene: trimesh.Scene, rotation: tuple[float, ...] | None = None) -> trimesh.Trimesh:
    """All meshes of a scene as one, where the scene puts them, then turned by 9 numbers, row by row; no materials."""
    import trimesh

    vertices, faces, count = [], [], 0
    for node in sorted(scene.graph.nodes_geometry):
        matrix, name = scene.graph[node]
        part = scene.geometry[name]
        if isinstance(part, trimesh.Trimesh):
            mirrored = np.linalg.det(matrix[:3, :3]) < 0
            vertices.append(np.asarray(part.vertices, np.float64) @ matrix[:3, :3].T + matrix[:3, 3])
            faces.append(np.asarray(part.faces, np.int64)[:, :: -1 if mirrored else 1] + count)
            count += len(part.vertices)
    points = np.concatenate(vertices)
    if rotation is not None:
        points = points @ np.reshape(np.asarray(rotation, np.float64), (3, 3)).T
    return trimesh.Trimesh(points, np.concatenate(faces), process=False)


def load(model: Model, *, coloured: bool = False) -> trimesh.Scene:
    """The meshes of a model's file where the file puts them, as triangles.

    Args:
        coloured: with their materials and textures. Those in other files are looked for as the file names them or else
            by their bare names, since many were written with the paths of another computer; upper and lower case count
            as one. Nothing outside of `model.root` is read. What is not found is left out, with a warning.

    Raises:
        Rejected: the file is not a mesh, damaged, empty, or has more than `MOST_FACES` faces.
        MissingPackage: trimesh is not installed.
    """
    try:
        import trimesh
    except ImportError as error:
        raise missing_extra("trimesh", "mesh") from error

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
        scene = _loaded(content, ending, _Beside(model) if coloured else None)
        parts = [scene.geometry[scene.graph[node][1]] for node in scene.graph.nodes_geometry]
        parts = [part for part in parts if isinstance(part, trimesh.Trimesh)]
    except MissingPackage:
        raise
    except UserError as error:
        raise Rejected(f"{model.place} {error}") from error
    except Exception as error:  # readers raise nearly every kind of error on a broken file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Rejected(f"{model.place} is damaged or no {ending} file: {reason[:200]}") from error
    count = sum(len(part.faces) for part in parts)
    if not count:
        raise Rejected(f"{model.place} has no faces")
    if count > MOST_FACES:
        raise Rejected(f"{model.place} has {count:,} faces, at most {MOST_FACES:,} are allowed")
    for part in parts:
        if len(part.faces) and (part.faces.min() < 0 or part.faces.max() >= len(part.vertices)):
            raise Rejected(f"{model.place} is damaged: a face names a vertex that does not exist")
    return scene


def _loaded(content: bytes, ending: str, beside: _Beside | None) -> trimesh.Scene:
    import trimesh

    get = None if beside is None else beside.get
    if ending == ".glb":
        return gltf.scene(content, MOST_FACES, get)
    if ending == ".off":
        return trimesh.Scene(off.mesh(content))
    resolver: Any = beside
    if ending == ".obj":
        content, resolver = wavefront.plain(content, get)
    scene = trimesh.load_scene(
        io.BytesIO(content), file_type=ending[1:], process=False, resolver=resolver, skip_materials=beside is None
    )
    for name, part in list(scene.geometry.items()):
        if ending == ".ply":
            scene.geometry[name] = _recut(part)
        elif ending == ".obj":
            wavefront.coloured(part)
    return scene


def _recut(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """A mesh of a PLY file with its polygons cut into triangles that keep their colours, which trimesh loses."""
    import trimesh

    data = mesh.metadata.pop("_ply_raw", {}).get("face", {}).get("data")
    names = getattr(data, "dtype", np.dtype([])).names or data or ()  # columns of a binary or of a text file
    listed = next((name for name in ("vertex_indices", "vertex_index") if name in names), None)
    if listed is None or not isinstance(mesh.visual, trimesh.visual.ColorVisuals):
        return mesh
    polygons = data[listed]["f1"] if data[listed].dtype.names else data[listed]  # a binary file has the count beside
    if polygons.shape[1:] == (3,):
        return mesh
    owner, corners = triangulated([polygon.tolist() for polygon in polygons], np.asarray(mesh.vertices))
    colours: dict[str, Any] = {}
    channels = [data[name].reshape(-1) for name in ("red", "green", "blue", "alpha") if name in names]
    if len(channels) >= 3:
        colours["face_colors"] = np.stack(channels, axis=1)[owner]
    elif mesh.visual.kind == "vertex":
        colours["vertex_colors"] = mesh.visual.vertex_colors
    return trimesh.Trimesh(mesh.vertices, np.concatenate(polygons)[corners], process=False, **colours)


class _Beside:
    """Gives a reader of meshes the files beside a model, in its folder or in its archive."""

    def __init__(self, model: Model):
        self._model = model
        self._root = Path(os.path.abspath(model.root or model.file.parent))

    def get(self, name: str) -> bytes:
        """The bytes of a file; FileNotFoundError, with a warning, where there is none that may be read."""
        model = self._model
        plain = PurePosixPath(name.strip().strip('"').replace("\\", "/"))
        for path in (plain, PurePosixPath(plain.name)):
            if model.member:
                wanted = posixpath.normpath("/" / PurePosixPath(model.member).parent / path).lower()
                for member in reversed(opened(model.file).namelist()):
                    if f"/{member}".lower() == wanted:
                        return unpacked(model.file, member)
            elif (file := self._file(path)) is not None:
                return file.read_bytes()
        outside = not Path(os.path.abspath(model.file.parent / plain)).is_relative_to(self._root)
        why = "lies outside of the folder of data and is not read" if outside else "is not there"
        log.warning("%s: %s %s: its colours are left out", model.name, printable(name), why)
        raise FileNotFoundError(f"{name} is not beside {model.place}")

    __getitem__ = get

    def _file(self, path: PurePosixPath) -> Path | None:
        """The file at a path from the mesh's folder, upper and lower case as one; None outside of the data's folder."""
        here = Path(os.path.abspath(self._model.file.parent))
        for part in path.parts:
            exact = here.parent if part == ".." else here / part
            if not exact.exists():
                beside = here.iterdir() if here.is_dir() else ()
                exact = min((entry for entry in beside if entry.name.lower() == part.lower()), default=exact)
            here = exact
            if not here.is_relative_to(self._root):
                return None
        return here if here.is_file() else None


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
    from trimesh.sample import sample_surface

    check_up(up)
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
    areas = trimesh.triangles.area(vertices[faces])
    if areas.sum() < 1e-9:
        raise Rejected("no area")
    if ((high - low) < 1e-6 * longest).any():
        raise Rejected("flat: its box has no volume")
    if areas.max() > areas.sum() / 2 * (1 + 1e-6):
        raise Rejected("one triangle has more than half of the area, which no closed surface allows")
    kept = trimesh.Trimesh(vertices, faces[areas > 1e-14], process=False)
    points, _ = sample_surface(kept, 20_000, seed=0)
    near, far = np.quantile(np.asarray(points), [0.0025, 0.9975], axis=0)
    share = (far - near).max() / LONGEST
    if share < FEWEST_SHARE:
        raise Rejected(f"99.5 % of its surface spans {share:.0%} of its box: something small lies far away")
    return kept


def check_up(up: str) -> None:
    """Raises UserError for an axis that nothing is turned from."""
    if up not in ("y", "z"):
        raise UserError(f"unknown up {up!r}: allowed are y, z")


def placement(mesh: trimesh.Trimesh, up: Up = "y") -> Float[np.ndarray, "4 4"]:
    """The matrix that takes a mesh's own coordinates into our frame, where `normalised` puts it."""
    matrix = np.eye(4)
    if up == "z":
        matrix[1:3, 1:3] = [[0, 1], [-1, 0]]
    used = np.asarray(mesh.vertices, np.float64)[np.unique(mesh.faces)] @ matrix[:3, :3].T
    low, high = used.min(0), used.max(0)
    frame = np.diag([*[LONGEST / (high - low).max()] * 3, 1.0])
    frame[:3, 3] = -frame[0, 0] * (low / 2 + high / 2)
    return frame @ matrix


def _in_archive(path: Path, inside: PurePosixPath) -> list[Model]:
    listed = entries(path)
    if listed is not None:
        return [
            Model(name=_name((entry.category.lower() or "other", entry.key)), file=path, **entry.about)
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
    *folders, stem = parts
    kept = [part for part in folders if part.lower() not in _SAYS_NOTHING]
    if not kept or (stem.lower() not in _SAYS_NOTHING and stem != kept[-1]):
        kept.append(stem)
    plain = [re.sub(r"[^\w.+-]+", "-", part.lower() if " " in part else part).strip("-.") or "_" for part in kept]
    return "/".join([plain[0], "-".join(plain[1:])]) if len(plain) > 1 else plain[0]


def _told_apart(models: list[Model]) -> list[Model]:
    """Models of one name get their ending or their archive added to it where that differs, at last a number."""
    same: dict[str, list[Model]] = {}
    for model in models:
        same.setdefault(model.name, []).append(model)
    apart: dict[str, Model] = {}
    for name, group in same.items():
        endings = [PurePosixPath(model.member or model.file.name).suffix.lower()[1:] for model in group]
        archives = [model.file.stem for model in group]
        for extra in (endings, archives):
            added = [f"{name}-{_name([word])}" for word in extra]
            if len(group) > 1 and len(set(added)) == len(group):
                break
        else:
            added = [name] * len(group)
        for model, better in zip(group, added, strict=True):
            candidates = (better if number == 1 else f"{better}-{number}" for number in count(1))
            free = next(candidate for candidate in candidates if candidate not in apart)
            apart[free] = replace(model, name=free)
    return list(apart.values())
