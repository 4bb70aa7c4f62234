"""The model folder: what a run leaves for use, what comes with the package, and what `from_pretrained` reads."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

from torch import Tensor, nn

from ddmi import config as configuration
from ddmi import weights
from ddmi.base.errors import UserError, WorkError
from ddmi.base.storage import (
    MANIFEST,
    SMALL,
    aside,
    build,
    digest,
    load_tensors,
    locked,
    read_json,
    save_tensors,
    seal,
    verify,
    write_json,
)
from ddmi.config import Config
from ddmi.model.autoencoder import D2CVAE, as_channels_last, freeze
from ddmi.model.diffusion import Diffusion

CONFIG, AUTOENCODER, DIFFUSION = "config.json", "autoencoder.safetensors", "diffusion.safetensors"
FLOW = "flow.safetensors"
FILES = (CONFIG, AUTOENCODER, DIFFUSION, FLOW, MANIFEST)
"""Of a model folder; the manifest is put in place last."""
AGAIN = "train with --resume to write it again from the checkpoints of stage 1"
LARGEST = 1 << 27
"""Numbers that one latent may have."""
PENDING = ".export"
"""A folder in the model folder: a complete export that is about to take its place."""

DATA = "data.json"
"""Of a run folder: where its data lies. It is no part of the model."""


def remember_data(run: Path, data: str | Path) -> None:
    """Note in a run folder what it is trained on."""
    with aside(run / DATA) as scratch:
        write_json({"path": str(Path(data).absolute())}, scratch)


def data_of(run: str | Path, given: str | Path | None = None) -> str | Path | None:
    """The data of a run: what is given, else what it was trained on; None for a run whose domain brings its own.

    Raises:
        UserError: what it was trained on is no longer there.
    """
    note = Path(run) / DATA
    if given is not None or not note.is_file():
        return given
    noted = read_json(note, SMALL)
    path = noted.get("path") if isinstance(noted, dict) else None
    if not isinstance(path, str):
        raise UserError(f"{note} is damaged: name the data with --data")
    if not Path(path).exists():
        raise UserError(f"{run} was trained on {path}, which is no longer there: name the data with --data")
    return path


def export(
    folder: Path,
    config: Config,
    autoencoder: nn.Module | None = None,
    diffusion: nn.Module | None = None,
    flow: nn.Module | None = None,
    *,
    half: bool = False,
) -> None:
    """Put weights into the model folder; what stood before the first that is given stays, and what stood behind it is
    dropped: a new autoencoder has no denoiser yet, a new denoiser no flow map.

    Other files in the folder stay. The new ones are complete in a folder inside before the first takes its place, so
    that after a crash there is the old model or the new one.

    Args:
        half: round parameters to float16, which takes half the space. Buffers (statistics of the latent, the noise
            schedule) stay as they are, and networks are always computed with in float32.

    Raises:
        UserError: the folder holds a file of one of our names that is not of a model, or a file that is to stay and
            was altered.
        WorkError: the folder cannot be written; the old model is untouched.
    """
    check_export(folder)
    with aside(folder / PENDING, own=FILES) as scratch:
        scratch.mkdir()
        networks = {AUTOENCODER: autoencoder, DIFFUSION: diffusion, FLOW: flow}
        first = next(k for k, network in enumerate(networks.values()) if network is not None)
        for name in list(networks)[:first]:
            shutil.copy2(folder / name, scratch)
            if digest(scratch / name) != read_json(folder / MANIFEST, SMALL)[name]:
                raise UserError(f"{folder / name} was altered: {AGAIN}")
        for name, network in networks.items():
            if network is not None:
                save_tensors(weights_of(network, half=half), scratch / name)
        configuration.save(config, scratch / CONFIG)
        seal(scratch)
    _settle(folder)


def check_export(folder: Path) -> None:
    """Make sure that `export` can write here. Raises UserError naming a file of its names that it did not write."""
    if folder.is_dir():
        _settle(folder)
    elif folder.exists():
        raise UserError(f"{folder} is a file: a model is a folder")
    ours = _listed(folder)
    for name in FILES:
        if (folder / name).exists() and name not in ours:
            place = folder / name
            raise UserError(f"{place} is not of a model that was written here: move it away, or name another folder")


def _listed(folder: Path) -> set[str]:
    """The names of the model's files in a folder, its manifest included; none where it holds no model."""
    manifest = folder / MANIFEST
    found = read_json(manifest, SMALL) if manifest.is_file() else None
    return {*found, MANIFEST} if isinstance(found, dict) and {CONFIG, AUTOENCODER} <= found.keys() else set()


