"""The model folder: what a run leaves for use, what comes with the package, and what `from_pretrained` reads."""

from __future__ import annotations

import shutil
from pathlib import Path

from torch import Tensor, nn

from ddmi import config as configuration
from ddmi import weights
from ddmi.autoencoder import D2CVAE, as_channels_last, freeze
from ddmi.config import Config
from ddmi.diffusion import Diffusion
from ddmi.errors import UserError
from ddmi.storage import MANIFEST, aside, fill, load_tensors, save_tensors, seal, verify

CONFIG, AUTOENCODER, DIFFUSION = "config.json", "autoencoder.safetensors", "diffusion.safetensors"


def export(
    folder: Path,
    config: Config,
    autoencoder: nn.Module | None = None,
    diffusion: nn.Module | None = None,
    *,
    half: bool = False,
) -> None:
    """Put weights into the model folder; what is not given stays as it was. A new autoencoder drops the old denoiser.

    Args:
        half: round parameters to float16, which takes half the space. Buffers (statistics of the latent, the noise
            schedule) stay as they are, and networks are always computed with in float32.

    Raises:
        WorkError: the folder cannot be written; the old one is untouched.
    """
    with aside(folder) as scratch:
        scratch.mkdir(parents=True)
        if autoencoder is None:
            shutil.copy2(folder / AUTOENCODER, scratch)
        else:
            save_tensors(_weights(autoencoder, half), scratch / AUTOENCODER)
        if diffusion is not None:
            save_tensors(_weights(diffusion, half), scratch / DIFFUSION)
        configuration.save(config, scratch / CONFIG)
        seal(scratch)


def _weights(module: nn.Module, half: bool) -> dict[str, Tensor]:
    """The state of a module, its parameters in float16 where `half`."""
    rounded = {name for name, _ in module.named_parameters()} if half else set()
    return {name: t.half() if name in rounded else t for name, t in module.state_dict().items()}


def folder_of(path: str | Path) -> Path:
    """The model folder of a run, the folder itself, or that of a model that comes with the package.

    A folder here goes before a model of the same bare name, if it holds a model.

    Raises:
        UserError: there is no model in any of these.
    """
    shipped, path = weights.find(path), Path(path)
    for folder in (path / "model", path):
        if (folder / MANIFEST).is_file() or (folder / AUTOENCODER).is_file():
            return folder
    if shipped is not None:
        return shipped
    if not path.exists():
        known = ", ".join(weights.names())
        own = f", or a model that comes with the package ({known})" if known else ""
        raise UserError(f"{path} does not exist: name a run folder, a model folder, a hub id{own}")
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
