"""CLIP as an evaluator: against transformers' own forward and its own preparation of pictures."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ddmi.base import hub
from ddmi.base.errors import UserError
from ddmi.metrics.features import clip

transformers = pytest.importorskip("transformers")

TEXTS = ["a chair", "a round table on one leg", ""]
SIZE = 32


def random_clip(folder):
    """A random CLIP of small width with a vocabulary of letters, written into the folder."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    start, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {"vocab_size": len(words), "max_position_embeddings": 24, "bos_token_id": start, "eos_token_id": end}
    config = transformers.CLIPConfig(
        text_config={**small, **text, "pad_token_id": end},
        vision_config={**small, "image_size": SIZE, "patch_size": 8},
        projection_dim=16,
    )
    torch.manual_seed(0)
    with hub.quiet():
        transformers.CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def scorer(folder):
    return clip.ClipScorer(folder)


@pytest.fixture(scope="module")
def prepare():
    """How transformers brings pictures into the form that CLIP takes."""
    module = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    return module.CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})


def picture(seed: int, width: int = SIZE, height: int = SIZE) -> Image.Image:
    numbers = np.random.default_rng(seed)
    return Image.fromarray(numbers.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_similarities_are_those_of_the_whole_model(folder, scorer, prepare):
    pictures = [picture(k) for k in range(4)]
    with hub.quiet():
        model = transformers.CLIPModel.from_pretrained(folder).eval()
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    tokens = tokenizer(TEXTS, padding=True, truncation=True, max_length=24, return_tensors="pt")
    with torch.no_grad():
        out = model(**tokens, pixel_values=prepare(pictures, return_tensors="pt")["pixel_values"])
    expected = out.logits_per_image / model.logit_scale.exp()
    found = scorer.similarity(pictures, TEXTS)
    assert found.shape == (4, 3) and found.dtype == torch.float32 and found.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert found.std() > 1e-3  # no constant would pass


@pytest.mark.parametrize("width, height", [(32, 32), (100, 100), (90, 61), (50, 77), (20, 33)])
def test_pictures_are_prepared_as_for_clip(prepare, width, height):
    expected = prepare([picture(0, width, height)], return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(clip.pixels(picture(0, width, height), SIZE), expected, atol=1e-5, rtol=0)


def test_a_plain_colour_by_hand():
    x = clip.pixels(Image.new("RGB", (45, 70), (255, 0, 51)), 16)
    wanted = [(value - mean) / std for value, mean, std in zip((1, 0, 0.2), clip.MEAN, clip.STD, strict=True)]
    torch.testing.assert_close(x, torch.tensor(wanted)[:, None, None].expand(3, 16, 16))
    grey = clip.pixels(Image.new("L", (45, 70), 51), 16)
    assert torch.allclose(grey[2], x[2])


def test_a_similarity_depends_on_its_picture_and_text_alone(scorer):
    pictures = [picture(k) for k in range(clip.BATCH + 3)]
    texts = [*TEXTS, "a very long description of a shelf with five boards"]
    together = scorer.similarity(pictures, texts)
    last = scorer.similarity(pictures[-1:], texts[:1])
    torch.testing.assert_close(together[-1:, :1], last, atol=1e-5, rtol=0)
    assert scorer.similarity([], TEXTS).shape == (0, 3) and scorer.similarity(pictures[:2], []).shape == (2, 0)


def test_clip_s_is_that_of_the_best_view(scorer):
    views = [picture(k) for k in range(5)]
    each = [float(scorer.similarity([view], ["a chair"])) for view in views]
    assert clip.clip_s(scorer, views, "a chair") == pytest.approx(max(each), abs=1e-5)
    assert max(each) - min(each) > 1e-3
    with pytest.raises(UserError, match="one image"):
        clip.clip_s(scorer, [], "a chair")


def test_long_texts_are_cut(scorer):
    long = "a chair with four legs " * 40
    one, other = (scorer.similarity([picture(0)], [text]) for text in (long, long + "and a table"))
    torch.testing.assert_close(one, other)


def test_the_scorer_is_named_and_frozen(folder, scorer):
    assert scorer.name == str(folder) and scorer.image_size == SIZE
    assert not any(p.requires_grad for p in scorer.model.parameters()) and not scorer.model.training


def test_errors_name_what_is_needed(tmp_path, monkeypatch, scorer):
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        clip.ClipScorer(tmp_path / "nothing-here")
    with pytest.raises(UserError, match=r"lacks config\.json"):
        clip.ClipScorer(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="lacks weights"):
        clip.ClipScorer(tmp_path)
    with pytest.raises(UserError, match="list of texts"):
        scorer.similarity([picture(0)], "a chair")
    library = pytest.importorskip("huggingface_hub")

    def unreachable(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(library, "snapshot_download", unreachable)
    with pytest.raises(UserError, match="not in the local cache and cannot be fetched") as error:
        clip.ClipScorer()
    assert clip.CLIP_DEFAULT in str(error.value) and "\n" not in str(error.value)


def test_a_text_model_alone_is_no_evaluator(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    for file in ("config.json", "vocab.json", "merges.txt"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("vision")}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="tensors are missing, first vision_model"):
        clip.ClipScorer(tmp_path)


def test_what_is_no_clip_is_an_error_of_one_line(folder, tmp_path):
    for file in ("config.json", "vocab.json", "merges.txt"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"no tensors at all")
    with pytest.raises(UserError, match="cannot be read as a CLIP model") as error:
        clip.ClipScorer(tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match=r"says 'bert', not 'clip'"):
        clip.ClipScorer(tmp_path)
