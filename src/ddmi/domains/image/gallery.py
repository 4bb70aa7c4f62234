"""The pictures that metrics look at, and their features: each rendered once, and seen by the network once."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddmi.base.errors import UserError
from ddmi.base.randomness import generator
from ddmi.base.storage import aside, load_metadata, load_tensors, save_tensors, unnamed
from ddmi.domains.base import Evidence, FieldLike, fingerprint
from ddmi.domains.image.dataset import PictureDataset
from ddmi.metrics.distributions import Gaussian, gaussian
from ddmi.rendering.grid import to_signal

if TYPE_CHECKING:
    from ddmi.domains.image import Image

log = logging.getLogger(__name__)

BATCH = 64
FEW = 8
"""Pictures that a processor looks at together: larger batches leave its cache and are slower."""
REAL = 50_000
"""Real pictures that features are taken of, at most (section C.1)."""
IN_MEMORY = 1 << 30
"""Bytes of rendered samples beyond which they are kept in a file without a name instead."""
SMALLEST = 32
"""Pixels a side below which pictures are enlarged for a feature network."""


class Rendered:
    """Samples as 8-bit pictures of one size, in their order, each drawn when it is first asked for and then kept."""

    def __init__(self, domain: Image, fields: Sequence[FieldLike], size: int, folder: Path | None) -> None:
        self.domain, self.fields, self.size, self.done = domain, fields, size, 0
        shape = (len(fields), size, size, 3)
        if np.prod(shape, dtype=np.int64) <= IN_MEMORY:
            self.kept: np.ndarray = np.empty(shape, np.uint8)
            return
        self.kept = unnamed(shape, folder)

    def first(self, count: int) -> Float[Tensor, "n 3 h w"]:
        """The first samples in [-1, 1]."""
        return self.part(0, count)

    def batches(self, size: int = BATCH) -> Iterator[Float[Tensor, "_ 3 h w"]]:
        """All samples in [-1, 1], so many at a time."""
        for start in range(0, len(self.fields), size):
            yield self.part(start, min(start + size, len(self.fields)))

    def part(self, start: int, stop: int) -> Float[Tensor, "n 3 h w"]:
        """Samples from `start` on, before `stop`."""
        for k in range(self.done, stop):
            self.kept[k] = np.asarray(self.domain.render(self.fields[k], self.size))
        self.done = max(self.done, stop)
        return to_signal(np.array(self.kept[start:stop])).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Seen:
    """Real pictures as the network sees them: indices into their dataset, features, and the Gaussian of these."""

    indices: list[int]
    features: Float[Tensor, "n f"]
    gaussian: Gaussian | None


class Gallery:
    """The pictures of one piece of evidence. Features are computed when a metric first needs them."""

    def __init__(self, domain: Image, evidence: Evidence) -> None:
        self.domain, self.evidence = domain, evidence
        self.train: PictureDataset = evidence.train  # type: ignore[assignment]
        self.held_out: PictureDataset = evidence.held_out  # type: ignore[assignment]
        self.size = evidence.size or domain.resolution
        self.seconds = 0.0
        """Time that the network took over the samples, rendering included."""

    @cached_property
    def samples(self) -> Rendered:
        """The samples, rendered at the size of the evidence with the sampling period that belongs to it."""
        return Rendered(self.domain, self.evidence.samples, self.size, self.evidence.cache)

    @cached_property
    def network(self) -> Any:
        """The feature network that was asked for."""
        from ddmi.metrics import features

        network: Any = features.load(self.evidence.features)
        return network.to(self.evidence.device)

    @cached_property
    def features(self) -> Float[Tensor, "n f"]:
        """Features of all samples."""
        began = time.monotonic()
        found = self._features(self.samples.batches())
        self.seconds = time.monotonic() - began
        return found

    def features_of(self, fields: Sequence[FieldLike]) -> Float[Tensor, "n f"]:
        """Features of other fields, rendered as the samples are."""
        return self._features(Rendered(self.domain, fields, self.size, self.evidence.cache).batches())

    @cached_property
    def real(self) -> Seen:
        """Training pictures: one of each subject, as in an epoch of training."""
        return self._seen("train", self.train)

    @cached_property
    def unseen(self) -> Seen:
        """Held-out pictures, chosen likewise."""
        return self._seen("held_out", self.held_out)

    def pictures_in_parts(self, dataset: PictureDataset) -> Iterator[Float[Tensor, "_ 3 h w"]]:
        """The items of a dataset at the size of the evidence, in parts of about 256 MB."""
        part, count = max(1, (1 << 26) // (3 * self.size**2)), self.limited(len(dataset))
        for start in range(0, count, part):
            yield dataset.pictures(range(start, min(start + part, count)), self.size)

    def limited(self, count: int) -> int:
        """So many real pictures, or the limit of the evidence."""
        return min(count, self.evidence.limit or count)

    @property
    def truth(self) -> str:
        """How real pictures come to this size."""
        smallest = self.train.source.smallest
        if smallest is None:
            return "rendered exactly"
        return "resized by Lanczos with antialiasing" if smallest >= self.size else "enlarged by Lanczos where smaller"

    def _seen(self, part: str, dataset: PictureDataset) -> Seen:
        """From the cache, where the same network has seen the same pictures before."""
        order = dataset.epoch(generator(self.evidence.seed, "features", part))[: self.limited(REAL)]
        if not order:
            return Seen([], torch.zeros(0, self.network.num_features), None)
        protocol = {
            "part": part,
            "pictures": len(order),
            "size": self.size,
            "seed": self.evidence.seed,
            "data": files_fingerprint(dataset, order),
            "network": self.network.name,
            "weights": weights_digest(self.network),
        }
        told = json.dumps(protocol, sort_keys=True)
        name = f"{part}-{hashlib.sha256(told.encode()).hexdigest()[:16]}.safetensors"
        path = None if self.evidence.cache is None else self.evidence.cache / "features" / name
        if path is not None and path.is_file():
            try:
                if load_metadata(path).get("protocol") == told:
                    found = load_tensors(path)
                    known = Gaussian(found["mean"], found["covariance"], len(order)) if "mean" in found else None
                    return Seen(order, found["features"], known)
            except UserError as error:
                log.warning("%s; it is made again", error)
        batches = (dataset.pictures(order[i : i + BATCH], self.size) for i in range(0, len(order), BATCH))
        features = self._features(batches)
        seen = Seen(order, features, gaussian(features) if len(order) > 1 else None)
        if path is not None:
            tensors = {"features": features}
            if seen.gaussian is not None:
                tensors |= {"mean": seen.gaussian.mean, "covariance": seen.gaussian.covariance}
            with aside(path) as scratch:
                save_tensors(tensors, scratch, {"protocol": told})
        return seen

    @torch.no_grad()
    def _features(self, batches: Iterable[Float[Tensor, "_ 3 h w"]]) -> Float[Tensor, "n f"]:
        found = []
        for x in batches:
            if min(x.shape[-2:]) < SMALLEST:
                x = F.interpolate(x, (SMALLEST, SMALLEST), mode="bicubic", align_corners=False).clamp(-1, 1)
            for few in x.to(self.evidence.device).split(FEW if self.evidence.device == "cpu" else BATCH):
                found.append(self.network(few).float().cpu())
        return torch.cat(found)


def files_fingerprint(dataset: PictureDataset, order: Sequence[int]) -> str:
    """The fingerprint of the chosen pictures, and of the sizes and times of all their files."""
    digest = hashlib.sha256(repr((type(dataset.source).__name__, fingerprint(dataset, order))).encode())
    root = getattr(dataset.source, "root", None)
    if root is not None:
        for index in order:
            path = Path(root) / dataset.names[index]
            if path.is_file():
                digest.update(repr((path.stat().st_size, path.stat().st_mtime_ns)).encode())
    return digest.hexdigest()


def weights_digest(network: torch.nn.Module) -> str:
    """SHA-256 of the names and values of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
