"""Presets: every one can be built, and the paper's have the shapes and sizes of Table 9."""

from __future__ import annotations

import pytest
import torch

from ddmi import presets
from ddmi.config import from_dict, to_dict
from ddmi.model.autoencoder import D2CVAE
from ddmi.model.diffusion import Diffusion
from ddmi.model.nn.attention import PlaneAttention, TextAttention
from ddmi.model.sampling import SamplingConfig

# Number of parameters of the parts, written down from their definitions.


def conv(i: int, o: int, k: int = 3) -> int:
    return i * o * k * k + o


def linear(i: int, o: int) -> int:
    return i * o + o


def norm(c: int) -> int:
    return 2 * c


def res(i: int, o: int, e: int = 0) -> int:
    shortcut = conv(i, o, 1) if i != o else 0
    return norm(i) + conv(i, o) + norm(o) + conv(o, o) + shortcut + (linear(e, o) if e else 0)


def attention(c: int) -> int:
    return norm(c) + linear(c, 3 * c) + linear(c, c)


def modulated(i: int, o: int, e: int) -> int:
    return i * o + o + linear(e, i)


def readout(fields: int, c: int, w: int, blocks: int, periods: int = 1) -> int:
    total = linear(64 * periods, w) + linear(w, w)  # the embedding of s, of 64 frequencies each
    for k in range(blocks):
        i = (c if k < fields else 0) + (w if k else 0)
        total += modulated(i, w, w) + modulated(w, w, w) + (modulated(i, w, w) - w if i != w else 0)  # without bias
    return total


def unet(channels: int, base: int, multipliers: tuple[int, ...], attends: tuple[bool, ...], blocks: int) -> int:
    e = 4 * base
    total = linear(base, e) + linear(e, e) + conv(channels, base)
    width, skips = base, [base]
    for k, m in enumerate(multipliers):
        for _ in range(blocks):
            total += res(width, m * base, e) + (attention(m * base) if attends[k] else 0)
            width = m * base
            skips.append(width)
        if k < len(multipliers) - 1:
            total += conv(width, width)
            skips.append(width)
    total += 2 * res(width, width, e) + attention(width)
    for k in reversed(range(len(multipliers))):
        for _ in range(blocks + 1):
            o = multipliers[k] * base
            total += res(width + skips.pop(), o, e) + (attention(o) if attends[k] else 0)
            width = o
        if k:
            total += conv(width, multipliers[k - 1] * base)
            width = multipliers[k - 1] * base
    return total + norm(width) + conv(width, channels)


def encoder(blocks: int, widths: tuple[int, ...], latent: int, inputs: int = 3) -> int:
    total = conv(inputs, widths[0])
    for k, w in enumerate(widths):
        total += res(widths[max(k - 1, 0)], w) + (blocks - 1) * res(w, w)
        total += conv(w, w) if k < len(widths) - 1 else 0
    last = widths[-1]
    return total + 2 * res(last, last) + attention(last) + norm(last) + conv(last, 2 * latent)


def decoder(blocks: int, widths: tuple[int, ...], latent: int, fields: tuple[bool, ...], c: int) -> int:
    total = conv(latent, widths[0]) + 2 * res(widths[0], widths[0]) + attention(widths[0])
    for k, w in enumerate(widths):
        total += (conv(widths[k - 1], w) if k else 0) + blocks * res(w, w)
        if fields[k]:
            total += norm(w) + conv(w, c) if k == len(widths) - 1 else conv(w, c, 1)
    return total


