"""The denoiser: planes of any size, that matter to one another; a condition that matters, and padding that does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch

from ddmi.base.planes import Plane
from ddmi.model.nn.attention import TextAttention
from ddmi.model.unet import Condition, UNet, UNetConfig, fold, unfold

CONFIG = UNetConfig(base=12, multipliers=(1, 2, 2), blocks=1, attention=(2, 4), head_width=6)
ONE = (Plane(name="xy", axes=(0, 1), size=(8, 8)),)
THREE = (
    Plane(name="xy", axes=(0, 1), size=(7, 5)),
    Plane(name="xt", axes=(0, 2), size=(7, 3)),
    Plane(name="t", axes=(2,), size=(9,)),
)


def network(layout=ONE, config=CONFIG, **condition):
    return tiny.awake(UNet(config, layout, 3, **condition), 0.1).eval()


def latents(layout=ONE, batch=2):
    numbers = torch.Generator().manual_seed(0)
    return {p.name: torch.randn(batch, 3, *p.shape, generator=numbers) for p in layout}


TIMES = torch.tensor([3.0, 40.5])


def changed(a, b):
    return {name: not torch.allclose(a[name], b[name], atol=1e-5) for name in a}


@pytest.mark.parametrize("layout", [ONE, THREE, THREE[2:], (Plane(name="p", axes=(0,), size=(1,)),)])
def test_every_plane_keeps_its_shape(layout):
    z = latents(layout)
    out = network(layout)(z, TIMES)
    assert {name: x.shape for name, x in out.items()} == {name: x.shape for name, x in z.items()}


@pytest.mark.parametrize(("shape", "by"), [((4, 6), (2, 2)), ((1, 6), (1, 2)), ((5, 6), (1, 2)), ((3, 5), (1, 1))])
def test_folding_is_undone_by_unfolding(shape, by):
    x = torch.randn(2, 3, *shape)
    folded = fold(x, by, 12)
    assert folded.shape == (2, 12, shape[0] // by[0], shape[1] // by[1])
    assert torch.equal(unfold(folded, by, 3), x)


def test_folding_by_two_is_the_pixel_unshuffle_of_torch():
    x = torch.randn(2, 3, 4, 6)
    assert torch.equal(fold(x, (2, 2), 12), torch.nn.functional.pixel_unshuffle(x, 2))


@pytest.mark.parametrize("layout", [ONE, THREE])
def test_a_folded_network_keeps_shapes_and_reads_every_cell(layout):
    z = {name: x.requires_grad_() for name, x in latents(layout).items()}
    out = network(layout, replace(CONFIG, patch=2))(z, TIMES)
    assert {name: x.shape for name, x in out.items()} == {name: x.shape for name, x in z.items()}
    sum(x.square().sum() for x in out.values()).backward()
    assert all((x.grad != 0).all() for x in z.values())


def test_a_new_network_predicts_zero():
    out = UNet(CONFIG, ONE, 3)(latents(), TIMES)
    assert torch.equal(out["xy"], torch.zeros(2, 3, 8, 8))


def test_planes_matter_to_one_another():
    model, z = network(THREE), latents(THREE)
    before = model(z, TIMES)
    for name in z:
        after = model({**z, name: z[name] + 1.0}, TIMES)
        assert changed(before, after) == dict.fromkeys(z, True), name


def test_planes_are_told_apart_by_name():
    layout = (Plane(name="a", axes=(0, 1), size=(4, 4)), Plane(name="b", axes=(1, 2), size=(4, 4)))
    x = torch.randn(2, 3, 4, 4)
    out = network(layout)({"a": x, "b": x}, TIMES)
    assert not torch.allclose(out["a"], out["b"], atol=1e-4)
    model, z = network(THREE), latents(THREE)
    turned = model(dict(reversed(z.items())), TIMES)
    assert not any(changed(model(z, TIMES), turned).values())  # positions say nothing


def test_time_matters_and_rows_do_not_mix():
    model, z = network(), latents()
    before = model(z, TIMES)["xy"]
    assert not torch.allclose(model(z, TIMES + 5)["xy"], before, atol=1e-4)
    alone = model({"xy": z["xy"][1:]}, TIMES[1:])["xy"]
    assert torch.allclose(alone, before[1:], atol=1e-5)


def words(length=3, batch=2, seed=0):
    numbers = torch.Generator().manual_seed(seed)
    return Condition(torch.randn(batch, length, 6, generator=numbers), torch.ones(batch, length, dtype=torch.bool))


def test_text_matters_and_its_padding_does_not():
    model, z = network(text=6), latents()
    before = model(z, TIMES, words())["xy"]
    assert not torch.allclose(model(z, TIMES, words(seed=1))["xy"], before, atol=1e-4)
    for filling in (0.0, 70.0):
        tokens = torch.cat([words().tokens, torch.full((2, 4, 6), filling)], dim=1)
        padded = Condition(tokens, torch.tensor([True] * 3 + [False] * 4).expand(2, 7))
        assert torch.allclose(model(z, TIMES, padded)["xy"], before, atol=1e-5)


def test_a_class_matters_and_the_null_class_is_one_more():
    model, z = network(classes=4), latents()
    outputs = [model(z, TIMES, Condition(labels=torch.full((2,), k)))["xy"] for k in range(5)]
    for i, a in enumerate(outputs):
        assert not any(torch.allclose(a, b, atol=1e-4) for b in outputs[i + 1 :])


def test_a_condition_must_be_given_where_one_was_built_in():
    with pytest.raises(ValueError, match="was given none"):
        network(text=6)(latents(), TIMES)


def test_gradients_reach_every_parameter():
    """A parameter without one would stop training on several processes."""
    for model, condition in (
        (network(THREE, text=6), words()),
        (network(THREE, classes=4), Condition(labels=torch.tensor([1, 4]))),
    ):
        out = model(latents(THREE), TIMES, condition)
        sum(x.square().sum() for x in out.values()).backward()
        missing = [name for name, p in model.named_parameters() if p.grad is None]
        assert not missing


def test_conditions_are_joined_and_taken_apart():
    short, long = words(2), words(5, seed=1)
    both = short.join(long)
    assert both.tokens.shape == (4, 5, 6) and both.mask.sum(1).tolist() == [2, 2, 5, 5]
    model, z = network(text=6), latents()
    again = both.take(torch.tensor([0, 1]))
    assert torch.allclose(model(z, TIMES, again)["xy"], model(z, TIMES, short)["xy"], atol=1e-5)
    labels = Condition(labels=torch.tensor([1])).join(Condition(labels=torch.tensor([3, 2])))
    assert labels.labels.tolist() == [1, 3, 2] and labels.take(torch.tensor([2, 0])).labels.tolist() == [2, 1]


def test_the_mean_of_the_words_is_added_to_the_time():
    """Beside attention to single words, which is put to sleep here: what is left knows no order of them."""
    model, z = network(text=6), latents()
    for module in model.modules():
        if isinstance(module, TextAttention):
            torch.nn.init.zeros_(module.out.weight)
            torch.nn.init.zeros_(module.out.bias)
    given = words()
    before = model(z, TIMES, given)["xy"]
    assert not torch.allclose(model(z, TIMES, words(seed=1))["xy"], before, atol=1e-4)
    turned = Condition(given.tokens.flip(1), given.mask)
    assert torch.allclose(model(z, TIMES, turned)["xy"], before, atol=1e-5)
    mean = Condition(given.tokens.mean(1, keepdim=True), given.mask[:, :1])
    assert torch.allclose(model(z, TIMES, mean)["xy"], before, atol=1e-5)


def test_the_pooled_condition_matters_without_attention_to_its_tokens():
    """The mean over the tokens that the mask keeps goes the way of time, into every block."""
    model, z = network(text=6), latents()
    for module in model.modules():
        if isinstance(getattr(module, "text", None), TextAttention):
            module.text = None
    tokens, mask = torch.randn(2, 4, 6), torch.tensor([[True] * 4, [True, True, False, False]])

    def out(tokens):
        return model(z, TIMES, Condition(tokens, mask))["xy"]

    plain = out(tokens)
    assert ((out(tokens.flip(2)) - plain).abs().amax(dim=(1, 2, 3)) > 1e-3).all()
    assert torch.allclose(out(tokens[:, [1, 0, 2, 3]]), plain, atol=1e-5)  # a mean knows no order
    padding = (~mask)[:, :, None].float()
    assert torch.allclose(out(tokens + 5 * padding), plain, atol=1e-5)
