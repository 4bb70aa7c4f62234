"""Training of the voxel classifier: it learns, it goes on exactly, and what it is told is checked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from ddmi.base.coordinates import grid
from ddmi.base.errors import UserError
from ddmi.base.interruption import Interruption
from ddmi.data.shapes import ShapeSource
from ddmi.data.splits import split
from ddmi.metrics.features.voxels import VoxelClassifier, VoxelClassifierConfig, load_classifier
from ddmi.training import classifier
from ddmi.training.classifier import NOISE, SHIFT, TRAINING, VoxelDataset, accuracy, train_classifier, vary

QUICK = replace(TRAINING, batch_size=4, checkpoint_every=3)


class Solids(ShapeSource):
    """Boxes and balls of many sizes and places."""

    def __init__(self, count: int = 40) -> None:
        self.names = [f"solid-{k}" for k in range(count)]
        self.classes = ["ball", "box"]
        self.labels = [k % 2 for k in range(count)]

    def surface(self, index, count, rng):
        raise NotImplementedError

    queries = surface

    def voxels(self, index, size=32):
        numbers = np.random.default_rng(index)
        centre, radius = numbers.uniform(-0.2, 0.2, 3), numbers.uniform(0.5, 0.7)
        away = np.abs(grid((size, size, size)).numpy() - centre)
        ball, box = np.linalg.norm(away, axis=1) < radius, away.max(axis=1) < 0.8 * radius
        return (box if self.labels[index] else ball).reshape(size, size, size)


class Stopping(Interruption):
    """Asks to stop after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__(None)
        self.left = steps

    @property
    def due(self) -> bool:
        self.left -= 1
        return self.left <= 0


def train(out, steps=8, source=None, **settings):
    return train_classifier(
        source or Solids(), out, steps=steps, resolution=16, **{"held_out": 0.3, "training": QUICK, **settings}
    )


def test_boxes_are_told_from_balls_that_were_never_seen(tmp_path):
    source = Solids(120)
    summary = train(tmp_path / "judge", 60, source, training=replace(QUICK, batch_size=8))
    assert summary.finished and summary.step == 60
    assert summary.accuracy > 0.9 and set(summary.by_class) == {"ball", "box"}

    model, classes = load_classifier(tmp_path / "judge")
    evaluated = split(source, "test", 0.3)
    assert len(evaluated) > 20 and model.accuracy == summary.accuracy and classes == source.classes
    right = [
        model.predict(torch.from_numpy(source.voxels(k, 16))[None]).item() == source.labels[k] for k in evaluated
    ]  # one at a time, from the source itself
    assert np.mean(right) == pytest.approx(summary.accuracy)
    assert not (tmp_path / "judge.training").exists()


def test_an_interrupted_training_goes_on_bit_for_bit(tmp_path, monkeypatch):
    train(tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        patch.setattr(classifier, "Interruption", lambda deadline: Stopping(5))
        summary = train(tmp_path / "broken")
    assert not summary.finished and summary.step == 5 and summary.accuracy is None
    assert not (tmp_path / "broken").exists() and (tmp_path / "broken.training" / "checkpoints").is_dir()
    assert train(tmp_path / "broken").finished
    assert (tmp_path / "broken").read_bytes() == (tmp_path / "unbroken").read_bytes()


def test_the_seed_decides(tmp_path):
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tmp_path / name, 2, seed=seed)
        weights.append(load_classifier(tmp_path / name)[0])
    assert tiny.equal(weights[0], weights[1]) and not tiny.equal(weights[0], weights[2])


def test_checkpoints_of_another_training_are_refused(tmp_path):
    assert not train(tmp_path / "judge", max_minutes=0.0).finished
    for other in ({"steps": 9}, {"seed": 1}, {"source": Solids(42)}):
        with pytest.raises(UserError, match=r"judge\.training holds a training with other data or settings"):
            train(tmp_path / "judge", **other)


