"""Blocks start as the identity where they should, and sizes of every kind survive them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ddmi.model.nn.blocks import Downsample, ResidualBlock, Shuffle, Upsample, norm


@pytest.mark.parametrize("channels", [1, 6, 12, 24, 32, 64, 100, 128])
def test_groups_divide_the_channels(channels):
    layer = norm(channels)
    assert channels % layer.num_groups == 0 and layer.num_groups <= 32
    assert layer.num_groups == 1 or channels // layer.num_groups >= 4  # else it removes what an embedding has added
    assert layer(torch.randn(2, channels, 3, 3)).shape == (2, channels, 3, 3)


def test_a_new_block_is_the_identity():
    x = torch.randn(2, 6, 5, 4)
    assert torch.equal(ResidualBlock(6, 6)(x), x)
    assert torch.equal(ResidualBlock(6, 6, embedding=3)(x, torch.randn(2, 3)), x)


def test_an_embedding_reaches_the_output():
    block = ResidualBlock(6, 12, embedding=3)  # groups of 3: where each channel is a group, its norm removes the shift
    nn.init.normal_(block.second[-1].weight)
    x, embedding = torch.randn(2, 6, 5, 4), torch.randn(2, 3)
    out = block(x, embedding)
    assert out.shape == (2, 12, 5, 4)
    assert not torch.allclose(out, block(x, embedding + 1), atol=1e-2)
    assert torch.equal(block(x, embedding + torch.tensor([[1.0], [0.0]]))[1], out[1])  # rows do not mix


@pytest.mark.parametrize(
    "size, half", [((8, 8), (4, 4)), ((7, 5), (4, 3)), ((1, 9), (1, 5)), ((1, 1), (1, 1)), ((2, 3), (1, 2))]
)
def test_downsampling_halves_and_rounds_up(size, half):
    assert Downsample(3)(torch.randn(1, 3, *size)).shape[2:] == half


def test_upsampling_repeats_cells():
    layer = Upsample(2, 2)
    nn.init.dirac_(layer.convolution.weight)
    nn.init.zeros_(layer.convolution.bias)
    x = torch.randn(1, 2, 3, 4)
    assert torch.allclose(layer(x, (6, 8)), x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert torch.allclose(layer(x, (3, 4)), x)
    assert layer(x, (5, 7)).shape == (1, 2, 5, 7)
    assert torch.allclose(layer(x[:, :, :1], (1, 8)), x[:, :, :1].repeat_interleave(2, 3))


def test_shuffling_starts_as_copies_of_a_convolution():
    torch.manual_seed(0)
    layer = Shuffle(3, 2, 2)
    one = nn.functional.conv2d(x := torch.randn(2, 3, 4, 5), layer.convolution.weight[::4], padding=1)
    copies = one.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(layer(x, (8, 10)), copies)
    torch.testing.assert_close(layer(x, (4, 10)), one.repeat_interleave(2, 3))  # an axis that does not grow


def test_shuffling_lays_out_the_channels_as_torch_does():
    torch.manual_seed(0)
    layer = Shuffle(3, 2, 3)
    nn.init.normal_(layer.convolution.weight)
    x = torch.randn(2, 3, 4, 5)
    whole = nn.functional.pixel_shuffle(layer.convolution(x), 3)
    torch.testing.assert_close(layer(x, (12, 15)), whole)
    torch.testing.assert_close(layer(x, (4, 15)), whole.unflatten(2, (4, 3)).mean(3))
    torch.testing.assert_close(layer(x, (12, 5)), whole.unflatten(3, (5, 3)).mean(4))


def test_an_embedding_can_scale_and_shift_the_normalised_features():
    """Adaptive group normalisation by hand."""
    torch.manual_seed(0)
    block = ResidualBlock(6, 12, embedding=3, film=True, groups=2)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, embedding = torch.randn(2, 6, 4, 4), torch.randn(2, 3)
    scale, shift = block.shift(embedding)[:, :, None, None].chunk(2, dim=1)
    hidden = (1 + scale) * F.group_norm(block.first(x), 2, block.second[0].weight, block.second[0].bias, 1e-6) + shift
    expected = block.shortcut(x) + block.second[3](F.silu(hidden))
    assert torch.allclose(block(x, embedding), expected, atol=1e-5)


def test_normalisation_is_exact_in_half_precision():
    """A mean of 100 with a deviation of 1 would lose all but two digits if the sums were taken in bfloat16."""
    x = (100 + torch.randn(2, 32, 8, 8, generator=torch.Generator().manual_seed(0))).bfloat16()
    layer = norm(32)
    found = layer(x)
    assert found.dtype == torch.bfloat16
    expected = F.group_norm(x.double(), layer.num_groups, eps=1e-6)
    assert (found.double() - expected).abs().max() < 0.02  # a bfloat16 of up to 4 is rounded by 2^-7
    assert norm(128, groups=8).num_groups == 8 and norm(128).num_groups == 32
