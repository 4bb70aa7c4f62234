"""Frozen picture networks: pooled features for metrics, and perceptual distances for training.

`efficientnet.py` the offline default; `vgg.py` LPIPS from weights the user has; `perceptual.py` the choice between
the two as a training loss; `weights.py` reads their files.
"""

from __future__ import annotations

from pathlib import Path

from ddmi.errors import UserError
from ddmi.features.efficientnet import EfficientNetLite0


def load(name_or_path: str | Path = EfficientNetLite0.name) -> EfficientNetLite0:
    """The feature network of that name, "efficientnet-lite0", or with its weights from a file of the user's.

    It maps pictures (B, 3, H, W) in [-1, 1] to (B, num_features), and has a `name` to record beside every number
    computed with it. A distance of distributions over these features is not the published FID, which is defined on
    Inception-v3: never compare the two.
    Raises UserError for an unknown name or a wrong file, FileNotFoundError for a missing one.
    """
    if str(name_or_path) == EfficientNetLite0.name:
        return EfficientNetLite0.load()
    if not is_file_name(name_or_path):
        raise UserError(
            f"unknown features {str(name_or_path)!r}: allowed are {EfficientNetLite0.name} and "
            "a .safetensors or .pth file of its weights"
        )
    return EfficientNetLite0.load(name_or_path)


def is_file_name(name_or_path: str | Path) -> bool:
    """Whether a setting names a file or folder rather than a known network."""
    path = Path(name_or_path)
    return path.exists() or path.suffix in (".safetensors", ".pth", ".pt") or len(path.parts) > 1
