"""What the metrics of all domains share: the items they look at, each rendered once, and their features."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from ddmi.base.storage import unnamed
from ddmi.domains.base import Dataset, Domain, Evidence, Metric, fingerprint
from ddmi.metrics import features
from ddmi.metrics.features.cache import FeatureCache
from ddmi.rendering.grid import to_signal

D = TypeVar("D", bound=Domain)
M = TypeVar("M", bound="Gallery[Any]")

BATCH = 64
"""Renderings that are held as numbers at a time."""
IN_MEMORY = 1 << 30
"""Bytes of renderings beyond which they are kept in a file without a name instead."""


class Gallery(Generic[D]):
    """A piece of evidence, and the feature network that looks at it. Subclasses add metrics as methods."""

    def __init__(self, domain: D, evidence: Evidence[Any]) -> None:
        self.domain, self.evidence = domain, evidence

    @classmethod
    def shared(cls: type[M], domain: D, *metrics: Callable[[M], dict[str, Any]]) -> Mapping[str, Metric]:
        """Methods by their names, as functions of evidence; calls with the same evidence share one gallery."""
        last: list[M] = []

        def metric(method: Callable[[M], dict[str, Any]]) -> Metric:
            def measure(evidence: Evidence[Any]) -> dict[str, Any]:
                if not last or last[0].evidence is not evidence:
                    last[:] = [cls(domain, evidence)]
                return method(last[0])

            return measure

        return {method.__name__: metric(method) for method in metrics}

    @cached_property
    def seen(self) -> FeatureCache:
        """The feature network of images that was chosen."""
        return FeatureCache(features.load(self.evidence.features), self.evidence.device, self.evidence.cache)


class Renderings:
    """8-bit images or clips of one shape, in their order, each made when it is first needed and then kept."""

    def __init__(
        self, make: Callable[[int], UInt8[np.ndarray, "*s 3"]], count: int, shape: Sequence[int], folder: Path | None
    ) -> None:
        self.make, self.done = make, 0
        whole = (count, *shape, 3)
        self.kept = np.empty(whole, np.uint8) if math.prod(whole) <= IN_MEMORY else unnamed(whole, folder)

    def __len__(self) -> int:
        return len(self.kept)

    def part(self, start: int, stop: int) -> Float[Tensor, "n 3 *s"]:
        """Items from `start` on, before `stop`, in [-1, 1]."""
        for k in range(self.done, stop):
            self.kept[k] = self.make(k)
        self.done = max(self.done, stop)
        return to_signal(np.array(self.kept[start:stop])).movedim(-1, 1)

    def batches(self, count: int | None = None, size: int = BATCH) -> Iterator[Float[Tensor, "_ 3 *s"]]:
        """The first items, or all, `size` at a time."""
        count = len(self) if count is None else count
        return (self.part(k, min(k + size, count)) for k in range(0, count, size))

    def digest(self) -> str:
        """SHA-256 of all items."""
        found = hashlib.sha256()
        for start in range(0, len(self), BATCH):
            self.part(start, min(start + BATCH, len(self)))
            found.update(np.ascontiguousarray(self.kept[start : start + BATCH]).data)
        return found.hexdigest()


def data_digest(dataset: Dataset, indices: Sequence[int], files: Iterable[Path]) -> str:
    """The fingerprint of the chosen items, with sizes and times of all the files that they are read from."""
    stats = [path.stat() for path in files if path.is_file()]
    return fingerprint(dataset, indices) + repr([(stat.st_size, stat.st_mtime_ns) for stat in stats])