def test_accuracy_by_hand(monkeypatch):
    dataset = VoxelDataset(Solids(6), [0, 1, 2, 3], 8)

    model = VoxelClassifier(VoxelClassifierConfig(classes=("ball", "box", "cone"), resolution=8, widths=(8,)))
    monkeypatch.setattr(model, "predict", lambda grids: torch.tensor([0, 0, 0, 1])[: len(grids)])
    assert accuracy(model, dataset) == (0.75, {"ball": 1.0, "box": 0.5})


def test_the_cache_gives_the_grids_back():
    source = Solids(5)
    for n in (5, 16):  # 125 cells fill no whole number of bytes
        dataset = VoxelDataset(source, [3, 1, 4], n)
        expected = np.stack([source.voxels(k, n) for k in (3, 1, 4)])
        assert np.array_equal(dataset.grids([0, 1, 2]).numpy(), expected) and dataset.labels.tolist() == [1, 1, 0]
        assert np.array_equal(dataset.grids([2, 0]).numpy(), expected[[2, 0]])


def test_a_varied_grid_depends_on_its_own_seed_alone():
    dataset = VoxelDataset(Solids(5), range(5), 16)
    choice = torch.Generator()
    both, one = dataset.batch([2, 4], choice, [7, 8]), dataset.batch([4], choice, [8])
    assert torch.equal(both.grids[1], one.grids[0]) and both.labels.tolist() == [0, 0]
    assert not torch.equal(one.grids, dataset.batch([4], choice, [9]).grids)
    assert set(both.grids.unique().tolist()) == {0.0, 1.0}


def test_variation_mirrors_along_x_moves_a_little_and_turns_few_cells_over(monkeypatch):
    grid = torch.zeros(12, 12, 12, dtype=torch.bool)
    grid[2:5, 3:9, 1:4] = True  # low in z, middle in y, low in x
    turned = torch.stack([vary(torch.zeros_like(grid), seed) for seed in range(100)]).float().mean()
    assert turned == pytest.approx(NOISE, rel=0.1)

    monkeypatch.setattr(classifier, "NOISE", 0.0)
    seen = set()
    for seed in range(400):
        varied = vary(grid, seed)
        assert varied.sum() == grid.sum()
        low = [int(axis.min()) for axis in varied.nonzero(as_tuple=True)]
        high = [int(axis.max()) for axis in varied.nonzero(as_tuple=True)]
        assert [b - a for a, b in zip(low, high, strict=True)] == [2, 5, 2]
        seen.add(tuple(low))
    around = range(-SHIFT, SHIFT + 1)
    expected = {(2 + dz, 3 + dy, x + dx) for dz in around for dy in around for dx in around for x in (1, 8)}
    assert seen == expected  # x: as it was, or mirrored; z and y never are


def test_what_leaves_the_cube_is_gone(monkeypatch):
    monkeypatch.setattr(classifier, "NOISE", 0.0)
    full = torch.ones(6, 6, 6, dtype=torch.bool)
    sides = {tuple(vary(full, seed).sum(dim=(1, 2)).gt(0).tolist()) for seed in range(60)}
    assert sides == {(True,) * 6, (False, *(True,) * 5), (*(True,) * 5, False)}


def test_shapes_that_cannot_be_told_apart_are_refused(tmp_path):
    source = Solids()
    source.labels = None
    with pytest.raises(UserError, match="two classes or more"):
        train(tmp_path / "judge", source=source)
    source = Solids()
    source.classes = ["ball"]
    with pytest.raises(UserError, match="two classes or more"):
        train(tmp_path / "judge", source=source)
    source = Solids()
    source.parts = ["train"] * 40
    with pytest.raises(UserError, match="one part only"):
        train(tmp_path / "judge", source=source)
    with pytest.raises(UserError, match="is a folder"):
        train(tmp_path)
    with pytest.raises(UserError, match="steps must be at least 1"):
        train(tmp_path / "judge", steps=0)


def test_a_folder_of_the_user_is_neither_used_nor_removed(tmp_path):
    (tmp_path / "judge.training").mkdir()
    (tmp_path / "judge.training" / "notes.txt").write_text("of the user")
    with pytest.raises(UserError, match=r"judge.training is not empty, and not of a training"):
        train(tmp_path / "judge")
    assert [path.name for path in (tmp_path / "judge.training").iterdir()] == ["notes.txt"]
