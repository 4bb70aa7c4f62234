"""What the options mean: the words of a command line as the library takes them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddmi.base.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from ddmi.cli.options import Rendering, Sampling
    from ddmi.config import Config
    from ddmi.model.sampling import SamplingConfig
    from ddmi.pipeline import DDMIPipeline


def preset(name: str) -> Config:
    """A preset, a configuration file, or the configuration of a run folder. Raises UserError for anything else."""
    from ddmi import config as configuration
    from ddmi import presets as known

    path = Path(name)
    if name not in known.functions():
        if path.is_dir() and (path / "config.json").is_file():
            return configuration.load(path / "config.json")
        if path.is_file() or path.suffix == ".json":
            return configuration.load(path)
    return known.find(name)


def override(config: Config, settings: list[str] | None) -> Config:
    """The configuration with what `--set` replaces. Raises UserError for what is no NAME=VALUE."""
    from ddmi import config as configuration

    return configuration.override(config, configuration.pairs(settings or ()))


def sampling(given: Sampling) -> SamplingConfig:
    """How samples are generated."""
    from ddmi.model.sampling import SamplingConfig

    return SamplingConfig(
        seed=given.seed,
        sampler=given.sampler or None,
        steps=given.steps,
        eta=given.eta or 0.0,
        tolerance=1e-3 if given.tolerance is None else given.tolerance,
        guidance_scale=given.guidance,
        autoguidance=given.autoguidance,
    )


def rendering(given: Rendering) -> dict[str, Any]:
    """Options of a domain's `render`; None where nothing was said."""
    from ddmi.cli.rendering import pair_of, size_of, window_of

    found = {"size": size_of(given.size), "window": window_of(given.window), "frames": given.frames, "fps": given.fps}
    return {**found, "time": pair_of("--time", given.time), "view": pair_of("--view", given.view)}


def latent(pipe: DDMIPipeline, value: str, option: str, text: str | None) -> Float[Tensor, "1 c l"]:
    """The latent of SEED:K or of a file. Raises UserError for a `value` that is neither; `option` is who said it."""
    if Path(value).exists():
        return pipe.encode_latent(value)
    if match := re.fullmatch(r"(\d+):(\d+)", value):
        return pipe.latents(1, int(match[1]), first=int(match[2]), text=text)
    raise UserError(f"{option} takes a file or SEED:K (sample K of that seed), and {value!r} is neither")
