"""How shapes are evaluated: on fields of which everything is known, so that every number is known too."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import tiny
import torch
from test_shape import ball, balls, shape

from ddmi.data.furniture import Furniture, pieces
from ddmi.domains.base import Evidence
from ddmi.domains.shape import ShapeDataset, metrics
from ddmi.domains.shape.metrics import ShapeMetrics
from ddmi.metrics.features.voxels import VoxelClassifier, VoxelClassifierConfig, save
from ddmi.rendering.mesh import inside

pytest.importorskip("trimesh")

CELLS, POINTS = 32, 512
SOURCE = Furniture(30, seed=3)
DOMAIN = shape(held_out=0.4)
TRAIN, HELD_OUT = (ShapeDataset(DOMAIN, SOURCE, part) for part in ("train", "test"))
NOTHING = ball(-1.0)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Fewer points, images and texts."""
    small = {"QUERIES": 4000, "SURFACE": 20_000, "CLOUD": POINTS, "MESH": CELLS, "EARTH": 32, "MOVED": 4}
    for name, value in {**small, "TEXTS": 2, "PROMPTS": 36, "VIEWS": 4}.items():
        monkeypatch.setattr(metrics, name, value)


def exact(piece):
    """The field of a piece of furniture: positive inside, zero on the surface."""
    return lambda points, periods=None, extras=None: torch.from_numpy(
        -20 * piece.solid.levels(points.numpy()).min(0)
    ).float()[:, None]


def truths(dataset) -> list:
    """The fields of all shapes of a part of the furniture."""
    return [exact(SOURCE.pieces[k]) for k in dataset.kept]


def evidence(samples=(), train=TRAIN, held_out=HELD_OUT, made=None, **about) -> Evidence:
    """Samples and reconstructions that are given; `made` are those of the held-out shapes."""
    return Evidence(train, held_out, lambda dataset, indices: [(made or [])[i] for i in indices], samples, **about)


def evaluated(name: str, *args, **about) -> dict:
    return ShapeMetrics.of(DOMAIN)[name](evidence(*args, **about))


def test_the_truth_reconstructs_the_truth():
    found = evaluated("reconstruction", made=truths(HELD_OUT))
    assert [found[name] for name in ("iou", "iou_uniform", "worst_iou")] == pytest.approx([1, 1, 1])  # ratios of sums
    assert found["iou_standard_error"] == pytest.approx(0, abs=1e-12)
    assert found["protocol"]["shapes"] == len(HELD_OUT) > 8


def test_surfaces_of_the_truth_agree_and_one_far_away_has_no_score():
    """Balls of 0.3, 0.4 and 0.6; a mesh of 64 cells is nearer to them than the threshold by far."""
    radii = (0.3, 0.4, 0.6)
    found = evaluated("reconstruction", held_out=balls(), made=[ball(r) for r in radii])
    assert found["f_score"] > 0.97 and found["normal_consistency"] > 0.99 and found["iou"] == pytest.approx(1)
    found = evaluated("reconstruction", held_out=balls(), made=[*map(ball, radii[:2]), ball(0.5)])
    assert 0.64 < found["f_score"] < 0.667  # two of three
    assert found["iou_standard_error"] == pytest.approx((1 - found["worst_iou"]) / 3)  # of (1, 1, x)
    assert found["iou"] == pytest.approx((2 + found["worst_iou"]) / 3)


def test_a_ball_that_is_too_small_has_the_ratio_of_volumes(monkeypatch):
    monkeypatch.setattr(metrics, "QUERIES", 40_000)
    found = evaluated("reconstruction", held_out=balls("test"), made=[ball(0.72)])
    assert found["iou_uniform"] == pytest.approx(0.9**3, abs=0.02) and found["f_score"] == 0
    assert found["iou"] < found["iou_uniform"] - 0.1  # near the surface every error counts more
    assert found["normal_consistency"] > 0.99 and "iou_standard_error" not in found


def test_nothing_at_all_is_no_reconstruction():
    found = evaluated("reconstruction", held_out=balls("test"), made=[NOTHING])
    assert found["iou"] == found["f_score"] == 0 and "normal_consistency" not in found


