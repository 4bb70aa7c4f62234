"""Commands that render: samples, reconstructions, and the way from one to another."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from ddmi.base.errors import Empty, UserError
from ddmi.base.terminal import complain, say
from ddmi.cli import reading
from ddmi.cli.options import Folder, Rendering, Run, Sampling, Size

log = logging.getLogger(__name__)

STRIPS, ANIMATIONS = (".png", ".jpg", ".webp"), (".gif", ".mp4", ".webm")


def sample(
    run: Run,
    out: Folder,
    *,
    count: Annotated[int, typer.Option(min=1, help="Samples, for each text or label.")] = 1,
    text: Annotated[list[str] | None, typer.Option(help="A prompt; repeatable.")] = None,
    text_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Further prompts, a line each.")] = None,
    negative: Annotated[
        str | None, typer.Option(help="A prompt that guidance leads away from; not of the sampler flow.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="Class number or name; repeatable.")] = None,
    sampling: Sampling,
    rendering: Rendering,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples generated together.")] = 16,
    sheet: Annotated[bool, typer.Option("--sheet", help="Also one image of all samples.")] = False,
) -> None:
    """Generate samples.

    The files are called sample-SEED-K: K counts the samples of --seed from 0, and sample K of a seed is always the
    same. With --text or --label its words follow; a number behind those tells equal names apart.
    """
    from ddmi.base.progress import Bar
    from ddmi.base.storage import read_text
    from ddmi.cli.rendering import Names, check_folder, checked, slug
    from ddmi.pipeline import DDMIPipeline
    from ddmi.recipe import Recipe
    from ddmi.rendering import files, metadata

    options, wanted = reading.rendering(rendering), reading.sampling(sampling)
    if text_file is not None:
        text = [*(text or ()), *(line.strip() for line in read_text(text_file).splitlines() if line.strip())]
        if not text:
            raise UserError(f"--text-file {text_file} holds no prompt: write one a line")
    if text and label:
        raise UserError("--text and --label exclude one another")
    if negative and not text:
        raise UserError("--negative goes beside --text")
    check_folder(out)
    pipe = DDMIPipeline.from_pretrained(run)
    config = wanted.of(pipe.config.diffusion)
    for name, given, only in (
        ("--tolerance", sampling.tolerance, ("rk45",)),
        ("--eta", sampling.eta, ("ddim", "flow")),
    ):
        if given is not None and config.sampler not in only:
            log.warning("%s has no effect on %s", name, config.sampler)
    if sampling.steps and not config.steps:
        log.warning("--steps has no effect on rk45: it takes as many as --tolerance needs")
    ending, options = checked(pipe.config.domain, rendering.ending, **options)
    prompts = text or label or []
    kind = "text" if text else "label"
    sheets = pipe.config.domain.formats.sheets
    if sheet and "streamed" in options:
        raise UserError("--sheet holds all samples in memory: choose a smaller --size")
    if sampling.guidance is not None and not prompts:
        log.warning("--guidance has no effect without --text or --label")
    for prompt in prompts:
        pipe.condition(1, **{kind: prompt})  # refused before any work
    names = Names(out)
    samples, evaluations, done, empty = [], [], 0, 0
    with Bar("samples", count * max(1, len(prompts))) as bar:
        for prompt in prompts or ("",):
            for first in range(0, count, batch_size):
                number = min(batch_size, count - first)
                words, class_ = (prompt if prompts and kind == which else None for which in ("text", "label"))
                asked: dict[str, Any] = {"text": words, "label": class_, "negative": negative}
                fields = pipe(number, first=first, batch_size=number, sampling=config, **asked)
                evaluations += pipe.last_evaluations
                for k, field in enumerate(fields, start=first):
                    path = names.free(f"sample-{sampling.seed}-{k}" + (f"-{slug(prompt)}" if prompts else ""), ending)
                    bar.advance(done := done + 1)
                    try:
                        shown = field.render(**options)
                        files.save(shown, path)
                        metadata.stamp(path, Recipe.of(pipe, run, k, config, **asked).metadata())
                    except Empty as error:
                        complain(str(error))
                        empty += 1
                        continue
                    if sheet:
                        samples.append(shown)
                    say(str(path))
    if samples:
        path = names.free(f"sheet-{sampling.seed}", ending if ending in sheets else sheets[0])
        files.save_sheet(samples, path)
        say(str(path))
    if config.sampler == "rk45":
        log.warning("rk45: %.1f function evaluations on average", sum(evaluations) / len(evaluations))
    if empty:
        raise typer.Exit(1)


def reconstruct(
    run: Run,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files of data.")],
    out: Folder,
    rendering: Rendering,
) -> None:
    """Encode files and render them at any size."""
    from ddmi.base.progress import working
    from ddmi.cli.rendering import Names, check_folder, checked
    from ddmi.pipeline import DDMIPipeline
    from ddmi.recipe import made
    from ddmi.rendering import files as written
    from ddmi.rendering import metadata

    options = reading.rendering(rendering)
    check_folder(out)
    pipe = DDMIPipeline.from_pretrained(run)
    domain = pipe.config.domain
    ending, options = checked(domain, rendering.ending, **options)
    names = Names(out, files)
    bad = empty = 0
    for file in files:
        try:
            with working("encoding", file):
                field = pipe.encode(file)
        except UserError as error:
            complain(str(error))
            bad += 1
            continue
        path = names.free(Path(file).stem, ending)
        try:
            with working("rendering", str(path)):
                written.save(domain.as_given(field.render(**options), file, ending), path)
                metadata.stamp(path, made(pipe, run, f"the reconstruction of {Path(file).name}"))
        except Empty as error:
            complain(str(error))
            empty += 1
            continue
        say(str(path))
    if bad or empty:
        raise typer.Exit(2 if bad else 1)


def interpolate(
    run: Run,
    start: Annotated[str, typer.Option("--from", metavar="SEED:K|FILE", help="A sample or a file.")] = "0:0",
    end: Annotated[str, typer.Option("--to", metavar="SEED:K|FILE", help="A sample or a file.")] = "0:1",
    frames: Annotated[int, typer.Option(min=2, help="Images, both ends included.")] = 8,
    size: Size = "",
    text: Annotated[
        list[str] | None, typer.Option(help="A prompt for ends that are samples; a second one for --to.")
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="A strip (.png, .jpg) or an animation (.gif, .mp4).")
    ] = Path("interpolation.png"),
) -> None:
    """Walk from one sample or file to another.

    The way is the great circle between their latents; the ending of --out chooses a strip or an animation.
    """
    from ddmi.base.progress import Bar
    from ddmi.cli.rendering import check_file, checked, size_of
    from ddmi.pipeline import DDMIPipeline
    from ddmi.recipe import made
    from ddmi.rendering import files, metadata
    from ddmi.rendering.clip import Clip
    from ddmi.rendering.movie import check_ending

    if out.suffix.lower() not in (*STRIPS, *ANIMATIONS):
        known = f"{', '.join(STRIPS)} (a strip) or {', '.join(ANIMATIONS)} (moving)"
        raise UserError(f"--out {out} must end in {known}")
    first, last = (text[0], text[-1]) if text else (None, None)
    if text and len(text) > 2:
        raise UserError(f"--text is given once for both ends, or twice, not {len(text)} times")
    check_file(out, (start, end))
    shape = size_of(size)
    pipe = DDMIPipeline.from_pretrained(run)
    _, options = checked(pipe.config.domain, size=shape)
    check_ending(out.suffix.lower())
    if "streamed" in options:
        raise UserError(f"--size {size} is too large for an interpolation")
    a, b = reading.latent(pipe, start, "--from", first), reading.latent(pipe, end, "--to", last)
    renderings = []
    with Bar("samples", frames) as bar:
        for k, field in enumerate(pipe.interpolate(a, b, frames), start=1):
            renderings.append(field.render(**options))
            bar.advance(k)
    if not isinstance(renderings[0], Clip):
        renderings = [files.image_of(rendering) for rendering in renderings]
    files.save_sheet(renderings, out, columns=frames)
    prompts = "".join(f", {prompt}" for prompt in text or ())
    metadata.stamp(out, made(pipe, run, f"{frames} samples from {start} to {end}{prompts}"))
    say(str(out))
