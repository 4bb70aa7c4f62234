"""What every encoder says of itself."""

from __future__ import annotations

import math

from torch import nn


class Encoder(nn.Module):
    """x -> {plane: features (b, width, h, w)}."""

    width: int
    """Feature channels."""
    shape: tuple[int, ...]
    """Of one x, without the batch."""
    reach: float = math.inf
    """The largest absolute value of x."""
