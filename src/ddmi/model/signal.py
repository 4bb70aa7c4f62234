"""A batch of decoded signals: functions of coordinates, made of basis fields and a read-out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddmi.base.planes import Layout
from ddmi.model.decoder import BasisFields
from ddmi.model.readout import Readout, positional_embeddings


@dataclass(frozen=True)
class Signal:
    """omega-hat(c) = pi_theta(gamma(c; D_psi(z))) for every z of a batch (Fig. 2).

    The read-out's weights are modulated once for a call, whatever the number of points.
    """

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
        first = next(iter(self.fields[0].values()))
        compute = (
            torch.get_autocast_dtype(first.device.type) if torch.is_autocast_enabled(first.device.type) else first.dtype
        )
        with torch.autocast(first.device.type, enabled=False):
            weights = self.readout.prepare(None if periods is None else periods.to(first.device), compute)
        return self.evaluate(coordinates, weights, extras)

    def evaluate(
        self,
        coordinates: Float[Tensor, "#b n d"],
        weights: list[list[Tensor]],
        extras: Float[Tensor, "#b n e"] | None = None,
    ) -> Float[Tensor, "b n c"]:
        """The same with weights that `readout.prepare` has already modulated: for many calls at one sampling period."""
        embeddings = positional_embeddings(self.fields, coordinates, self.layout, self.readout.config.planes)
        features = self.readout(embeddings, weights)
        return self.head(features, extras)
