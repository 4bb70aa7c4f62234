"""Pinhole cameras: camera-to-world poses with OpenGL axes, and the rays of their pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ddmi.base.coordinates import Window, check_size, check_window
from ddmi.base.errors import UserError

DISTANCE = 5.5
"""From the usual camera to the origin. The object lies in [-1, 1]^3."""

EXTENT = 1.38
"""What the usual camera sees of the plane through the origin, from the middle of the image to its nearer edge."""

FOV = 2 * math.degrees(math.atan(EXTENT / DISTANCE))
"""Degrees, about 28: the angle of view of the usual camera."""

VIEW_FOV = 40.0
"""Angle of view of the cameras of `sphere`, degrees."""

VIEW_RADIUS = 1.575
"""Of the ball about the origin that these cameras just see: a box whose longest side is 2 / 1.1 is never cut off."""

TOLERANCE = 1e-3
"""What a rotation read from a text file may be off by."""


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera without distortion, its pixels square.

    Args:
        pose: camera to world. The camera looks along its own -z, its y is up, its x right (OpenGL).
        focal: focal length in pixels of this size.
        size: (height, width) in pixels. The middle of the pixel in column i and row j lies at (i + 0.5, j + 0.5), row 0
            on top.
        centre: where the axis of view meets the image, (x, y) in pixels from the upper left corner, maybe outside;
            None: in its middle.

    Raises:
        UserError: the pose is no rotation and shift, the focal length is not positive, or the size is none.
    """

    pose: Float[Tensor, "4 4"]
    focal: float
    size: tuple[int, int]
    centre: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_size(self.size)
        if not (self.focal > 0 and math.isfinite(self.focal)):
            raise UserError(f"a focal length is a positive number of pixels, not {self.focal}")
        if not is_rotation(self.pose):
            raise UserError("a pose is a 4x4 matrix of a rotation and a shift, without scale or reflection")

    @property
    def middle(self) -> tuple[float, float]:
        """The centre, also where it is the middle of the image."""
        return self.centre or (self.size[1] / 2, self.size[0] / 2)

    def resized(self, size: int | tuple[int, int], window: Window | None = None) -> Camera:
        """The same view, or a part of it, with another number of pixels.

        Args:
            size: pixels, one number or (height, width). Where its sides have another ratio than those of the window,
                the window is in the middle of the new image, which shows more on two sides.
            window: the part of the image (x0, y0, x1, y1) in [-1, 1], x to the right and y down; None: all of it.

        Raises:
            UserError: the size is none, or the window is empty or leaves [-1, 1].
        """
        height, width = check_size(size)
        left, top, right, bottom = check_window(window, 2)
        scale = min(2 * width / (self.size[1] * (right - left)), 2 * height / (self.size[0] * (bottom - top)))
        seen = self.size[1] * (left + right + 2) / 4, self.size[0] * (top + bottom + 2) / 4  # the window's middle
        x, y = self.middle
        centre = width / 2 + (x - seen[0]) * scale, height / 2 + (y - seen[1]) * scale
        return replace(self, focal=self.focal * scale, size=(height, width), centre=centre)

    def to(self, device: torch.device | str) -> Camera:
        """The camera on another device, where its rays then are; in float32, which every device has."""
        return replace(self, pose=self.pose.to(device, torch.float32))

    def rays(self, pixels: Int[Tensor, "n"] | None = None) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
        """Origins and unit directions of the rays through the middles of pixels, float32.

        Args:
            pixels: numbers of pixels, counted row by row; None: all.
        """
        height, width = self.size
        pose = self.pose
        if pixels is None:
            pixels = torch.arange(height * width, device=pose.device)
        pixels = pixels.to(pose.device)
        x, y = self.middle
        across = (pixels % width + 0.5 - x) / self.focal
        down = (pixels.div(width, rounding_mode="floor") + 0.5 - y) / self.focal
        there = torch.stack([across, -down, -torch.ones_like(across)], dim=1).to(pose.dtype) @ pose[:3, :3].T
        directions = torch.nn.functional.normalize(there, dim=1).float()
        return pose[:3, 3].float().expand(len(pixels), 3), directions

    @staticmethod
    def orbit(
        azimuth: float,
        elevation: float,
        *,
        distance: float = DISTANCE,
        fov: float = FOV,
        size: int | tuple[int, int] = 128,
        target: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> Camera:
        """A camera on a sphere around a target that it looks at, upright; by default the usual one.

        Args:
            azimuth: degrees around y; 0 looks from +z, 90 from +x.
            elevation: degrees above the horizon, -90 to 90.
            distance: from the camera to the target.
            fov: angle of view in degrees, across the shorter side of the image.
            size: pixels, one number or (height, width).

        Raises:
            UserError: a number is out of its range.
        """
        height, width = check_size(size)
        if not -90 <= elevation <= 90:
            raise UserError(f"an elevation is between -90 and 90 degrees, not {elevation}")
        if not (distance > 0 and math.isfinite(distance)):
            raise UserError(f"the distance of a camera is a positive number, not {distance}")
        if not 0 < fov < 180:
            raise UserError(f"an angle of view is between 0 and 180 degrees, not {fov}")
        a, e = math.radians(azimuth), math.radians(elevation)
        right = [math.cos(a), 0.0, -math.sin(a)]
        up = [-math.sin(a) * math.sin(e), math.cos(e), -math.cos(a) * math.sin(e)]
        back = [math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)]
        eye = [there + distance * step for there, step in zip(target, back, strict=True)]
        focal = min(height, width) / 2 / math.tan(math.radians(fov) / 2)
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3] = torch.tensor([right, up, back, eye], dtype=torch.float64).T
        return Camera(pose, focal, (height, width))


