"""BERT (Devlin et al. 2019, arXiv:1810.04805) out of torch's own layers: its weights run without the library that they
were published with, which takes seconds to import.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

PARTS = {
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "linear1",
    "output.dense": "linear2",
    "output.LayerNorm": "norm2",
}
"""Published name -> torch's, inside a layer; query, key and value are one matrix in torch."""


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """Sizes, by the names of the published config.json."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    layer_norm_eps: float = 1e-12


class Bert(nn.Module):
    """Token numbers to hidden states: embeddings of words and positions, then layers normalised after each sum."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.words = nn.Embedding(config.vocab_size, width)
        self.positions = nn.Embedding(config.max_position_embeddings, width)
        self.kind = nn.Parameter(torch.zeros(width))  # of the first of two segments: there is only one here
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        layer = nn.TransformerEncoderLayer(
            width,
            config.num_attention_heads,
            config.intermediate_size,
            dropout=0.0,
            activation="gelu",
            layer_norm_eps=config.layer_norm_eps,
            batch_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, config.num_hidden_layers, enable_nested_tensor=False)

    def forward(self, tokens: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b l width"]:
        """The states of the last layer. `mask` is True where a token is real; states elsewhere mean nothing."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        states = self.norm(self.words(tokens) + self.positions(places) + self.kind)
        return self.layers(states, src_key_padding_mask=~mask)


def renamed(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published weights of a BertModel under the names of `Bert`; the pooling of a classifier is left out."""
    found = {
        "words.weight": published["embeddings.word_embeddings.weight"],
        "positions.weight": published["embeddings.position_embeddings.weight"],
        "kind": published["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": published["embeddings.LayerNorm.weight"],
        "norm.bias": published["embeddings.LayerNorm.bias"],
    }
    count = 1 + max(int(name.split(".")[2]) for name in published if name.startswith("encoder.layer."))
    for k in range(count):
        theirs, ours = f"encoder.layer.{k}", f"layers.layers.{k}"
        for kind in ("weight", "bias"):
            three = [published[f"{theirs}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            found[f"{ours}.self_attn.in_proj_{kind}"] = torch.cat(three)
            for part, own in PARTS.items():
                found[f"{ours}.{own}.{kind}"] = published[f"{theirs}.{part}.{kind}"]
    return found
