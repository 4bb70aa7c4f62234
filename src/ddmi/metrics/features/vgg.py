"""VGG-16 (Simonyan and Zisserman 2015): features of images, and LPIPS, a distance in them (Zhang et al. 2018,
arXiv:1801.03924).

Hand-written because torchvision does not work with every build of torch, and the package lpips needs it.

No weights come with it; the user names a file, for LPIPS also a folder with several (VGG-16 and the five linear layers
are usually published apart).
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ddmi.base.errors import UserError
from ddmi.metrics.features.weights import Frozen, fill, read_weights

# Configuration D (Simonyan and Zisserman 2015): convolutions per stage; LPIPS taps each stage's last ReLU.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
SIDE, HIDDEN = 224, 4096  # what the fully connected layers of the classifier read, and give
ORIGIN = "the file vgg16-397923af.pth of torchvision, with its classifier"
SMALLEST = 16  # cells on the shorter side: the features are halved four times
SHIFT = (-0.030, -0.088, -0.188)  # of images in [-1, 1]; the ImageNet mean and deviation in that range
SCALE = (0.458, 0.448, 0.450)

_CONVOLUTION = re.compile(r"(?:features\.|net\.slice\d\.)(\d+)\.(weight|bias)")
_LINEAR = re.compile(r"lin(\d)(?:\.model\.1)?(?:\.weight)?")


def convolutions() -> nn.Sequential:
    """The convolutional part, numbered as in torchvision: ReLU and pooling count too."""
    layers: list[nn.Module] = []
    inputs = 3
    for widths in STAGES:
        for width in widths:
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class LpipsVgg(Frozen):
    """Frozen LPIPS distance; differentiable in both images. Without `load`, the weights are random."""

    name = "lpips-vgg16"

    def __init__(self) -> None:
        super().__init__()
        self.features = convolutions()
        for index, widths in enumerate(STAGES):
            self.register_parameter(f"lin{index}", nn.Parameter(torch.rand(1, widths[-1], 1, 1)))
        self.frozen()

    @classmethod
    def load(cls, path: str | Path) -> LpipsVgg:
        """LPIPS with the weights of a .safetensors or .pth file, or of all such files in a folder together.

        Tensors are found as `features.N.weight` and `.bias` with N as in the ImageNet VGG-16 (or `net.sliceK.N.` of
        LPIPS's own state), and `lin0` ... `lin4`, also spelled `lin0.weight` or `lin0.model.1.weight`.
        Raises UserError that names what is missing, FileNotFoundError for a missing file.
        """
        path = Path(path)
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".pth", ".pt"))
        found: dict[str, Tensor] = {}
        for file in files:
            found |= {_canonical(name): value for name, value in read_weights(file).items()}
        return fill(cls(), found, path, "LPIPS on VGG-16", "a file or folder with VGG-16 and lin0 ... lin4")

    def maps(self, x: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The maps after relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3, of images in [-1, 1] of size >= 16."""
        if min(x.shape[-2:]) < SMALLEST:
            raise UserError(f"images of {x.shape[-1]}x{x.shape[-2]} are too small for LPIPS: at least 16x16 is needed")
        x, taps = scaled(x), []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                taps.append(x)
            x = layer(x) if len(taps) < len(STAGES) else x
        return taps

    def forward(self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        """The distance of each pair of images in [-1, 1]: 0 for equal ones (LPIPS eq. 1)."""
        distances = [
            ((unit(u) - unit(v)).square() * self.get_parameter(f"lin{index}")).sum(dim=1).mean(dim=(1, 2))
            for index, (u, v) in enumerate(zip(self.maps(a), self.maps(b), strict=True))
        ]
        return torch.stack(distances).sum(dim=0)


class Vgg16(Frozen):
    """Frozen features of images in [-1, 1] for neighbours (Fig. 13), precision and recall (arXiv:1904.06991).

    The second fully connected layer behind its ReLU, 4,096 numbers, of images that are brought to 224 x 224
    bilinearly, with antialiasing. Parameters are named as in torchvision. Without `load`, the weights are random.
    """

    name, fid = "vgg16-fc2", False

    def __init__(self) -> None:
        super().__init__()
        self.features, self.num_features = convolutions(), HIDDEN
        first = nn.Linear(STAGES[-1][-1] * (SIDE // 32) ** 2, HIDDEN)
        self.classifier = nn.Sequential(first, nn.ReLU(), nn.Identity(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU())
        self.frozen()

    @classmethod
    def load(cls, path: str | Path) -> Vgg16:
        """With the weights of a .safetensors or .pth file. UserError that names what is missing in it."""
        return fill(cls(), read_weights(path), path, "VGG-16", ORIGIN)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        if tuple(x.shape[-2:]) != (SIDE, SIDE):
            x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        return self.classifier(self.features(scaled(x)).flatten(1))


def scaled(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Images of [-1, 1] in the range that VGG-16 was trained in."""
    shift, scale = (x.new_tensor(values).view(3, 1, 1) for values in (SHIFT, SCALE))
    return (x - shift) / scale


def unit(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Each cell's vector of channels at length one; a zero vector stays zero, and so does its gradient."""
    return F.normalize(x.float(), dim=1, eps=1e-10)


def _canonical(name: str) -> str:
    if match := _CONVOLUTION.fullmatch(name):
        return f"features.{match[1]}.{match[2]}"
    if match := _LINEAR.fullmatch(name):
        return f"lin{match[1]}"
    return name
