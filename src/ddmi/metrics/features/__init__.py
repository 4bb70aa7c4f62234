"""Frozen image networks: pooled features for metrics, and perceptual distances for training.

`efficientnet.py` the offline default; `inception.py` the network of FID, from a file of weights; `vgg.py` VGG-16 and
LPIPS from weights the user has; `perceptual.py` the choice between distances as a training loss; `weights.py` reads
their files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ddmi.base.errors import UserError
from ddmi.metrics.features import inception
from ddmi.metrics.features.efficientnet import EfficientNetLite0
from ddmi.metrics.features.inception import InceptionV3
from ddmi.metrics.features.vgg import ORIGIN, Vgg16
from ddmi.metrics.features.weights import read_weights


@runtime_checkable
class FeatureNetwork(Protocol):
    """A frozen network from images (B, 3, H, W) in [-1, 1] to features (B, num_features)."""

    name: str  # to record beside every number computed with it
    num_features: int
    fid: bool  # whether a Fréchet distance of these features is the published FID

    def __call__(self, x: Any) -> Any: ...


def load(name_or_path: str | Path = EfficientNetLite0.name) -> FeatureNetwork:
    """The feature network of that name, "efficientnet-lite0", or the one whose weights are in a file of the user's.

    The tensors of a file say which network it is: Inception-v3, VGG-16 or EfficientNet-Lite0; only the last comes with
    weights. A distance of distributions over features with `fid` False is not the published FID: never compare the two.
    Raises UserError for an unknown name or a wrong file, FileNotFoundError for a missing one.
    """
    if str(name_or_path) == EfficientNetLite0.name:
        return EfficientNetLite0.load()
    if str(name_or_path) == InceptionV3.name:
        raise UserError(f"{InceptionV3.name} needs its file of weights: give the path of {inception.ORIGIN}")
    if not is_file_name(name_or_path):
        raise UserError(
            f"unknown features {str(name_or_path)!r}: allowed are {EfficientNetLite0.name} and a .safetensors or .pth "
            f"file of its weights, or of those of {InceptionV3.name} ({inception.FILE})"
        )
    if Path(name_or_path).name == inception.FILE:
        return InceptionV3.load(name_or_path)  # which says where the file comes from, when it is missing
    names = read_weights(name_or_path)
    if any(name.startswith("Mixed_") for name in names):
        return InceptionV3.load(name_or_path)
    if "_conv_stem.weight" in names:
        return EfficientNetLite0.load(name_or_path)
    if "features.0.weight" in names and "classifier.0.weight" in names:
        return Vgg16.load(name_or_path)
    raise UserError(
        f"{name_or_path} holds the weights of no known feature network: allowed are {EfficientNetLite0.name}, "
        f"{InceptionV3.name} ({inception.FILE}) and VGG-16 ({ORIGIN})"
    )


def is_file_name(name_or_path: str | Path) -> bool:
    """Whether a setting names a file or folder rather than a known network."""
    path = Path(name_or_path)
    return path.exists() or path.suffix in (".safetensors", ".pth", ".pt") or len(path.parts) > 1
