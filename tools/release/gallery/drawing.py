"""What is drawn of a model of each domain, at which sizes, and in what words each file is described."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ddmi.rendering.clip import contact_sheet, filmstrip
from ddmi.report import viewer
from tools.release.gallery.model import SEED, Again, Model, Shown, counted
from tools.release.gallery.prompts import COLOURED, DRAWINGS, PIECES, UNSEEN
from tools.release.gallery.sheets import GAP, Cell, held

if TYPE_CHECKING:
    from PIL import Image
    from trimesh import Trimesh

EACH, SIDE = 4, 160
"""Samples of each of the drawings, and pixels a side."""
FINER, PANEL, WINDOW = (1, 2, 4, 8), 288, (-0.5, -0.5, 0.0, 0.0)
"""Sizes of one drawing as multiples of the resolution, pixels that each is shown with, and a window of it."""
SMALL, ACROSS = 116, 10
"""Pixels a side of those that no emoji is called, and how many stand in a row."""

TWICE, CELLS = 2, 96
"""Samples of each of the pieces, and cells along each axis of their meshes."""
TURNED, VIEWS, PACE = 8, 30, 10.0
"""Pieces that turn, also by hand, pictures of a turn, and of these a second."""

CLIPS, FRAME = 16, 112
"""Clips that are drawn, and pixels of their shorter side."""
STRIPS, SHOWN = 6, 10
"""Clips that are shown as a filmstrip, and frames of each."""
FASTER, LARGE = 4, 208
"""Times the frame rate, and pixels of the shorter side of the clip that is shown so."""

ORBIT, ROUND, RAYS = 112, 20, {"samples": 48, "fine": 0}
"""Pixels a side of a turning radiance field, views of a turn, and how finely rays are sampled."""
SIDES, AZIMUTHS, HEIGHT, SEEN = 4, (35.0, 125.0, 215.0, 305.0), 20.0, 128
"""Fields that are shown from several sides, these sides in degrees, and pixels a side."""


def firsts(count: int) -> str:
    """The first samples by their numbers, in words."""
    return "Sample 0" if count == 1 else f"Samples 0 {'and' if count == 2 else 'to'} {count - 1}"


def drawings(model: Model) -> tuple[list[Shown], Again]:
    """Pictures: prompts, one drawing at several sizes, and what no emoji is called."""
    cells, options = [], "--size 512"
    for caption, fields in model.draws(f"{model.stem}.png", DRAWINGS, EACH):
        cells.append(Cell(contact_sheet([field.render(SIDE) for field in fields], 1, GAP), caption))
    words = f"{firsts(EACH)} of seed {SEED} for each prompt, a column each, none left out."
    if model.told:
        words += " The prompts are names of emoji; along a row the noise is the same, and only the words change."
    found = [model.sheet(".png", cells, len(cells), words, model.command(DRAWINGS, EACH, options))]
    found.append(sizes(model))
    if model.told:
        cells = [Cell(f[0].render(SMALL), c) for c, f in model.draws(f"{model.stem}-unseen.png", UNSEEN, 1)]
        words = (
            f"{len(UNSEEN)} things that no emoji is called, so that the model has seen none of them. Sample 0 of seed "
            f"{SEED} for each, none left out."
        )
        found.append(model.sheet("-unseen.png", cells, ACROSS, words, model.command(UNSEEN, 1, options)))
    return found, model.again(DRAWINGS[0], options, 'render(512).save("drawing.png")')


def sizes(model: Model) -> Shown:
    """One sample at several sizes, and a window of it, which is asked alone in the end."""
    from PIL import Image, ImageDraw

    prompt = DRAWINGS[1]
    ((_, (field,)),) = model.draws(f"{model.stem}-sizes.png", (prompt,), 1)
    base = model.pipe.config.domain.resolution  # type: ignore[attr-defined]
    low, high = ((np.array(corner) + 1) / 2 for corner in (WINDOW[:2], WINDOW[2:]))

    def panel(picture: Image.Image) -> Image.Image:
        harder = picture.width < PANEL
        return picture.resize((PANEL, PANEL), Image.Resampling.NEAREST if harder else Image.Resampling.LANCZOS)

    cells = []
    for size in [base * k for k in FINER]:
        whole = field.render(size)
        part = whole.crop((*np.round(low * size).astype(int).tolist(), *np.round(high * size).astype(int).tolist()))
        cells.append(Cell(contact_sheet([panel(whole), panel(part)], 1, GAP), f"{size} × {size}"))
    marked = field.render(PANEL)
    box = [*(low * PANEL).round().tolist(), *(high * PANEL - 1).round().tolist()]
    ImageDraw.Draw(marked).rectangle(box, outline=(214, 48, 49), width=max(1, PANEL // 96))
    alone = field.render(PANEL, window=WINDOW)
    cells.append(Cell(contact_sheet([marked, alone], 1, GAP), f"the window alone, {PANEL} × {PANEL}"))
    words = (
        f"One function, sample 0 of seed {SEED}{f' for “{prompt}”' if model.told else ''}, evaluated at the pixels "
        f"of larger and larger grids; below, a window of each, and at the end that window by itself. The encoder reads "
        f"{base} × {base} pixels. Nothing is enlarged but to show its pixels."
    )
    corners = ",".join(f"{v:g}" for v in WINDOW)
    command = model.command((prompt,), 1, f"--size {PANEL} --window={corners}")
    return model.sheet("-sizes.png", cells, len(cells), words, command)


def solids(model: Model) -> tuple[list[Shown], Again]:
    """Shapes: shaded meshes, and some that turn."""
    from ddmi.rendering.shader import shaded, turntable

    cells: list[Cell] = []
    meshes: list[tuple[str, Trimesh]] = []
    for caption, fields in model.draws(f"{model.stem}.png", PIECES, TWICE):
        own = [field.render(CELLS) for field in fields]
        cells.append(Cell(contact_sheet([shaded(mesh, SIDE) for mesh in own], 1, GAP), caption))
        meshes.append((caption if model.told else caption.split(",")[0], own[0]))
    words = (
        f"{firsts(TWICE)} of seed {SEED} for each prompt, one above the other, none left out. Each is a "
        f"function of (x, y, z) that says where the inside is; the meshes are its surface on a grid of {CELLS}³."
    )
    options = f"--size {CELLS} --format glb"
    still = model.sheet(".png", cells, len(cells) // 2, words, model.command(PIECES, TWICE, options))
    turning = []
    for caption, mesh in counted(f"{model.stem}-turning.webp", meshes[:TURNED]):
        turning.append(Cell(held(turntable(mesh, SIDE, VIEWS, fps=PACE)), caption))
    words = f"Sample 0 of the first {len(turning)} prompts, turning."
    command = model.command(PIECES[:TURNED], 1, f"--size {CELLS} --format gif")
    moving = model.sheet("-turning.webp", turning, max(1, TURNED // 2), words, command)
    again = model.again(PIECES[0], options, f'render({CELLS}).export("piece.glb")')
    shown = [
        replace(one, mesh=viewer.lighter(mesh)) if k < TURNED else one
        for k, (one, (_, mesh)) in enumerate(zip(still.row.figures, meshes, strict=True))
    ]
    return [replace(still, row=replace(still.row, figures=shown)), moving], again


def clips(model: Model) -> tuple[list[Shown], Again]:
    """Video: clips that play, frames of some, and one at a higher frame rate."""
    fields = model.pipe(CLIPS, SEED)
    drawn = [held(field.render(FRAME)) for field in counted(f"{model.stem}.webp", fields)]
    columns = max(1, round(len(drawn) ** 0.5))
    words = (
        f"{firsts(len(drawn))} of seed {SEED}, none left out. Each is a function of (x, y, t), rendered at "
        f"{len(drawn[0])} frames of {drawn[0].size[1]} × {drawn[0].size[0]}."
    )
    alone = ("",) * CLIPS
    every = model.command(alone, 1, f"--size {FRAME} --format mp4")
    found = [model.sheet(".webp", [Cell(clip) for clip in drawn], columns, words, every)]
    strips = filmstrip(drawn[:STRIPS], SHOWN)
    words = f"The first {min(STRIPS, len(drawn))} of them, a row each: {min(SHOWN, len(drawn[0]))} frames."
    command = model.command(alone[:STRIPS], 1, f"--size {FRAME} --format png")
    found.append(model.sheet(".png", [Cell(strips)], 1, words, command, whole=True))
    rates = []
    for times in counted(f"{model.stem}-rates.webp", (1, FASTER)):
        plain = drawn[0]
        clip = held(fields[0].render(LARGE, frames=times * len(plain), fps=times * plain.fps))
        rates.append(Cell(clip, f"{len(clip)} frames, {clip.fps:g} a second"))
    words = (
        f"Sample 0 at the frame rate that the model reads, and at {FASTER} times as many frames in the same time. "
        "These are values of the function between the others; nothing is blended afterwards."
    )
    command = model.command(("",), 1, f"--size {LARGE} --fps {FASTER * drawn[0].fps:g} --format mp4")
    found.append(model.sheet("-rates.webp", rates, len(rates), words, command))
    return found, model.again("", "--size 256", 'render(256).save("clip.mp4")')


def views(model: Model) -> tuple[list[Shown], Again]:
    """Radiance fields: turning, then some from several sides with their depth."""
    turning, fields = [], []
    for caption, (field, *_) in model.draws(f"{model.stem}.webp", COLOURED, 1):
        turning.append(Cell(held(field.render(ORBIT, **RAYS).turntable(ROUND)), caption))
        fields.append((caption, field))
    columns = max(1, round(len(turning) ** 0.5))
    words = (
        f"Sample 0 of seed {SEED} for each prompt, none left out, turning. Each is a function of a place and a "
        f"direction that gives a colour and a density; an image gathers these along {ORBIT} × {ORBIT} rays."
    )
    command = model.command(COLOURED, 1, f"--size {ORBIT} --format mp4")
    found = [model.sheet(".webp", turning, columns, words, command)]
    cells = []
    for caption, field in counted(f"{model.stem}.png", fields[:SIDES]):
        shots = [field.render(SEEN, view=(azimuth, HEIGHT)) for azimuth in AZIMUTHS]
        row = [*(shot.image for shot in shots), shots[0].depth]
        cells.append(Cell(contact_sheet(row, len(row), GAP), caption))
    words = (
        f"The first {len(cells)} of them from {len(AZIMUTHS)} sides, and the distance from the first camera, the "
        "nearest dark."
    )
    command = model.command(COLOURED[:SIDES], 1, f"--size {SEEN} --view={AZIMUTHS[0]:g},{HEIGHT:g}")
    found.append(model.sheet(".png", cells, 1, words, command, whole=True))
    return found, model.again(COLOURED[0], "--size 256", 'render(256).save("piece.png")')


DRAWN: dict[str, Callable[[Model], tuple[list[Shown], Again]]] = {
    "image": drawings,
    "shape": solids,
    "video": clips,
    "nerf": views,
}
"""Domain -> what draws a model of it: its files, and how to draw its first sample again."""
