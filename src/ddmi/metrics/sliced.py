"""Sliced Wasserstein distance between two sets of images or clips, of their patches at several scales.

In one dimension the Wasserstein-1 distance is the area between two quantile functions; in many it is averaged over
random directions. All values are multiplied by 1000, the units of Karras et al. 2018 (arXiv:1710.10196, table 1).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddmi.base.errors import UserError

UNITS = 1e3
PATCH = 7  # cells on a side
DEPTH = 4  # frames of a patch of a clip
COARSEST = 16  # cells on the shorter side at which the pyramid ends
PATCHES = 128  # from each image at each level
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
    """Distance of the 7x7 patches of two sets of images, at each level of a Laplacian pyramid (Karras, sec. 5).

    The key of a level is its shorter side in cells ("64", "32", "16"): fine levels see texture, the coarsest sees
    the layout; "mean" is over levels. Patches of a level are normalised per channel, each set by its own mean and
    deviation, as in the paper: a global change of brightness or contrast is not seen.
    The sets may differ in number, not in shape. The same seed looks at the same places of image k in both sets, so
    equal sets give 0, and the two sets may be swapped. Two samples of one distribution do not give 0: compare with
    the distance between two halves of the real set. Units: 1e3 x normalised patch distance. UserError for images
    under 7x7.
    """
    if min(a.shape[-2:]) < PATCH:
        raise UserError(f"patches of 7x7 cells need larger images than {a.shape[-1]}x{a.shape[-2]}")
    generator = torch.Generator().manual_seed(seed)
    result = {}
    for level_a, level_b in zip(laplacian_pyramid(a), laplacian_pyramid(b), strict=True):
        places = torch.rand(max(len(a), len(b)), patches, 2, generator=generator)
        corners = (places * (torch.tensor(level_a.shape[-2:]) - PATCH + 1)).long()
        rows_a, rows_b = (_normalise(_patches(x, corners[: len(x)], (PATCH, PATCH))) for x in (level_a, level_b))
        result[str(min(level_a.shape[-2:]))] = _sliced(rows_a, rows_b, directions, generator)
    result["mean"] = sum(result.values()) / len(result)
    return result


def sliced_clips(
    a: Float[Tensor, "n c t h w"] | Iterable[Float[Tensor, "_ _ _ _ _"]],
    b: Float[Tensor, "m _ _ _ _"] | Iterable[Float[Tensor, "_ _ _ _ _"]],
    *,
    seed: int = 0,
    patches: int = PATCHES,
    directions: int = DIRECTIONS,
) -> dict[str, float]:
    """Distance of patches of 4 frames of 7x7 cells of two sets of clips, at each level of their frames' pyramids.

    As `sliced_wasserstein`, with its keys, units and normalisation, but a patch spans four successive frames (all, of
    shorter clips) and so sees how they move; still, most of what it sees is what frames show. Of differences of frames,
    x.diff(dim=2), it sees motion above all, though not its amount, as patches are normalised. Time has no pyramid.
    Either set may also be an iterable of parts of it, read once: of each part only the patches are kept.
    UserError for frames under 7x7.
    """
    rows_a, rows_b = (_clip_patches([x] if isinstance(x, Tensor) else x, patches, seed) for x in (a, b))
    generator = torch.Generator().manual_seed(seed)
    result = {key: _sliced(_normalise(rows_a[key]), _normalise(rows_b[key]), directions, generator) for key in rows_a}
    result["mean"] = sum(result.values()) / len(result)
    return result


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
    The sum of all levels, each brought up to size, is the image.
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


def _clip_patches(parts: Iterable[Tensor], patches: int, seed: int) -> dict[str, Tensor]:
    """Patches of clips (N, C, T, H, W) given in parts, by level: each (N, P, C, 4, 7, 7)."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[Tensor]] = {}
    for part in parts:
        clips, frames = part.shape[0], part.shape[2]
        if min(part.shape[-2:]) < PATCH:
            raise UserError(f"patches of 7x7 cells need larger frames than {part.shape[-1]}x{part.shape[-2]}")
        shape = (min(DEPTH, frames), PATCH, PATCH)
        levels = laplacian_pyramid(part.transpose(1, 2).flatten(0, 1))
        # clip by clip, so that it does not matter how a set is cut into parts
        places = torch.stack([torch.rand(len(levels), patches, 3, generator=generator) for _ in range(clips)], dim=1)
        for level, where in zip(levels, places, strict=True):
            x = level.unflatten(0, (clips, frames)).transpose(1, 2)
            room = torch.tensor(x.shape[2:]) - torch.tensor(shape) + 1
            found.setdefault(str(min(level.shape[-2:])), []).append(_patches(x, (where * room).long(), shape))
    return {key: torch.cat(several) for key, several in found.items()}


def _patches(x: Tensor, corners: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Patches of x (N, C, ...) whose lowest cells are corners (N, P, d), d as many as in `shape`: (N, P, C, *shape)."""
    corners = corners.to(x.device)
    d = len(shape)
    places = [
        (corners[..., k, None] + torch.arange(cells, device=x.device)).unflatten(
            2, (1,) * k + (cells,) + (1,) * (d - 1 - k)
        )
        for k, cells in enumerate(shape)
    ]
    item = torch.arange(len(x), device=x.device).view(-1, *(1,) * (d + 1))
    return x.movedim(1, -1)[(item, *places)].movedim(-1, 2)


def _normalise(patches: Tensor) -> Tensor:
    """Each channel to mean 0 and deviation 1 over the set, then one row a patch: (N P, C and cells)."""
    others = [k for k in range(patches.ndim) if k != 2]
    deviation, mean = torch.std_mean(patches, dim=others, keepdim=True, correction=0)
    return ((patches - mean) / deviation.clamp_min(1e-8)).flatten(2).flatten(0, 1)


def _sliced(a: Tensor, b: Tensor, directions: int, generator: torch.Generator) -> float:
    units = F.normalize(torch.randn(a.shape[1], directions, generator=generator), dim=0).to(a)
    distances = [wasserstein(a @ part, b @ part.to(b)) for part in units.split(CHUNK, dim=1)]
    return UNITS * torch.cat(distances).mean().item()
