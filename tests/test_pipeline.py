"""The public face: the snippet of the contract, and what it promises."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

import ddmi
from ddmi import DDMIPipeline, Field
from ddmi.base.coordinates import grid
from ddmi.base.errors import UserError
from ddmi.model.autoencoder import D2CVAE, freeze
from ddmi.model.diffusion import Diffusion
from ddmi.model.flow import student_of
from ddmi.pipeline import slerp


@pytest.fixture(scope="module")
def pipe() -> DDMIPipeline:
    """Random weights: nothing here depends on training."""
    torch.manual_seed(0)
    config = tiny.config()
    autoencoder = tiny.awake(D2CVAE(config.autoencoder, config.domain))
    diffusion = tiny.awake(Diffusion(config.diffusion, config.domain.layout, config.autoencoder.latent_channels))
    diffusion.mean += 0.3  # type: ignore[operator]
    diffusion.std *= 2.0  # type: ignore[operator]
    diffusion.flow = tiny.awake(student_of(diffusion))  # type: ignore[arg-type, assignment]
    return DDMIPipeline(config, freeze(autoencoder), freeze(diffusion))  # type: ignore[arg-type]


def values(field: Field) -> torch.Tensor:
    return field(grid((9, 7)))


def test_the_snippet_of_the_contract(pipe, tmp_path, pictures):
    pipe.save_pretrained(tmp_path / "model")
    loaded = DDMIPipeline.from_pretrained(str(tmp_path / "model"), device="cpu")
    fields = loaded(num_samples=4, seed=0, steps=3)
    assert len(fields) == 4 and all(isinstance(field, Field) for field in fields)
    coordinates = torch.rand(11, 2) * 2 - 1
    assert fields[0](coordinates).shape == (11, 3)
    assert fields[0].render(32).size == (32, 32)
    assert fields[0].render((30, 50), window=(-0.5, -0.5, 0.0, 0.0)).size == (50, 30)  # PIL says (width, height)
    field = loaded.encode(pictures / "00.png")
    field.save(tmp_path / "one.safetensors")
    assert torch.equal(values(Field.load(tmp_path / "one.safetensors")), values(field))


def test_a_saved_model_draws_and_encodes_the_same(pipe, tmp_path, pictures):
    pipe.save_pretrained(tmp_path / "model")
    loaded = DDMIPipeline.from_pretrained(tmp_path / "model", device="cpu")
    assert loaded.config == pipe.config
    assert tiny.equal(loaded.autoencoder, pipe.autoencoder) and tiny.equal(loaded.diffusion, pipe.diffusion)
    for mine, theirs in zip(pipe(3, seed=5, steps=4), loaded(3, seed=5, steps=4), strict=True):
        torch.testing.assert_close(values(mine), values(theirs))
    mine, theirs = (values(p.encode(pictures / "01.png")) for p in (pipe, loaded))
    torch.testing.assert_close(mine, theirs)


def test_a_model_without_a_denoiser_still_encodes(pipe, tmp_path, pictures):
    DDMIPipeline(pipe.config, pipe.autoencoder, None).save_pretrained(tmp_path)
    loaded = DDMIPipeline.from_pretrained(tmp_path, device="cpu")
    torch.testing.assert_close(values(loaded.encode(pictures / "00.png")), values(pipe.encode(pictures / "00.png")))
    with pytest.raises(UserError, match="second stage"):
        loaded(1)


def test_a_picture_is_the_same_as_file_image_and_tensor(pipe, pictures):
    path = pictures / "02.png"
    image = Image.open(path)
    small = image.resize((8, 8), Image.Resampling.LANCZOS)
    x = torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 127.5 - 1
    expected = values(pipe.encode(x))
    assert expected.std() > 0
    for given in (x[None], image, path, str(path)):
        torch.testing.assert_close(values(pipe.encode(given)), expected)
    pixels = np.array(image)
    alike = [pixels, pixels[::-1][::-1], np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])]
    for given in (*alike, x.numpy(), x.numpy()[None].astype(np.float64)):
        torch.testing.assert_close(values(pipe.encode(given)), expected)
    grey = pixels[..., 0]
    torch.testing.assert_close(values(pipe.encode(grey)), values(pipe.encode(np.dstack([grey] * 3))))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Path("none.png"), "none.png does not exist"),
        ("none.png", "none.png does not exist"),
        (None, "not NoneType"),
        ([[0.0]], "one item, not a list"),
        (torch.zeros(3, 9, 9), "shape"),
        (torch.zeros(8, 8), r"one item, a tensor with 3 axes, not of shape \(8, 8\)"),
        (torch.zeros(2, 3, 8, 8), r"one item, .* not of shape \(2, 3, 8, 8\)"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "floating-point numbers in .* not torch.uint8"),
        (torch.full((3, 8, 8), 255.0), "these reach 255"),
        (torch.full((3, 8, 8), float("nan")), "NaN"),
        (np.zeros((8, 8, 3), np.int64), r"uint8 .* not int64 \(8, 8, 3\)"),
        (np.zeros((3, 8, 8), np.uint8), r"uint8 .* not uint8 \(3, 8, 8\)"),
    ],
)
def test_what_cannot_be_encoded_is_said(pipe, given, said):
    with pytest.raises(UserError, match=said):
        pipe.encode(given)


def test_an_open_image_is_turned_as_its_file_is(pipe, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:3, :3, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    stored = values(pipe.encode(pixels))
    for given in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        torch.testing.assert_close(values(pipe.encode(given)), values(pipe.encode(np.rot90(pixels, -1))))
        assert not torch.allclose(values(pipe.encode(given)), stored)


@pytest.mark.parametrize("sampler", ["flow", "ddpm", "ddim", "dpm", "unipc", "heun", "rk45"])
def test_sample_k_depends_on_seed_and_k_alone(pipe, sampler):
    whole = pipe.latents(5, seed=3, sampler=sampler, steps=4)
    torch.testing.assert_close(pipe.latents(5, seed=3, sampler=sampler, steps=4, batch_size=2), whole)
    torch.testing.assert_close(pipe.latents(2, seed=3, first=3, sampler=sampler, steps=4), whole[3:])
    assert (pipe.latents(1, seed=4, sampler=sampler, steps=4) - whole[:1]).abs().max() > 0.1
    assert len({tuple(z.flatten().tolist()) for z in whole}) == 5
    assert len(pipe.last_evaluations) == 1


def test_latents_are_restored_by_the_statistics(pipe):
    """mean and std are where the sampler's unit latents end: 0.3 and 2 here, whatever the network adds."""
    z = pipe.latents(64, steps=4)
    assert abs(float(z.mean()) - 0.3) < 0.3 and 1.2 < float(z.std()) < 3.0


