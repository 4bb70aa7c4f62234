"""I3D, the network of the Fréchet video distance: Inception-v1 with its filters inflated into time, for RGB clips.

Architecture: Carreira and Zisserman 2017 (arXiv:1705.07750, fig. 3); blocks: Szegedy et al. 2014 (arXiv:1409.4842,
table 1). FVD (Unterthiner et al. 2018, arXiv:1812.01717) takes the 400 class scores of one training of it on
Kinetics-400; with the weights of another training, numbers are not FVD. Convolutions and pools pad as TensorFlow's
"SAME" does (an odd cell goes to the end), and batch normalisation adds 1e-3 to the variance.

Hand-written because no package of a fitting licence has it; ports on GitHub are copies of one file.

The weights are a file of the user's, in the names of the usual PyTorch port; nothing is downloaded.
"""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ddmi.base.errors import UserError
from ddmi.metrics.features.weights import Frozen, fill, padded, read_weights

FILE = "i3d_pretrained_400.pt"
ORIGIN = f"{FILE}, the state dict that the project VideoGPT (wilson1yan) on GitHub takes for FVD"
CLASSES = 400
SHORTEST = 9
"""Frames below which the last pool, over two, finds one alone."""
WINDOW = (2, 7, 7)
"""Frames, rows and columns of the last pool."""

Cells = tuple[int, int, int]
"""Along time, height and width."""


class Step(NamedTuple):
    """One convolution outside the blocks."""

    width: int
    kernel: int
    stride: int = 1


class Pool(NamedTuple):
    """The largest of a box of cells."""

    kernel: Cells
    stride: Cells


class Block(NamedTuple):
    """Widths of an inception block: 1x1; 1x1, then 3x3; 1x1, then 3x3 (in GoogLeNet 5x5); 1x1 after a pool."""

    b0: int
    b1a: int
    b1b: int
    b2a: int
    b2b: int
    b3b: int

    @property
    def width(self) -> int:
        """Channels of the four results side by side."""
        return self.b0 + self.b1b + self.b2b + self.b3b


# The whole network in order: 16 frames of 224x224 become 8 of 112, 56, 28; 4 of 14; 2 of 7.
LAYERS: Mapping[str, Step | Pool | Block] = {
    "Conv3d_1a_7x7": Step(64, 7, stride=2),
    "MaxPool3d_2a_3x3": Pool((1, 3, 3), (1, 2, 2)),
    "Conv3d_2b_1x1": Step(64, 1),
    "Conv3d_2c_3x3": Step(192, 3),
    "MaxPool3d_3a_3x3": Pool((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": Block(64, 96, 128, 16, 32, 32),
    "Mixed_3c": Block(128, 128, 192, 32, 96, 64),
    "MaxPool3d_4a_3x3": Pool((3, 3, 3), (2, 2, 2)),
    "Mixed_4b": Block(192, 96, 208, 16, 48, 64),
    "Mixed_4c": Block(160, 112, 224, 24, 64, 64),
    "Mixed_4d": Block(128, 128, 256, 24, 64, 64),
    "Mixed_4e": Block(112, 144, 288, 32, 64, 64),
    "Mixed_4f": Block(256, 160, 320, 32, 128, 128),
    "MaxPool3d_5a_2x2": Pool((2, 2, 2), (2, 2, 2)),
    "Mixed_5b": Block(256, 160, 320, 32, 128, 128),
    "Mixed_5c": Block(384, 192, 384, 48, 128, 128),
}


def pool(x: Float[Tensor, "b c t h w"], kernel: Cells, stride: Cells) -> Float[Tensor, "b c _ _ _"]:
    """The largest of each box of cells, padded as "SAME"; maps are not negative, so zeros change no maximum."""
    return F.max_pool3d(padded(x, kernel, stride), kernel, stride)


class ConvNorm(nn.Module):
    """Convolution with "SAME" padding, batch normalisation with the statistics of training, ReLU."""

    def __init__(self, inputs: int, step: Step) -> None:
        super().__init__()
        self.kernel, self.stride = (step.kernel,) * 3, (step.stride,) * 3
        self.conv3d = nn.Conv3d(inputs, step.width, self.kernel, self.stride, bias=False)
        self.bn = nn.BatchNorm3d(step.width, eps=1e-3)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d _ _ _"]:
        return F.relu(self.bn(self.conv3d(padded(x, self.kernel, self.stride))))


class Mixed(nn.Module):
    """Four branches over one map, side by side; the size stays."""

    def __init__(self, inputs: int, block: Block) -> None:
        super().__init__()
        for name, width in block._asdict().items():
            three, before = name in ("b1b", "b2b"), {"b1b": block.b1a, "b2b": block.b2a}.get(name, inputs)
            self.add_module(name, ConvNorm(before, Step(width, 3 if three else 1)))

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t h w"]:
        b0, b1a, b1b, b2a, b2b, b3b = self.children()
        return torch.cat([b0(x), b1b(b1a(x)), b2b(b2a(x)), b3b(pool(x, (3, 3, 3), (1, 1, 1)))], dim=1)


class I3D(Frozen):
    """Frozen scores of clips in [-1, 1]. Without `load`, the weights are random."""

    name = "i3d"
    num_features = CLASSES
    input_size = 224

    def __init__(self) -> None:
        super().__init__()
        width = 3
        for name, layer in LAYERS.items():
            if not isinstance(layer, Pool):
                self.add_module(name, ConvNorm(width, layer) if isinstance(layer, Step) else Mixed(width, layer))
                width = layer.width
        self.logits = nn.Sequential(OrderedDict(conv3d=nn.Conv3d(width, CLASSES, 1)))
        self.frozen()

    @classmethod
    def load(cls, path: str | Path) -> I3D:
        """The network with the weights of a file: a state dict, as .safetensors, .pt or .pth.

        Raises FileNotFoundError for a missing file, UserError for a TorchScript archive, which holds code and is not
        opened, and for other tensors.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no weights file at {path}: for FVD it is {ORIGIN}; nothing is downloaded")
        if is_torchscript(path):
            raise UserError(
                f"{path} is a TorchScript archive, which holds code: needed is a state dict, as {ORIGIN}, or one made "
                "where the archive is trusted, torch.save(torch.jit.load(FILE).state_dict(), 'i3d.pth')"
            )
        return fill(cls(), read_weights(path), path, "I3D of Kinetics-400", ORIGIN)

    def forward(self, x: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 400"]:
        """Class scores of clips in [-1, 1] of any size, averaged over time, before any softmax.

        As StyleGAN-V (Skorokhodov et al. 2022) takes them: frames of 8 bits, resized to 224x224 by bilinear
        interpolation without antialiasing (stretched where they are not square). UserError for fewer than 9 frames.
        """
        if x.shape[2] < SHORTEST:
            raise UserError(f"I3D needs clips of at least {SHORTEST} frames, not {x.shape[2]}")
        x = (x.float().clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1
        size = (self.input_size, self.input_size)
        if x.shape[-2:] != size:
            frames = F.interpolate(x.transpose(1, 2).flatten(0, 1), size=size, mode="bilinear", align_corners=False)
            x = frames.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
        for name, layer in LAYERS.items():
            x = pool(x, layer.kernel, layer.stride) if isinstance(layer, Pool) else self.get_submodule(name)(x)
        return self.logits(F.avg_pool3d(x, WINDOW, stride=1)).mean(dim=(2, 3, 4))


def is_torchscript(path: Path) -> bool:
    """Whether a file is an archive with code, as torch.jit.save writes; nothing in it is run."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/")[1:2] == ["code"] for name in archive.namelist())