def intact(folder: Path, name: str) -> bool:
    """Whether a file of a model folder is what was written."""
    return name in _listed(folder) and digest(folder / name) == read_json(folder / MANIFEST, SMALL)[name]


def _settle(folder: Path) -> None:
    """Put the files of a complete export into their places: those of this one, or of one that was interrupted."""
    pending = folder / PENDING
    if not _listed(pending):
        return
    try:
        with locked(folder, wait=True):
            before, now = _listed(folder), _listed(pending)
            for name in FILES if now else ():  # another process may have put them there meanwhile
                if name in before - now:
                    (folder / name).unlink(missing_ok=True)
                elif (pending / name).is_file():
                    os.replace(pending / name, folder / name)
            shutil.rmtree(pending, ignore_errors=True)
    except OSError as error:
        raise WorkError(f"cannot put the model that was saved into {folder}: {error.strerror or error}") from error


def weights_of(module: nn.Module, *, half: bool) -> dict[str, Tensor]:
    """The state of a module, its parameters in float16 where `half`; those of a denoiser's guide always are. Its flow
    map is another network.
    """
    rounded = {name for name, _ in module.named_parameters() if half or name.startswith("guide.")}
    kept = {name: t for name, t in module.state_dict().items() if not name.startswith("flow.")}
    return {name: t.half() if name in rounded else t for name, t in kept.items()}


def folder_of(path: str | Path) -> Path:
    """The model folder of a run, the folder itself, or that of a model that comes with the package.

    A folder here goes before a model of the same bare name, if it holds a model.

    Raises:
        UserError: there is no model in any of these.
    """
    shipped, path = weights.find(path), Path(path)
    for folder in (path / "model", path):
        _settle(folder)
        if (folder / MANIFEST).is_file() or (folder / AUTOENCODER).is_file():
            return folder
    if shipped is not None:
        return shipped
    if not path.exists():
        known = ", ".join(weights.names())
        own = f", or a model that comes with the package ({known})" if known else ""
        raise UserError(
            f"{path} does not exist: name a run folder, a model folder, one of the hub (hub:owner/name){own}"
        )
    raise UserError(f"{path} holds no model: train one into it first (ddmi train PRESET --out {path})")


def open_folder(path: str | Path) -> tuple[Path, Config]:
    """A verified model folder and its configuration. Raises UserError naming a missing or altered file."""
    folder = folder_of(path)
    verify(folder, FILES)
    return folder, configuration.load(folder / CONFIG)


def load_autoencoder(folder: Path, config: Config) -> D2CVAE:
    """The autoencoder of a model folder, frozen."""
    path = folder / AUTOENCODER
    model = build(lambda: D2CVAE(config.autoencoder, config.domain), load_tensors(path), path)
    if math.prod(model.latent_shape) > LARGEST:
        raise UserError(f"{folder / CONFIG}: a latent of {math.prod(model.latent_shape):,} numbers is too large")
    return freeze(as_channels_last(model))  # type: ignore[return-value]


def load_diffusion(folder: Path, config: Config) -> Diffusion | None:
    """The denoiser of a model folder with its flow map, frozen; None when stage 2 has not been trained."""
    denoiser = _load(folder / DIFFUSION, config)
    if denoiser is not None:
        denoiser.flow = _load(folder / FLOW, config, target=True)
    return denoiser


def _load(path: Path, config: Config, *, target: bool = False) -> Diffusion | None:
    if not path.is_file():
        return None
    tensors = load_tensors(path)

    def make(prefix: str = "") -> Diffusion:
        channels = config.autoencoder.latent_channels
        model = Diffusion(config.diffusion, config.domain.layout, channels, target=target)
        tokens, mask = tensors.get(f"{prefix}null_tokens"), tensors.get(f"{prefix}null_mask")
        width = config.diffusion.text_width if config.diffusion.condition == "text" else 0
        if tokens is not None and mask is not None and (*mask.shape, width) == tokens.shape == (len(tokens), width):
            model.null_tokens, model.null_mask = tokens, mask  # as long as the text encoder makes them
        if not prefix and any(name.startswith("guide.") for name in tensors):
            model.guide = make("guide.")
        return model

    return freeze(as_channels_last(build(make, tensors, path)))  # type: ignore[return-value]
