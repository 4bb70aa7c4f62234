"""Configurations: frozen dataclasses to JSON and back, strict at every depth."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union

from ddmi import domains
from ddmi.base.errors import UserError, check_count, unknown
from ddmi.base.storage import SMALL, read_json
from ddmi.domains.base import Domain
from ddmi.model.autoencoder import AutoencoderConfig
from ddmi.model.diffusion import DiffusionConfig


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """All stages. Sizes are global: they do not change with the number of processes.

    Args:
        autoencoder_steps: optimiser steps of stage 1.
        diffusion_steps: optimiser steps of stage 2.
        batch_size: signals in one optimiser step, over all processes.
        diffusion_batch_size: the same for stages 2 and 3; 0: as stage 1.
        distillation_steps: optimiser steps of stage 3, the distillation; 0: no such stage.
        trajectory_uses: how often stage 3 uses a trajectory of the denoiser, on average, before it is replaced.
        trajectory_megabytes: space for these trajectories, on disk and in memory.
        accumulation: backward passes in one optimiser step; divides the batch, whose meaning it does not change.
        precision: of autocast; weights and optimiser stay in fp32. "auto": the faster one, which is stored.
        diffusion_precision: of stages 2 and 3, where it is another one; with "fp16" only "fp32".
        seed: of everything random.
        autoencoder_learning_rate: of stage 1.
        diffusion_learning_rate: of stages 2 and 3.
        final_learning_rate: share of the learning rate that is left at the end of the cosine.
        warmup_steps: linear warm-up, at most a tenth of the stage.
        weight_decay: of AdamW.
        betas: of AdamW.
        clip: largest gradient norm; 0: no clipping.
        autoencoder_ema: decay of averaged weights of the autoencoder; 0: none.
        decoder_steps: steps at the end of stage 1 that train decoder and read-out alone, on fixed latents.
        checkpoint_every: steps between checkpoints; 0: only at the end of a stage, or when stopped.
        preview_every: steps between previews; 0: never.
        log_every: steps between lines of the log.
        keep: checkpoints of a stage that stay on disk.
        non_finite_limit: non-finite steps in a row after which training stops.
        workers: processes that prepare batches; 0: the training process itself.
        compile: run the networks through torch.compile.
    """

    autoencoder_steps: int = 100_000
    diffusion_steps: int = 200_000
    batch_size: int = 32
    diffusion_batch_size: int = 0
    distillation_steps: int = 0
    trajectory_uses: int = 16
    trajectory_megabytes: int = 256
    accumulation: int = 1
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    diffusion_precision: Literal["same", "auto", "fp32", "bf16"] = "same"
    seed: int = 0
    autoencoder_learning_rate: float = 1e-4
    diffusion_learning_rate: float = 1e-4
    final_learning_rate: float = 0.01
    warmup_steps: int = 1000
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    autoencoder_ema: float = 0.0
    decoder_steps: int = 0
    checkpoint_every: int = 1000
    preview_every: int = 0
    log_every: int = 20
    keep: int = 2
    non_finite_limit: int = 5
    workers: int = 0
    compile: bool = False

    def __post_init__(self) -> None:
        positive = ("autoencoder_steps", "diffusion_steps", "batch_size", "accumulation", "keep", "non_finite_limit")
        for name in (*positive, "trajectory_uses", "trajectory_megabytes"):
            check_count(f"training.{name}", getattr(self, name))
        check_count("training.distillation_steps", self.distillation_steps, 0)
        if not 0 <= self.seed < 1 << 63:
            raise UserError(f"training.seed must be from 0 to 2^63 - 1, not {self.seed}")
        if self.batch_size % self.accumulation or self.diffusion_batch % self.accumulation:
            raise UserError(f"training.accumulation {self.accumulation} must divide the batch size {self.batch_size}")

        check_count("training.decoder_steps", self.decoder_steps, 0)
        if self.precision == "fp16" and self.diffusion_precision not in ("same", "fp32"):
            raise UserError("training.diffusion_precision must be same or fp32 where training.precision is fp16")

    @property
    def diffusion_batch(self) -> int:
        """Batch size of stage 2."""
        return self.diffusion_batch_size or self.batch_size


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything about a run."""

    name: str
    domain: Domain
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


