"""Commands that look: what there is, and what a configuration costs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddmi.base.terminal import say, table, times, tree
from ddmi.cli import reading
from ddmi.cli.options import Preset, Settings

if TYPE_CHECKING:
    from ddmi.config import Config


def presets() -> None:
    """List the presets."""
    from ddmi import presets as known

    say(table([("preset", "domain", ""), *known.listed()]))


def models() -> None:
    """List the trained models that come with the package."""
    from ddmi import weights
    from ddmi.base.storage import read_json

    rows: list[tuple[str, ...]] = [("model", "domain", "asks for", "MB", "")]
    for name in weights.names():
        about = read_json(weights.ROOT / name / "config.json")  # our own: not checked, which would import torch
        asks = {"none": "nothing", "class": "a label"}.get(about["diffusion"]["condition"], "text")
        megabytes = f"{weights.size(name) / 1e6:.1f}"
        rows.append((name, about["domain"]["name"], asks, megabytes, weights.title(name)))
    say(table(rows))


def show(
    preset: Preset,
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Show a configuration and what it costs here."""
    from ddmi.config import to_dict
    from ddmi.training import estimate

    config = reading.override(reading.preset(preset), settings)
    autoencoder, denoiser = estimate.networks(config)
    shapes = config.autoencoder.decoder.shapes(config.domain.layout)
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
    from ddmi.base.progress import duration

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
