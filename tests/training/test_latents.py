"""Latents are encoded once, and their statistics are those of z itself."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

from ddmi.base.errors import WorkError
from ddmi.base.planes import Plane, cells, unpack
from ddmi.model.autoencoder import D2CVAE
from ddmi.training.latents import Conditions, LatentDataset, TextTable, encode, statistics

LAYOUT = (Plane(name="xy", axes=(0, 1), size=(3, 2)), Plane(name="t", axes=(2,), size=(5,)))


def stored(count=300):
    numbers = np.random.default_rng(0)
    mean = numbers.normal(numbers.normal(size=(1, 4, 1)), 1.5, (count, 4, cells(LAYOUT)))
    log_variance = numbers.normal(-1, 0.5, mean.shape)
    mean[:, :, 6:] += 3  # the second plane lies elsewhere
    return np.stack([mean, log_variance], axis=1).astype(np.float16)


def test_statistics_by_brute_force():
    """Over draws of z: mean, and Var z = Var(mean) + E(variance), by plane and channel."""
    latents = stored()
    mean, std = statistics(latents, [6, 5])
    assert mean.shape == std.shape == (2, 4)
    both = torch.from_numpy(latents.astype(np.float64))
    noise = torch.randn(40, *both[:, 0].shape, dtype=torch.float64)
    draws = both[:, 0] + (0.5 * both[:, 1]).exp() * noise  # (draws, items, channels, cells)
    planes = unpack(draws.flatten(0, 1).float(), LAYOUT)
    for p, plane in enumerate(LAYOUT):
        values = planes[plane.name].transpose(0, 1).flatten(1)
        assert torch.allclose(mean[p], values.mean(1), atol=0.02)
        assert torch.allclose(std[p], values.std(1), rtol=0.01)


def test_statistics_do_not_depend_on_how_they_are_read():
    latents = stored(600)  # more than one slice of 256
    halves = [statistics(part, [6, 5])[0] for part in (latents[:300], latents[300:])]
    assert torch.allclose(statistics(latents, [6, 5])[0], 0.5 * (halves[0] + halves[1]), atol=1e-5)


def test_a_dead_channel_does_not_divide_by_zero():
    latents = np.zeros((10, 2, 1, 4), dtype=np.float16)
    latents[:, 1] = -30
    assert float(statistics(latents, [4])[1]) == pytest.approx(1e-6)


class Watched(D2CVAE):
    calls = 0

    def encode(self, x):
        self.calls += len(x)
        return super().encode(x)


@pytest.fixture
def autoencoder():
    return tiny.awake(Watched(tiny.AUTOENCODER, tiny.image()), 0.2).eval()


def test_what_is_stored_is_the_posterior(autoencoder, pictures, tmp_path):
    dataset = tiny.dataset(tiny.image(), pictures, "all")
    latents = encode(autoencoder, dataset, tmp_path / "latents.npy", "key", torch.device("cpu"), batch=5)
    assert latents.shape == (12, 2, 4, 16) and autoencoder.calls == 12
    with torch.no_grad():
        posterior = autoencoder.encode(dataset.inputs([3, 11]))
    read = LatentDataset(latents, dataset, Conditions()).batch([3, 11], torch.Generator(), [7, 8])
    assert torch.allclose(read.mean, posterior.mean, atol=2e-3, rtol=2e-3)
    assert torch.allclose(read.log_variance, posterior.log_variance, atol=2e-3, rtol=2e-3)
    assert read.seeds == (7, 8) and read.condition is None


def test_a_full_disk_is_named(autoencoder, pictures, tmp_path):
    """A memory map would end the process without a word."""
    dataset = tiny.dataset(tiny.image(), pictures, "all")
    with tiny.largest(1000), pytest.raises(WorkError, match=r"cannot write .*latents.npy: File too large"):
        encode(autoencoder, dataset, tmp_path / "cache" / "latents.npy", "one", torch.device("cpu"))
    assert not list(tmp_path.iterdir())


def test_they_are_encoded_again_only_for_another_key(autoencoder, pictures, tmp_path):
    dataset, path = tiny.dataset(tiny.image(), pictures, "all"), tmp_path / "latents.npy"
    told = []
    first = encode(
        autoencoder, dataset, path, "a", torch.device("cpu"), 5, lambda done, total: told.append((done, total))
    )
    assert told == [(5, 12), (10, 12), (12, 12)]
    again = encode(autoencoder, dataset, path, "a", torch.device("cpu"))
    assert autoencoder.calls == 12 and np.array_equal(first, again)
    encode(autoencoder, dataset, path, "b", torch.device("cpu"))
    assert autoencoder.calls == 24
    assert {p.name for p in tmp_path.iterdir()} == {"latents.npy", "latents.json"}


@pytest.mark.parametrize("damage", ["flipped", "cut", "key"])
def test_damaged_ones_are_encoded_again_with_a_line(autoencoder, pictures, tmp_path, caplog, damage):
    dataset, path = tiny.dataset(tiny.image(), pictures, "all"), tmp_path / "latents.npy"
    first = np.array(encode(autoencoder, dataset, path, "a", torch.device("cpu")))
    path, whole = (path, path.read_bytes()) if damage != "key" else (path.with_suffix(".json"), b"[]")
    middle = len(whole) // 2
    path.write_bytes(
        whole[:middle] + (b"" if damage != "flipped" else bytes([whole[middle] ^ 4]) + whole[middle + 1 :])
    )
    again = encode(autoencoder, dataset, tmp_path / "latents.npy", "a", torch.device("cpu"))
    assert autoencoder.calls == 24 and np.array_equal(first, again)
    (line,) = caplog.messages
    assert "latents.npy is damaged and is made again" in line


def test_mirrored_items_have_latents_of_their_own(autoencoder, pictures, tmp_path):
    dataset = tiny.dataset(tiny.image(flip=True), pictures, "all")
    latents = encode(autoencoder, dataset, tmp_path / "latents.npy", "a", torch.device("cpu"))
    assert len(latents) == 24
    with torch.no_grad():
        mirrored = autoencoder.encode(dataset.inputs([2]).flip(3))
    assert np.allclose(latents[14, 0], mirrored.mean[0].numpy(), atol=2e-3)


def test_each_caption_is_encoded_once():
    asked = []

    def states(texts):
        asked.append(list(texts))
        tokens = torch.stack([torch.full((6, 3), float(len(t))) for t in texts])
        mask = torch.arange(6)[None] < torch.tensor([len(t) for t in texts])[:, None]
        return tokens, mask

    table = TextTable.of([["ab"], ["c"], ["ab"], ["abcd"], []], states)
    assert asked == [["", "ab", "abcd", "c"]]
    assert table.tokens.shape == (4, 4, 3)  # as short as the longest needs
    taken = table.take([3, 0, 2], [1, 2, 3])
    assert taken.tokens[:, 0, 0].tolist() == [4.0, 2.0, 2.0] and taken.mask.sum(1).tolist() == [4, 2, 2]


def test_an_item_with_several_captions_is_described_by_each_of_them_in_turn():
    def states(texts):
        return torch.tensor([[[float(len(t))]] for t in texts]), torch.ones(len(texts), 1, dtype=torch.bool)

    table = TextTable.of([["a", "bb"], ["ccc"]], states)
    seen = [table.take([0, 1], [seed, seed]).tokens[:, 0, 0].tolist() for seed in range(100)]
    assert {second for _, second in seen} == {3.0}
    assert 35 <= sum(first == 1.0 for first, _ in seen) <= 65 and {first for first, _ in seen} == {1.0, 2.0}
    assert seen == [table.take([0, 1], [seed, seed]).tokens[:, 0, 0].tolist() for seed in range(100)]


def test_conditions_go_with_their_items(pictures):
    dataset = tiny.dataset(tiny.image(), pictures, "all")
    latents = np.zeros((12, 2, 4, 16), dtype=np.float16)
    source = LatentDataset(latents, dataset, Conditions(labels=range(12)))
    assert source.batch([5, 0], torch.Generator(), [1, 2]).condition.labels.tolist() == [5, 0]
    order = source.epoch(torch.Generator().manual_seed(3))
    assert order == dataset.epoch(torch.Generator().manual_seed(3))
