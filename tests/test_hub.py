"""Where pretrained models are looked for, and what is said when one is not there."""

from __future__ import annotations

import pytest

from ddmi import hub
from ddmi.errors import UserError

WHOLE = ("config.json", "model.safetensors", "vocab.json")


def filled(folder, names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text("{}")
    return folder


def test_what_a_folder_lacks_is_named_in_the_order_of_need(tmp_path):
    wanted = ["config.json", "weights (.safetensors)", "a vocabulary (tokenizer.json or vocab.json)", ""]
    assert [hub.lacking(filled(tmp_path / "a", WHOLE[:k])) for k in range(4)] == wanted
    other = filled(tmp_path / "b", [*WHOLE[:2], "vocab.txt"])
    assert hub.lacking(other) == wanted[2]
    assert hub.lacking(other, ("vocab.json", "vocab.txt")) == ""
    assert hub.lacking(tmp_path / "a", ("x", "y", "z")) == "a vocabulary (x, y or z)"


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Whether each question was put to the cache alone, and what it answers: half a model, then a whole one."""
    library = pytest.importorskip("huggingface_hub")
    answers, calls = {True: WHOLE[:2], False: WHOLE}, []

    def snapshot_download(place, *, allow_patterns, local_files_only):
        calls.append(local_files_only)
        if answers[local_files_only] is None:
            raise OSError("no network")
        return str(filled(tmp_path / f"{place.replace('/', '-')}-{local_files_only}", answers[local_files_only]))

    monkeypatch.setattr(library, "snapshot_download", snapshot_download)
    return answers, calls


def test_the_cache_comes_first_and_half_a_model_is_fetched(asked, tmp_path):
    answers, calls = asked
    assert hub.folder_of("a/b", "model", "") == tmp_path / "a-b-False" and calls == [True, False]
    answers[True] = WHOLE
    assert hub.folder_of("a/c", "model", "") == tmp_path / "a-c-True" and calls == [True, False, True]
    answers.update({True: None, False: None})
    with pytest.raises(UserError) as error:
        hub.folder_of("a/d", "CLIP model", "take another")
    told = "the CLIP model a/d is not in the local cache and cannot be fetched: take another"
    assert str(error.value) == told


def test_a_path_is_never_looked_for_in_the_hub(asked, tmp_path):
    assert hub.folder_of(str(tmp_path), "model", "") == tmp_path
    for place in (str(tmp_path / "none"), "./none", "~/none-of-this-name"):
        with pytest.raises(FileNotFoundError, match=r"no folder with a CLIP model at .*none"):
            hub.folder_of(place, "CLIP model", "")
    assert asked[1] == []
