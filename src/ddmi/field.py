"""The public Field: one sample, as a function."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ddmi import domains
from ddmi.base.errors import UserError
from ddmi.base.planes import dimensions
from ddmi.base.storage import aside, build, load_metadata, load_tensors, save_tensors
from ddmi.config import from_dict, to_dict
from ddmi.domains.base import Domain, R
from ddmi.model.readout import ROWS, Readout, ReadoutConfig
from ddmi.model.signal import Signal

ArrayLike = Tensor | np.ndarray | Sequence[Any] | float
"""Numbers in any of the usual forms."""


class Field(Generic[R]):
    """A continuous signal: a function of coordinates, bound to the renderer of its domain.

    Deterministic: the same coordinates give the same values in any order and in any chunking, up to rounding (3e-6 of
    values in [-1, 1]); bit for bit in one call of the same size, with the same number of threads. Differentiable in the
    coordinates. Several threads may evaluate one Field at the same time.
    """

    def __init__(self, signal: Signal, domain: Domain[R, Any]) -> None:
        assert len(signal.first) == 1, "a Field is one sample"
        self._signal, self.domain = signal, domain
        self._prepared: tuple[tuple[float, ...] | None, Callable[[Tensor, Tensor | None], Tensor]] | None = None

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self._signal.first.device

    @property
    def dtype(self) -> torch.dtype:
        """The precision it is evaluated in; values are always returned in float32."""
        return self._signal.first.dtype

    def __call__(
        self, coordinates: ArrayLike, periods: ArrayLike | None = None, extras: ArrayLike | None = None
    ) -> Float[Tensor, "*n c"]:
        """Signal values at the coordinates, in the field's own precision whatever autocast is around it.

        Args:
            coordinates: (..., d) in [-1, 1], x first: a tensor, an array, or a list. Points outside have the value of
                the nearest point inside. Gradients flow to a tensor that requires any.
            periods: (p,), the sampling periods that scale injection receives; None for 1, the resolution that the
                encoder saw.
            extras: (..., e), what the domain's head reads beside the features.

        Raises:
            UserError: coordinates of another shape, or values that are no numbers.
        """
        axes = dimensions(self._signal.layout)
        at = _tensor("coordinates", coordinates).to(self.device)
        if at.dim() < 1 or at.shape[-1] != axes:
            raise UserError(f"coordinates are (..., {axes}), not {tuple(at.shape)}")
        shape, at = at.shape[:-1], at.reshape(-1, axes).clamp(-1, 1)
        beside = None
        if extras is not None:
            beside = _tensor("extras", extras).to(self.device)
            beside = beside.reshape(-1, beside.shape[-1])
        wanted = torch.is_grad_enabled() and at.requires_grad
        with torch.set_grad_enabled(wanted), torch.autocast(self.device.type, enabled=False):
            signal = self._at(periods)
            values = [
                signal(at[None, i : i + ROWS], None if beside is None else beside[None, i : i + ROWS])[0].float()
                for i in range(0, max(len(at), 1), ROWS)
            ]
        found = torch.cat(values) if len(values) > 1 else values[0]
        return found.reshape(*shape, found.shape[1])

    def _at(self, periods: ArrayLike | None) -> Callable[[Tensor, Tensor | None], Tensor]:
        """The signal at these periods: its weights are modulated once for all chunks, and kept for the next call."""
        count = self.domain.periods
        given = None if periods is None else tuple(_tensor("periods", periods).reshape(-1).tolist())
        values = given or ((1.0,) * count if count else None)
        prepared = self._prepared  # read once: another thread may put its own in place at any moment
        if prepared is None or prepared[0] != values:
            with torch.no_grad():
                told = None if values is None else torch.tensor(values, device=self.device)
                prepared = self._prepared = (values, self._signal.at(told))
        return prepared[1]

    def render(self, size: Any = None, **options: Any) -> R:
        """An image, mesh, clip or view of the sample at any size: see the `render` of its domain for the options."""
        sized = () if size is None else (size,)
        return self.domain.render(self, *sized, **options)

    def isolated(self, *scales: int) -> Field[R]:
        """The field with all basis fields zeroed except those of the given scales, 0 the coarsest (Fig. 7)."""
        kept = [
            planes if i in scales else {name: torch.zeros_like(x) for name, x in planes.items()}
            for i, planes in enumerate(self._signal.fields)
        ]
        return Field(replace(self._signal, fields=kept), self.domain)

    def mixed(self, other: Field[R], *scales: int) -> Field[R]:
        """This field with the basis fields of the given scales, 0 the coarsest, from another of its model."""
        pairs = zip(self._signal.fields, other._signal.fields, strict=True)
        return Field(
            replace(self._signal, fields=[b if i in scales else a for i, (a, b) in enumerate(pairs)]), self.domain
        )

    @property
    def scales(self) -> int:
        """Number of basis fields."""
        return len(self._signal.fields)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Field[R]:
        """A copy on another device or in another precision (torch.bfloat16 is faster where the CPU has it)."""
        moved = self._signal.map(lambda t: t.to(device=device or t.device, dtype=dtype or t.dtype))
        readout, head = copy.deepcopy(moved.readout), copy.deepcopy(moved.head)
        device = moved.first.device
        return Field(replace(moved, readout=readout.to(device), head=head.to(device)), self.domain)

    def save(self, path: str | Path) -> None:
        """Write to one safetensors file, which `load` reads without autoencoder or denoiser."""
        signal = self._signal
        tensors = {f"fields.{i}.{n}": x for i, planes in enumerate(signal.fields) for n, x in planes.items()}
        tensors |= {f"readout.{name}": x for name, x in signal.readout.state_dict().items()}
        tensors |= {f"head.{name}": x for name, x in signal.head.state_dict().items()}
        about = {"domain": to_dict(self.domain), "readout": to_dict(signal.readout.config)}
        with aside(Path(path)) as scratch:
            save_tensors(tensors, scratch, {"ddmi.field": json.dumps(about)})

    @staticmethod
    def load(path: str | Path) -> Field[Any]:
        """Read what `save` wrote. Raises UserError naming the file when it is missing, damaged, or no field."""
        path = Path(path)
        about, tensors = load_metadata(path), load_tensors(path)
        if "ddmi.field" not in about:
            raise UserError(f"{path} is not a saved Field")
        try:
            plain = json.loads(about["ddmi.field"])
            domain = from_dict(plain["domain"], Domain, "domain")
            config = from_dict(plain["readout"], ReadoutConfig, "readout")
            parts: dict[str, dict[str, Tensor]] = {"fields": {}, "readout": {}, "head": {}}
            for key, tensor in tensors.items():
                kind, _, name = key.partition(".")
                parts[kind][name] = tensor
            count = 1 + max(int(name.partition(".")[0]) for name in parts["fields"])
            planes = [plane.name for plane in domain.layout]
            fields = [{name: parts["fields"].pop(f"{i}.{name}") for name in planes} for i in range(count)]
            (width,) = {x.shape[1] if x.dim() == 4 and len(x) == 1 else 0 for level in fields for x in level.values()}
        except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
            raise UserError(f"{path} is damaged or no Field of this version: {error}") from error
        readout = build(
            lambda: Readout(config, len(fields), width, len(planes), domain.periods), parts["readout"], path
        )
        head = build(lambda: domain.head(config.width), parts["head"], path)
        return Field(Signal(fields, readout.eval(), head.eval(), domain.layout), domain)

    def __repr__(self) -> str:
        return f"Field({domains.name_of(self.domain)}, {self.scales} scales, {self.dtype}, {self.device})"


def fields_of(signal: Signal, domain: Domain[R, Any]) -> list[Field[R]]:
    """Every signal of a batch as a Field of its own."""
    return [Field(one, domain) for one in signal.each()]


def _tensor(name: str, values: ArrayLike) -> Tensor:
    """Numbers as a tensor in float32."""
    try:
        return (values if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))).to(torch.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be numbers: {error}") from error
