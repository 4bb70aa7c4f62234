"""A batch of decoded signals: functions of coordinates, made of basis fields and a read-out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddmi.base.planes import Layout
from ddmi.model.decoder import BasisFields
from ddmi.model.readout import Readout, positional_embeddings


@dataclass(frozen=True)
class Signal:
    """omega-hat(c) = pi_theta(gamma(c; D_psi(z))) for every z of a batch (Fig. 2)."""

    fields: BasisFields
    readout: Readout
    head: nn.Module
    layout: Layout

    def __call__(
        self,
        coordinates: Float[Tensor, "#b n d"],
        periods: Float[Tensor, "p"] | None = None,
        extras: Float[Tensor, "#b n e"] | None = None,
    ) -> Float[Tensor, "b n c"]:
        """Signal values at the coordinates.

        Args:
            coordinates: in [-1, 1], x first; one set for the whole batch, or one a signal.
            periods: sampling periods of the query, 1 at the resolution that the encoder sees.
            extras: what the head reads beside the point features (a view direction); usually nothing.
        """
        return self.at(periods)(coordinates, extras)

    def at(self, periods: Float[Tensor, "p"] | None) -> Callable[[Tensor, Tensor | None], Float[Tensor, "b n c"]]:
        """The signals at these sampling periods, a function of (coordinates, extras): for many calls at the same ones.

        It computes in the precision of the surrounding autocast, else in that of the basis fields.
        """
        device, dtype = self.first.device, self.first.dtype
        casts = torch.amp.is_autocast_available(device.type)  # tensors without memory have none
        if casts and torch.is_autocast_enabled(device.type):
            dtype = torch.get_autocast_dtype(device.type)
        with torch.autocast(device.type, enabled=False) if casts else nullcontext():
            readout = self.readout.at(None if periods is None else periods.to(device), dtype)

        def values(coordinates: Float[Tensor, "#b n d"], extras: Float[Tensor, "#b n e"] | None = None) -> Tensor:
            embeddings = positional_embeddings(self.fields, coordinates, self.layout, self.readout.config.planes)
            return self.head(readout(embeddings), extras)

        return values

    @property
    def first(self) -> Tensor:
        """Any of the basis fields, all of which have one batch size, type and device."""
        return next(iter(self.fields[0].values()))

    def map(self, change: Callable[[Tensor], Tensor]) -> Signal:
        """The signals with changed basis fields."""
        fields = [
            {name: change(x).contiguous(memory_format=torch.channels_last) for name, x in planes.items()}
            for planes in self.fields
        ]
        return replace(self, fields=fields)

    def each(self) -> Iterator[Signal]:
        """The signals one by one, each a batch of one, in float32 and without a graph."""
        for k in range(len(self.first)):
            yield self.map(lambda x, k=k: x[k : k + 1].detach().float())  # type: ignore[misc]
