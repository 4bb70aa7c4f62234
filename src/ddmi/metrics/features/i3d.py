"""I3D, the network of the Fréchet video distance: Inception-v1 with its filters inflated into time, for RGB clips.

Architecture: Carreira and Zisserman 2017 (arXiv:1705.07750, fig. 3); blocks: Szegedy et al. 2014 (arXiv:1409.4842,
table 1). FVD (Unterthiner et al. 2018, arXiv:1812.01717) takes the 400 class scores of one training of it on
Kinetics-400; with the weights of another training, numbers are not FVD. Convolutions and pools pad as TensorFlow's
"SAME" does, and batch normalisation adds 1e-3 to the variance.

Hand-written because no package of a fitting licence has it; ports on GitHub are copies of one file.

The weights are a file of the user's, in the names of the usual PyTorch port; nothing is downloaded.
"""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ddmi.base.errors import UserError
from ddmi.metrics.features.weights import Frozen, eight_bit, fill, padded, read_weights

FILE = "i3d_pretrained_400.pt"
ORIGIN = f"{FILE}, the state dict that the project VideoGPT (wilson1yan) on GitHub takes for FVD"
CLASSES = 400
SHORTEST = 9
"""Frames below which the last pool, over two, finds one alone."""


class MaxPool(nn.MaxPool3d):
    """The largest of each box of cells, padded as "SAME"; maps are not negative, so zeros change no maximum."""

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c _ _ _"]:
        return super().forward(padded(x, self.kernel_size, self.stride))


class ConvNorm(nn.Module):
    """Convolution with "SAME" padding, batch normalisation with the statistics of training, ReLU."""

    def __init__(self, inputs: int, width: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, width, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(width, eps=1e-3)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d _ _ _"]:
        return F.relu(self.bn(self.conv3d(padded(x, self.conv3d.kernel_size, self.conv3d.stride))))


class Mixed(nn.Module):
    """Four branches over one map, side by side: 1x1; 1x1, then 3x3; again (in GoogLeNet 5x5); 1x1 after a pool."""

    def __init__(self, inputs: int, one: int, narrow: int, three: int, slim: int, five: int, pooled: int) -> None:
        super().__init__()
        self.b0 = ConvNorm(inputs, one, 1)
        self.b1a, self.b1b = ConvNorm(inputs, narrow, 1), ConvNorm(narrow, three, 3)
        self.b2a, self.b2b = ConvNorm(inputs, slim, 1), ConvNorm(slim, five, 3)
        self.pool, self.b3b = MaxPool(3, 1), ConvNorm(inputs, pooled, 1)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t h w"]:
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.pool(x))], dim=1)


class I3D(Frozen):
    """Frozen scores of clips in [-1, 1]. Without `load`, the weights are random."""

    name = "i3d"
    num_features = CLASSES
    input_size = 224

    def __init__(self) -> None:
        super().__init__()
        layers = {  # 16 frames of 224x224 become 8 of 112, 56, 28; 4 of 14; 2 of 7
            "Conv3d_1a_7x7": ConvNorm(3, 64, 7, stride=2),
            "MaxPool3d_2a_3x3": MaxPool((1, 3, 3), (1, 2, 2)),
            "Conv3d_2b_1x1": ConvNorm(64, 64, 1),
            "Conv3d_2c_3x3": ConvNorm(64, 192, 3),
            "MaxPool3d_3a_3x3": MaxPool((1, 3, 3), (1, 2, 2)),
            "Mixed_3b": Mixed(192, 64, 96, 128, 16, 32, 32),
            "Mixed_3c": Mixed(256, 128, 128, 192, 32, 96, 64),
            "MaxPool3d_4a_3x3": MaxPool(3, 2),
            "Mixed_4b": Mixed(480, 192, 96, 208, 16, 48, 64),
            "Mixed_4c": Mixed(512, 160, 112, 224, 24, 64, 64),
            "Mixed_4d": Mixed(512, 128, 128, 256, 24, 64, 64),
            "Mixed_4e": Mixed(512, 112, 144, 288, 32, 64, 64),
            "Mixed_4f": Mixed(528, 256, 160, 320, 32, 128, 128),
            "MaxPool3d_5a_2x2": MaxPool(2, 2),
            "Mixed_5b": Mixed(832, 256, 160, 320, 32, 128, 128),
            "Mixed_5c": Mixed(832, 384, 192, 384, 48, 128, 128),
            "AvgPool3d_6a": nn.AvgPool3d((2, 7, 7), stride=1),
            "logits": nn.Sequential(OrderedDict(conv3d=nn.Conv3d(1024, CLASSES, 1))),
        }
        for name, layer in layers.items():
            self.add_module(name, layer)
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
        frames = eight_bit(x.transpose(1, 2).flatten(0, 1), self.input_size)
        x = frames.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
        for layer in self.children():
            x = layer(x)
        return x.mean(dim=(2, 3, 4))


def is_torchscript(path: Path) -> bool:
    """Whether a file is an archive with code, as torch.jit.save writes; nothing in it is run."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/")[1:2] == ["code"] for name in archive.namelist())
