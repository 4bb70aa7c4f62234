"""The video encoder: patches, rotary attention, and which axis each plane loses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ddmi.base.errors import UserError
from ddmi.base.planes import Layout, Plane
from ddmi.model.encoders.video import AxisCollapse, VideoEncoder, VideoEncoderConfig, patches
from ddmi.model.nn.transformer import TokenAttention, TransformerBlock, angles, attention, rotate

SMALL = VideoEncoderConfig(
    patch=2, width=16, blocks=2, head_width=8, plane_width=12, plane_blocks=2, plane_head_width=6
)
FRAMES, HEIGHT, WIDTH = 5, 6, 8


def layout() -> Layout:
    sides = (WIDTH // 2, HEIGHT // 2, FRAMES)
    pairs = {"xy": (0, 1), "yt": (1, 2), "xt": (0, 2)}
    return tuple(Plane(name=n, axes=(a, b), size=(sides[a], sides[b])) for n, (a, b) in pairs.items())


def encoder(config: VideoEncoderConfig = SMALL) -> VideoEncoder:
    torch.manual_seed(0)
    model = VideoEncoder(config, layout(), (FRAMES, HEIGHT, WIDTH)).eval()
    for p in model.parameters():  # also those that start at zero
        nn.init.normal_(p, std=0.2)
    return model


def test_a_patch_holds_the_pixels_of_one_square_of_one_frame() -> None:
    x = torch.arange(2 * 3 * 2 * 4 * 6).reshape(2, 3, 2, 4, 6).float()
    found = patches(x, 1, 2)
    assert found.shape == (2, 2, 2, 3, 12)
    for b, t, row, column in ((0, 0, 0, 0), (1, 1, 1, 2), (0, 1, 0, 1)):
        square = x[b, :, t, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert torch.equal(found[b, t, row, column], square.flatten())
    joined = patches(x, 2, 2)
    assert joined.shape == (2, 1, 2, 3, 24)
    assert torch.equal(joined[1, 0, 1, 2], x[1, :, :, 2:4, 4:6].flatten())


def test_a_product_of_rotated_vectors_depends_on_their_distance_alone() -> None:
    q, k = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)

    def product(a: list[float], b: list[float]) -> float:
        by = angles(torch.tensor([a, b]), 4).double()
        turned = rotate(torch.stack([q, k])[None, None], by)[0, 0]
        return float(turned[0] @ turned[1])

    assert product([3.0, 1.0], [5.0, 7.0]) == pytest.approx(product([0.0, 0.0], [2.0, 6.0]), abs=1e-5)
    assert product([0.0, 0.0], [0.0, 0.0]) == pytest.approx(float(q @ k))
    assert product([0.0, 0.0], [1.0, 0.0]) != pytest.approx(product([0.0, 0.0], [0.0, 1.0]), abs=1e-3)


def test_the_first_pair_of_an_axis_turns_by_one_a_position_and_the_last_a_hundredth() -> None:
    by = angles(torch.tensor([[2.0, 3.0]]), 7)
    assert by[0] == pytest.approx([2.0, 0.2, 0.02, 3.0, 0.3, 0.03, 0.0])


@pytest.mark.parametrize("tokens", [7, 100])
def test_attention_is_the_softmax_of_scaled_products(tokens: int) -> None:
    q, k, v = (torch.randn(2, 3, n, 8, dtype=torch.float64) for n in (4, tokens, tokens))
    expected = torch.empty(2, 3, 4, 8, dtype=torch.float64)
    for b in range(2):
        for h in range(3):
            weights = torch.exp(q[b, h] @ k[b, h].T / 8**0.5)
            expected[b, h] = weights / weights.sum(dim=1, keepdim=True) @ v[b, h]
    torch.testing.assert_close(attention(q, k, v), expected)


def test_asking_for_the_last_tokens_alone_gives_what_all_have_there() -> None:
    torch.manual_seed(1)
    block = TransformerBlock(16, 8)
    for p in block.parameters():
        nn.init.normal_(p, std=0.3)
    x, at = torch.randn(3, 6, 16), torch.arange(6.0)[:, None]
    torch.testing.assert_close(block(x, at, last=2), block(x, at)[:, -2:])


def test_rows_do_not_see_one_another() -> None:
    torch.manual_seed(2)
    layer = TokenAttention(16, 8)
    nn.init.normal_(layer.out.weight)
    x, at = torch.randn(3, 6, 16), torch.arange(6.0)[:, None]
    changed = x.clone()
    changed[1] = torch.randn(6, 16)
    torch.testing.assert_close(layer(changed, at)[[0, 2]], layer(x, at)[[0, 2]])


def test_time_and_space_are_attended_to_apart() -> None:
    """After one block a pixel has been seen by its place at all times, and by all places of its own frame's times."""
    model = encoder(VideoEncoderConfig(**{**vars(SMALL), "blocks": 1}))
    block = model.blocks[0]
    x = torch.randn(1, FRAMES, 12, 16)
    changed = x.clone()
    changed[0, 1, 4] = torch.randn(16)
    times, places = torch.arange(float(FRAMES))[:, None], torch.cartesian_prod(torch.arange(3.0), torch.arange(4.0))
    moved = block.time(changed[0].transpose(0, 1), times) - block.time(x[0].transpose(0, 1), times)
    assert set(moved.abs().sum(2).nonzero()[:, 0].tolist()) == {4}  # the other places do not know yet
    assert bool(((block(changed, times, places) - block(x, times, places)).abs().sum(3) > 0).all())


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=1)


def test_every_plane_loses_the_axis_that_it_does_not_span() -> None:
    model = encoder()
    features = torch.randn(2, FRAMES, HEIGHT // 2, WIDTH // 2, 16)  # (b, t, y, x, c)
    model.collapse = nn.ModuleDict({name: Mean() for name in ("xy", "yt", "xt")})
    found = {plane.name: model._project(features, plane) for plane in model.layout}
    channels_first = features.permute(0, 4, 1, 2, 3)
    torch.testing.assert_close(found["xy"], channels_first.mean(2))  # rows y, columns x
    torch.testing.assert_close(found["yt"], channels_first.mean(4))  # rows t, columns y
    torch.testing.assert_close(found["xt"], channels_first.mean(3))  # rows t, columns x
    assert {name: tuple(x.shape[2:]) for name, x in found.items()} == {p.name: p.shape for p in model.layout}


def test_the_learned_token_is_read_and_not_the_first_element() -> None:
    torch.manual_seed(3)
    collapse = AxisCollapse(8, 8, 1, 8)
    for p in collapse.parameters():
        nn.init.normal_(p, std=0.5)
    x = torch.randn(4, 6, 8)
    y = collapse.enter(x)
    row = torch.cat([y, collapse.token.expand(4, 1, -1)], dim=1)
    whole = collapse.norm(collapse.blocks[0](row, torch.arange(7.0)[:, None]))
    torch.testing.assert_close(collapse(x), whole[:, -1])
    assert not torch.allclose(collapse(x), whole[:, 0])


def test_checkpointing_changes_no_gradient() -> None:
    x = torch.rand(1, 3, FRAMES, HEIGHT, WIDTH)
    grads = []
    for kept in (False, True):
        model = encoder(VideoEncoderConfig(**{**vars(SMALL), "checkpointing": kept})).train()
        sum(plane.square().sum() for plane in model(x).values()).backward()
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("shape", [(3, FRAMES, HEIGHT, WIDTH + 2), (3, FRAMES + 1, HEIGHT, WIDTH)])
def test_a_clip_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"clips of shape \(3, 5, 6, 8\)"):
        encoder()(torch.rand(1, *shape))
