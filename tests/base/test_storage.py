"""Files are whole or not there: a crash, a full disk or a change of one byte never passes unnoticed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import save
from torch import nn

from ddmi.base.errors import UserError, WorkError
from ddmi.base.storage import (
    append,
    aside,
    build,
    digest,
    fill,
    load_metadata,
    load_tensors,
    locked,
    read_json,
    save_tensors,
    seal,
    unnamed,
    verify,
    write_json,
)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_block_that_ends_well_puts_its_file_in_place(tmp_path):
    with aside(tmp_path / "deep" / "a.txt") as scratch:
        assert scratch.parent == tmp_path / "deep"  # one file system: the rename is atomic
        scratch.write_text("new")
        assert names(tmp_path / "deep") == {scratch.name}
    assert (tmp_path / "deep" / "a.txt").read_text() == "new" and names(tmp_path / "deep") == {"a.txt"}


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt(), MemoryError()])
def test_a_crash_leaves_the_old_file(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(type(error)), aside(target) as scratch:
        scratch.write_text("half")
        raise error
    assert target.read_text() == "old" and names(tmp_path) == {"a.txt"}


def test_a_crash_leaves_the_old_folder(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(RuntimeError), aside(target, own=("old",)) as scratch:
        scratch.mkdir()
        (scratch / "new").write_text("half")
        raise RuntimeError
    assert names(target) == {"old"} and names(tmp_path) == {"model"}
    with aside(target, own=("old",)) as scratch:
        scratch.mkdir()
        (scratch / "new").write_text("whole")
    assert names(target) == {"new"} and names(tmp_path) == {"model"}


@pytest.mark.parametrize("target", ["folder", "folder/", ".", "..", "linked"])
def test_a_file_never_takes_the_place_of_a_folder(tmp_path, monkeypatch, target):
    (tmp_path / "folder").mkdir()
    (tmp_path / "linked").symlink_to("folder")
    (tmp_path / "folder" / "work.txt").write_text("of the user")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is a folder"), aside(Path(target)) as scratch:
        scratch.write_text("")
    assert (tmp_path / "folder" / "work.txt").read_text() == "of the user" and names(tmp_path) == {"folder", "linked"}


@pytest.mark.parametrize("own", [(), ("a",)])
def test_a_file_never_takes_the_place_of_a_device(tmp_path, own):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe is a device or a pipe"), aside(tmp_path / "pipe", own) as scratch:
        scratch.write_text("")
    assert (tmp_path / "pipe").is_fifo() and names(tmp_path) == {"pipe"}


@pytest.mark.parametrize("other", ["notes.txt", "deep/frame1.png", "frame1.txt"])
def test_only_a_folder_that_holds_nothing_else_is_replaced(tmp_path, other):
    target = tmp_path / "clip.frames"
    (target / "deep").mkdir(parents=True)
    (target / "frame1.png").write_text("old")
    (target / other).write_text("of the user")
    with pytest.raises(UserError, match=rf"clip.frames holds {other}"), aside(target, own=("frame*.png",)) as scratch:
        scratch.mkdir()
    assert (target / other).read_text() == "of the user"
    (target / other).unlink()
    with (  # it is looked at again at the end: a file, or what was put there meanwhile
        pytest.raises(UserError, match=r"clip.frames (is a folder|holds late)"),
        aside(target, own=("frame*.png",)) as scratch,
    ):
        (target / "late").write_text("of the user")
        scratch.mkdir()
    assert (target / "late").read_text() == "of the user" and names(tmp_path) == {"clip.frames"}


def test_a_folder_whose_replacement_was_killed_comes_back(tmp_path):
    (tmp_path / ".a.old").mkdir()
    (tmp_path / ".a.old" / "x").write_text("old")
    with pytest.raises(RuntimeError), aside(tmp_path / "a", own=("x",)):
        raise RuntimeError
    assert (tmp_path / "a" / "x").read_text() == "old" and names(tmp_path) == {"a"}


def test_what_fails_leaves_no_empty_folders(tmp_path):
    (tmp_path / "kept").mkdir()
    with pytest.raises(RuntimeError), aside(tmp_path / "kept" / "b" / "c" / "d.txt") as scratch:
        scratch.write_text("half")
        raise RuntimeError
    assert names(tmp_path) == {"kept"} and names(tmp_path / "kept") == set()


def test_a_folder_is_held_once(tmp_path):
    with locked(tmp_path), pytest.raises(UserError, match="another process is at work"), locked(tmp_path):
        pass
    with locked(tmp_path):  # free again
        pass


def test_what_a_killed_process_left_is_cleared(tmp_path):
    with pytest.raises(RuntimeError), aside(tmp_path / "a") as first:
        raise RuntimeError
    first.mkdir()
    (first / "rest").write_text("of a killed process")
    with aside(tmp_path / "a") as scratch:
        scratch.write_text("new")
    assert (tmp_path / "a").read_text() == "new" and names(tmp_path) == {"a"}


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, where):
    target = tmp_path / "a.safetensors"
    save_tensors({"a": torch.zeros(3)}, target)
    before = target.read_bytes()
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(*arguments, **options):
        raise full

    if where == "write":
        monkeypatch.setattr(Path, "write_bytes", fail)
    else:
        monkeypatch.setattr(os, where, fail)
    with (
        pytest.raises(WorkError, match=r"cannot write .*a.safetensors: No space left on device"),
        aside(target) as scratch,
    ):
        save_tensors({"a": torch.ones(3)}, scratch)
    assert target.read_bytes() == before and names(tmp_path) == {"a.safetensors"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_device_that_is_really_full(tmp_path):
    with pytest.raises(WorkError, match="No space left on device"), aside(tmp_path / "a") as scratch:
        scratch.symlink_to("/dev/full")
        write_json({"a": list(range(10_000))}, scratch)
    assert names(tmp_path) == set() and Path("/dev/full").exists()


def test_a_place_that_is_no_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match=r"cannot write .*file/a"), aside(tmp_path / "file" / "a") as scratch:
        scratch.write_text("")


def test_tensors_survive_bit_for_bit(tmp_path):
    tensors = {
        "half": torch.randn(3, 4).bfloat16(),
        "turned": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "flag": torch.tensor([True, False]),
        "number": torch.tensor(7),
        "nothing": torch.zeros(0, 2),
    }
    save_tensors(tensors, tmp_path / "a.safetensors", {"about": "this"})
    again = load_tensors(tmp_path / "a.safetensors")
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[n], t) and again[n].dtype == t.dtype for n, t in tensors.items())
    assert load_metadata(tmp_path / "a.safetensors") == {"about": "this"}


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "a.safetensors"
    for read in (load_tensors, load_metadata):
        with pytest.raises(UserError, match=r"a.safetensors is missing"):
            read(path)
    save_tensors({"a": torch.zeros(100)}, path)
    whole = path.read_bytes()
    for damaged in (whole[:50], whole[: len(whole) // 2], b"", b"\x80\x04pickle", os.urandom(300)):
        path.write_bytes(damaged)
        for read in (load_tensors, load_metadata):
            with pytest.raises(UserError, match=r"a.safetensors is damaged"):
                read(path)
    (tmp_path / "a.json").write_bytes(b"\xff{")
    with pytest.raises(UserError, match=r"a.json is not UTF-8 text"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"b.json is missing"):
        read_json(tmp_path / "b.json")


def test_a_sealed_folder_notices_every_change(tmp_path):
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_bytes(bytes(100))
    seal(tmp_path)
    verify(tmp_path)
    (tmp_path / "b").write_bytes(bytes(99) + b"\x01")
    with pytest.raises(UserError, match=r"/b was altered"):
        verify(tmp_path)
    (tmp_path / "b").unlink()
    with pytest.raises(UserError, match=r"/b is missing"):
        verify(tmp_path)


def flips(whole: bytes) -> Iterator[bytes]:
    """Copies with one bit changed: some in the header, some in the values."""
    for k in range(40):
        place = (13 + 97 * k) % len(whole)
        yield whole[:place] + bytes([whole[place] ^ (1 << k % 8)]) + whole[place + 1 :]


def test_a_file_that_stands_alone_notices_a_flipped_bit(tmp_path):
    """A file with metadata carries its digest; the same without it, as older versions wrote it, is still read."""
    tensors, path = {"a": torch.randn(9, 20), "b": torch.arange(5)}, tmp_path / "a.safetensors"
    save_tensors(tensors, path, {"about": "this"})
    whole = path.read_bytes()
    save_tensors(tensors, path, {"about": "this"})
    assert path.read_bytes() == whole  # equal contents are equal files
    for damaged in flips(whole):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"a.safetensors is damaged"):
            load_tensors(path)
    path.write_bytes(save(tensors, {"about": "this"}))
    assert torch.equal(load_tensors(path)["a"], tensors["a"]) and load_metadata(path) == {"about": "this"}


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ("{}", "lists no file"),
        ("[]", "lists no file"),
        ('{"../a": "0"}', r"names '\.\./a': only files in the folder itself"),
        ('{"/etc/passwd": "0"}', "names '/etc/passwd': only files in the folder itself"),
        ('{"a\\u0000": "0"}', "only files in the folder itself"),
        ('{"..": "0"}', "is missing"),
        ('{"a": 3}', "/a was altered"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5000, "not valid JSON"),
        (" " * (1 << 20) + "{}", "has more than 1,048,576 bytes"),
    ],
)
def test_a_manifest_that_is_none_is_refused_in_one_line(tmp_path, manifest, said):
    (tmp_path / "a").write_text("one")
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(UserError, match=said) as error:
        verify(tmp_path)
    assert "\n" not in str(error.value)


def test_what_is_read_must_be_listed(tmp_path):
    (tmp_path / "a").write_text("one")
    seal(tmp_path)
    (tmp_path / "b").write_text("two")
    verify(tmp_path, ["a", "c"])
    with pytest.raises(UserError, match=r"/b is not listed in manifest.json"):
        verify(tmp_path, ["a", "b"])


class Greedy(nn.Module):
    """Asks for more than any file has."""

    def __init__(self, layers: int, width: int, spare: int = 0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.register_buffer("spare", torch.zeros(spare), persistent=False)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((1, 1 << 24), r"w: layers.0.bias has the shape \(2,\), not \(16777216,\)"),  # 2^48 numbers
        ((1, 1 << 40), "w: its configuration describes no network"),  # 2^80
        ((1 << 40, 2), "w has 2 tensors, fewer than its configuration asks for"),
        ((1, 2, 1 << 40), "w: its configuration asks for more memory"),
        ((1, -1), "w: its configuration describes no network"),
    ],
)
def test_no_memory_is_spent_on_what_the_file_has_not(sizes, said):
    tensors = Greedy(1, 2).state_dict()
    with pytest.raises(UserError, match=said):
        build(lambda: Greedy(*sizes), tensors, Path("w"))
    assert tiny.equal(build(lambda: Greedy(1, 2), tensors, Path("w")), tensors)


def test_the_digest_of_nothing(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    assert digest(tmp_path / "a") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_weights_of_other_settings_are_refused_by_name():
    tensors = nn.Linear(2, 3).state_dict()
    module = nn.Linear(2, 3)
    fill(module, tensors, Path("w"))
    assert torch.equal(module.weight, tensors["weight"])
    with pytest.raises(UserError, match=r"w: weight has the shape \(3, 2\), not \(3, 4\)"):
        fill(nn.Linear(4, 3), tensors, Path("w"))
    with pytest.raises(UserError, match="w lacks the tensor bias"):
        fill(module, {"weight": tensors["weight"]}, Path("w"))
    with pytest.raises(UserError, match="w has the unknown tensor extra"):
        fill(module, {**tensors, "extra": torch.zeros(1)}, Path("w"))


def test_space_that_is_not_there_is_an_error_before_it_is_mapped(tmp_path):
    array = unnamed((10, 100), tmp_path / "cache")
    array[:] = 7  # the file has no name any more, nor its folder
    assert int(array.sum()) == 7000 and names(tmp_path) == set()
    with tiny.largest(300), pytest.raises(OSError, match="File too large") as caught:
        unnamed((10, 100), tmp_path / "cache")
    assert caught.value.filename == str(tmp_path / "cache") and names(tmp_path) == set()


def test_a_line_that_cannot_be_added_names_the_file(tmp_path):
    append("one", tmp_path / "a.jsonl")
    with tiny.largest(6), pytest.raises(WorkError, match=r"cannot write .*a.jsonl: File too large"):
        append("two", tmp_path / "a.jsonl")
    assert (tmp_path / "a.jsonl").read_text().startswith("one\n")