ALL = (True, True, True)
FROM_2 = (False, True, True, True)  # attention at the factors 2, 4, 8
PAPER = {
    # latent side, field sides, encoder blocks and widths, decoder blocks, levels with a field, U-Net base, attention
    "afhq-cat-256": (64, (64, 128, 256), 2, (128, 256, 512), 3, ALL, 256, FROM_2),
    "afhq-dog-256": (64, (64, 128, 256), 2, (128, 256, 512), 3, ALL, 256, FROM_2),
    "celebahq-256": (64, (64, 128, 256), 3, (128, 256, 512), 4, ALL, 256, FROM_2),
    "cifar10-32": (16, (16,), 2, (128, 256), 3, (False, False, True), 128, (False, True, True, False)),
    "lsun-church-128": (32, (32, 64, 128), 2, (128, 256, 512), 3, ALL, 256, FROM_2),
}
SHAPES = ("shapenet-chair", "shapenet-13", "text2shape")
VIDEOS = ("skytimelapse-256",)
VIEWS = ("srn-cars",)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_presets_have_its_shapes_and_sizes(name: str) -> None:
    cells, sides, encoder_blocks, widths, decoder_blocks, given, base, attends = PAPER[name]
    config = presets.find(name)
    with torch.device("meta"):
        model = D2CVAE(config.autoencoder, config.domain)
        denoiser = Diffusion(config.diffusion, config.domain.layout, 64)
        fields = model.decoder({"xy": torch.empty(1, 64, cells, cells)})
    assert model.latent_shape == (64, cells * cells)
    assert [tuple(field["xy"].shape) for field in fields] == [(1, 64, side, side) for side in sides]
    assert count(model.encoder) + count(model.moments) == encoder(encoder_blocks, widths, 64)
    assert count(model.decoder) == decoder(decoder_blocks, (512, 256, 128), 64, given, 64)
    assert count(model.readout) == readout(len(sides), 64, 256, 4)
    assert count(model.head) == 256 * 3 + 3
    assert count(denoiser) == unet(64, base, (1, 2, 3, 4), attends, 2) + 64  # and one mixing logit a channel


def point_net(blocks: int, w: int, features: int, told: int = 3) -> int:
    """What is told of a point -> 2 w, blocks 2 w -> w of two layers and a shortcut without bias, w -> features."""
    return linear(told, 2 * w) + blocks * (linear(2 * w, w) + linear(w, w) + 2 * w * w) + linear(w, features)


def flat_readout(fields: int, c: int, w: int, blocks: int) -> int:
    """Without scale injection: plain layers."""
    sizes = [((c if k < fields else 0) + (w if k else 0)) for k in range(blocks)]
    return sum(linear(i, w) + linear(w, w) + (i * w if i != w else 0) for i in sizes)


@pytest.mark.parametrize("name", SHAPES)
def test_the_papers_shapes_have_its_shapes_and_sizes(name: str) -> None:
    config = presets.find(name)
    with torch.device("meta"):
        model = D2CVAE(config.autoencoder, config.domain)
        denoiser = Diffusion(config.diffusion, config.domain.layout, 64)
        fields = model.decoder({plane: torch.empty(1, 64, 16, 16) for plane in ("xy", "yz", "xz")})
    assert model.latent_shape == (64, 3 * 16 * 16)
    assert [{tuple(x.shape) for x in field.values()} for field in fields] == [{(1, 64, n, n)} for n in (16, 32, 64)]
    planes = encoder(2, (64, 128, 256), 64, inputs=32)
    assert count(model.encoder) + count(model.moments) == point_net(7, 256, 32) + planes
    assert count(model.decoder) == decoder(3, (256, 128, 64), 64, ALL, 64)
    assert count(model.readout) == flat_readout(3, 64, 256, 4) and count(model.head) == 256 + 1
    if name != "text2shape":  # a vector that tells each plane's name, and one mixing logit a channel
        assert count(denoiser) == unet(64, 256, (1, 2, 3, 4), FROM_2, 2) + 3 * 1024 + 64


@pytest.mark.parametrize("name", VIEWS)
def test_the_radiance_fields_have_the_sizes_of_the_shapes(name: str) -> None:
    config = presets.find(name)
    with torch.device("meta"):
        model = D2CVAE(config.autoencoder, config.domain)
        denoiser = Diffusion(config.diffusion, config.domain.layout, 64)
    assert model.latent_shape == (64, 3 * 16 * 16)
    planes = encoder(2, (64, 128, 256), 64, inputs=32)
    assert count(model.encoder) + count(model.moments) == point_net(7, 256, 32, told=6) + planes  # colours too
    assert count(model.decoder) == decoder(3, (256, 128, 64), 64, ALL, 64)
    assert count(model.readout) == flat_readout(3, 64, 256, 4)
    assert count(model.head) == linear(256, 1) + linear(256 + 9, 256) + linear(256, 3)  # density; colour by direction
    assert count(denoiser) == unet(64, 256, (1, 2, 3, 4), FROM_2, 2) + 3 * 1024 + 64


def transformer(w: int) -> int:
    """Attention with a norm before it, then a norm and an MLP four times as wide."""
    return 2 * norm(w) + 4 * linear(w, w) + linear(w, 4 * w) + linear(4 * w, w)


