"""Random numbers that depend on a seed and a name alone: never on batch size, processes or what was sampled before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def derive(*keys: int | str) -> int:
    """A 63-bit seed from whatever names the draw, e.g. derive(seed, "noise", 17): sha256, the same on every machine."""
    digest = hashlib.sha256(repr(keys).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*keys: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator seeded by `derive(*keys)`."""
    return torch.Generator(device).manual_seed(derive(*keys))


def normal(shape: Sequence[int], seeds: Sequence[int], name: str) -> Float[Tensor, "b ..."]:
    """Standard normal noise (len(seeds), *shape); row k depends on (seeds[k], name) and on nothing else."""
    return torch.stack([torch.randn(tuple(shape), generator=generator(seed, name)) for seed in seeds])


def uniform(seeds: Sequence[int], name: str) -> Float[Tensor, "b"]:
    """One number of [0, 1) for each seed."""
    return torch.tensor([torch.rand((), generator=generator(seed, name)).item() for seed in seeds])
