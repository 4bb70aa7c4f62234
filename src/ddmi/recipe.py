"""What it takes to make a sample again: as metadata of files, as a command line, and as three lines of Python."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ddmi import __version__
from ddmi.base.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from ddmi.model.sampling import SamplingConfig
    from ddmi.pipeline import DDMIPipeline


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One sample of a model.

    Args:
        model: its name, or its folder. digest: of its files, 16 hexadecimal digits.
        seed, index: sample `index` of this seed.
        text, negative, label: what it was conditioned on.
        sampling: further settings of `SamplingConfig`: sampler, steps, guidance_scale, ...
        version: of the program.
    """

    model: str
    digest: str = ""
    seed: int = 0
    index: int = 0
    text: str | None = None
    negative: str | None = None
    label: str | int | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__

    @staticmethod
    def of(
        pipe: DDMIPipeline,
        model: str,
        index: int,
        sampling: SamplingConfig,
        *,
        text: str | None = None,
        negative: str | None = None,
        label: str | int | None = None,
    ) -> Recipe:
        """That of sample `index` of a call of the pipeline."""
        how = sampling.told(pipe.config.diffusion)
        condition = {"text": text, "negative": negative, "label": label}
        return Recipe(model=model, digest=pipe.digest, seed=sampling.seed, index=index, sampling=how, **condition)  # type: ignore[arg-type]

    def metadata(self) -> dict[str, Any]:
        """Plain names and values, one level, without what is not there."""
        plain = {name: value for name, value in asdict(self).items() if value not in (None, "") and name != "sampling"}
        return {"program": "ddmi", **plain, **self.sampling}

    @staticmethod
    def read(metadata: Mapping[str, Any]) -> Recipe:
        """The inverse of `metadata`. Raises UserError where it does not describe a sample."""
        own = {"model": str, "digest": str, "seed": int, "index": int, "text": str, "negative": str, "version": str}
        given = dict(metadata)
        if given.pop("program", "") != "ddmi" or not {"model", "index"} <= given.keys():
            raise UserError("this is no metadata of a sample of ddmi")
        label = given.pop("label", None)
        values = {name: given.pop(name) for name in own if name in given}
        for name, value in values.items():
            if not isinstance(value, own[name]):
                raise UserError(f"metadata: {name} cannot be {value!r}")
        return Recipe(**values, label=label, sampling=given)

    def latent(self, pipe: DDMIPipeline) -> Tensor:
        """The sample's packed latent (1, c, l), by the model that it names.

        Raises:
            UserError: settings that the sampler does not have.
        """
        from ddmi.model.sampling import SamplingConfig

        lists: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in self.sampling.items()
        }
        try:
            sampling = SamplingConfig(seed=self.seed, **lists)
        except TypeError as error:
            raise UserError(f"metadata: {error}") from error
        return pipe.latents(
            1, first=self.index, sampling=sampling, text=self.text, label=self.label, negative=self.negative
        )

    def command(self, options: Mapping[str, Any] | None = None) -> str:
        """The command that makes the sample again, beside the `index` samples before it."""
        flags = {"seed": self.seed, "text": self.text, "negative": self.negative, "label": self.label}
        flags |= {_OPTIONS.get(name, name): value for name, value in self.sampling.items()}
        flags |= {"count": self.index + 1, **(options or {})}
        parts = ["ddmi", "sample", self.model]
        for name, value in flags.items():
            if value is not None and name != "guidance_interval":
                parts += [f"--{name}", _flat(value)]
        return shlex.join([*parts, "--out", "out"])

    def python(self, options: Mapping[str, Any] | None = None, save: str = "sample.png") -> str:
        """Three lines of Python that make the sample again."""
        arguments = {"seed": self.seed, "first": self.index, "text": self.text, "negative": self.negative}
        arguments |= {"label": self.label, **self.sampling}
        said = ", ".join(f"{name}={value!r}" for name, value in arguments.items() if value is not None)
        rendered = ", ".join(f"{name}={value!r}" for name, value in (options or {}).items())
        return (
            "from ddmi import DDMIPipeline\n"
            f"field = DDMIPipeline.from_pretrained({self.model!r})({said})[0]\n"
            f"field.render({rendered}).save({save!r})"
        )


def made(pipe: DDMIPipeline, model: str, what: str) -> dict[str, Any]:
    """Metadata of a file that shows something else than one sample."""
    return {"program": "ddmi", "model": model, "digest": pipe.digest, "version": __version__, "shows": what}


_OPTIONS = {"guidance_scale": "guidance"}
"""Names of settings that the command line calls otherwise."""


def _flat(value: Any) -> str:
    """A value as the command line reads it."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else f"{value}"