def test_copies_of_the_held_out_shapes_are_each_covered():
    found = evaluated("point_sets", truths(HELD_OUT))
    copies, others = found["chamfer"], found["chamfer_of_training"]
    assert copies["cov"] == 1 and copies["nna"] <= 0.1 and copies["mmd"] < others["mmd"] / 4
    s = len(HELD_OUT)  # of one distribution: (s - 1) / (2 s - 1) on average
    assert abs(others["nna"] - (s - 1) / (2 * s - 1)) < 0.3 and 0.2 < others["cov"] < 0.9
    assert found["emd"]["mmd"] < found["emd_of_training"]["mmd"]
    assert found["protocol"]["samples"] == found["protocol"]["held_out"] == s


def test_one_sample_again_and_again_is_told_apart_and_empty_ones_are_counted():
    s = len(HELD_OUT)
    found = evaluated(
        "point_sets", [*[ball(0.5)] * (s - 3), NOTHING, NOTHING, NOTHING, *[ball(0.5)] * 5]
    )  # s are looked at
    assert found["chamfer"]["cov"] == pytest.approx(1 / s) and found["chamfer"]["nna"] == 1
    assert found["protocol"]["samples"] == s - 3 and found["protocol"]["without_a_surface"] == 3
    assert evaluated("point_sets", [ball(0.5), NOTHING]) == {} == evaluated("point_sets")


def test_training_shapes_themselves_are_as_good_as_training_shapes():
    """As many, but others: the two rows differ by chance alone."""
    found = evaluated("point_sets", truths(TRAIN))
    s = len(HELD_OUT)
    assert found["protocol"]["samples"] == s
    assert abs(found["chamfer"]["nna"] - (s - 1) / (2 * s - 1)) < 0.3
    assert 0.5 < found["chamfer"]["mmd"] / found["chamfer_of_training"]["mmd"] < 2


def test_copies_are_memorised_and_unseen_shapes_are_not():
    found = evaluated("memorisation", truths(TRAIN))
    assert found["ratio"] == found["sample_median"] == 0 and found["neighbours"] == list(range(len(TRAIN)))
    found = evaluated("memorisation", truths(HELD_OUT))
    assert found["ratio"] == 1


def test_the_distance_of_a_sample_is_the_root_of_the_cells_that_differ():
    found = evaluated("memorisation", [ball(0.7)])
    mine = inside(lambda points: ball(0.7)(points)[:, 0], CELLS)
    differ = [(mine != SOURCE.pieces[k].solid.grid(CELLS)).sum() for k in TRAIN.kept]
    assert found["sample_median"] == pytest.approx(min(differ) ** 0.5, abs=1e-4)
    assert differ[found["neighbours"][0]] == min(differ)


def test_equal_samples_have_no_diversity_and_two_kinds_have_that_of_their_overlap():
    assert evaluated("diversity", draw=lambda texts, first: [ball(0.6)] * len(texts))["total_mutual_difference"] == 1
    asked = []

    def draw(texts, first):
        asked.extend(texts)
        return [ball((0.4, 0.8)[k % 2]) for k in range(len(texts))]

    found = evaluated("diversity", draw=draw)
    assert found["total_mutual_difference"] == pytest.approx((40 + 50 * 0.5**3) / 90, abs=0.01)  # 5 and 5: 90 pairs
    assert [len(set(asked[k : k + 10])) for k in (0, 10)] == [1, 1] and asked[0] != asked[10] and len(asked) == 20
    assert evaluated("diversity") == {}


@pytest.fixture(scope="module")
def wanted():
    """Prompts, and for each a piece that is as it says."""
    from ddmi.data.furniture import prompts

    rng, found = np.random.default_rng(0), []
    for _, traits in prompts(36, 0):
        made = pieces.make(rng, traits["kind"])
        while any(made.traits[name] != value for name, value in traits.items() if name != "kind"):
            made = pieces.make(rng, traits["kind"])
        found.append((traits, exact(made)))
    return found


def test_pieces_as_they_were_asked_for_have_their_attributes(wanted):
    found = evaluated("attributes", draw=lambda texts, first: [field for _, field in wanted])
    assert found["share"] > 0.95 and found["protocol"]["prompts"] == 36
    for name in ("legs", "arm_rests"):
        values = Counter(traits[name] for traits, _ in wanted if name in traits)
        chance = sum((count / values.total()) ** 2 for count in values.values())
        assert found[name]["share"] > 0.9 and found[name]["test"] > 0.9
        assert found[name]["chance"] == pytest.approx(chance, abs=0.05) and chance <= 0.51
        assert found[name]["prompts"] == values.total() == 18


