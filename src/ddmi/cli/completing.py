"""The command that completes what a file tells a part of."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from ddmi.base.errors import Empty, UserError
from ddmi.base.terminal import complain, say
from ddmi.cli.options import Ending, Folder, Guidance, Run, Seed, Size


def complete(
    run: Run,
    out: Folder,
    image: Annotated[Path | None, typer.Option(help="An image; a small one is enlarged.")] = None,
    mask: Annotated[Path | None, typer.Option(help="White where the image or clip is to be filled.")] = None,
    grey: Annotated[bool, typer.Option("--grey", help="Of the image, the brightness alone is known.")] = False,
    scattered: Annotated[int | None, typer.Option(help="Of the image, so many random pixels are known.")] = None,
    points: Annotated[
        Path | None, typer.Option(help="A partial scan (.ply, .npz), or points with occupancies.")
    ] = None,
    eye: Annotated[str, typer.Option(metavar="X,Y,Z", help="Where the scanner stood: space before it is empty.")] = "",
    clip: Annotated[Path | None, typer.Option(help="A clip.")] = None,
    views: Annotated[Path | None, typer.Option(help="Posed images of one object.")] = None,
    frames: Annotated[str, typer.Option(metavar="A-B,C", help="The known frames of the clip, or views.")] = "",
    count: Annotated[int, typer.Option(min=1, help="Samples.")] = 1,
    seed: Seed = 0,
    steps: Annotated[int, typer.Option(min=0, help="Noise levels; 0: the model's sampling steps.")] = 0,
    text: Annotated[str | None, typer.Option(help="What the samples show.")] = None,
    guidance: Guidance = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples computed together.")] = 4,
    size: Size = "",
    ending: Ending = "",
) -> None:
    """Sample what agrees with a part of an image, a scan, a clip, or photographs with their cameras."""
    from ddmi.base.progress import Bar
    from ddmi.cli.rendering import Names, check_folder, checked, size_of
    from ddmi.pipeline import DDMIPipeline
    from ddmi.recipe import made
    from ddmi.rendering import files, metadata

    shape = size_of(size)
    check_folder(out)
    pipe = DDMIPipeline.from_pretrained(run)
    domain = pipe.config.domain
    ending, options = checked(domain, ending, size=shape)
    told: dict[str, Any] = {
        "image": image,
        "mask": mask,
        "grey": grey or None,
        "scattered": scattered,
        "points": points,
    }
    told |= {"eye": eye_of(eye), "clip": clip, "views": views, "frames": frames_of(frames)}
    given = {name: value for name, value in told.items() if value is not None}
    for name in given:
        if name not in domain.observable:
            known = ", ".join(f"--{name}" for name in domain.observable) or "nothing"
            raise UserError(f"--{name} has no meaning for this model: it is completed from {known}")
    observed = domain.observations(**given)
    names, empty = Names(out, [file for file in (image, mask, points, clip) if file is not None]), False
    with Bar("samples", count) as bar:
        fields = pipe(
            count,
            seed,
            text=text,
            observed=observed,
            batch_size=batch_size,
            steps=steps,
            guidance_scale=guidance,
            progress=lambda done, _: bar.advance(done),
        )
    for k, field in enumerate(fields):
        path = names.free(f"complete-{seed}-{k}", ending)
        try:
            files.save(field.render(**options), path)
            metadata.stamp(path, made(pipe, run, f"sample {k} of seed {seed}, given {', '.join(given)}"))
        except Empty as error:
            complain(str(error))
            empty = True
            continue
        say(str(path))
    if empty:
        raise typer.Exit(1)


def frames_of(text: str) -> list[int] | None:
    """`0-3,8` as numbers; None for an empty text."""
    if not text:
        return None
    if not re.fullmatch(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*", text):
        raise UserError(f"--frames takes numbers from 0 and ranges, e.g. 0-3,15, not {text!r}")
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if int(last or first) < int(first):
            raise UserError(f"--frames: the range {part} ends before it begins")
        found |= set(range(int(first), int(last or first) + 1))
    return sorted(found)


def eye_of(text: str) -> tuple[float, ...] | None:
    """`0,0,2` as numbers; None for an empty text."""
    if not text:
        return None
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"--eye takes three numbers X,Y,Z, not {text!r}") from error
    if not all(map(math.isfinite, (x, y, z))):
        raise UserError(f"--eye takes three finite numbers, not {text!r}")
    return x, y, z
