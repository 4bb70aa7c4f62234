"""Samples that a model draws once, each process a share, and decodes when they are asked for."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

import torch
from jaxtyping import Float
from torch import Tensor

from ddmi.base.errors import UserError
from ddmi.base.processes import Processes
from ddmi.base.progress import Bar
from ddmi.base.storage import aside, load_tensors, save_tensors
from ddmi.field import Field

log = logging.getLogger(__name__)

BATCHES = {"cpu": 16}
"""Samples that are drawn, and decoded, together on a kind of device, `BATCH` on others; the same ones whatever the
number of processes. Small where they are slow: an interruption loses one batch.
"""
BATCH = 64

Draw = Callable[[int, int], tuple[Float[Tensor, "b c l"], Sequence[int]]]
"""(first, number) -> their latents and the function evaluations of each."""


class Samples(Sequence[Field]):
    """Fields of latents, decoded a batch at a time; only the last batch is kept.

    Args:
        batches: tells of batch k its latents "z" (b, c, l), the function "evaluations" (b,) of each sample, and the
            "seconds" that it took.
        count: of all samples; size: of a batch.
    """

    def __init__(
        self,
        batches: Callable[[int], dict[str, Tensor]],
        count: int,
        size: int,
        decode: Callable[[Float[Tensor, "b c l"]], list[Field]],
    ) -> None:
        self.batches, self.total, self.size, self.decode = batches, count, size, decode
        parts = [batches(k) for k in range(-(-count // size))]
        self.evaluations = float(torch.cat([part["evaluations"] for part in parts]).mean())
        self.seconds = float(sum(part["seconds"] for part in parts))  # summed over processes
        self._batch: tuple[int, list[Field]] = (-1, [])

    def __len__(self) -> int:
        return self.total

    @overload
    def __getitem__(self, index: int) -> Field: ...
    @overload
    def __getitem__(self, index: slice) -> list[Field]: ...
    def __getitem__(self, index: int | slice) -> Field | list[Field]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        number, place = divmod(index % len(self), self.size)
        if self._batch[0] != number:
            self._batch = (number, self.decode(self.batches(number)["z"]))
        return self._batch[1][place]


def draw(
    what: Draw,
    decode: Callable[[Float[Tensor, "b c l"]], list[Field]],
    count: int,
    about: dict[str, Any],
    folder: Path | None,
    processes: Processes,
    size: int = BATCH,
) -> Samples:
    """Draw samples 0 .. count - 1, each process whole batches in turn.

    Args:
        about: everything that the samples depend on. Batches that were drawn with the same before are not drawn again.
        folder: where latents are kept, one safetensors file a batch; None holds them in memory.
        size: samples that are drawn together.

    Raises:
        UserError: several processes without a folder to share.
    """
    if folder is None and processes.count > 1:
        raise UserError("several processes share their samples through the run folder: name one that can be written")
    whole = json.dumps({**about, "samples": count, "batch": size}, sort_keys=True)
    place = folder / "samples" / hashlib.sha256(whole.encode()).hexdigest()[:16] if folder else None
    memory: dict[int, dict[str, Tensor]] = {}

    def path(k: int) -> Path:
        assert place is not None
        return place / f"{k * size:06d}.safetensors"

    def there(k: int) -> bool:
        if place is None or not path(k).exists():
            return False
        try:
            load_tensors(path(k))
        except UserError as error:
            log.warning("%s; its samples are drawn again", error)
            return False
        return True

    mine = range(-(-count // size))[processes.rank :: processes.count]
    missing = [k for k in mine if not there(k)]
    name = f"samples, {about['sampler']} {about.get('tolerance') or about.get('steps')}"
    done = max(0, count - len(missing) * size * processes.count)  # the others are about as far
    with Bar(name, count, done, visible=processes.main) as bar:
        for k in missing:
            began = time.monotonic()
            z, evaluations = what(k * size, min(size, count - k * size))
            tensors = {"z": z.cpu().float(), "evaluations": torch.tensor(evaluations, dtype=torch.float64)}
            tensors["seconds"] = torch.tensor(time.monotonic() - began, dtype=torch.float64)
            if place is None:
                memory[k] = tensors
            else:
                with aside(path(k)) as scratch:
                    save_tensors(tensors, scratch, {"about": whole})
            done = min(done + size * processes.count, count)
            bar.advance(done)
    processes.wait()
    return Samples(lambda k: memory[k] if place is None else load_tensors(path(k)), count, size, decode)
