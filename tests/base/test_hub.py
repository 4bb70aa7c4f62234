"""Where pretrained models are looked for, and what is said when one is not there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny

from ddmi import DDMIPipeline
from ddmi.base import hub
from ddmi.base.errors import UserError

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
    assert hub.folder_of("hub:a/b", "model", "") == tmp_path / "a-b-False" and calls == [True, False]
    answers[True] = WHOLE
    assert hub.folder_of("hub:a/c", "model", "") == tmp_path / "a-c-True" and calls == [True, False, True]
    answers.update({True: None, False: None})
    with pytest.raises(UserError) as error:
        hub.folder_of("hub:a/d", "CLIP model", "take another")
    told = "the CLIP model hub:a/d is not in the local cache and cannot be fetched: take another"
    assert str(error.value) == told


def test_nothing_is_fetched_because_a_file_asks_for_it(asked):
    with pytest.raises(UserError, match="is not fetched because a file asks for it: do this"):
        hub.folder_of("hub:a/b", "CLIP model", "do this", fetch=False)
    assert asked[1] == [True]


def test_a_path_is_never_looked_for_in_the_hub(asked, tmp_path, monkeypatch):
    assert hub.folder_of(str(tmp_path), "model", "") == tmp_path
    for place in (str(tmp_path / "none"), "./none", "~/none-of-this-name", "none", "a/b/none"):
        with pytest.raises(FileNotFoundError, match=r"no folder with a CLIP model at .*none"):
            hub.folder_of(place, "CLIP model", "")
    assert asked[1] == []
    with pytest.raises(FileNotFoundError, match=r"at runs/typo; one of the hub is hub:runs/typo"):
        hub.folder_of("runs/typo", "CLIP model", "")
    assert asked[1] == [True]  # of what was fetched by its plain name before, the cache alone is asked
    asked[0][True] = WHOLE
    assert hub.folder_of("runs/typo", "CLIP model", "").name == "runs-typo-True"


@pytest.mark.parametrize("place", ["hub:", "hub:a/b/c", "hub:a b/c", "hub:a/b');x('", "hub:a/\x1b[2J"])
def test_a_name_that_cannot_be_is_refused(asked, place):
    with pytest.raises(UserError, match="is no name of the hub: it takes hub:owner/name"):
        hub.folder_of(place, "CLIP model", "")
    assert asked[1] == []


def test_a_model_of_the_hub_is_named_as_one(tmp_path, monkeypatch):
    """`owner/name` is a path; `hub:owner/name` alone reaches the network."""
    library = pytest.importorskip("huggingface_hub")
    calls = []

    def snapshot_download(place, *, allow_patterns):
        calls.append(place)
        return str(tiny.untrained(tmp_path / "run") / "model")

    monkeypatch.setattr(library, "snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"runs/typo does not exist.*\(hub:owner/name\)"):
        DDMIPipeline.from_pretrained("runs/typo")
    assert calls == []
    assert DDMIPipeline.from_pretrained("hub:someone/something").diffusion is not None
    assert calls == ["someone/something"]


def test_a_model_cannot_make_the_program_fetch_its_text_encoder(asked, tmp_path):
    plain = tiny.config(tiny.image())
    strange = replace(plain.diffusion, condition="text", text_encoder="clip:hub:any/thing", text_width=64)
    pipe = DDMIPipeline.from_pretrained(tiny.untrained(tmp_path, settings=replace(plain, diffusion=strange)))
    with pytest.raises(UserError, match=r"hub:any/thing is not in the local cache and is not fetched") as error:
        pipe(1, text="a dog")
    assert "text.load('clip:hub:any/thing')" in str(error.value) and "\n" not in str(error.value)
    assert asked[1] == [True]
