"""Several sources as one: every shape is asked of its own source, and nothing of the split is lost."""

from __future__ import annotations

import numpy as np
import pytest
from test_shapes import ball

from ddmi.base.errors import UserError
from ddmi.data.furniture import Furniture
from ddmi.data.splits import split
from ddmi.domains.shape.joined import Joined
from ddmi.domains.shape.shapes import ShapeFolder


@pytest.fixture
def balls(tmp_path):
    for name in ("a", "b", "c"):
        ball(tmp_path / name)
    (tmp_path / "captions.jsonl").write_text('{"model": "b", "text": "a ball"}\n')
    return ShapeFolder(tmp_path)


def rng():
    return np.random.default_rng(3)


def test_every_shape_is_asked_of_its_own_source(balls):
    made = Furniture(4)
    both = Joined([made, balls])
    assert both.names == [*made.names, "a", "b", "c"] and both.root == balls.root
    assert both.captions == [*made.captions, [], ["a ball"], []]
    assert both.groups == [[index] for index in range(7)]
    assert both.labels is None and both.classes == [] and both.parts is None
    for index, (source, own) in enumerate([*((made, k) for k in range(4)), *((balls, k) for k in range(3))]):
        for ours, theirs in zip(both.surface(index, 50, rng()), source.surface(own, 50, rng()), strict=True):
            assert np.array_equal(ours, theirs)
        for ours, theirs in zip(both.queries(index, 20, 10, rng()), source.queries(own, 20, 10, rng()), strict=True):
            assert np.array_equal(ours, theirs)


def test_groups_keep_to_their_shapes_and_are_held_out_as_alone(balls):
    """Being held out depends on a shape's name alone, whatever stands beside it."""
    made = Furniture(200)
    alone, both = split(made, "test", 0.1), split(Joined([made, balls]), "test", 0.1)
    assert alone == [index for index in both if index < 200] and len(alone) > 5
    turned = Joined([balls, made])
    assert [index - 3 for index in split(turned, "test", 0.1) if index >= 3] == alone


def test_a_split_that_one_source_brings_holds(tmp_path, balls):
    (tmp_path / "test.lst").write_text("c\n")
    (tmp_path / "train.lst").write_text("a\nb\n")
    both = Joined([Furniture(2), ShapeFolder(tmp_path)])
    assert both.parts == ["train", "train", "train", "train", "test"]
    assert split(both, "test") == [4]


def test_two_shapes_of_one_name_are_refused(balls):
    with pytest.raises(UserError, match="two shapes are called a"):
        Joined([balls, balls])
