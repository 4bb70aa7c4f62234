"""One cache of features for all metrics: a network looks at the same data once, also across commands."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddmi.base.errors import UserError
from ddmi.base.storage import aside, load_metadata, load_tensors, save_tensors

log = logging.getLogger(__name__)

AT_ONCE = {"cpu": 8}
"""Items that a network sees together on a kind of device, 64 on others: more leave the caches of a CPU."""
SMALLEST = 32
"""Pixels a side below which images are enlarged for a network of images."""


class FeatureCache:
    """A frozen network, and the features of data that it gave before.

    Args:
        network: from images (B, 3, H, W) or clips (B, 3, T, H, W) in [-1, 1] to features (B, F).
        device: where it runs.
        folder: where features of data are kept, as safetensors under `features/`; None keeps nothing.
    """

    def __init__(self, network: Any, device: str = "cpu", folder: Path | None = None) -> None:
        self.network, self.device = network.to(device), device
        self.folder = None if folder is None else folder / "features"

    @torch.no_grad()
    def of(self, batches: Iterable[Float[Tensor, "_ 3 *s"]]) -> Float[Tensor, "n f"]:
        """Features of all items on the CPU; batches may differ in size, and small images are enlarged bicubically."""
        found = []
        for x in batches:
            if x.ndim == 4 and min(x.shape[2:]) < SMALLEST:
                size = [max(side, SMALLEST) for side in x.shape[2:]]
                x = F.interpolate(x, size, mode="bicubic", align_corners=False).clamp(-1, 1)
            few = x.to(self.device).split(AT_ONCE.get(torch.device(self.device).type, 64))
            found += [self.network(part).float().cpu() for part in few]
        return torch.cat(found)

    def kept(
        self,
        name: str,
        protocol: Mapping[str, Any],
        data: Callable[[], str],
        batches: Iterable[Float[Tensor, "_ 3 *s"]],
    ) -> Float[Tensor, "n f"]:
        """Features of a part of the data: from the folder, where this network has seen the same there before.

        Args:
            name: of the part, the beginning of the file name.
            protocol: how the items are chosen and shown to the network.
            data: gives the fingerprint of the items.
            batches: the items, which are only read when they are needed.
        """
        if self.folder is None:
            return self.of(batches)
        about = {"part": name, **protocol, "data": data(), "weights": weights_digest(self.network)}
        whole = json.dumps({**about, "network": self.network.name}, sort_keys=True)
        path = self.folder / f"{name}-{hashlib.sha256(whole.encode()).hexdigest()[:16]}.safetensors"
        if path.is_file():
            try:
                if load_metadata(path).get("protocol") == whole:
                    return load_tensors(path)["features"]
            except UserError as error:
                log.warning("%s; it is made again", error)
        features = self.of(batches)
        with aside(path) as scratch:
            save_tensors({"features": features}, scratch, {"protocol": whole})
        return features


def weights_digest(network: torch.nn.Module) -> str:
    """SHA-256 of the names and values of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
