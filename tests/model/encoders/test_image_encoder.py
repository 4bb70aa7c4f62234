"""The convolutional encoder: how much smaller its planes are is known before it is built."""

from __future__ import annotations

import pytest
import tiny
import torch

from ddmi.base.errors import UserError
from ddmi.model.encoders.image import ConvEncoder, ConvEncoderConfig


@pytest.mark.parametrize("multipliers", [(1,), (1, 2), (1, 1, 2)])
def test_the_cells_that_are_told_are_those_that_come(multipliers):
    config = ConvEncoderConfig(base=8, multipliers=multipliers, blocks=1, middle=0)
    planes = ConvEncoder(config, 3)(torch.zeros(1, 3, 12, 12))
    assert planes.shape[2:] == (config.cells(12), config.cells(12)) and config.factor * config.cells(12) == 12


@pytest.mark.parametrize("resolution", [0, 2, 6, 13])
def test_what_cannot_be_halved_so_often_is_named(resolution):
    with pytest.raises(UserError, match=f"domain.resolution must be a multiple of 4 and at least 4, not {resolution}"):
        ConvEncoderConfig(multipliers=(1, 2, 4)).cells(resolution)


def test_folded_pixels_are_channels_of_a_coarser_picture():
    folded = ConvEncoder(ConvEncoderConfig(base=4, multipliers=(1, 2), blocks=1, middle=0, patch=2), 3)
    plain = ConvEncoder(ConvEncoderConfig(base=4, multipliers=(1, 2), blocks=1, middle=0), 12)
    plain.load_state_dict(folded.state_dict())
    x = torch.randn(2, 3, 16, 16)
    parts = [x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    channels = torch.stack(parts, dim=2).flatten(1, 2)  # channel, then row and column in its patch
    assert torch.allclose(folded(x), plain(channels), atol=1e-6) and folded(x).shape == (2, 8, 4, 4)
    assert ConvEncoderConfig(multipliers=(1, 2), patch=2).cells(16) == 4


def test_attention_stands_behind_the_first_block_of_the_middle():
    """There every cell reads every other one, however far apart they are."""
    called, model = [], tiny.awake(ConvEncoder(ConvEncoderConfig(base=8, multipliers=(1,), blocks=1, middle=3), 3), 0.2)
    for name, module in model.named_modules():
        if name in ("middle.0", "middle.1", "middle.2", "attention"):
            module.register_forward_hook(lambda *_, name=name: called.append(name))
    x = torch.randn(1, 3, 24, 24, requires_grad=True)
    model(x)[0, :, 0, 0].sum().backward()
    assert called == ["middle.0", "attention", "middle.1", "middle.2"]
    assert float(x.grad[0, :, -1, -1].abs().sum()) > 0
