"""Sliced Wasserstein distance between two sets of pictures: patches at several scales, and whole pictures.

In one dimension the Wasserstein-1 distance is the area between two quantile functions; in many it is averaged over
random directions. All values are multiplied by 1000, the units of Karras et al. 2018 (arXiv:1710.10196, table 1).
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddmi.errors import UserError

UNITS = 1e3
PATCH = 7  # cells on a side
COARSEST = 16  # cells on the shorter side at which the pyramid ends
PATCHES = 128  # from each picture at each level
DIRECTIONS = 512
CHUNK = 64  # directions at a time: bounds the memory


def sliced_wasserstein(
    a: Float[Tensor, "n c h w"],
    b: Float[Tensor, "m _ _ _"],
    *,
    seed: int = 0,
    patches: int = PATCHES,
    directions: int = DIRECTIONS,
) -> dict[str, float]:
    """Distance of the 7x7 patches of two sets of pictures, at each level of a Laplacian pyramid (Karras, sec. 5).

    The key of a level is its shorter side in cells ("64", "32", "16"): fine levels see texture, the coarsest sees
    the layout; "mean" is over levels. Patches of a level are normalised per channel, each set by its own mean and
    deviation, as in the paper: a global change of brightness or contrast is not seen here, but by `sliced_pictures`.
    The sets may differ in number, not in shape. The same seed looks at the same places of picture k in both sets, so
    equal sets give 0, and the two sets may be swapped. Two samples of one distribution do not give 0: compare with
    the distance between two halves of the real set. Units: 1e3 x normalised patch distance. UserError for pictures
    under 7x7.
    """
    _check(a, b)
    if min(a.shape[-2:]) < PATCH:
        raise UserError(f"patches of 7x7 cells need larger pictures than {a.shape[-1]}x{a.shape[-2]}")
    generator = torch.Generator().manual_seed(seed)
    result = {}
    for level_a, level_b in zip(laplacian_pyramid(a), laplacian_pyramid(b), strict=True):
        height, width = level_a.shape[-2:]
        places = torch.rand(max(len(a), len(b)), patches, 2, generator=generator)
        corners = (places * torch.tensor([height - PATCH + 1, width - PATCH + 1])).long()
        rows_a = _normalise(_patches(level_a, corners[: len(a)]))
        rows_b = _normalise(_patches(level_b, corners[: len(b)]))
        result[str(min(height, width))] = _sliced(rows_a, rows_b, directions, generator)
    result["mean"] = sum(result.values()) / len(result)
    return result


def sliced_pictures(
    a: Float[Tensor, "n c h w"], b: Float[Tensor, "m _ _ _"], *, seed: int = 0, directions: int = DIRECTIONS
) -> float:
    """Distance of two sets of whole pictures, as vectors of their values, along random unit directions.

    Nothing is normalised: a shift of one set by a constant picture d gives 1e3 x the mean of |u . d| over directions
    u, about 1e3 x |d| sqrt(2 / (pi c h w)). The sets may differ in number, not in shape.
    """
    _check(a, b)
    generator = torch.Generator().manual_seed(seed)
    return _sliced(a.flatten(1).float(), b.flatten(1).float(), directions, generator)


def wasserstein(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, " d"]:
    """Exact Wasserstein-1 distance of the samples in each column: the area between their quantile functions.

    With n = m this is the mean difference of sorted values; otherwise both step functions are compared on the union
    of their steps, i / n and j / m.
    """
    a, b = a.sort(dim=0).values, b.sort(dim=0).values
    n, m = len(a), len(b)
    if n == m:
        return (a - b).abs().mean(dim=0)
    steps = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()  # in units of 1 / (n m)
    left = F.pad(steps[:-1], (1, 0))
    weights = ((steps - left).double() / (n * m)).to(a)
    left = left.to(a.device)
    return weights @ (a[left // m] - b[left // n]).abs()


def laplacian_pyramid(x: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b c _ _"]]:
    """Details lost from each size to its half, finest first; the last level is what remains (Burt and Adelson 1983).

    Sizes are halved, rounding up, while the shorter side stays at least 16. Odd and non-square sizes are allowed.
    The sum of all levels, each brought up to size, is the picture.
    """
    levels = [x.float()]
    while (min(levels[-1].shape[-2:]) + 1) // 2 >= COARSEST:
        levels.append(_blur(levels[-1])[..., ::2, ::2])
    return [fine - expand(coarse, fine.shape[-2:]) for fine, coarse in pairwise(levels)] + levels[-1:]


def expand(x: Float[Tensor, "b c h w"], size: tuple[int, ...]) -> Float[Tensor, "b c p q"]:
    """Twice the size, to `size` exactly: zeros between the cells, then the pyramid's blur, four times as strong."""
    spread = x.new_zeros(*x.shape[:2], *size)
    spread[..., ::2, ::2] = x
    return 4 * _blur(spread)


def _blur(x: Tensor) -> Tensor:
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=x.device) / 16
    kernel = torch.outer(row, row).expand(x.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, groups=x.shape[1])


def _patches(x: Tensor, corners: Tensor) -> Tensor:
    """Patches with their upper left cells at corners (N, P, 2), row before column: (N, P, C, 7, 7)."""
    corners = corners.to(x.device)
    offset = torch.arange(PATCH, device=x.device)
    rows = (corners[..., 0, None] + offset)[..., :, None]
    columns = (corners[..., 1, None] + offset)[..., None, :]
    picture = torch.arange(len(x), device=x.device)[:, None, None, None]
    return x.movedim(1, -1)[picture, rows, columns].movedim(-1, 2)  # N P 7 7 C -> N P C 7 7


def _normalise(patches: Tensor) -> Tensor:
    """Each channel to mean 0 and deviation 1 over the set, then one row a patch: (N P, C 49)."""
    deviation, mean = torch.std_mean(patches, dim=(0, 1, 3, 4), keepdim=True, correction=0)
    return ((patches - mean) / deviation.clamp_min(1e-8)).flatten(2).flatten(0, 1)


def _sliced(a: Tensor, b: Tensor, directions: int, generator: torch.Generator) -> float:
    units = F.normalize(torch.randn(a.shape[1], directions, generator=generator), dim=0).to(a)
    distances = [wasserstein(a @ part, b @ part.to(b)) for part in units.split(CHUNK, dim=1)]
    return UNITS * torch.cat(distances).mean().item()


def _check(a: Tensor, b: Tensor) -> None:
    if not len(a) or not len(b):
        raise UserError("a sliced Wasserstein distance needs at least one picture in each set")
    if a.shape[1:] != b.shape[1:]:
        raise UserError(
            f"the two sets differ in shape: {tuple(a.shape[1:])} and {tuple(b.shape[1:])} (channels, height, width)"
        )