def sphere(
    count: int,
    *,
    size: int | tuple[int, int] = 128,
    elevation: tuple[float, float] = (-10.0, 80.0),
    fov: float = VIEW_FOV,
    radius: float = VIEW_RADIUS,
    seed: int = 0,
) -> list[Camera]:
    """Cameras spread evenly over a zone of the sphere around the origin (a Fibonacci lattice), all at one distance.

    Args:
        elevation: degrees, lowest and highest; (-90, 90) is the whole sphere.
        fov: degrees, across the shorter side of the image.
        radius: of the ball about the origin that just fits into the image.
        seed: of how the lattice is turned around y and moved along the zone, and of the order of the cameras.

    Raises:
        UserError: no camera, or a range that is none.
    """
    low, high = elevation
    if count < 1:
        raise UserError(f"there must be at least one view, not {count}")
    if not -90 <= low <= high <= 90:
        raise UserError(f"elevations go from -90 up to 90 degrees, not from {low} to {high}")
    if not (0 < fov < 180 and radius > 0):
        raise UserError(f"an angle of view is between 0 and 180 degrees and a radius positive, not {fov} and {radius}")
    rng = np.random.default_rng(seed)
    turn, shift = rng.random(2)
    bottom, top = math.sin(math.radians(low)), math.sin(math.radians(high))  # equal heights have equal areas
    return [
        Camera.orbit(
            math.degrees(math.pi * (3 - math.sqrt(5)) * k) + 360 * turn,
            math.degrees(math.asin(bottom + (top - bottom) * (k + shift) / count)),
            distance=radius / math.sin(math.radians(fov / 2)),
            fov=fov,
            size=size,
        )
        for k in rng.permutation(count)  # the first few are spread too
    ]


def lattice(count: int) -> Float[np.ndarray, "n 3"]:
    """Unit directions spread evenly over the sphere (a Fibonacci lattice), from +y down."""
    y = 1 - (2 * np.arange(count) + 1) / count
    angle = np.pi * (3 - math.sqrt(5)) * np.arange(count)
    across = np.sqrt(1 - y * y)
    return np.stack([across * np.cos(angle), y, across * np.sin(angle)], axis=1)


def from_opencv(pose: Float[Tensor, "*n 4 4"]) -> Float[Tensor, "*n 4 4"]:
    """OpenGL axes of a camera for OpenCV's (x right, y down, looking along +z): the same camera, camera to world."""
    return pose * pose.new_tensor([1.0, -1.0, -1.0, 1.0])


def to_opencv(pose: Float[Tensor, "*n 4 4"]) -> Float[Tensor, "*n 4 4"]:
    """The inverse of `from_opencv`, which is the same change of signs."""
    return from_opencv(pose)


def is_rotation(pose: Float[Tensor, "*n 4 4"], tolerance: float = TOLERANCE) -> bool:
    """Whether all poses turn and shift only: no scale, no reflection, last row (0, 0, 0, 1), all numbers finite."""
    wide = pose.detach().cpu().double()
    turn, eye = wide[..., :3, :3], torch.eye(4, dtype=torch.float64)
    return bool(
        wide.isfinite().all()
        and (turn @ turn.mT - eye[:3, :3]).abs().max() <= tolerance
        and (torch.linalg.det(turn) > 0).all()
        and (wide[..., 3, :] - eye[3]).abs().max() <= tolerance
    )
