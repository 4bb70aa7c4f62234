"""A classifier of occupancy grids: the evaluator behind the accuracy of text-to-shape generation (section C.2)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ddmi.base.errors import UserError
from ddmi.base.storage import aside, fill, load_metadata, load_tensors, save_tensors

FORMAT = "ddmi voxel classifier 1"
BATCH = 256  # grids at a time in `predict`


@dataclass(frozen=True, kw_only=True)
class VoxelClassifierConfig:
    """The names of the classes, in the order of the logits; cells along a side; channels after each halving."""

    classes: tuple[str, ...]
    resolution: int = 32
    widths: tuple[int, ...] = (24, 48, 96, 128)

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise UserError(f"a classifier needs two classes or more, not {list(self.classes)}")


class VoxelClassifier(nn.Module):
    """A small 3-D CNN: stride-2 convolutions with group norm, the mean over space, a linear read-out.

    The grids have array order (z, y, x), cells over [-1, 1], y up, 1 inside and 0 outside. `accuracy` is the share of
    held-out shapes that it names rightly, once that was measured.
    """

    def __init__(self, config: VoxelClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.accuracy: float | None = None
        layers: list[nn.Module] = []
        for k, (before, width) in enumerate(pairwise((1, *config.widths))):
            strides = (2, 1) if 0 < k < len(config.widths) - 1 else (2,)  # twice where grids are neither large nor tiny
            for channels, stride in zip((before, width), strides, strict=False):
                layers.append(nn.Conv3d(channels, width, 3, stride=stride, padding=1, bias=False))
                layers += [nn.GroupNorm(8, width), nn.SiLU()]
        self.features = nn.Sequential(*layers)
        self.readout = nn.Linear(config.widths[-1], len(config.classes))

    def forward(self, grids: Float[Tensor, "b 1 n n n"]) -> Float[Tensor, "b k"]:
        """Logits of the classes."""
        return self.readout(self.features(grids).mean(dim=(2, 3, 4)))

    @torch.no_grad()
    def predict(self, grids: Tensor) -> Int[Tensor, " b"]:
        """The likeliest class of each grid (b, n, n, n) of any type, 0 outside.

        Raises UserError for grids of another resolution than the classifier's.
        """
        n = self.config.resolution
        if tuple(grids.shape[1:]) != (n, n, n):
            raise UserError(f"this voxel classifier takes {n}x{n}x{n} cells, not at {tuple(grids.shape[1:])}")
        device = self.readout.weight.device
        logits = [self((part[:, None] > 0).float().to(device)).cpu() for part in grids.split(BATCH) if len(part)]
        return torch.cat([torch.zeros(0, len(self.config.classes)), *logits]).argmax(dim=1)


def save(model: VoxelClassifier, path: str | Path) -> None:
    """Write weights, classes, resolution and accuracy to one safetensors file.

    Raises WorkError when the file cannot be written.
    """
    metadata = {FORMAT: json.dumps({"config": asdict(model.config), "accuracy": model.accuracy})}
    with aside(Path(path)) as scratch:
        save_tensors(model.state_dict(), scratch, metadata)


def load_classifier(path: str | Path) -> tuple[VoxelClassifier, list[str]]:
    """A classifier for use, and the names of its classes in the order of its logits.

    Raises UserError for a missing or damaged file, and for one that holds something else.
    """
    path = Path(path)
    metadata = load_metadata(path)
    if FORMAT not in metadata:
        raise UserError(f"{path} holds no voxel classifier: ddmi train-classifier makes one")
    try:
        about = json.loads(metadata[FORMAT])
        lists = {name: tuple(about["config"][name]) for name in ("classes", "widths")}
        model = VoxelClassifier(VoxelClassifierConfig(**{**about["config"], **lists}))
        model.accuracy = about["accuracy"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is a damaged voxel classifier: {error}") from error
    fill(model, load_tensors(path), path)
    return model.eval().requires_grad_(False), list(model.config.classes)
