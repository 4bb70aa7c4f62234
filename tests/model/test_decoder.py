"""Basis fields: coarse to fine, a shape for every plane, one set of weights for all of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
import torch.nn.functional as F

from ddmi.base.planes import Plane
from ddmi.model.decoder import Decoder, DecoderConfig, Level

LAYOUT = (
    Plane(name="xy", axes=(0, 1), size=(6, 4)),
    Plane(name="xt", axes=(0, 2), size=(6, 5), grows=(True, False)),  # time is never enlarged
    Plane(name="t", axes=(2,), size=(3,)),
)
CONFIG = DecoderConfig(
    base=6,
    levels=(Level(multiplier=2), Level(multiplier=1, enlarge=2), Level(multiplier=1, enlarge=2)),
    blocks=1,
    field_width=5,
    head_width=6,
)


def latents(layout=LAYOUT, batch=2):
    numbers = torch.Generator().manual_seed(0)
    return {p.name: torch.randn(batch, 3, *p.shape, generator=numbers) for p in layout}


def decoder(config=CONFIG, layout=LAYOUT):
    return tiny.awake(Decoder(config, 3, layout), 0.2).eval()


def test_fields_come_coarse_to_fine_and_grow_where_their_axes_do():
    fields = decoder()(latents())
    assert [{name: tuple(x.shape) for name, x in field.items()} for field in fields] == [
        {"xy": (2, 5, 4, 6), "xt": (2, 5, 5, 6), "t": (2, 5, 1, 3)},
        {"xy": (2, 5, 8, 12), "xt": (2, 5, 5, 12), "t": (2, 5, 1, 6)},
        {"xy": (2, 5, 16, 24), "xt": (2, 5, 5, 24), "t": (2, 5, 1, 12)},
    ]


def test_without_hierarchy_there_is_the_last_field_alone():
    """First row of Table 8."""
    fields = decoder(replace(CONFIG, hierarchical=False))(latents())
    assert [tuple(field["xy"].shape[2:]) for field in fields] == [(16, 24)]


def test_levels_need_not_give_a_field():
    levels = (Level(multiplier=2, field=False), Level(multiplier=1, enlarge=2), Level(multiplier=1, field=False))
    assert [tuple(f["xy"].shape[2:]) for f in decoder(replace(CONFIG, levels=levels))(latents())] == [(8, 12)]
    with pytest.raises(ValueError, match="at least one level"):
        _ = replace(CONFIG, levels=(Level(multiplier=1, field=False),)).fields


def test_planes_share_their_weights():
    layout = (Plane(name="a", axes=(0, 1), size=(4, 4)), Plane(name="b", axes=(1, 2), size=(4, 4)))
    model = decoder(replace(CONFIG, exchange=False), layout)
    x = torch.randn(1, 3, 4, 4)
    for field in model({"a": x, "b": x}):
        torch.testing.assert_close(field["a"], field["b"])  # by its place in a batch a plane may be rounded otherwise


@pytest.mark.parametrize("exchange", [True, False])
def test_planes_exchange_what_they_know_only_when_asked(exchange):
    model, z = decoder(replace(CONFIG, exchange=exchange)), latents()
    changed = {**z, "t": z["t"] + 1}
    before, after = model(z)[0]["xy"], model(changed)[0]["xy"]
    assert torch.allclose(before, after, atol=1e-5) is not exchange


def test_signals_of_a_batch_do_not_mix():
    model, z = decoder(), latents()
    alone = model({name: x[1:] for name, x in z.items()})
    for field, one in zip(model(z), alone, strict=True):
        assert all(torch.allclose(field[name][1:], one[name], atol=1e-5) for name in field)


def test_every_level_depends_on_every_cell_of_its_plane():
    model, z = decoder(), {name: x.requires_grad_() for name, x in latents().items()}
    model(z)[2]["xy"].square().sum().backward()
    assert float(z["xy"].grad.abs().amin(dim=1).min()) > 0


def test_checkpointing_changes_nothing_but_memory():
    plain = decoder().train()
    saving = decoder(replace(CONFIG, checkpointing=True)).train()
    saving.load_state_dict(plain.state_dict())
    for a, b in zip(plain(latents()), saving(latents()), strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_attention_stands_behind_the_first_block_of_the_middle():
    """Between it and the others, which then mix what came from elsewhere."""
    called, model = [], decoder(replace(CONFIG, middle=3))
    for name, module in model.named_modules():
        if name in ("enter", "middle.0", "middle.1", "middle.2", "exchange"):
            module.register_forward_hook(lambda *_, name=name: called.append(name))
    model(latents(LAYOUT[:1]))
    assert called == ["enter", "middle.0", "exchange", "middle.1", "middle.2"]


def test_a_coarse_field_is_a_projection_of_its_cells_and_the_finest_sees_around_them():
    """A matrix times the features of a cell; norm, SiLU and a 3x3 convolution at the end."""
    model, hidden = decoder(), []
    for level in model.levels:
        level.blocks.register_forward_hook(lambda _, given, features: hidden.append(features))
    fields = model(latents(LAYOUT[:1]))
    for i in (0, 1):
        weight, bias = model.projections[str(i)].parameters()
        expected = torch.einsum("oi,bihw->bohw", weight.flatten(1), hidden[i]) + bias[:, None, None]
        torch.testing.assert_close(fields[i]["xy"], expected)
    scale, shift, weight, bias = model.projections["2"].parameters()
    active = F.silu(F.group_norm(hidden[2], model.projections["2"][0].num_groups, scale, shift, 1e-6))
    torch.testing.assert_close(fields[2]["xy"], F.conv2d(active, weight, bias, padding=1))
    assert weight.shape[2:] == (3, 3)
