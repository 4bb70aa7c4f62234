"""Reading a file of weights into named tensors, without ever running code from it."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

from ddmi.errors import UserError


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a `.safetensors` file, or of a `.pth`/`.pt` file read as weights only, on the CPU.

    A file whose tensors lie one level deeper, under `state_dict`, is opened there.
    Raises FileNotFoundError for a missing file and UserError for one that does not hold plain tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path}")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f"{path} is not a readable safetensors file: {error}") from error
    if path.suffix not in (".pth", ".pt"):
        raise UserError(f"{path}: weights are read from .safetensors, .pth or .pt files, not {path.suffix or 'this'!r}")
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(f"{path} holds more than plain tensors, or is damaged; convert it to .safetensors") from error
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict):
        raise UserError(f"{path} does not hold named tensors; convert it to .safetensors")
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}
