"""The model folder: what a run leaves for use, and what `from_pretrained` reads."""

from __future__ import annotations

import shutil
from pathlib import Path

from torch import nn

from ddmi import config as configuration
from ddmi.autoencoder import D2CVAE, as_channels_last, freeze
from ddmi.config import Config
from ddmi.diffusion import Diffusion
from ddmi.errors import UserError
from ddmi.storage import MANIFEST, aside, fill, load_tensors, save_tensors, seal, verify

CONFIG, AUTOENCODER, DIFFUSION = "config.json", "autoencoder.safetensors", "diffusion.safetensors"


def export(
    folder: Path, config: Config, autoencoder: nn.Module | None = None, diffusion: nn.Module | None = None
) -> None:
    """Put weights into the model folder; what is not given stays as it was. A new autoencoder drops the old denoiser.

    Raises:
        WorkError: the folder cannot be written; the old one is untouched.
    """
    with aside(folder) as scratch:
        scratch.mkdir(parents=True)
        if autoencoder is None:
            shutil.copy2(folder / AUTOENCODER, scratch)
        else:
            save_tensors(autoencoder.state_dict(), scratch / AUTOENCODER)
        if diffusion is not None:
            save_tensors(diffusion.state_dict(), scratch / DIFFUSION)
        configuration.save(config, scratch / CONFIG)
        seal(scratch)


def folder_of(path: str | Path) -> Path:
    """The model folder of a run, or the folder itself. Raises UserError when there is no model in either."""
    path = Path(path)
    for folder in (path / "model", path):
        if (folder / MANIFEST).is_file() or (folder / AUTOENCODER).is_file():
            return folder
    if not path.exists():
        raise UserError(f"{path} does not exist: name a run folder, a model folder, or a hub id")
    raise UserError(f"{path} holds no model: train one into it first (ddmi train PRESET --out {path})")


def open_folder(path: str | Path) -> tuple[Path, Config]:
    """A verified model folder and its configuration. Raises UserError naming a missing or altered file."""
    folder = folder_of(path)
    verify(folder)
    return folder, configuration.load(folder / CONFIG)


def load_autoencoder(folder: Path, config: Config) -> D2CVAE:
    """The autoencoder of a model folder, frozen."""
    model = D2CVAE(config.autoencoder, config.domain)
    fill(model, load_tensors(folder / AUTOENCODER), folder / AUTOENCODER)
    return freeze(as_channels_last(model))  # type: ignore[return-value]


def load_diffusion(folder: Path, config: Config) -> Diffusion | None:
    """The denoiser of a model folder, frozen; None when stage 2 has not been trained."""
    if not (folder / DIFFUSION).is_file():
        return None
    model = Diffusion(config.diffusion, config.domain.layout, config.autoencoder.latent_channels)
    tensors = load_tensors(folder / DIFFUSION)
    if config.diffusion.condition == "text" and "null_tokens" in tensors:  # as long as its text encoder makes it
        model.null_tokens, model.null_mask = tensors["null_tokens"], tensors["null_mask"]
    fill(model, tensors, folder / DIFFUSION)
    return freeze(as_channels_last(model))  # type: ignore[return-value]