def test_one_piece_for_all_prompts_is_chance_and_nothing_is_wrong(wanted):
    found = evaluated("attributes", draw=lambda texts, first: [wanted[0][1]] * len(texts))
    for name in ("legs", "arm_rests"):
        assert found[name]["share"] == pytest.approx(found[name]["chance"])
    empty = evaluated("attributes", draw=lambda texts, first: [NOTHING] * len(texts))
    assert empty["legs"]["share"] == empty["legs"]["chance"] == 0


def test_attributes_are_asked_of_furniture_alone():
    """Data of one's own may be trained on with the settings of the furniture."""
    drawn = {"draw": lambda texts, first: [ball(0.5)] * len(texts)}
    assert evaluated("attributes", train=balls(), held_out=balls("test"), **drawn) == {}
    assert evaluated("attributes") == {} and "attributes" not in ShapeMetrics.of(shape(source="folder"))


def test_the_share_that_a_classifier_names_rightly(tmp_path):
    torch.manual_seed(1)
    settings = VoxelClassifierConfig(classes=tuple(SOURCE.classes), resolution=CELLS, widths=(8, 16))
    model = tiny.awake(VoxelClassifier(settings), 0.3)
    save(model, tmp_path / "judge.safetensors")
    asked = list(range(len(TRAIN)))
    grids = np.stack([SOURCE.pieces[k].solid.grid(CELLS) for k in TRAIN.kept])
    told = model.predict(torch.from_numpy(grids)).tolist()
    right = sum(a == b for a, b in zip(told, TRAIN.labels, strict=True))
    assert 0 < right < len(asked)
    about = {"evaluators": {"classifier": str(tmp_path / "judge.safetensors")}}
    found = evaluated("classification", truths(TRAIN), asked=asked, **about)
    assert found["accuracy"] == pytest.approx(right / len(asked)) and found["protocol"]["empty"] == 0

    model.readout.bias.data = 100.0 * torch.eye(len(SOURCE.classes))[TRAIN.labels[0]]  # whatever it sees
    save(model, tmp_path / "judge.safetensors")
    assert int(model.predict(torch.zeros(1, *grids.shape[1:]))) == TRAIN.labels[0]
    found = evaluated("classification", [truths(TRAIN)[0], NOTHING, NOTHING, NOTHING], asked=[0, 0, 0, 0], **about)
    assert found["accuracy"] == 0.25 and found["protocol"]["empty"] == 3
    assert evaluated("classification", [NOTHING], asked=[0]) == {} == evaluated("classification", [NOTHING], **about)


def test_clip_s_is_the_mean_of_the_best_views(tmp_path):
    pytest.importorskip("transformers")
    from metrics.features.test_clip import random_clip

    from ddmi.metrics.features.clip import ClipScorer
    from ddmi.rendering.shader import turntable

    place = str(random_clip(tmp_path))
    scorer, fields, asked, best = ClipScorer(place), truths(TRAIN)[:2], [], []
    for field in fields:
        views = turntable(DOMAIN.render(field, CELLS), 224, metrics.VIEWS)
        cosines = torch.cat([scorer.similarity([views.image(k)], TRAIN.captions) for k in range(metrics.VIEWS)])
        asked.append(int((cosines.argmax(0) > 0).nonzero()[0]))  # a text that another view than the first suits best
        best.append(float(cosines[:, asked[-1]].max()))
    found = evaluated("clip", fields, asked=asked, evaluators={"clip": place}, draw=lambda texts, first: [])
    assert evaluated("clip", fields, asked=asked, evaluators={"clip": place}) == {}  # asked for classes, not in words
    assert found["clip_s"] == pytest.approx(50 * sum(best), abs=1e-3) and best[0] != best[1]
    assert found["protocol"] == {"model": place, "views": 4, "pixels": 224, "samples": 2}
    assert evaluated("clip", fields, asked=asked) == {}


def test_voxels_of_a_mirrored_item_are_mirrored():
    """And lie where its queries say, which are mirrored too."""
    both = ShapeDataset(shape(held_out=0.4, mirror=True), SOURCE, "train")
    found = both.voxels([0, both.straight], CELLS)
    assert torch.equal(found[1], found[0].flip(2))
    points, inside = both.queries(both.straight, 3000, 0, 7)
    cell = ((points + 1) * CELLS / 2).long().clamp(max=CELLS - 1)
    agree = found[1][cell[:, 2], cell[:, 1], cell[:, 0]] == (inside[:, 0] > 0)
    assert agree.float().mean() > 0.97
