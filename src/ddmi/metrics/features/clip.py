"""CLIP as an evaluator: how well an image, or one of several views of a shape, goes with a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ddmi.base import hub
from ddmi.base.errors import UserError, missing_extra
from ddmi.base.storage import read_json

CLIP_DEFAULT = "hub:openai/clip-vit-large-patch14"  # the paper names none
MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the images that every published CLIP was trained on
STD = (0.26862954, 0.26130258, 0.27577711)
BATCH = 32  # images or texts at a time


class ClipScorer:
    """A frozen CLIP with its tokenizer. Similarities are cosines, in [-1, 1]; papers print 100 times that.

    `name`, the hub id or folder, belongs beside every number: those of two CLIPs cannot be compared.

    Args:
        name: a folder in transformers' layout, or hub:owner/name: from the local cache, else fetched into it.
        device: where the model runs.

    Raises:
        UserError: the weights are neither on this machine nor within reach, the folder holds another model, or a
            package is not installed.
        FileNotFoundError: the folder does not exist.
    """

    def __init__(self, name: str | Path = CLIP_DEFAULT, device: torch.device | str = "cpu") -> None:
        self.name = str(name)
        self.model, self.tokenizer = _load(self.name)
        self.model.float().eval().requires_grad_(False).to(device)
        self.image_size = int(self.model.config.vision_config.image_size)
        self.max_tokens = int(self.model.config.text_config.max_position_embeddings)

    def similarity(self, images: Sequence[Image.Image], texts: Sequence[str]) -> Float[Tensor, "p t"]:
        """The cosine of every image with every text, float32, on the CPU. Longer texts are cut.

        An image that is not square is cut to its middle, as CLIP saw images in training.
        """
        if isinstance(texts, str):
            raise UserError("texts must be a list of texts, not one text")
        return self._embedded(images, self._images) @ self._embedded(texts, self._texts).T

    @torch.no_grad()
    def _embedded(self, items: Sequence[Any], features: Callable[[Sequence[Any]], Tensor]) -> Float[Tensor, "n d"]:
        """Unit vectors of items, on the CPU."""
        rows = [torch.zeros(0, int(self.model.config.projection_dim))]
        with torch.autocast(self.model.device.type, enabled=False):
            for start in range(0, len(items), BATCH):
                rows.append(F.normalize(features(items[start : start + BATCH]), dim=1).cpu())
        return torch.cat(rows)

    def _images(self, images: Sequence[Image.Image]) -> Tensor:
        x = torch.stack([pixels(image, self.image_size) for image in images]).to(self.model.device)
        return self.model.visual_projection(self.model.vision_model(pixel_values=x).pooler_output)

    def _texts(self, texts: Sequence[str]) -> Tensor:
        settings = {"padding": True, "truncation": True, "max_length": self.max_tokens, "padding_side": "right"}
        tokens = self.tokenizer(list(texts), return_tensors="pt", **settings).to(self.model.device)
        pooled = self.model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return self.model.text_projection(pooled.pooler_output)


def clip_s(scorer: ClipScorer, views: Sequence[Image.Image], text: str) -> float:
    """CLIP-S of one shape (section C.2): the highest cosine of its views with the text; the paper has five views."""
    if not views:
        raise UserError("CLIP-S needs one image of a shape or more")
    return float(scorer.similarity(views, [text]).max())


def pixels(image: Image.Image, size: int) -> Float[Tensor, "3 s s"]:
    """What CLIP takes: the shorter side brought to `size` (bicubic), the middle cut out, each channel standardised."""
    image = image.convert("RGB")
    width, height = image.size
    if width <= height:
        wide, high = size, int(size * height / width)
    else:
        wide, high = int(size * width / height), size
    if (wide, high) != (width, height):
        image = image.resize((wide, high), Image.Resampling.BICUBIC)
    left, top = (wide - size) // 2, (high - size) // 2
    image = image.crop((left, top, left + size, top + size))
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def _load(place: str) -> tuple[Any, Any]:
    """Model and tokenizer; anything missing is an error, never random."""
    otherwise = "connect once, or name a folder that holds one (config.json, model.safetensors, tokenizer)"
    folder = hub.folder_of(place, "CLIP model", otherwise)
    if lacking := hub.lacking(folder):
        raise UserError(f"{folder} holds no CLIP model: it lacks {lacking}")
    if (kind := read_json(folder / "config.json").get("model_type")) != "clip":
        raise UserError(f"{folder} holds no CLIP model: its config.json says {kind!r}, not 'clip'")
    from safetensors import SafetensorError

    try:
        from transformers import CLIPModel, CLIPTokenizer
    except ImportError as error:
        raise missing_extra("transformers", "text") from error
    try:
        with hub.quiet():
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            model, report = CLIPModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder} cannot be read as a CLIP model: {str(error).splitlines()[0]}") from error
    if missing := sorted(report["missing_keys"]):
        raise UserError(
            f"{folder} holds no whole CLIP (images and texts): {len(missing)} tensors are missing, first {missing[0]}"
        )
    return model, tokenizer
