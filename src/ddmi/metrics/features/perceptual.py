"""The perceptual distance of two images, as a frozen loss term."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddmi.base.errors import UserError
from ddmi.metrics.features import is_file_name
from ddmi.metrics.features.efficientnet import EfficientNetLite0
from ddmi.metrics.features.vgg import LpipsVgg, unit


class Perceptual(nn.Module):
    """The form of LPIPS (arXiv:1801.03924, eq. 1) without learned weights, on any network with `stages`.

    At each stage the channels of a cell are brought to unit length; squared differences are summed over channels and
    averaged over space; the stages are averaged, so the distance lies in [0, 4]. Frozen, but differentiable in both
    images. Where LPIPS weighs channels by human judgement, here every channel counts alike.
    """

    def __init__(self, network: EfficientNetLite0) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)

    def forward(self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        """The distance of each pair of images in [-1, 1], size >= 32: 0 for equal ones."""
        distances = [
            (unit(u) - unit(v)).square().sum(dim=1).mean(dim=(1, 2))
            for u, v in zip(self.network.stages(a), self.network.stages(b), strict=True)
        ]
        return torch.stack(distances).mean(dim=0)


def load_perceptual(name: str | Path = EfficientNetLite0.name) -> Perceptual | LpipsVgg:
    """The perceptual loss of that name: "efficientnet-lite0", or LPIPS from a file or folder of weights.

    Raises UserError for an unknown name or a wrong file, FileNotFoundError for a missing one.
    """
    if str(name) == EfficientNetLite0.name:
        return Perceptual(EfficientNetLite0.load())
    if not is_file_name(name):
        raise UserError(
            f"unknown perceptual loss {str(name)!r}: allowed are {EfficientNetLite0.name} and a .safetensors or .pth "
            "file with the weights of LPIPS on VGG-16"
        )
    return LpipsVgg.load(name)
