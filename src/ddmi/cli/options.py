"""The options that several commands share: each is declared here once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

Preset = Annotated[str, typer.Argument(help="A preset (see `ddmi presets`), a config.json, or a run folder.")]
Run = Annotated[
    str,
    typer.Argument(help="A run folder, a model folder, one of `ddmi models`, or a model of the hub (hub:owner/name)."),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Replace a setting; repeatable.")
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="A folder of images, prepared shapes, clips or posed views. A run remembers what it was trained on."
    ),
]
Size = Annotated[
    str, typer.Option(metavar="N|WIDTHxHEIGHT", help="Pixels, or cells of a mesh; without it, the domain's choice.")
]
Seed = Annotated[int, typer.Option(min=0, help="Sample k of a seed is always the same.")]
Guidance = Annotated[float | None, typer.Option(help="w of classifier-free guidance; 1: none.")]
Ending = Annotated[
    str, typer.Option("--format", metavar="ENDING", help="File format by its ending; without it, the domain's own.")
]
Folder = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the files.")]


@dataclass(frozen=True)
class Rendering:
    """How fields are rendered, and into which files."""

    size: Size = ""
    window: Annotated[
        str, typer.Option(metavar="X0,Y0,X1,Y1", help="Part of the frame, inside [-1, 1]; of a shape six numbers.")
    ] = ""
    frames: Annotated[
        int | None, typer.Option(help="Frames of a clip; without it, as many as the model was trained on.")
    ] = None
    fps: Annotated[
        float | None, typer.Option(help="Frames a second; more frames at the same rate are slow motion.")
    ] = None
    time: Annotated[str, typer.Option(metavar="T0,T1", help="Part of a clip's time, inside [-1, 1].")] = ""
    view: Annotated[
        str, typer.Option(metavar="AZIMUTH,ELEVATION", help="Of a radiance field: from where, in degrees.")
    ] = ""
    ending: Ending = ""


@dataclass(frozen=True)
class Sampling:
    """How samples are generated; what is not given is the model's own choice."""

    seed: Seed = 0
    sampler: Annotated[
        str,
        typer.Option(metavar="NAME", help="flow, ddpm, ddim, dpm, unipc, heun, rk45; without it, the model's own."),
    ] = ""
    steps: Annotated[int, typer.Option(min=0, help="Sampling steps; 0: the model's or the sampler's own.")] = 0
    tolerance: Annotated[float | None, typer.Option(help="Error tolerance of rk45 (default 0.001).")] = None
    eta: Annotated[float | None, typer.Option(help="Noise of ddim and flow: 0 none (default), 1 all.")] = None
    guidance: Guidance = None
    autoguidance: Annotated[
        float | None, typer.Option(help="w of guidance by a weaker version of the model, where it holds one; 1: none.")
    ] = None


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each field of a parameter that is one of these classes."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            types = get_type_hints(groups[name], include_extras=True)
            own = [inspect.Parameter(f.name, parameter.KEYWORD_ONLY, default=f.default, annotation=types[f.name])
                   for f in fields(groups[name])]  # fmt: skip
        else:
            own = [parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=hints[name])]
        parameters += own

    @functools.wraps(command)
    def call(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call