def clip_encoder(patch: int, w: int, blocks: int, v: int, v_blocks: int, latent: int) -> int:
    """Patches, blocks of attention over time and a transformer over space; and three that read a token of their own."""
    total = linear(3 * patch**2, w) + blocks * (norm(w) + 4 * linear(w, w) + transformer(w)) + norm(w)
    return total + 3 * (linear(w, v) + v + v_blocks * transformer(v) + norm(v)) + conv(v, 2 * latent)


@pytest.mark.parametrize("name", VIDEOS)
def test_the_papers_videos_have_its_shapes_and_sizes(name: str) -> None:
    config = presets.find(name)
    latent = {"xy": (64, 64), "yt": (16, 64), "xt": (16, 64)}  # Table 9: 64 cells a side; time has one for each frame
    with torch.device("meta"):
        model = D2CVAE(config.autoencoder, config.domain)
        denoiser = Diffusion(config.diffusion, config.domain.layout, 64)
        fields = model.decoder({plane: torch.empty(1, 64, *shape) for plane, shape in latent.items()})
    assert {p.name: p.shape for p in config.domain.layout} == latent
    for field, side in zip(fields, (64, 128, 256), strict=True):  # time is not enlarged
        assert {plane: tuple(x.shape[1:]) for plane, x in field.items()} == {
            "xy": (64, side, side),
            "yt": (64, 16, side),
            "xt": (64, 16, side),
        }
    assert count(model.encoder) + count(model.moments) == clip_encoder(4, 384, 8, 192, 4, 64)
    assert count(model.decoder) == decoder(3, (512, 256, 128, 64), 64, (False, True, True, True), 64)
    assert count(model.readout) == readout(3, 3 * 64, 256, 4, periods=2) and count(model.head) == 256 * 3 + 3
    assert count(denoiser) == unet(64, 256, (1, 2, 3, 4), FROM_2, 2) + 3 * 1024 + 64


@pytest.mark.parametrize("name", [*PAPER, *SHAPES, *VIDEOS, *VIEWS])
def test_the_papers_presets_train_as_table_10_says(name: str) -> None:
    config = presets.find(name)
    objective, training = config.autoencoder.objective, config.training
    assert (objective.kl_start, objective.kl_end, objective.kl_portion) == (1e-4, 1e-3, 0.9)
    assert objective.spectral_weight == 10 and not objective.perceptual and not objective.adversarial_weight
    assert training.autoencoder_learning_rate == 1e-4
    assert training.diffusion_learning_rate == (2e-4 if name in SHAPES else 1e-4)
    assert config.diffusion.timesteps == 1000 and config.diffusion.ema_decay == 0.9999
    assert config.diffusion.parameterisation == "mixed"


@pytest.mark.parametrize("name", [*PAPER, *SHAPES, *VIDEOS, *VIEWS])
def test_the_papers_presets_sample_as_section_b3_says(name: str) -> None:
    own = SamplingConfig().of(presets.find(name).diffusion)
    assert (own.sampler, own.steps) == ("ddpm", 1000)


@pytest.mark.parametrize("name", [*PAPER, *SHAPES, *VIDEOS, *VIEWS])
def test_the_papers_presets_have_its_attention_heads(name: str) -> None:
    """Table 9: head channel 64 in the decoders of images and videos, 32 in those of shapes."""
    config = presets.find(name)
    with torch.device("meta"):
        model = D2CVAE(config.autoencoder, config.domain)
        denoiser = Diffusion(config.diffusion, config.domain.layout, 64)
    head = 32 if name in (*SHAPES, *VIEWS) else 64
    exchange = model.decoder.exchange
    assert exchange.qkv.in_features // exchange.heads == head
    found = [m for m in denoiser.unet.modules() if isinstance(m, PlaneAttention | TextAttention)]
    base = config.diffusion.unet.base
    assert {m.out.in_features for m in found} == {2 * base, 3 * base, 4 * base}
    assert {m.out.in_features // m.heads for m in found} == {32}


@pytest.mark.parametrize("name", presets.functions())
def test_every_preset_is_named_as_it_is_found_and_survives_json(name: str) -> None:
    config = presets.find(name)
    assert config.name == name
    assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize("name", sorted(set(presets.functions()) - {*PAPER, *SHAPES, *VIDEOS, *VIEWS}))
def test_the_small_presets_can_be_built(name: str) -> None:
    config = presets.find(name)
    with torch.device("meta"):
        model = D2CVAE(config.autoencoder, config.domain)
        denoiser = Diffusion(config.diffusion, config.domain.layout, config.autoencoder.latent_channels)
    assert count(model) < 10e6 and count(denoiser) < 40e6
