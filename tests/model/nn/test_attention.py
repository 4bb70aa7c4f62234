"""Attention reaches every cell of every plane, and nothing that is masked."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ddmi.model.nn.attention import SHORT, PlaneAttention, TextAttention, attend, attention, heads_of


def awake(layer):
    nn.init.normal_(layer.out.weight)
    return layer


@pytest.mark.parametrize("width, head_width", [(64, 32), (24, 32), (36, 10), (7, 2), (1, 64)])
def test_heads_divide_the_width(width, head_width):
    assert width % heads_of(width, head_width) == 0
    assert heads_of(width, head_width) <= max(1, width // head_width)


def test_attention_by_hand():
    q, k, v = (torch.randn(2, n, 6) for n in (3, 5, 5))
    expected = torch.zeros(2, 3, 6)
    for b in range(2):
        for head in range(2):
            part = slice(3 * head, 3 * head + 3)
            weights = (q[b, :, part] @ k[b, :, part].T / math.sqrt(3)).softmax(dim=1)
            expected[b, :, part] = weights @ v[b, :, part]
    assert torch.allclose(attend(q, k, v, heads=2), expected, atol=1e-6)


def test_masked_keys_are_not_read():
    q, k, v = (torch.randn(1, n, 4) for n in (3, 5, 5))
    mask = torch.tensor([[True, True, False, True, False]])
    kept = mask[0]
    expected = attend(q, k[:, kept], v[:, kept], 1)
    assert torch.allclose(attend(q, k, v, 1, mask), expected, atol=1e-6)


def planes():
    return {"a": torch.randn(1, 6, 2, 3), "b": torch.randn(1, 6, 1, 5)}


def test_new_layers_are_the_identity():
    before = planes()
    after = PlaneAttention(6, 3)(before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    x = before["a"]
    assert torch.equal(TextAttention(6, 4, 3)(x, torch.randn(1, 2, 4), torch.ones(1, 2, dtype=torch.bool)), x)


def test_every_cell_reads_every_plane():
    layer, before = awake(PlaneAttention(6, 3)), planes()
    before["b"].requires_grad_()
    layer(before)["a"][0, :, 1, 2].square().sum().backward()
    assert float(before["b"].grad.abs().amin(dim=1).min()) > 0


def test_the_order_of_planes_and_cells_does_not_matter():
    layer, before = awake(PlaneAttention(6, 3)), planes()
    after, turned = layer(before), layer(dict(reversed(before.items())))
    assert all(torch.allclose(after[name], turned[name], atol=1e-5) for name in before)
    flipped = layer({"a": before["a"].flip(3), "b": before["b"]})
    assert torch.allclose(flipped["a"].flip(3), after["a"], atol=1e-5)


def test_text_is_read_but_its_padding_is_not():
    layer, x = awake(TextAttention(6, 4, 3)), torch.randn(2, 6, 2, 3)
    tokens, mask = torch.randn(2, 5, 4), torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]).bool()
    out = layer(x, tokens, mask)
    noisy = torch.where(mask[:, :, None], tokens, torch.full_like(tokens, 50.0))
    assert torch.allclose(layer(x, noisy, mask), out, atol=1e-6)
    assert torch.allclose(layer(x[:1], tokens[:1, :2], mask[:1, :2]), out[:1], atol=1e-6)
    assert not torch.allclose(layer(x, tokens + torch.randn(1, 1, 4), mask), out, atol=1e-3)


@pytest.mark.parametrize("masked", [False, True])
def test_half_precision_attention_is_the_same_by_plain_products(masked):
    """On a CPU short rows are multiplied out; more keys than SHORT take torch's kernel: both near the fp32 answer."""
    numbers = torch.Generator().manual_seed(0)
    for keys in (7, SHORT + 1):
        q, k, v = (torch.randn(2, 3, n, 8, generator=numbers) for n in (5, keys, keys))
        mask = torch.rand(2, 1, 1, keys, generator=numbers) < 0.6 if masked else None
        expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        found = attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask)
        assert found.dtype == torch.bfloat16
        assert (found.float() - expected).abs().max() < 0.06  # bfloat16 keeps 8 bits of scores of up to about 4
