"""The read-out: Eq. 13 by hand, coarse to fine, no matter the order, and every switch of Table 8 does what it says."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import tiny
import torch

import ddmi.model.readout
from ddmi.base.coordinates import grid, lookup, project
from ddmi.base.planes import Plane
from ddmi.model.readout import GAIN, ModulatedLinear, Readout, ReadoutBlock, ReadoutConfig, positional_embeddings
from ddmi.model.signal import Signal

LAYOUT = (Plane(name="xy", axes=(0, 1), size=(4, 4)), Plane(name="yt", axes=(1, 2), size=(4, 4)))
CONFIG = ReadoutConfig(width=8, blocks=4, scale_width=6)


def fields(scales=3, batch=2, channels=5):
    numbers = torch.Generator().manual_seed(0)
    return [
        {p.name: torch.randn(batch, channels, 4 * 2**i, 4 * 2**i, generator=numbers) for p in LAYOUT}
        for i in range(scales)
    ]


def points(count=30, axes=3, batch=1):
    return 2 * torch.rand(batch, count, axes, generator=torch.Generator().manual_seed(1)) - 1


def readout(config=CONFIG, scales=3, periods=1):
    return tiny.awake(Readout(config, scales, 5, len(LAYOUT), periods), 0.3).eval()


class Through(torch.nn.Module):
    def forward(self, features, extras=None):
        return features


def signal(config=CONFIG, scales=3, periods=1):
    return Signal(fields(scales), readout(config, scales, periods), Through(), LAYOUT)


def test_equation_13_by_hand():
    layer = ModulatedLinear(2, 2, embedding=3, gain=1.0)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        layer.scale.weight.zero_()
        layer.scale.bias.copy_(torch.tensor([0.5, 2.0]))
    numerator = [[1 * 0.5, 2 * 2.0], [3 * 0.5, 4 * 2.0]]  # every input by its factor of A
    expected = [[v / math.sqrt(sum(x * x for x in row)) for v in row] for row in numerator]
    assert torch.allclose(layer.modulated(torch.zeros(3)), torch.tensor(expected))


def test_the_factor_is_an_affine_map_of_the_embedding():
    layer = ModulatedLinear(2, 1, embedding=1, gain=1.0)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 1.0]]))
        layer.scale.weight.copy_(torch.tensor([[1.0], [0.0]]))
        layer.scale.bias.copy_(torch.tensor([1.0, 1.0]))
    assert torch.allclose(layer.modulated(torch.tensor([2.0])), torch.tensor([[3.0, 1.0]]) / math.sqrt(10))


@pytest.mark.parametrize("embedding", [0, 6])
def test_rows_have_the_norm_of_the_gain(embedding):
    layer = tiny.awake(ModulatedLinear(5, 7, embedding), 0.5)
    weight = layer.modulated(torch.randn(embedding) if embedding else None)
    assert torch.allclose(weight.norm(dim=1), torch.full((7,), GAIN), atol=1e-5)


def test_a_block_keeps_the_variance():
    torch.manual_seed(0)
    x = torch.randn(4000, 64)
    for _ in range(6):
        block = ReadoutBlock(x.shape[1], 64, 0)
        x = block.at(None, torch.float32)(x)
    assert 0.5 < x.square().mean().item() < 2.0


def test_a_block_by_hand():
    block = tiny.awake(ReadoutBlock(3, 5, 0), 0.5)
    x = torch.randn(7, 3)
    leaky = torch.nn.functional.leaky_relu
    hidden = leaky(x @ block.first.modulated(None).T + block.first.bias, 0.2)
    # the factor 1 / sqrt(2) of the sum sits in the gains of the second layer and of the shortcut
    branch = leaky(hidden @ block.second.modulated(None).T + block.second.bias, 0.2)
    expected = branch + x @ block.shortcut.modulated(None).T
    modulated = block.at(None, torch.float32)
    assert torch.allclose(modulated(x), expected, atol=1e-5)
    with torch.no_grad():  # in place
        assert torch.allclose(modulated(x), expected, atol=1e-5)
    assert torch.allclose(block.shortcut.modulated(None).norm(dim=1), torch.tensor(math.sqrt(0.5)))


def test_there_is_a_non_linearity():
    """The trap of a rectifier of slope 1."""
    model = signal()
    a, b = points(5), points(5).flip(1)
    embeddings = [positional_embeddings(fields(), at, LAYOUT) for at in (a, b)]
    readout = model.readout.at(torch.ones(1))
    middle = [0.5 * (p + q) for p, q in zip(*embeddings, strict=True)]
    ends = [readout(e) for e in embeddings]
    assert not torch.allclose(readout(middle), 0.5 * (ends[0] + ends[1]), atol=1e-2)


def test_embeddings_of_planes_are_summed_or_concatenated():
    at, given = points(), fields()
    parts = [lookup(given[1][p.name], project(at, p)) for p in LAYOUT]
    assert torch.equal(positional_embeddings(given, at, LAYOUT, "sum")[1], parts[0] + parts[1])
    assert torch.equal(positional_embeddings(given, at, LAYOUT, "concatenate")[1], torch.cat(parts, dim=2))


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, coarse_to_fine=False), replace(CONFIG, conditioning="sum")])
def test_recomputed_activations_change_no_value_and_no_gradient(config, monkeypatch):
    monkeypatch.setattr(ddmi.model.readout, "ROWS", 7)
    at, found, network = points(20), [], readout(config).train()
    for checkpointing in (False, True):
        network.config = replace(config, checkpointing=checkpointing)
        given = [{name: x.requires_grad_() for name, x in scale.items()} for scale in fields()]
        out = Signal(given, network, Through(), LAYOUT)(at, torch.ones(1))
        inputs = [*network.parameters(), *(x for scale in given for x in scale.values())]
        found.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    for whole, parts in zip(*found, strict=True):
        assert torch.allclose(whole, parts, atol=1e-4, rtol=1e-4)


def test_recomputed_activations_are_not_kept(monkeypatch):
    monkeypatch.setattr(ddmi.model.readout, "ROWS", 64)
    kept = {}
    for checkpointing in (False, True):
        network = readout(replace(CONFIG, checkpointing=checkpointing)).train()
        embeddings = [torch.randn(1, 640, 5) for _ in range(3)]
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            network.at(torch.ones(1))(embeddings)
        kept[checkpointing] = sum(size for size in sizes if size >= 64)
    assert kept[True] <= 640 * 3 * 5 < 640 * (4 * 2 * 8) < kept[False]  # the inputs; two results of width 8 a block


SWITCHES = [
    replace(CONFIG, conditioning=conditioning, coarse_to_fine=fine, planes=planes, scale_injection=injection)
    for conditioning, fine, planes, injection in itertools.product(
        ("concatenate", "sum"), (True, False), ("sum", "concatenate"), (True, False)
    )
]


@pytest.mark.parametrize(
    "config", SWITCHES, ids=lambda c: f"{c.conditioning}-{c.coarse_to_fine}-{c.planes}-{c.scale_injection}"
)
@pytest.mark.parametrize("scales", [1, 3])
def test_every_combination_is_a_function_of_every_scale(config, scales):
    model, at = signal(config, scales), points()
    out = model(at, torch.ones(1))
    assert out.shape == (2, 30, 8)
    assert torch.equal(out, model(at, torch.ones(1)))
    for i in range(scales):
        given = [{name: x + (k == i) for name, x in f.items()} for k, f in enumerate(fields(scales))]
        changed = replace(model, fields=given)(at, torch.ones(1))
        assert not torch.allclose(out, changed, atol=1e-3), f"scale {i} does not matter"


@pytest.mark.parametrize("config", SWITCHES[::3])
def test_the_order_of_the_points_does_not_matter(config):
    model, at = signal(config), points(50)
    order = torch.randperm(50)
    assert torch.allclose(model(at[:, order], torch.ones(1)), model(at, torch.ones(1))[:, order], atol=1e-5)


def test_chunks_are_the_whole():
    model, at = signal(), points(50)
    parts = torch.cat([model(part, torch.ones(1)) for part in at.split(7, dim=1)], dim=1)
    assert torch.allclose(parts, model(at, torch.ones(1)), atol=1e-5)


def test_block_inputs_are_what_the_switches_say():
    """What each block receives: PE_1, then (h, PE_2), (h, PE_3), then h (section A)."""

    def widths(**settings):
        return [block.first.weight.shape[1] for block in Readout(replace(CONFIG, **settings), 3, 5, 2, 1).blocks]

    assert widths() == [5, 8 + 5, 8 + 5, 8]
    assert widths(planes="concatenate") == [10, 8 + 10, 8 + 10, 8]
    assert widths(coarse_to_fine=False) == [15, 8, 8, 8]  # second row of Table 8
    assert widths(conditioning="sum") == [8, 8, 8, 8]
    assert widths(blocks=3) == [5, 13, 13]


def test_the_coarse_scale_enters_first():
    """Finer scales are added to what the coarse ones gave: with one block a scale, the last enters last."""
    model = readout(replace(CONFIG, blocks=3))
    given = positional_embeddings(fields(), points(), LAYOUT)
    first, *others = (block.at(model.embed(torch.ones(1)), torch.float32) for block in model.blocks)
    hidden = first(given[0].flatten(0, 1))
    for p, block in zip(given[1:], others, strict=True):
        hidden = block(torch.cat([hidden, p.flatten(0, 1)], dim=1))
    assert torch.allclose(model.at(torch.ones(1))(given).flatten(0, 1), hidden, atol=1e-6)


@pytest.mark.parametrize("blocks, fine, fits", [(2, True, False), (3, True, True), (1, False, True), (0, False, False)])
def test_there_are_as_many_blocks_as_scales(blocks, fine, fits):
    config = replace(CONFIG, blocks=blocks, coarse_to_fine=fine)
    if fits:
        Readout(config, 3, 5, 2, 1)
    else:
        with pytest.raises(ValueError, match="3 basis fields need at least as many read-out blocks"):
            Readout(config, 3, 5, 2, 1)


def test_the_sampling_period_modulates_only_when_it_is_injected():
    at = points()
    on, off = signal(), signal(replace(CONFIG, scale_injection=False))
    half, one = torch.tensor([0.5]), torch.tensor([1.0])
    assert not torch.allclose(on(at, one), on(at, half), atol=1e-4)
    assert torch.equal(off(at, one), off(at, half)) and torch.equal(off(at), off(at, one))
    with pytest.raises(ValueError, match="needs the sampling period"):
        on(at)
    assert torch.isfinite(signal(periods=0)(at)).all()  # a domain that has none


def test_weights_that_were_prepared_before_give_the_same():
    model, at = signal(), points()
    half = model.at(torch.tensor([0.5]))
    assert torch.equal(half(at), model(at, torch.tensor([0.5]))) and torch.equal(half(at), half(at))


def test_gradients_reach_coordinates_and_every_weight():
    model, at = signal(), points().requires_grad_()
    model(at, torch.ones(1)).square().sum().backward()
    assert float(at.grad.abs().mean()) > 0
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in model.readout.parameters())


def test_one_set_of_coordinates_serves_a_batch():
    model, at = signal(), grid((2, 3, 4))[None]
    assert torch.allclose(model(at, torch.ones(1)), model(at.expand(2, 24, 3), torch.ones(1)), atol=1e-6)


def test_modules_keep_what_modules_can_do():
    """`nn.Module.apply` walks through all of them."""
    seen = []
    signal().readout.apply(lambda module: seen.append(type(module).__name__))
    assert seen.count("ReadoutBlock") == 4