def test_progress_is_told(pipe):
    told: list[tuple[int, int]] = []
    pipe(5, steps=2, batch_size=2, progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(
    "window", [(-1.5, -1, 1, 1), (0, 0, 0, 1), (0.5, 0, -0.5, 1), (0, 0, 1), (0, 0, 1, float("nan"))]
)
def test_windows_outside_the_frame_are_refused(pipe, window):
    with pytest.raises(ValueError, match="window"):
        pipe(1, steps=1)[0].render(16, window=window)


@pytest.mark.parametrize("size", [0, -3, (4, 0)])
def test_sizes_are_positive(pipe, size):
    with pytest.raises(ValueError, match="size"):
        pipe(1, steps=1)[0].render(size)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"text": "a dog"}, "text"),
        ({"label": 1}, "classes"),
        ({"num_samples": 0}, "num_samples"),
        ({"eta": 2.0}, "eta"),
        ({"tolerance": 0.0, "sampler": "rk45"}, "tolerance"),
        ({"steps": -1}, "steps"),
    ],
)
def test_what_a_model_cannot_do_is_refused(pipe, options, said):
    with pytest.raises(UserError, match=said):
        pipe(**options)


def test_what_there_is_can_be_seen(pipe):
    assert set(ddmi.__all__) <= set(dir(ddmi)) and all(getattr(ddmi, name) for name in ddmi.__all__)
    assert repr(pipe) == "DDMIPipeline(tiny: image, 0.3 M parameters, denoiser, flow map, cpu)"
    assert "no denoiser yet" in repr(DDMIPipeline(pipe.config, pipe.autoencoder, None))


def test_the_hub_out_of_reach_is_one_line(pipe, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def unreachable(*arguments, **options):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", unreachable)
    with pytest.raises(UserError, match=r"^the hub did not take someone/model: ConnectionError, no route$"):
        pipe.push_to_hub("someone/model", token="none")


# interpolation -------------------------------------------------------------------------------------------------------


def test_slerp_by_hand():
    """On the unit circle, a third of the way from 0 to 90 degrees is 30 degrees."""
    a, b = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    expected = torch.tensor([[[math.cos(math.pi / 6), math.sin(math.pi / 6)]]])
    torch.testing.assert_close(slerp(a, b, 1 / 3), expected)
    assert torch.equal(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)


def test_slerp_keeps_the_sphere_and_halves_the_angle():
    a, b = torch.randn(2, 1, 4, 16)
    a, b = (5 * x[None] / x.norm() for x in (a[0], b[0]))
    middle = slerp(a, b, 0.5)
    torch.testing.assert_close(middle.norm(), torch.tensor(5.0))
    cosines = [torch.nn.functional.cosine_similarity(x.flatten(), middle.flatten(), dim=0) for x in (a, b)]
    torch.testing.assert_close(cosines[0], cosines[1])
    torch.testing.assert_close(slerp(a, a, 0.3), a)


def test_an_interpolation_starts_and_ends_at_its_ends(pipe):
    z = pipe.latents(2, seed=1, steps=3)
    fields = pipe.interpolate(z[:1], z[1:], 5)
    assert len(fields) == 5
    for field, end in ((fields[0], z[:1]), (fields[-1], z[1:])):
        torch.testing.assert_close(values(field), values(pipe.decode(end)[0]), atol=1e-4, rtol=1e-4)
    with pytest.raises(UserError, match="2 frames"):
        pipe.interpolate(z[:1], z[1:], 1)


def test_a_text_that_is_not_utf8_is_named(pipe):
    """Bytes of a command line that are no UTF-8 come as lone surrogates."""
    texts = replace(pipe.config, diffusion=replace(pipe.config.diffusion, condition="text"))
    with pytest.raises(UserError, match=r"the text 'caf\\udce9' is not UTF-8"):
        DDMIPipeline(texts, pipe.autoencoder, pipe.diffusion).condition(1, "caf\udce9")
