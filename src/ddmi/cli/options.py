"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
Window = Annotated[
    str, typer.Option(metavar="X0,Y0,X1,Y1", help="Part of the frame, inside [-1, 1]; of a shape six numbers.")
]
Frames = Annotated[int | None, typer.Option(help="Frames of a clip; without it, as many as the model was trained on.")]
Fps = Annotated[float | None, typer.Option(help="Frames a second; more frames at the same rate are slow motion.")]
Time = Annotated[str, typer.Option(metavar="T0,T1", help="Part of a clip's time, inside [-1, 1].")]
View = Annotated[str, typer.Option(metavar="AZIMUTH,ELEVATION", help="Of a radiance field: from where, in degrees.")]
Seed = Annotated[int, typer.Option(min=0, help="Sample k of a seed is always the same.")]
Sampler = Annotated[
    str, typer.Option(metavar="NAME", help="flow, ddpm, ddim, dpm, unipc, heun or rk45; without it, the model's own.")
]
Steps = Annotated[int, typer.Option(min=0, help="Sampling steps; 0: the model's or the sampler's own.")]
Format = Annotated[
    str, typer.Option("--format", metavar="ENDING", help="File format by its ending; without it, the domain's own.")
]
Folder = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the files.")]
