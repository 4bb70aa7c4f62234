"""The command line: parses, calls the library, prints results to standard output and everything else to standard error.

Exit status: 0 done, 1 the work failed, 2 the user must change something. An error is one line; DDMI_TRACEBACK=1 shows
where it came from. Nothing heavy is imported before a command needs it, so that help is there at once.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ddmi import __version__
from ddmi.errors import Empty, UserError, WorkError, unknown
from ddmi.terminal import complain, rank, say, table, talking, times, tree, verdict

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from ddmi.config import Config
    from ddmi.data.preparation import Summary
    from ddmi.pipeline import DDMIPipeline

log = logging.getLogger("ddmi")

STAGES = ("autoencoder", "diffusion", "all")
PREPARED = ("shapes", "views")
STRIPS, ANIMATIONS = (".png", ".jpg", ".webp"), (".gif", ".mp4", ".webm")
DEMOS = ("image", "shape", "video", "nerf")


class _Commands(TyperGroup):
    """A group that answers a misspelt command with the nearest one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            raise unknown("command", args[0], self.commands)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Preset = Annotated[str, typer.Argument(help="A preset (see `ddmi presets`), a config.json, or a run folder.")]
Run = Annotated[
    str,
    typer.Argument(help="A run folder, a model folder, one of `ddmi models`, or a model of the hub (owner/name)."),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Replace a setting; repeatable.")
]
Data = Annotated[
    Path | None, typer.Option(help="The data: a folder of pictures, of prepared shapes, of clips, or of photographs.")
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
Seed = Annotated[int, typer.Option(help="Sample k of a seed is always the same.")]
Sampler = Annotated[
    str, typer.Option(metavar="NAME", help="ddpm, ddim, dpm, unipc, heun or rk45; without it, the model's own.")
]
Steps = Annotated[int, typer.Option(min=0, help="Sampling steps; 0: the model's or the sampler's own.")]
Format = Annotated[
    str, typer.Option("--format", metavar="ENDING", help="File format by its ending; without it, the domain's own.")
]
Folder = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the files.")]


def _version(asked: bool) -> bool:
    if asked:
        say(f"ddmi {__version__}")
        raise typer.Exit()
    return asked


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Generative models of continuous signals: images, shapes, and whatever else is a function of coordinates."""


# configurations ------------------------------------------------------------------------------------------------------


@app.command()
def presets() -> None:
    """List the presets."""
    import inspect

    from ddmi import domains
    from ddmi import presets as known

    rows = []
    for name, function in sorted(known.functions().items()):
        rows.append((name, domains.name_of(function().domain), (inspect.getdoc(function) or "").partition("\n")[0]))
    say(table([("preset", "domain", ""), *rows]))


@app.command()
def models() -> None:
    """List the trained models that come with the package."""
    from ddmi import config, domains, weights

    rows: list[tuple[str, ...]] = [("model", "domain", "asks for", "MB", "")]
    for name in weights.names():
        about = config.load(weights.ROOT / name / "config.json")
        asks = {"none": "nothing", "class": "a label"}.get(about.diffusion.condition, "text")
        megabytes = f"{weights.size(name) / 1e6:.1f}"
        rows.append((name, domains.name_of(about.domain), asks, megabytes, weights.title(name)))
    say(table(rows))


@app.command()
def show(
    preset: Preset,
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Show a configuration and what it costs here."""
    from ddmi import estimate
    from ddmi.config import to_dict

    config = _override(_preset(preset), settings)
    autoencoder, denoiser = estimate.networks(config)
    shapes = autoencoder.decoder.shapes
    latent = {p.name: [config.autoencoder.latent_channels, *p.shape] for p in config.domain.layout}
    fields = [
        {name: [config.autoencoder.decoder.field_width, *shape] for name, shape in shapes[i].items()}
        for i in config.autoencoder.decoder.fields
    ]
    counts = estimate.parameters(autoencoder, denoiser)
    steps = estimate.steps(config)
    if as_json:
        costs = {name: {**vars(step), "memory": step.memory} for name, step in steps.items()}
        about = {"config": to_dict(config), "latent": latent, "basis_fields": fields, "parameters": counts}
        say(json.dumps({**about, "steps": costs}, indent=2))
        return
    say(tree(to_dict(config)))
    say("\nshapes are channels x height x width")
    rows = [(name, "latent", *(times(field[name]) for field in fields)) for name in latent]
    rows = [(name, times(latent[name]), *row[2:]) for name, row in zip(latent, rows, strict=True)]
    say(table([("plane", "latent", *(f"basis field {i + 1}" for i in range(len(fields)))), *rows]))
    say("")
    say(table([("part", "parameters"), *((name, f"{n:,}") for name, n in counts.items())]))
    say("")
    say(_costs(config, steps))


def _costs(config: Config, steps: dict[str, Any]) -> str:
    """The costs of both stages, side by side."""
    from ddmi.training.progress import duration

    lengths = {"autoencoder": config.training.autoencoder_steps, "diffusion": config.training.diffusion_steps}
    columns: list[tuple[str, ...]] = [("a training step", "weights", "gradients", "optimiser", "averaged weights")]
    columns[0] += ("activations (counted)", "memory", "operations a signal", "seconds a step here", "all steps")
    for name, step in steps.items():
        sizes = (step.weights, step.gradients, step.optimiser, step.averages, step.activations, step.memory)
        took = _three(step.seconds) if step.timed else f"more than {_three(step.seconds)}"
        whole = f"{lengths[name]:,}: {duration(step.seconds * lengths[name])}"
        column = (name, *(f"{n / 1e6:,.0f} MB" for n in sizes), f"{_three(step.operations / 1e9)} G", took, whole)
        columns.append(column)
    notes = ["activations: what the backward pass of one micro-batch keeps; half of that in 16 bit"]
    for name, step in steps.items():
        how = f"timed with {step.timed} signals" if step.timed else "operations over the rate of matrix products here"
        notes.append(f"seconds of the {name}: {how}")
    return "\n".join([table(list(zip(*columns, strict=True))), *notes])


def _three(value: float) -> str:
    """Three digits, and never an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


@app.command()
def train(
    preset: Preset,
    data: Data = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="RUN", help="The run folder.")] = None,
    stage: Annotated[str, typer.Option(help="autoencoder, diffusion or all.")] = "all",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    max_minutes: Annotated[float | None, typer.Option(help="Stop after so long, with a checkpoint.")] = None,
    settings: Settings = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the configuration, and do nothing.")] = False,
) -> None:
    """Train a preset on data into a run folder."""
    from ddmi import config as configuration
    from ddmi.canvas import check_folder

    if stage not in STAGES:
        raise unknown("value of --stage", stage, STAGES)
    if max_minutes is not None and not max_minutes > 0:
        raise UserError(f"--max-minutes must be more than 0, not {max_minutes:g}")
    stored = None if out is None else out / "config.json"
    if resume and stored is not None and stored.is_file():
        before = configuration.load(stored)
        if before.name != (wanted := _preset(preset).name):
            raise UserError(f"{stored} belongs to a run of {before.name!r}, not of {wanted!r}: choose another --out")
        config = _override(before, settings)
    else:
        config = _override(_preset(preset), settings)
    if dry_run:
        say(json.dumps(configuration.to_dict(config), indent=2))
        return
    if out is None:
        raise UserError("--out is missing: name the run folder")
    check_folder(out)
    from ddmi.training.checkpoint import find
    from ddmi.training.run import train as work

    finished = work(config, out, data, stage=stage, resume=resume, max_minutes=max_minutes)  # type: ignore[arg-type]
    if not finished:
        newest = [c for part in STAGES[:2] for c in find(out / "checkpoints", part)[-1:]]
        where = f"step {newest[-1].step} of the {newest[-1].folder.name.partition('-')[0]}" if newest else "the start"
        log.warning("stopped at %s; go on with --resume", where)
    if (out / "model").is_dir():
        say(str(out / "model"))


# data ----------------------------------------------------------------------------------------------------------------


@app.command()
def prepare(
    kind: Annotated[str, typer.Argument(help="What to make: shapes (points), or views (photographs).")],
    sources: Annotated[
        list[Path], typer.Argument(metavar="SRC... DST", help="Meshes: folders, files, .zip or .sh3f; then the folder.")
    ],
    processes: Annotated[int, typer.Option(min=1, help="Processes that work at once.")] = 1,
    surface: Annotated[int, typer.Option(min=100, help="Points of the surface of each object.")] = 30_000,
    queries: Annotated[
        int | None, typer.Option(min=100, help="Of shapes: points of the cube, and as many near the surface; 50000.")
    ] = None,
    views: Annotated[int | None, typer.Option(min=1, help="Of views: photographs of each object; 50.")] = None,
    size: Annotated[int | None, typer.Option(min=8, help="Of views: pixels a side; 128.")] = None,
    up: Annotated[str, typer.Option(help="The axis that points up in the meshes: y or z.")] = "y",
    seed: Annotated[int, typer.Option(help="Of what is drawn at random.")] = 0,
) -> None:
    """Make training data out of meshes; the same command goes on where it was stopped."""
    from ddmi.canvas import check_folder
    from ddmi.training.progress import Bar

    if kind not in PREPARED:
        raise unknown("kind of data", kind, PREPARED)
    if up not in ("y", "z"):
        raise unknown("value of --up", up, ("y", "z"))
    if len(sources) < 2:
        raise UserError(f"name what to prepare and the folder to make: ddmi prepare {kind} SRC DST")
    *found, target = sources
    check_folder(target)
    given = {"queries": queries, "views": views, "size": size}
    for name in [n for n, value in given.items() if value is not None and (n == "queries") == (kind == "views")]:
        log.warning("--%s has no effect on %s", name, kind)
    make: Callable[..., Summary]
    if kind == "shapes":
        from ddmi.data.preparation import prepare as make

        own: dict[str, Any] = {"surface": surface, "queries": queries or 50_000}
    else:
        from ddmi.photography import prepare_views as make

        own = {"points": surface, "views": views or 50, "size": size or 128}
    bars: list[Bar] = []

    def progress(done: int, total: int) -> None:
        if not bars:
            bars.append(Bar("meshes", total).__enter__())
        bars[0].advance(done)

    try:
        summary = make(found, target, processes=processes, up=up, seed=seed, progress=progress, **own)
    finally:
        for bar in bars:
            bar.__exit__(None, None, None)
    rows = [(name, f"{count:,}") for name, count in summary.classes.items()]
    rows += [("all", f"{len(summary.kept):,}"), ("rejected", f"{len(summary.rejected):,}")]
    say(table([("class", "objects"), *rows]))
    say(str(target))


@app.command("train-classifier")
def train_classifier(
    data: Annotated[str, typer.Argument(help="Prepared shapes in classes, or furniture (pieces made by rule).")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The weights, .safetensors.")],
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 600,
    seed: Annotated[int, typer.Option(help="Of the training.")] = 0,
    max_minutes: Annotated[float | None, typer.Option(help="Stop after so long, with a checkpoint.")] = None,
) -> None:
    """Train a classifier of voxels, which `evaluate --judge classifier=FILE` looks with.

    The same command goes on where it was stopped.
    """
    from ddmi.training import classifier

    if out.suffix != ".safetensors":
        raise UserError(f"--out {out} must end in .safetensors")
    if max_minutes is not None and not max_minutes > 0:
        raise UserError(f"--max-minutes must be more than 0, not {max_minutes:g}")
    if data == "furniture" and Path(data).is_dir():
        raise UserError("furniture may be the pieces made by rule or the folder here: rename it, or say ./furniture")
    domain = _preset("furniture-small" if data == "furniture" else "shapenet-13").domain
    source = domain.dataset(None if data == "furniture" else data, "all").source  # type: ignore[attr-defined]
    summary = classifier.train_classifier(source, out, steps=steps, seed=seed, max_minutes=max_minutes)
    if not summary.finished:
        log.warning("stopped early; the same command goes on")
        return
    rows = [(name, f"{share:.3f}") for name, share in (summary.by_class or {}).items()]
    say(table([("class", "accuracy, held out"), *rows, ("all", f"{summary.accuracy:.3f}")]))
    say(str(out))


# drawing -------------------------------------------------------------------------------------------------------------


@app.command()
def sample(
    run: Run,
    out: Folder,
    count: Annotated[int, typer.Option(min=1, help="Samples, for each text or label.")] = 1,
    seed: Seed = 0,
    size: Size = "",
    window: Window = "",
    frames: Frames = None,
    fps: Fps = None,
    time: Time = "",
    view: View = "",
    sampler: Sampler = "",
    steps: Steps = 0,
    tolerance: Annotated[float | None, typer.Option(help="Of rk45 (default 0.001).")] = None,
    eta: Annotated[float | None, typer.Option(help="Noise of ddim: 0 none (default), 1 ancestral.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="What to draw; repeatable.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Class number or name; repeatable.")] = None,
    guidance: Annotated[float | None, typer.Option(help="w of classifier-free guidance; 1: none.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples drawn together.")] = 16,
    sheet: Annotated[bool, typer.Option("--sheet", help="Also one picture of all samples.")] = False,
    ending: Format = "",
) -> None:
    """Draw samples."""
    from ddmi.canvas import Canvas, Names, check_folder, size_of, slug
    from ddmi.pipeline import DDMIPipeline
    from ddmi.sampling import SamplingConfig, own_way
    from ddmi.training.progress import Bar

    shape = size_of(size)
    options = _drawing(window, frames, fps, time, view)
    settings: dict[str, Any] = {"steps": steps, "eta": eta or 0.0}
    settings["tolerance"] = 1e-3 if tolerance is None else tolerance
    _check_sampler(sampler)
    SamplingConfig(**settings)
    if text and label:
        raise UserError("--text and --label exclude one another")
    check_folder(out)
    pipe = DDMIPipeline.from_pretrained(run)
    sampler, taken = own_way(pipe.config.diffusion, sampler, steps)
    for name, given, only in (("--tolerance", tolerance, "rk45"), ("--eta", eta, "ddim")):
        if given is not None and sampler != only:
            log.warning("%s has no effect on %s", name, sampler)
    if steps and not taken:
        log.warning("--steps has no effect on rk45: it takes as many as --tolerance needs")
    settings |= {"sampler": sampler, "steps": taken}
    canvas = Canvas.of(pipe.config.domain, shape, ending, **options)
    prompts = text or label or []
    kind = "text" if text else "label"
    if sheet and canvas.streamed:
        raise UserError("--sheet holds all samples in memory: choose a smaller --size")
    if guidance is not None and not prompts:
        log.warning("--guidance has no effect without --text or --label")
    for prompt in prompts:
        pipe.condition(1, **{kind: prompt})  # refused before any work
    names = Names(out, canvas.ending)
    samples, evaluations, done, empty = [], [], 0, 0
    with Bar("samples", count * max(1, len(prompts))) as bar:
        for prompt in prompts or ("",):
            for first in range(0, count, batch_size):
                number = min(batch_size, count - first)
                asked = {**settings, kind: prompt} if prompts else settings
                fields = pipe(number, seed, first=first, batch_size=number, guidance_scale=guidance, **asked)
                evaluations += pipe.last_evaluations
                for k, field in enumerate(fields, start=first):
                    path = names.free(f"sample-{seed}-{k}" + (f"-{slug(prompt)}" if prompts else ""))
                    bar.advance(done := done + 1)
                    try:
                        drawn = canvas.write(field, path)
                    except Empty as error:
                        complain(str(error))
                        empty += 1
                        continue
                    if sheet:
                        samples.append(drawn)
                    say(str(path))
    if samples:
        path = names.free(f"sheet-{seed}").with_suffix(canvas.overview)
        pipe.config.domain.save(samples, path)
        say(str(path))
    if sampler == "rk45":
        log.warning("rk45: %.1f function evaluations on average", sum(evaluations) / len(evaluations))
    if empty:
        raise typer.Exit(1)


@app.command()
def reconstruct(
    run: Run,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files of data.")],
    out: Folder,
    size: Size = "",
    window: Window = "",
    frames: Frames = None,
    fps: Fps = None,
    time: Time = "",
    view: View = "",
    ending: Format = "",
) -> None:
    """Encode files and draw them at any size."""
    from ddmi.canvas import Canvas, Names, check_folder, size_of
    from ddmi.pipeline import DDMIPipeline

    shape = size_of(size)
    options = _drawing(window, frames, fps, time, view)
    check_folder(out)
    pipe = DDMIPipeline.from_pretrained(run)
    canvas = Canvas.of(pipe.config.domain, shape, ending, **options)
    names = Names(out, canvas.ending)
    bad = empty = 0
    for file in files:
        try:
            field = pipe.encode(_file(file, folders=pipe.config.domain.folders))
        except UserError as error:
            complain(str(error))
            bad += 1
            continue
        path = names.free(Path(file).stem)
        try:
            canvas.write(field, path)
        except Empty as error:
            complain(str(error))
            empty += 1
            continue
        say(str(path))
    if bad or empty:
        raise typer.Exit(2 if bad else 1)


@app.command()
def interpolate(
    run: Run,
    start: Annotated[str, typer.Option("--from", metavar="SEED:K|FILE", help="A sample or a file.")] = "0:0",
    end: Annotated[str, typer.Option("--to", metavar="SEED:K|FILE", help="A sample or a file.")] = "0:1",
    frames: Annotated[int, typer.Option(min=2, help="Pictures, both ends included.")] = 8,
    size: Size = "",
    text: Annotated[str | None, typer.Option(help="What the drawn ends show.")] = None,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="A strip (.png, .jpg) or an animation (.gif; of clips also .mp4).")
    ] = Path("interpolation.png"),
) -> None:
    """Walk from one sample or file to another.

    The way is the great circle between their latents; the ending of --out chooses a strip or an animation.
    """
    from ddmi.canvas import Canvas, check_folder, size_of
    from ddmi.pipeline import DDMIPipeline

    if out.suffix.lower() not in (*STRIPS, *ANIMATIONS):
        known = f"{', '.join(STRIPS)} (a strip) or {', '.join(ANIMATIONS)} (moving; the last two of clips or views)"
        raise UserError(f"--out {out} must end in {known}")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder, not a file")
    check_folder(out.parent)
    shape = size_of(size)
    pipe = DDMIPipeline.from_pretrained(run)
    if out.suffix.lower() in ANIMATIONS[1:] and not pipe.config.domain.films:
        raise UserError(f"--out {out}: what this model draws does not move; use .gif")
    canvas = Canvas.of(pipe.config.domain, shape, out.suffix)
    if canvas.streamed:
        raise UserError(f"--size {size} is too large for an interpolation")
    a, b = _latent(pipe, start, "--from", text), _latent(pipe, end, "--to", text)
    drawn = [canvas.render(field) for field in pipe.interpolate(a, b, frames)]
    out.parent.mkdir(parents=True, exist_ok=True)
    pipe.config.domain.save(drawn, out, columns=frames)
    say(str(out))


def _latent(pipe: DDMIPipeline, value: str, option: str, text: str | None) -> Float[Tensor, "1 c l"]:
    """The latent of SEED:K or of a file."""
    if Path(value).is_file() or (pipe.config.domain.folders and Path(value).is_dir()):
        return pipe.encode_latent(value)
    if match := re.fullmatch(r"(\d+):(\d+)", value):
        return pipe.latents(1, int(match[1]), first=int(match[2]), text=text)
    raise UserError(f"{option} takes a file or SEED:K (sample K of that seed), and {value!r} is neither")


# judging -------------------------------------------------------------------------------------------------------------


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="A run folder, or a model; with --ablation also a preset.")],
    data: Data = None,
    metrics: Annotated[str, typer.Option(metavar="A,B", help="Which metrics; without it, all.")] = "",
    samples: Annotated[int, typer.Option(min=1, help="Samples to draw.")] = 256,
    sampler: Sampler = "",
    steps: Steps = 0,
    seed: Seed = 0,
    guidance: Annotated[float | None, typer.Option(help="w of classifier-free guidance.")] = None,
    features: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Feature network: efficientnet-lite0, or a file of weights.")
    ] = "efficientnet-lite0",
    judge: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE", help="Another network: classifier=FILE, clip=FOLDER or hub id, i3d=FILE; repeatable."
        ),
    ] = None,
    neighbours_k: Annotated[int, typer.Option("--neighbours-k", min=1, help="k of precision and recall.")] = 3,
    nfe: Annotated[bool, typer.Option("--nfe", help="Instead: quality against function evaluations.")] = False,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Instead: train and compare without HDBF, without CFC.")
    ] = False,
    budget: Annotated[str, typer.Option(metavar="A[,B]", help="Of --ablation: steps of both stages, or of each.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Of --ablation: trainings of each model.")] = 3,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.json|DIR", help="Default: RUN/metrics.json, runs/ablation-NAME.")
    ] = None,
) -> None:
    """Measure a model on its data."""
    from ddmi import judging
    from ddmi.evaluation import Protocol
    from ddmi.sampling import SamplingConfig

    if nfe and ablation:
        raise UserError("--nfe and --ablation exclude one another")
    _check_sampler(sampler)
    SamplingConfig(steps=steps)
    given = {"--metrics": bool(metrics), "--sampler": bool(sampler), "--steps": bool(steps)}
    given |= {"--budget": bool(budget), "--seeds": seeds != 3, "--judge": bool(judge)}
    for name in [n for n, used in given.items() if used and n in _WITHOUT_EFFECT[nfe, ablation]]:
        log.warning("%s has no effect here", name)
    judging.check_features(features, nfe or ablation or "distributions" in metrics)
    protocol = Protocol(
        samples=samples,
        seed=seed,
        sampler=sampler,
        steps=steps,
        guidance_scale=guidance,
        features=features,
        neighbours=neighbours_k,
        judges=judging.judges(judge or ()),
    )
    if ablation:
        judging.ablation(_preset(run), data, budget, seeds, protocol, out)
    elif nfe:
        judging.evaluations(run, data, protocol, out)
    else:
        judging.metrics(run, data, metrics, protocol, out)


_WITHOUT_EFFECT = {
    (False, False): ("--budget", "--seeds"),
    (True, False): ("--metrics", "--sampler", "--steps", "--budget", "--seeds"),
    (False, True): ("--metrics",),
}
"""Options that (--nfe, --ablation) do not read."""


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run folder.")], data: Data = None) -> None:
    """Write report.html into a run folder."""
    if not run.is_dir():
        raise UserError(f"{run} does not exist: name a run folder")
    from ddmi import report as reports

    say(str(reports.write(run, data)))


@app.command()
def demo(
    domain: Annotated[str, typer.Argument(help="image, shape, video or nerf.")] = "image",
    out: Annotated[Path | None, typer.Option(metavar="RUN", help="Default: runs/demo-DOMAIN.")] = None,
) -> None:
    """Train, sample and report in some minutes.

    On data that comes with the installed packages: nothing is downloaded.
    """
    from ddmi.canvas import check_folder

    if domain not in DEMOS:
        raise unknown("demo", domain, DEMOS)
    target = out or Path("runs") / f"demo-{domain}"
    check_folder(target)
    from ddmi import demo as demonstration

    say(str(demonstration.run(domain, target)))


# what the options mean -----------------------------------------------------------------------------------------------


def _preset(name: str) -> Config:
    """A preset, a configuration file, or the configuration of a run folder."""
    from ddmi import config as configuration
    from ddmi import presets as known

    path = Path(name)
    if name not in known.functions():
        if path.is_dir() and (path / "config.json").is_file():
            return configuration.load(path / "config.json")
        if path.is_file() or path.suffix == ".json":
            return configuration.load(path)
    return known.find(name)


def _override(config: Config, settings: list[str] | None) -> Config:
    from ddmi import config as configuration

    replaced = {}
    for setting in settings or ():
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise UserError(f"--set takes NAME=VALUE, e.g. training.batch_size=16, not {setting!r}")
        replaced[name.strip()] = value.strip()
    return configuration.override(config, replaced)


def _check_sampler(name: str) -> None:
    from ddmi.sampling import SAMPLERS

    if name and name not in SAMPLERS:
        raise unknown("sampler", name, SAMPLERS)


def _drawing(window: str, frames: int | None, fps: float | None, time: str, view: str) -> dict[str, Any]:
    """Options of a domain's `render`; None where nothing was said."""
    from ddmi.canvas import pair_of, window_of

    found = {"window": window_of(window), "frames": frames, "fps": fps}
    return {**found, "time": pair_of("--time", time), "view": pair_of("--view", view)}


def _file(name: str, *, folders: bool) -> str:
    """The name of a file, or where these are items of data of a folder, that exists."""
    if Path(name).is_dir() and not folders:
        raise UserError(f"{name} is a folder: name files")
    if not Path(name).exists():
        raise UserError(f"{name} does not exist")
    return name


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (that of the process by default; an empty one asks for help); returns the exit status."""
    command = typer.main.get_command(app)
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    with talking():
        try:
            with command.make_context("ddmi", given) as context:
                command.invoke(context)
            sys.stdout.flush()
        except typer.Exit as done:
            return done.exit_code
        except BrokenPipeError:  # the reader of a pipe has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (Exception, KeyboardInterrupt) as error:
            if os.environ.get("DDMI_TRACEBACK"):
                raise
            status, text = verdict(error)
            if rank() == 0:
                complain(text)
            elif not isinstance(error, UserError | WorkError):  # these two are the same in every process
                complain(f"process {rank()}: {text}")
            return status
    return 0
