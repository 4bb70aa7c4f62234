"""The card of a model that ships: where it comes from, what it does, and what it does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from ddmi import config as configuration
from ddmi import evaluation, weights
from ddmi.base.storage import aside, digest
from ddmi.config import Config
from ddmi.evaluation import nfe
from ddmi.model.sampling import SamplingConfig
from ddmi.training import estimate
from tools.release.recipes import Recipe


def text(
    name: str,
    recipe: Recipe,
    folder: Path,
    metrics: Mapping[str, Any],
    pieces: Sequence[Mapping[str, Any]],
    rounding: Mapping[str, float],
    makers: Sequence[str] = (),
) -> str:
    """The card of the model in a folder, as Markdown.

    Args:
        metrics: what `metrics.json` of its run holds.
        pieces: the record of its training.
        rounding: what half precision changes, relative root mean squares.
        makers: who made the data, a line for each licence.
    """
    config = configuration.load(folder / "config.json")
    parts = [
        f"# {name}\n\n{recipe.title}.",
        _usage(name, recipe, config),
        "\n\n".join([f"## Data\n\n{recipe.data}", *makers]),
        _training(name, recipe, config, pieces),
        _files(folder, rounding),
        _measured(metrics),
        _evaluations(recipe, config, metrics),
        f"## What it is bad at\n\n{recipe.limits}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def copied(out: Path, pictures: Path) -> list[Path]:
    """The cards of all models that ship as documentation, each with the overview picture of its model.

    Args:
        out: the folder to write into. pictures: the folder of the gallery, relative to it.
    """
    written = []
    for name in weights.names():
        first, _, rest = (weights.ROOT / name / weights.CARD).read_text(encoding="utf-8").partition("\n\n```bash")
        picture = f"![Uncurated samples of {name}.]({pictures.as_posix()}/{name}.png)"
        written.append(out / f"{name}.md")
        with aside(written[-1]) as scratch:
            scratch.write_text(f"{first}\n\n{picture}\n\n```bash{rest}", encoding="utf-8")
    return written


def _usage(name: str, recipe: Recipe, config: Config) -> str:
    asked = f' --text "{recipe.prompt}"' if recipe.prompt else ""
    said = f', text="{recipe.prompt}"' if recipe.prompt else ""
    return (
        f"```bash\nddmi sample {name}{asked} --out samples\n```\n\n"
        f"```python\nfrom ddmi import DDMIPipeline\n\n"
        f'field = DDMIPipeline.from_pretrained("{name}")(seed=0{said})[0]\n```'
    )


def _training(name: str, recipe: Recipe, config: Config, pieces: Sequence[Mapping[str, Any]]) -> str:
    counts = estimate.parameters(*estimate.networks(config))
    training = config.training
    stages = table(
        ("stage", "parameters", "steps", "batch"),
        [
            ("autoencoder", _thousands(counts, "encoder", "decoder", "read-out"), f"{training.autoencoder_steps:,}",
             str(training.batch_size)),
            ("denoiser", _thousands(counts, "denoiser"), f"{training.diffusion_steps:,}",
             str(training.diffusion_batch)),
        ],
    )  # fmt: skip
    rows = [(p["began"], str(timedelta(seconds=p["seconds"])), _where(p), f"`{p['commit']}`") for p in pieces]
    data = " DATA=FOLDER" if recipe.needs else ""
    return (
        f"## Training\n\n{stages}\n\n"
        "Trained from random weights in these parts; the settings are in `config.json`:\n\n"
        f"{table(('began (UTC)', 'took', 'on', 'commit'), rows)}\n\n"
        f"`make weights NAME={name}{data}` trains it again, on a CPU or with CUDA, and continues where it was "
        f"stopped. Longer: `SET=training.diffusion_steps={10 * training.diffusion_steps}`."
    )


def _where(piece: Mapping[str, Any]) -> str:
    threads = f", {piece['threads']} thread{'s' * (piece['threads'] > 1)}" if "threads" in piece else ""
    many = f", {piece['processes']} processes" if piece.get("processes", 1) > 1 else ""
    return f"{piece['device']}{threads}{many}"


def _files(folder: Path, rounding: Mapping[str, float]) -> str:
    rows = [
        (f"`{path.name}`", f"{path.stat().st_size:,}", f"`{digest(path)}`")
        for path in sorted(folder.glob("*.safetensors"))
    ]
    return (
        f"## Files\n\n{table(('file', 'bytes', 'SHA-256'), rows)}\n\n"
        "Parameters are rounded to half precision and computed with in single precision. Against the weights before "
        f"rounding, latents sampled from equal noise differ by {_percent(rounding['latents'])} (root mean square), and "
        f"fields of equal latents by {_percent(rounding['fields'])}."
    )


def _measured(metrics: Mapping[str, Any]) -> str:
    found = {name: part for name, part in metrics.items() if name not in ("preset", "sampling", nfe.KEY)}
    rows = [row for name, part in found.items() for row in evaluation.numbers(name, part)]
    told = metrics["sampling"]
    how = "{samples} samples with `{sampler}` in {steps} steps at guidance {guidance_scale:g}".format_map(told)
    return (
        f"## Measured\n\n{how}. Held-out data is never trained on. The documentation on evaluation defines "
        "each number. `memorisation` tells whether samples copy: how near they "
        f"are to training data, beside how near held-out data is.\n\n{table(('metric', '', 'value'), rows)}"
    )


def _evaluations(recipe: Recipe, config: Config, metrics: Mapping[str, Any]) -> str:
    if nfe.KEY not in metrics:
        return ""
    head, *rows = nfe.lines(metrics[nfe.KEY])
    own = SamplingConfig().of(config.diffusion)
    count = metrics[nfe.KEY]["protocol"]["samples"]
    return (
        f"## Samplers\n\n{count} samples each, from the same noise. The model's own sampler is `{own.sampler}` with "
        f"{own.steps} steps. {recipe.sampling}\n\n{table(head, rows)}"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _thousands(counts: Mapping[str, int], *parts: str) -> str:
    return f"{sum(counts[part] for part in parts):,}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
