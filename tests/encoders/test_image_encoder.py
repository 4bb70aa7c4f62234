"""The convolutional encoder: how much smaller its planes are is known before it is built."""

from __future__ import annotations

import pytest
import torch

from ddmi.encoders.image import ConvEncoder, ConvEncoderConfig
from ddmi.errors import UserError


@pytest.mark.parametrize("multipliers", [(1,), (1, 2), (1, 1, 2)])
def test_the_cells_that_are_told_are_those_that_come(multipliers):
    config = ConvEncoderConfig(base=8, multipliers=multipliers, blocks=1, middle=0)
    planes = ConvEncoder(config, 3)(torch.zeros(1, 3, 12, 12))
    assert planes.shape[2:] == (config.cells(12), config.cells(12)) and config.factor * config.cells(12) == 12


@pytest.mark.parametrize("resolution", [0, 2, 6, 13])
def test_what_cannot_be_halved_so_often_is_named(resolution):
    with pytest.raises(UserError, match=f"domain.resolution must be a multiple of 4 and at least 4, not {resolution}"):
        ConvEncoderConfig(multipliers=(1, 2, 4)).cells(resolution)
