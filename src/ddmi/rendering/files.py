"""Renderings as files: one of any kind, an object as a mesh, an image or a turntable, several in one file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ddmi.base.errors import UserError
from ddmi.rendering.clip import Clip, animated, contact_sheet, filmstrip, tiled
from ddmi.rendering.grid import save_image
from ddmi.rendering.mesh import MESHES, write_mesh

if TYPE_CHECKING:
    from PIL import Image
    from trimesh import Trimesh

IMAGES = (".png", ".jpg", ".jpeg", ".webp")
MOVIES = (".gif", ".mp4", ".webm", ".frames")


@runtime_checkable
class Object(Protocol):
    """What is looked at from all around."""

    @property
    def image(self) -> Image.Image: ...

    def turntable(self) -> Clip: ...


def save(rendering: Any, path: str | Path) -> None:
    """Write one rendering of any domain, by the ending of the name: images of PIL too are written aside, then renamed.

    Raises:
        UserError: the name has another ending than the rendering can be written with.
        WorkError: the disk is full or the place cannot be written; what stood there is untouched.
    """
    from PIL import Image

    if isinstance(rendering, Image.Image):
        save_image(rendering, path)
    else:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        rendering.save(path)


def save_object(rendering: Object, mesh: Callable[[], Trimesh], path: str | Path) -> None:
    """Write an object as an image, a turntable or a mesh; errors as of `save`."""
    ending = Path(path).suffix.lower()
    if ending in MESHES:
        write_mesh(mesh(), path)
    elif ending in IMAGES:
        save_image(rendering.image, path)
    elif ending in MOVIES:
        rendering.turntable().save(path)
    else:
        known = ", ".join((*MESHES, *IMAGES, *MOVIES))
        raise UserError(f"{path}: an object is written as {known}, by the ending of its name")


def save_sheet(renderings: Sequence[Any], path: str | Path, columns: int = 0) -> None:
    """Write several renderings of one kind into one file; errors as of `save`.

    Side by side as an image (of clips, a row of frames each), or moving: clips and turntables side by side, images one
    after another.

    Args:
        columns: side by side; 0: about twice as wide as high.
    """
    from PIL import Image

    first, still = renderings[0], Path(path).suffix.lower() not in MOVIES
    if isinstance(first, Clip):
        save(filmstrip(renderings) if still else tiled(renderings, columns), path)
    elif still:
        save(contact_sheet([image_of(rendering) for rendering in renderings], columns), path)
    elif isinstance(first, Image.Image):
        animated(renderings).save(path)
    else:
        tiled([rendering.turntable() for rendering in renderings], columns).save(path)


def image_of(rendering: Any) -> Image.Image:
    """An image itself, or that of an object."""
    from PIL import Image

    return rendering if isinstance(rendering, Image.Image) else rendering.image
