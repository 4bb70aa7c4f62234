"""What is kept between commands: by content, within a budget, and never believed when it is damaged."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from ddmi.base.storage import locked
from ddmi.data.kept import Kept, key

A, B = np.arange(500, dtype=np.float32).reshape(2, 250), np.arange(7, dtype=np.uint8)


def test_keys_tell_contents_types_and_shapes_apart():
    made = [
        ("a", A),
        ("b", A),
        ("a", A + 1),
        ("a", A.astype(np.int32)),
        ("a", A.reshape(-1)),
        ("a", A, 1),
        ("a", A[:1]),
    ]
    assert len({key(*parts) for parts in made}) == len(made)
    assert key("a", A) == key("a", A.copy()) == key("a", np.asfortranarray(A))


def test_what_is_written_is_read_by_another_command(tmp_path):
    Kept(tmp_path / "new" / "folder").write("k", a=A, b=B)
    found = Kept(tmp_path / "new" / "folder").read("k")
    assert found is not None and np.array_equal(found["a"], A) and np.array_equal(found["b"], B)
    assert Kept(tmp_path / "new" / "folder").read("other") is None and Kept(None).read("k") is None


def test_any_flipped_bit_is_noticed_or_harmless(tmp_path, caplog):
    """Of 300 flips, those that leave the arrays as they were are in the names and dates of the archive."""
    kept = Kept(tmp_path)
    numbers = np.random.default_rng(0)
    kept.write("k", a=A, b=B)
    whole = (tmp_path / "k.npz").read_bytes()
    noticed = 0
    for place in numbers.integers(0, 8 * len(whole), 300):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << (place % 8)
        (tmp_path / "k.npz").write_bytes(damaged)
        found = kept.read("k")
        if found is None:
            noticed += 1
            assert not (tmp_path / "k.npz").exists()
        else:
            assert all(np.array_equal(found[name], true) for name, true in (("a", A), ("b", B)) if name in found)
    assert noticed > 200 and caplog.text.count("is damaged and is made again") == noticed


def test_what_was_not_used_for_the_longest_time_leaves(tmp_path):
    kept = Kept(tmp_path)
    for number in range(4):
        kept.write(str(number), a=A)
    size = (tmp_path / "0.npz").stat().st_size
    for number in range(4):
        os.utime(tmp_path / f"{number}.npz", (1000 + number, 1000 + number))
    assert kept.read("0") is not None  # now the newest
    Kept(tmp_path, budget=3 * size).write("4", a=A)
    assert sorted(file.stem for file in tmp_path.iterdir()) == ["0", "3", "4"]
    small = Kept(tmp_path, budget=size)
    small.write("5", a=A)
    small.write("6", a=A)
    assert [file.stem for file in tmp_path.iterdir()] == ["6"]


def test_a_place_that_cannot_be_written_ends_nothing(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    kept = Kept(tmp_path / "file")
    kept.write("k", a=A)
    kept.write("l", a=A)
    assert kept.read("k") is None and caplog.text.count("nothing is kept") == 1


@pytest.mark.parametrize("home", ["cache", None])
def test_the_place_is_that_of_the_system(home, tmp_path, monkeypatch):
    monkeypatch.undo()
    from ddmi.data import kept

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if home:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / home))
    assert kept.home() == tmp_path / (home or ".cache") / "ddmi"


def test_commands_at_once_do_not_take_one_anothers_files(tmp_path, caplog):
    """A sweep begins many trainings at once, which all make the same views in the same order."""
    with locked(tmp_path):
        writing = threading.Thread(target=Kept(tmp_path).write, args=("k",), kwargs={"a": A})
        writing.start()
        writing.join(timeout=0.2)
        assert writing.is_alive() and list(tmp_path.iterdir()) == []
    writing.join()
    assert Kept(tmp_path).read("k") is not None and not caplog.text


def test_files_that_are_only_to_be_read_are_read(tmp_path, monkeypatch, caplog):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    Kept(tmp_path).write("k", a=A)
    (tmp_path / "damaged.npz").write_bytes(b"")
    monkeypatch.setattr(os, "utime", refused)
    monkeypatch.setattr(Path, "unlink", refused)
    found = Kept(tmp_path).read("k")
    assert found is not None and np.array_equal(found["a"], A) and not caplog.text
    assert Kept(tmp_path).read("damaged") is None
