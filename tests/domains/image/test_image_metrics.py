"""Metrics of pictures on sets whose answer is known, and what is computed only once."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from conftest import drawing
from PIL import Image as Pictures

from ddmi.base.storage import load_metadata
from ddmi.domains import gallery
from ddmi.domains.base import Evidence
from ddmi.domains.image import metrics
from ddmi.domains.image.metrics import ImageMetrics
from ddmi.metrics.neighbours import nearest

COUNT = 24


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """24 pictures of 8 x 8 for training, 8 for testing."""
    folder = tmp_path_factory.mktemp("files")
    for part, count in (("train", COUNT), ("test", 8)):
        (folder / part).mkdir()
        for k in range(count):
            Pictures.fromarray(drawing(k + 100 * (part == "test"), size=8)).save(folder / part / f"{k:02d}.png")
    return folder


@pytest.fixture
def network(monkeypatch):
    found = tiny.Features()
    monkeypatch.setattr("ddmi.metrics.features.load", lambda name: found)
    return found


class Picture:
    """A field that is constant in the cells of a picture."""

    def __init__(self, x):
        self.x = x

    def __call__(self, coordinates, periods=None, extras=None):
        column, row = ((coordinates + 1) * 4).long().clamp(0, 7).T
        return self.x[:, row, column].T


def evidence(files, x=None, cache=None, **settings):
    domain = tiny.image()
    train, test = (tiny.dataset(domain, files, part) for part in ("train", "test"))
    x = train.inputs(range(len(train))) if x is None else x
    return domain, Evidence(train, test, lambda *a: [], [Picture(p) for p in x], cache=cache, **settings)


def test_the_data_itself_is_at_distance_zero(files, network):
    domain, given = evidence(files)
    found = ImageMetrics(domain, given).distributions()
    assert found["frechet"] == pytest.approx(0, abs=1e-6)
    assert found["precision"] == found["recall"] == 1
    assert found["kernel_distance"] <= 0  # unbiased: no item is compared with itself within a set
    assert found["precision_standard_error"] == found["recall_standard_error"] == 0
    assert found["held_out"]["pictures"] == found["as_many_samples"]["pictures"] == 8
    assert found["protocol"]["training_pictures"] == found["protocol"]["samples"] == COUNT
    assert found["protocol"]["features"] == "tiny-features"


def test_numbers_are_those_of_the_features(files, network, monkeypatch):
    from ddmi.metrics.distributions import frechet, gaussian, precision_recall

    monkeypatch.setattr("ddmi.metrics.features.cache.SMALLEST", 8)  # smaller ones are enlarged for the network
    x = torch.rand(30, 3, 8, 8) * 2 - 1
    domain, given = evidence(files, x)
    found = ImageMetrics(domain, given).distributions()
    with torch.no_grad():
        real, drawn = (network(p) for p in (given.train.inputs(range(COUNT)), (x * 127.5).round() / 127.5))
    assert found["frechet"] == pytest.approx(frechet(gaussian(drawn), gaussian(real)), rel=0.02)
    beside = frechet(gaussian(drawn[:8]), gaussian(real))
    assert found["as_many_samples"]["frechet"] == pytest.approx(beside, rel=0.02)
    assert found["frechet_standard_error"] > 0
    shares = precision_recall(real, drawn, k=3)
    assert (found["precision"], found["recall"]) == (shares.precision, shares.recall)


def test_only_inception_gives_fid(files, network):
    network.fid = True
    domain, given = evidence(files)
    found = ImageMetrics(domain, given).distributions()
    assert "fid" in found and "frechet" not in found and "frechet" in found["held_out"]


def test_too_few_samples_give_nothing(files, network):
    domain, given = evidence(files, torch.zeros(3, 3, 8, 8))
    assert ImageMetrics(domain, given).distributions() == {}
    domain, given = evidence(files, torch.rand(4, 3, 8, 8))
    assert ImageMetrics(domain, given).distributions()["as_many_samples"]["pictures"] == 4
    domain, given = evidence(files, torch.rand(4, 3, 8, 8), neighbours=2)
    assert ImageMetrics(domain, given).distributions()["protocol"]["k"] == 2


def test_features_of_the_data_are_kept(files, network, tmp_path, caplog):
    domain, given = evidence(files, cache=tmp_path)
    first = ImageMetrics(domain, given).distributions()
    assert network.seen == COUNT + COUNT + 8  # samples, training pictures, held-out pictures
    (stored,) = (tmp_path / "features").glob("train-*.safetensors")
    told = json.loads(load_metadata(stored)["protocol"])
    assert told["pictures"] == COUNT and told["network"] == "tiny-features" and len(told["weights"]) == 64
    again = ImageMetrics(*evidence(files, cache=tmp_path)).distributions()
    assert network.seen == 2 * COUNT + 8 + COUNT
    assert {**again, "protocol": 0} == {**first, "protocol": 0}
    content = stored.read_bytes()
    for damaged in (content[:-2] + bytes([content[-2] ^ 1]) + content[-1:], content[:-40]):
        caplog.clear()
        stored.write_bytes(damaged)
        again = ImageMetrics(*evidence(files, cache=tmp_path)).distributions()
        assert {**again, "protocol": 0} == {**first, "protocol": 0} and stored.read_bytes() == content
        (line,) = (message for message in caplog.messages if "again" in message)
        assert f"{stored} is damaged" in line and line.endswith("it is made again")


@pytest.mark.parametrize("change", ["seed", "weights", "a file", "a name"])
def test_what_was_kept_is_not_used_for_anything_else(files, network, tmp_path, change):
    import shutil

    data = tmp_path / "data"
    shutil.copytree(files, data)
    domain, given = evidence(data, cache=tmp_path)
    ImageMetrics(domain, given).distributions()
    network.seen = 0
    settings = {}
    path = data / "train" / "07.png"
    if change == "seed":
        settings["seed"] = 1
    elif change == "weights":
        network.weight.data += 1
    elif change == "a name":
        path.rename(path.with_name("70.png"))
    else:
        Pictures.fromarray(drawing(999, size=8)).save(path)
        os.utime(path, (0, 0))
    _, given = evidence(data, cache=tmp_path, **settings)
    ImageMetrics(domain, given).distributions()
    held_out = 8 if change in ("seed", "weights") else 0
    assert network.seen == COUNT + COUNT + held_out


def test_a_sample_is_rendered_and_seen_once_for_all_metrics(files, network):
    domain, given = evidence(files)
    drawn = []
    for field in given.samples:
        field.__class__ = type(
            "Counted", (Picture,), {"__call__": lambda s, *a, **k: drawn.append(1) or Picture.__call__(s, *a, **k)}
        )
    shared = domain.metrics().functions
    for name in ("sliced_wasserstein", "distributions", "memorisation"):
        assert shared[name](given) or name == "sliced_wasserstein"
    assert len(drawn) == COUNT and network.seen == 2 * COUNT + 8


def test_copies_are_found_in_pixels_and_in_features(files, network):
    domain, given = evidence(files)
    found = ImageMetrics(domain, given).memorisation()
    assert found["neighbours"] == list(range(COUNT)) and found["sample_median"] == pytest.approx(0, abs=1e-5)
    assert found["features"]["neighbours"] == list(range(COUNT)) and found["features"]["ratio"] < 1e-3
    assert found["protocol"]["feature"] == "pixels" and found["protocol"]["samples"] == COUNT


def test_neighbours_in_parts_are_those_of_the_whole(files, network, monkeypatch):
    x = torch.rand(9, 3, 8, 8) * 2 - 1
    domain, given = evidence(files, x)
    monkeypatch.setattr(metrics, "PART", 5 * 3 * 8 * 8)
    found = ImageMetrics(domain, given).memorisation()
    eight_bit = (((x + 1) * 127.5).round() / 127.5 - 1).flatten(1)
    whole = nearest(eight_bit, given.train.inputs(range(COUNT)).flatten(1))
    assert found["neighbours"] == whole.indices[:, 0].tolist()
    assert found["sample_median"] == pytest.approx(float(whole.distances.median()), rel=1e-4)


def test_memorisation_needs_no_feature_network(files, monkeypatch, caplog):
    from ddmi.base.errors import missing_extra

    def load(name):
        raise missing_extra("some-package", "features")

    monkeypatch.setattr("ddmi.metrics.features.load", load)
    domain, given = evidence(files)
    found = ImageMetrics(domain, given).memorisation()
    assert "ratio" in found and "features" not in found and "some-package" in caplog.text


NOUNS = [f"{letter}ox" for letter in "abcdefghijklmnopqrstuvwx"]
ANIMALS = ["man with beard"] * 12 + ["red cat"] * 8 + ["2 cats and dog"] * 3 + ["smiling"]


def captioned(files, captions, drawn=lambda k: k, **settings):
    """Evidence of a model that draws, for caption k of the training set, its picture `drawn(k)`."""
    domain, given = evidence(files, **settings)
    told = [f"{caption}, {k}" for k, caption in enumerate(captions)]  # what tells them apart is no word
    given.train.captions = told
    asked: list[tuple[str, int]] = []

    def draw(texts, first):
        assert first == len(asked)
        asked.extend((text, told.index(text)) for text in texts)
        return [Picture(given.train.inputs([drawn(told.index(text))])[0]) for text in texts]

    return domain, replace(given, draw=draw), asked


def test_true_pictures_of_the_prompts_follow_them(files, network, monkeypatch):
    monkeypatch.setattr("ddmi.domains.image.metrics.BATCH", 7)
    domain, given, asked = captioned(files, NOUNS)
    found = ImageMetrics(domain, given).prompts()
    assert sorted(k for _, k in asked) == list(range(COUNT))
    assert (found["share"], found["hits"], found["chance"]) == (1, COUNT, 0)
    assert found["share_standard_error"] == 0 and found["true_pictures"]["share"] == 0  # each noun has one picture
    assert found["protocol"]["prompts"] == found["protocol"]["training_pictures"] == COUNT
    assert found["retrieval"] == {"share": 1, "share_standard_error": 0, "chance": pytest.approx(10 / COUNT)}


def test_samples_of_other_prompts_do_not(files, network):
    domain, given, _ = captioned(files, NOUNS, drawn=lambda k: (k + 1) % COUNT)
    found = ImageMetrics(domain, given).prompts()
    assert found["hits"] == 0 and found["chance"] == pytest.approx(COUNT / (COUNT * (COUNT - 1)))


def test_retrieval_is_that_of_sorted_distances(files, network, monkeypatch):
    """Every sample is the training image after that of its prompt: found where that one is near in features."""
    monkeypatch.setattr(metrics, "RETRIEVED", 3)
    monkeypatch.setattr(metrics, "POOL", 20)
    monkeypatch.setattr(metrics, "PROMPTS", 16)
    domain, given, asked = captioned(files, NOUNS, drawn=lambda k: (k + 1) % COUNT)
    shared = ImageMetrics(domain, given)
    found = shared.prompts()["retrieval"]
    features, order = shared.real.features, shared.real.indices
    hits = 0
    for _, k in asked:
        far = (features[:20] - features[order.index((k + 1) % COUNT)]).norm(dim=1)
        hits += order.index(k) in far.argsort()[:3].tolist()
    assert 0 < hits < 16 and found["share"] == hits / 16 and found["chance"] == 3 / 20
    assert found["share_standard_error"] == pytest.approx((hits / 16 * (1 - hits / 16) / 16) ** 0.5)


def test_chance_is_that_of_dealt_prompts(files, network):
    """12 men with beards, 8 + 3 cats, and one caption without a noun, which nobody is asked for."""
    domain, given, asked = captioned(files, ANIMALS)
    found = ImageMetrics(domain, given).prompts()
    assert found["hits"] == len(asked) == 23 and found["protocol"]["training_pictures_without_nouns"] == 1
    assert found["chance"] == pytest.approx((12 * 11 + 11 * 10) / (23 * 22))
    assert found["share_beyond_people"] == 1
    domain, given, _ = captioned(files, ["man"] * 12 + ANIMALS[12:])
    found = ImageMetrics(domain, given).prompts()
    assert found["share"] == 1 and found["share_beyond_people"] == pytest.approx(11 / 23)
    assert found["chance_beyond_people"] == pytest.approx(11 * 10 / (23 * 22))
    assert found["share_beyond_people_standard_error"] == pytest.approx((11 / 23 * 12 / 23 / 23) ** 0.5)


def test_true_pictures_are_told_by_their_nearest_others(files, network):
    domain, given, _ = captioned(files, ANIMALS)
    found = ImageMetrics(domain, given).prompts()["true_pictures"]
    with torch.no_grad():
        features = network(F.interpolate(given.train.inputs(range(COUNT)), (32, 32), mode="bicubic").clamp(-1, 1))
    apart = torch.cdist(features, features).fill_diagonal_(torch.inf).argmin(dim=1).tolist()
    kinds = [0] * 12 + [1] * 11 + [2]
    assert found["hits"] == sum(kinds[k] == kinds[apart[k]] for k in range(23)) > 0


def test_of_a_group_one_is_asked_for_and_all_are_left_out(files, network):
    domain, given, asked = captioned(files, [noun for noun in NOUNS[:12] for _ in range(2)])
    given.train.groups = [[2 * g, 2 * g + 1] for g in range(12)]
    found = ImageMetrics(domain, given).prompts()
    assert sorted(k // 2 for _, k in asked) == list(range(12))
    assert found["share"] == 1 and found["true_pictures"]["hits"] == 0


def test_prompts_are_drawn_by_the_seed(files, network, monkeypatch):
    monkeypatch.setattr("ddmi.domains.image.metrics.PROMPTS", 5)
    drawn = []
    for seed in (0, 0, 1):
        domain, given, asked = captioned(files, NOUNS, seed=seed)
        assert ImageMetrics(domain, given).prompts()["protocol"]["prompts"] == len(asked) == 5
        drawn.append(asked)
    assert drawn[0] == drawn[1] != drawn[2]


def test_without_words_there_are_no_prompts(files, network):
    domain, given, _ = captioned(files, NOUNS)
    assert ImageMetrics(domain, replace(given, draw=None)).prompts() == {}
    given.train.captions = None
    assert ImageMetrics(domain, given).prompts() == {}
    domain, given, asked = captioned(files, ["smiling"] * COUNT)
    assert ImageMetrics(domain, given).prompts() == {} and not asked
    assert network.seen == COUNT


def test_large_sets_of_pictures_lie_in_a_file_without_a_name(files, monkeypatch, tmp_path):
    domain, given = evidence(files)
    whole = ImageMetrics(domain, given).samples
    monkeypatch.setattr(gallery, "IN_MEMORY", 1000)
    kept = ImageMetrics(domain, replace(given, cache=tmp_path)).samples
    assert isinstance(kept.kept, np.memmap) and not list(tmp_path.iterdir())
    assert torch.equal(torch.cat(list(kept.batches(size=7))), whole.part(0, COUNT))


def test_one_set_of_samples_at_another_size(files, network, monkeypatch):
    """Samples are rendered there, with the period of that size; real pictures are resized; both reach the network."""
    monkeypatch.setattr("ddmi.metrics.features.cache.SMALLEST", 8)
    periods, shapes = set(), set()

    class Watched(Picture):
        def __call__(self, coordinates, periods_=None, extras=None):
            periods.add(float(periods_))
            return super().__call__(coordinates)

    forward = network.forward
    monkeypatch.setattr(network, "forward", lambda x: shapes.add(tuple(x.shape[1:])) or forward(x))
    domain, given = evidence(files)
    given = replace(given, samples=[Watched(p.x) for p in given.samples])
    found = {}
    for size, period in ((0, 1.0), (12, 8 / 12), (16, 0.5), (32, 0.5)):
        found[size] = ImageMetrics(domain, replace(given, size=size)).distributions()
        side = size or 8
        assert shapes == {(3, side, side)} and [*periods] == [pytest.approx(period)]
        assert found[size]["protocol"]["size"] == side
        shapes.clear()
        periods.clear()
    assert found[0]["protocol"]["truth"].startswith("resized") and found[16]["protocol"]["truth"].startswith("enlarged")
    # samples are constant in cells, real pictures are enlarged smoothly: no longer the same pictures
    assert found[0]["frechet"] < 1e-6 < found[16]["frechet"]


def test_real_pictures_at_a_size_are_those_of_the_data(files, network, monkeypatch):
    from ddmi.metrics.distributions import frechet, gaussian

    monkeypatch.setattr("ddmi.metrics.features.cache.SMALLEST", 8)
    domain, given = evidence(files)
    at = ImageMetrics(domain, replace(given, size=16))
    real = network(given.train.images(at.real.indices, 16))
    assert torch.allclose(at.real.features, real, atol=1e-5)
    drawn = network(at.samples.part(0, COUNT))
    found = ImageMetrics(domain, replace(given, size=16)).distributions()
    assert found["frechet"] == pytest.approx(frechet(gaussian(drawn), gaussian(real)), rel=1e-4)


def test_a_limit_of_real_pictures(files, network):
    domain, given = evidence(files)
    limited = ImageMetrics(domain, replace(given, limit=5))
    assert limited.distributions()["protocol"]["training_pictures"] == 5
    found = limited.memorisation()
    assert found["protocol"]["training_pictures"] == 5 and found["protocol"]["held_out"] == 5
    assert max(found["neighbours"]) < 5


def test_seven_neighbours_are_named(files, network):
    """Fig. 13. Of samples that are the training pictures the first neighbour is the picture itself."""
    domain, given = evidence(files)
    found = ImageMetrics(domain, given).memorisation()["features"]["nearest"]
    assert [len(row) for row in found] == [7] * COUNT
    assert [row[0] for row in found] == given.train.names
