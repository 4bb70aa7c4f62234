"""What all feature networks share: fixed weights, read from a file without ever running code from it, and sizes."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ddmi.base.errors import UserError
from ddmi.base.storage import load_tensors

N = TypeVar("N", bound=nn.Module)


class Frozen(nn.Module):
    """A network of fixed weights, always in evaluation mode: its statistics stay those of its training."""

    def train(self: N, mode: bool = True) -> N:
        return nn.Module.train(self, False)

    def frozen(self: N) -> N:
        """Itself, without gradients of its weights; called at the end of a constructor."""
        return self.requires_grad_(False).eval()


def padded(x: Float[Tensor, "b c *s"], kernel: Sequence[int] | int, stride: Sequence[int] | int) -> Tensor:
    """With zeros around it as TensorFlow's "SAME" has them: ceil(cells / stride) boxes fit along each axis.

    An odd cell goes to the end.
    """
    axes = x.ndim - 2
    kernels, strides = ((v,) * axes if isinstance(v, int) else v for v in (kernel, stride))
    sides: list[int] = []
    for cells, k, s in zip(x.shape[2:], kernels, strides, strict=True):
        total = max((-(-cells // s) - 1) * s + k - cells, 0)
        sides = [total // 2, total - total // 2, *sides]  # F.pad wants the last axis first
    return F.pad(x, sides)


def eight_bit(x: Float[Tensor, "b 3 h w"], size: int) -> Float[Tensor, "b 3 s s"]:
    """Images in [-1, 1] as files of 8 bits hold them (Parmar et al. 2022), then at another size.

    The resize is bilinear without antialiasing, cell centres kept, as pytorch-fid and StyleGAN-V have it.
    """
    x = (x.float().clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1
    return x if x.shape[-2:] == (size, size) else F.interpolate(x, (size, size), mode="bilinear", align_corners=False)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a `.safetensors` file, or of a `.pth`/`.pt` file read as weights only, on the CPU.

    A file whose tensors lie one level deeper, under `state_dict`, is opened there.
    Raises FileNotFoundError for a missing file and UserError for one that does not hold plain tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path}")
    if path.suffix == ".safetensors":
        return load_tensors(path)
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


def fill(network: N, weights: dict[str, Tensor], path: str | Path, kind: str, origin: str) -> N:
    """The network with these weights, by name; others are passed over, as are counters of batches.

    Raises UserError, which says that the file is not of this `kind` and where one that is comes from.
    """
    wanted = {k: v.shape for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    wrong = [name for name, shape in wanted.items() if name not in weights or weights[name].shape != shape]
    if wrong:
        raise UserError(
            f"{path} is not {kind}: {len(wrong)} tensors missing or of another shape, first {wrong[0]}; "
            f"needed is {origin}"
        )
    network.load_state_dict({name: weights[name] for name in wanted}, strict=False)
    return network
