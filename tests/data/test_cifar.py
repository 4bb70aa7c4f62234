"""CIFAR-10 batches: the pixels come back, and a pickle that wants more than arrays is refused."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from ddmi.base.errors import UserError
from ddmi.data.cifar import CifarBatches
from ddmi.data.images import ImageFolder, open_images
from ddmi.data.splits import split


def write(path: Path, content: object, protocol: int = 2) -> None:
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def batch(seed: int, count: int) -> dict[bytes, object]:
    rows = np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)
    return {
        b"batch_label": b"x",
        b"labels": [k % 10 for k in range(count)],
        b"data": rows,
        b"filenames": [b"f"] * count,
    }


@pytest.mark.parametrize("protocol", [2, 4])
def test_batches_read_back(tmp_path, protocol):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    contents = {"data_batch_1": batch(1, 12), "data_batch_2": batch(2, 3), "test_batch": batch(3, 4)}
    for name, content in contents.items():
        write(folder / name, content, protocol)
    write(folder / "batches.meta", {b"label_names": [f"class{k}".encode() for k in range(10)]}, protocol)
    source = open_images(tmp_path)
    assert isinstance(source, CifarBatches) and source.names == open_images(folder).names == sorted(source.names)
    assert len(source.names) == 19 and source.names[12] == "data_batch_2/00000" and source.smallest == 32
    assert source.labels == [*range(10), 0, 1, 0, 1, 2, 0, 1, 2, 3] and source.classes[3] == "class3"
    rows = contents["test_batch"][b"data"]
    assert (
        source.read(16, 32) == rows[1].reshape(3, 32, 32).transpose(1, 2, 0)
    ).all()  # channel by channel in the file
    assert source.read(0, 16).shape == (16, 16, 3)
    assert split(source, "test") == [15, 16, 17, 18] and split(source, "train") == list(range(15))


def test_the_pickles_of_python_2_are_read(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (1, 3072), dtype=np.uint8)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", 3072)
        + rows.tobytes()
        + b"tb"
    )
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02}(U\x04data" + array + b"U\x06labels](K\x07eu.")
    source = CifarBatches(tmp_path)
    assert source.labels == [7] and source.parts is None and source.classes == [str(k) for k in range(8)]
    assert (source.read(0, 32) == rows.reshape(3, 32, 32).transpose(1, 2, 0)).all()


class Malicious:
    def __init__(self, *call: object):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("function, argument", [(os.system, "touch {}"), (eval, "open({!r}, 'w')"), (os.mkdir, "{}")])
def test_a_malicious_pickle_is_refused_before_it_runs(tmp_path, function, argument):
    mark = tmp_path / "mark"
    for protocol in (0, 2, 4):
        write(
            tmp_path / "data_batch_1",
            {b"data": Malicious(function, argument.format(str(mark))), b"labels": [1]},
            protocol,
        )
        with pytest.raises(UserError, match=r"data_batch_1.*refused.*only arrays") as caught:
            open_images(tmp_path)
        assert not mark.exists() and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {b"labels": [1]},
        {b"data": np.zeros((2, 3072)), b"labels": [0, 1]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]},
        {b"data": np.zeros((2, 100), np.uint8), b"labels": [0, 1]},
        {b"data": np.zeros((1, 3072), np.uint8), b"labels": ["cat"]},
    ],
)
def test_another_layout_is_refused(tmp_path, content):
    write(tmp_path / "test_batch", content)
    with pytest.raises(UserError, match="test_batch is not a CIFAR-10 python batch"):
        CifarBatches(tmp_path)


def test_broken_and_missing_batches(tmp_path):
    with pytest.raises(UserError, match="data_batch_1"):
        CifarBatches(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(batch(0, 2))[:500])
    with pytest.raises(UserError, match="is not a CIFAR-10 python batch"):
        CifarBatches(tmp_path)


def test_other_folders_are_picture_folders(tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert isinstance(open_images(tmp_path), ImageFolder)
