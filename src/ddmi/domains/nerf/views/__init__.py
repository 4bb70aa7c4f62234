"""Sources of posed photographs: what they promise, and folders in the layouts of SRN, npz files and NeRF-synthetic.

A scene lies in the box [-1, 1]^3, x right, y up, z towards the viewer. Three layouts are told apart by what is there;
each has a file that describes it:

- `srn` (Sitzmann et al. 2019): a folder with `rgb/`, `pose/` and `intrinsics.txt`;
- `npz`: one file an object, with `images` and `cam_poses` (Zimny et al. 2022, Points2NeRF);
- `transforms`: `transforms.json`, or one for each of train, val and test (Mildenhall et al. 2020, NeRF).

Beside the views may lie coloured points (`files`), and in a folder or above it what is known of the box (`facts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from ddmi.domains.nerf.posed import Views
from ddmi.domains.nerf.views.folder import ViewFolder
from ddmi.domains.nerf.views.pixels import composited

__all__ = ["ViewFolder", "ViewSource", "composited", "open_views"]


@runtime_checkable
class ViewSource(Protocol):
    """A fixed, ordered set of objects, each known by photographs whose cameras are known."""

    names: list[str]  # stable, unique
    captions: list[list[str]] | None  # those of each object ([] where it has none), None when no object has one
    labels: list[int] | None  # class of each object, an index into `classes`
    classes: list[str]  # [] when there are none
    groups: list[list[int]]  # indices that are variants of one subject; [[0], [1], ...] when there are none
    parts: list[str] | None  # "train", "val" or "test" of each where the set is split already, else None
    counts: list[int]  # views of each object
    bad: list[tuple[str, str]]  # (name, reason) of what was left out

    def cameras(self, index: int) -> Views:
        """The cameras of object `index`, in the signal's coordinates."""
        ...

    def pictures(self, index: int, which: Sequence[int]) -> UInt8[np.ndarray, "k h w 3"]:
        """Views of object `index` by number, in the order asked for, composited on the background."""
        ...

    def cloud(self, index: int, count: int, rng: np.random.Generator) -> Float32[np.ndarray, "n 6"]:
        """Coloured points of the surface of object `index`: xyz in [-1, 1], then rgb in [-1, 1]."""
        ...


open_views = ViewFolder
"""The posed photographs at a path: a folder of objects at any depth, one object's folder, an npz or a json file."""
