"""Inception-v3 as FID uses it: the network of TensorFlow's graph of 2015-12-05, in the names published for PyTorch.

Hand-written because torchvision does not work with every build of torch, and its Inception-v3 is not the one of FID.

Architecture: Szegedy et al. 2016 (arXiv:1512.00567, sec. 6). FID is defined on one training of it, with 1008 classes,
whose graph differs from the usual Inception-v3 in two ways; with any other, numbers are not FID:

- average pooling divides by the cells inside the image, not by nine (`count_include_pad=False`);
- the pooling branch of the last block takes the maximum.

The weights are a file of the user's; nothing is downloaded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddmi.metrics.features.weights import Frozen, eight_bit, fill, read_weights

FILE = "pt_inception-2015-12-05-6726825d.pth"
ORIGIN = f"{FILE}, in the release fid_weights of the project pytorch-fid (mseitzer) on GitHub"
CLASSES = 1008


class Step(NamedTuple):
    """One convolution, its kernel as (rows, columns), with the size kept, or not padded."""

    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padded: bool = True

    def after(self, inputs: int) -> nn.Module:
        """The convolution of so many channels, batch normalisation and ReLU."""
        padding = (self.kernel[0] // 2, self.kernel[1] // 2) if self.padded else (0, 0)
        convolution = nn.Conv2d(inputs, self.width, self.kernel, self.stride, padding, bias=False)
        norm = nn.BatchNorm2d(self.width, eps=1e-3)
        return nn.Sequential(OrderedDict(conv=convolution, bn=norm, relu=nn.ReLU()))


Fork = tuple[Step, Step]  # two convolutions of the same map, their results side by side
Branches = Mapping[str, tuple[Step | Fork, ...]]

AVERAGE = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)  # of a corner 4 cells, of a side 6
LARGEST = nn.MaxPool2d(3, stride=1, padding=1)
HALVE = nn.MaxPool2d(3, stride=2)


class Mixed(nn.Module):
    """Branches of convolutions over one map, the last of which pools first; all results side by side.

    In the published names a branch of one convolution has no number, others count from 1, and a fork has a and b.
    """

    def __init__(self, inputs: int, branches: Branches, pool: nn.Module = AVERAGE) -> None:
        super().__init__()
        self.pool, self.paths = pool, list[list[list[str]]]()
        """Names of the convolutions: branch, then step, then one or two."""
        for branch, steps in branches.items():
            width, path = inputs, []
            for number, step in enumerate(steps, start=1):
                fork = (step,) if isinstance(step, Step) else step
                stem = branch if len(steps) == 1 else f"{branch}_{number}"
                path.append([stem] if len(fork) == 1 else [f"{stem}a", f"{stem}b"])
                for name, one in zip(path[-1], fork, strict=True):
                    self.add_module(name, one.after(width))
                width = sum(one.width for one in fork)
            self.paths.append(path)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d p q"]:
        results = []
        for path in self.paths:
            y = self.pool(x) if path is self.paths[-1] else x
            for names in path:
                y = torch.cat([self.get_submodule(name)(y) for name in names], dim=1)
            results.append(y)
        return torch.cat(results, dim=1)


def _mixed_35(pooled: int) -> Branches:
    """On 35x35 cells (fig. 5)."""
    return {
        "branch1x1": (Step(64),),
        "branch5x5": (Step(48), Step(64, (5, 5))),
        "branch3x3dbl": (Step(64), Step(96, (3, 3)), Step(96, (3, 3))),
        "branch_pool": (Step(pooled),),
    }


def _mixed_17(width: int) -> Branches:
    """On 17x17 cells, 7x7 as a row and a column (fig. 6)."""
    row, column = Step(width, (1, 7)), Step(width, (7, 1))
    return {
        "branch1x1": (Step(192),),
        "branch7x7": (Step(width), row, Step(192, (7, 1))),
        "branch7x7dbl": (Step(width), column, row, column, Step(192, (1, 7))),
        "branch_pool": (Step(192),),
    }


def _mixed_8() -> Branches:
    """On 8x8 cells, 3x3 as a row beside a column (fig. 7)."""
    fork = (Step(384, (1, 3)), Step(384, (3, 1)))
    return {
        "branch1x1": (Step(320),),
        "branch3x3": (Step(384), fork),
        "branch3x3dbl": (Step(448), Step(384, (3, 3)), fork),
        "branch_pool": (Step(192),),
    }


def _narrowing(width: int) -> Step:
    return Step(width, (3, 3), stride=2, padded=False)


TO_17: Branches = {
    "branch3x3": (_narrowing(384),),
    "branch3x3dbl": (Step(64), Step(96, (3, 3)), _narrowing(96)),
    "branch_pool": (),
}
TO_8: Branches = {
    "branch3x3": (Step(192), _narrowing(320)),
    "branch7x7x3": (Step(192), Step(192, (1, 7)), Step(192, (7, 1)), _narrowing(192)),
    "branch_pool": (),
}


class InceptionV3(Frozen):
    """Frozen features of images in [-1, 1] (pool3 of the graph). Without `load`, the weights are random."""

    name = "inception-v3"
    num_features = 2048
    fid = True  # a Fréchet distance of these features, with the published weights, is FID
    input_size = 299

    def __init__(self) -> None:
        super().__init__()
        self.layers = {  # 299 cells on a side become 149, 147, 147, 73, 73, 71, 35; 17; 8
            "Conv2d_1a_3x3": _narrowing(32).after(3),
            "Conv2d_2a_3x3": Step(32, (3, 3), padded=False).after(32),
            "Conv2d_2b_3x3": Step(64, (3, 3)).after(32),
            "maxpool1": HALVE,
            "Conv2d_3b_1x1": Step(80).after(64),
            "Conv2d_4a_3x3": Step(192, (3, 3), padded=False).after(80),
            "maxpool2": HALVE,
            "Mixed_5b": Mixed(192, _mixed_35(32)),
            "Mixed_5c": Mixed(256, _mixed_35(64)),
            "Mixed_5d": Mixed(288, _mixed_35(64)),
            "Mixed_6a": Mixed(288, TO_17, HALVE),
            "Mixed_6b": Mixed(768, _mixed_17(128)),
            "Mixed_6c": Mixed(768, _mixed_17(160)),
            "Mixed_6d": Mixed(768, _mixed_17(160)),
            "Mixed_6e": Mixed(768, _mixed_17(192)),
            "Mixed_7a": Mixed(768, TO_8, HALVE),
            "Mixed_7b": Mixed(1280, _mixed_8()),
            "Mixed_7c": Mixed(2048, _mixed_8(), LARGEST),  # an oddity of the graph that FID has kept
        }
        for name, layer in self.layers.items():
            self.add_module(name, layer)
        self.fc = nn.Linear(self.num_features, CLASSES)
        self.frozen()

    @classmethod
    def load(cls, path: str | Path) -> InceptionV3:
        """The network with the weights of a file: the published one, or a .safetensors file with the same names.

        Raises FileNotFoundError for a missing file, UserError for one of other tensors; torchvision's own weights
        have the same names but 1000 classes, and are refused.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no weights file at {path}: for FID it is {ORIGIN}; nothing is downloaded")
        return fill(cls(), read_weights(path), path, "the Inception-v3 of FID", ORIGIN)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2048"]:
        """Pooled features of images in [-1, 1] of any size, resized to 299x299 as pytorch-fid does."""
        x = eight_bit(x, self.input_size)  # FID compares image files; the graph itself took (x - 128) / 128 of 0..255
        for layer in self.layers.values():
            x = layer(x)
        return x.mean(dim=(2, 3))