def to_dict(value: Any) -> Any:
    """Plain JSON values of a configuration; a domain also says which one it is."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"name": domains.name_of(value), **plain} if isinstance(value, Domain) else plain
    return [to_dict(v) for v in value] if isinstance(value, tuple) else value


def from_dict(plain: Any, kind: Any = Config, where: str = "") -> Any:
    """The inverse of `to_dict`.

    Args:
        kind: the type that is wanted. where: dotted name of the place, for messages.

    Raises:
        UserError: an unknown key (names the nearest), a missing one, or a value of the wrong type.
    """
    if kind is Domain:
        if not isinstance(plain, dict) or not isinstance(plain.get("name"), str):
            raise UserError(f"{where} must be an object with a name, not {plain!r}")
        kind, plain = domains.find(plain["name"]), {k: v for k, v in plain.items() if k != "name"}
    if dataclasses.is_dataclass(kind):
        if not isinstance(plain, dict):
            raise UserError(f"{where or 'the configuration'} must be an object, not {plain!r}")
        hints = typing.get_type_hints(kind)
        fields = {f.name: f for f in dataclasses.fields(kind)}
        for key in plain:
            if key not in fields:
                raise unknown("setting", _join(where, key), [_join(where, name) for name in fields])
        for name, f in fields.items():
            required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
            if required and name not in plain:
                raise UserError(f"setting {_join(where, name)} is missing")
        return kind(**{key: from_dict(v, hints[key], _join(where, key)) for key, v in plain.items()})  # type: ignore[operator]
    return _value(plain, kind, where)


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _value(plain: Any, kind: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if plain not in arguments:
            raise unknown(f"value of {where}:", str(plain), [str(a) for a in arguments])
        return plain
    if origin in (Union, types.UnionType):
        return None if plain is None else from_dict(plain, next(a for a in arguments if a is not type(None)), where)
    if origin is tuple:
        if not isinstance(plain, list | tuple):
            raise UserError(f"setting {where} must be a list, not {plain!r}")
        variadic = len(arguments) == 2 and arguments[1] is Ellipsis
        if not variadic and len(plain) != len(arguments):
            raise UserError(f"setting {where} must have {len(arguments)} values, not {len(plain)}")
        kinds = [arguments[0]] * len(plain) if variadic else arguments
        return tuple(from_dict(v, k, f"{where}[{i}]") for i, (v, k) in enumerate(zip(plain, kinds, strict=True)))
    if kind is float and isinstance(plain, int | float) and not isinstance(plain, bool):
        if not abs(plain) <= sys.float_info.max:
            raise UserError(f"setting {where} must be a finite number, not {plain!r}")
        return float(plain)
    if not isinstance(plain, kind) or (kind is int and isinstance(plain, bool)):
        raise UserError(f"setting {where} must be of type {kind.__name__}, not {plain!r}")
    return plain


def override(config: Config, settings: dict[str, str]) -> Config:
    """The configuration with dotted settings replaced, e.g. {"training.batch_size": "16"}; values: JSON or plain words.

    Raises:
        UserError: a setting that does not exist (names the nearest) or a value of the wrong type.
    """
    plain = to_dict(config)
    for dotted, text in settings.items():
        *path, last = dotted.split(".")
        place = plain
        for i, key in enumerate([*path, last]):
            if not isinstance(place, dict) or key not in place:
                raise unknown("setting", dotted, names(plain))
            if i < len(path):
                place = place[key]
        place[last] = _parse(text)
    return from_dict(plain)


def pairs(given: Sequence[str]) -> dict[str, str]:
    """What `--set` was given, for `override`. Raises UserError for what is no NAME=VALUE."""
    found = {}
    for setting in given:
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise UserError(f"--set takes NAME=VALUE, e.g. training.batch_size=16, not {setting!r}")
        found[name.strip()] = value.strip()
    return found


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"True": True, "False": False}.get(text, text)


def names(plain: dict[str, Any], where: str = "") -> list[str]:
    """Dotted names of all settings."""
    found = []
    for key, value in plain.items():
        found += names(value, _join(where, key)) if isinstance(value, dict) else [_join(where, key)]
    return found


def save(config: Config, path: str | Path) -> None:
    """Write as JSON."""
    Path(path).write_text(json.dumps(to_dict(config), indent=2) + "\n")


def begun(run: Path, wanted: Config) -> Config:
    """The configuration that a run folder goes on with: its own, or `wanted` where there is none yet.

    Raises:
        UserError: the folder belongs to a run of another name.
    """
    stored = run / "config.json"
    if not stored.is_file():
        return wanted
    before = load(stored)
    if before.name != wanted.name:
        raise UserError(f"{stored} belongs to a run of {before.name!r}, not of {wanted.name!r}: choose another --out")
    return before


def load(path: str | Path) -> Config:
    """Read what `save` wrote. Raises UserError naming the file when it is missing, no JSON, or not a configuration."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist")
    plain = read_json(path, SMALL)
    try:
        return from_dict(plain)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (ArithmeticError, LookupError, TypeError) as error:  # of numbers that no setting is meant to have
        raise UserError(f"{path} is not a configuration: {error}") from error
