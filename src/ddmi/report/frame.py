"""What every page has, whatever the domain: title, training curves, the table of metrics, how to make it again."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import ddmi
from ddmi.config import to_dict
from ddmi.domains import name_of
from ddmi.report.numbers import Headline, Numbers
from ddmi.report.page import Section, facts, table
from ddmi.report.plots import Line, legend, plot
from ddmi.report.sections import Part
from ddmi.report.words import form, words

if TYPE_CHECKING:
    from ddmi.evaluation import Evaluated

STAGES = {
    "autoencoder": "Stage 1: autoencoder",
    "decoder": "Stage 1: decoder alone",
    "diffusion": "Stage 2: latent diffusion",
}
NOT_TERMS = ("step", "learning_rate", "skipped", "seconds_per_step")


def journals(run: Path) -> dict[str, list[dict[str, float]]]:
    """The lines of `logs/<stage>.jsonl` of each stage that left any; a line that was cut off is passed over."""
    found: dict[str, list[dict[str, float]]] = {}
    for stage in STAGES:
        path = run / "logs" / f"{stage}.jsonl"
        lines = []
        for line in path.read_text().splitlines() if path.is_file() else []:
            try:
                lines.append({key: float(value) for key, value in json.loads(line).items()})
            except (ValueError, TypeError, AttributeError):
                continue
        lines = [line for line in lines if "step" in line]
        if lines:
            found[stage] = lines
    return found


def collect(run: Path, evaluated: Evaluated, numbers: Numbers) -> None:
    """Put what is known about the model and its training under "model" and "training"."""
    pipe = evaluated.pipe
    numbers.put("model/parameters/autoencoder", sum(p.numel() for p in pipe.autoencoder.parameters()))
    if pipe.diffusion is not None:
        numbers.put("model/parameters/denoiser", sum(p.numel() for p in pipe.diffusion.parameters()))
    numbers.put("model/parameters/total", sum(numbers.get("model/parameters").values()))
    channels, cells = pipe.autoencoder.latent_shape
    numbers.put("model/latent", {"channels": channels, "cells": cells})
    numbers.put("model/data", {"train": len(evaluated.train), "held_out": len(evaluated.held_out)})
    for stage, lines in journals(run).items():
        steps = [0, *(line["step"] for line in lines)]
        seconds = sum(
            (b - a) * line.get("seconds_per_step", 0.0) for a, b, line in zip(steps, steps[1:], lines, strict=False)
        )
        terms = {key: value for key, value in lines[-1].items() if key not in NOT_TERMS}
        about = {"steps": int(steps[-1]), "minutes": seconds / 60, "seconds_per_step": seconds / max(steps[-1], 1)}
        numbers.put(f"training/{stage}", {**about, "skipped": int(lines[-1].get("skipped", 0)), "last": terms})
    written = [path.stat().st_mtime for path in (run / "logs").glob("*.jsonl")]
    if written:
        numbers.put("training/finished", time.strftime("%Y-%m-%d %H:%M", time.localtime(max(written))))
        numbers.put("training/minutes", sum(numbers.get(f"training/{s}/minutes") or 0.0 for s in STAGES))
    numbers.put(
        "made_with", {"ddmi": ddmi.__version__, "torch": torch.__version__, "python": platform.python_version()}
    )


def header(evaluated: Evaluated, numbers: Numbers, headlines: Sequence[Headline], hero: str) -> str:
    """Title, what the model is, its headline numbers."""
    config = evaluated.pipe.config
    planes = ", ".join(f"{p.name} {'×'.join(map(str, reversed(p.shape)))}" for p in config.domain.layout)
    parts = [
        f"<h1>{escape(config.name)}</h1>",
        f"<p>A generative model of continuous signals, domain <b>{escape(name_of(config.domain))}</b>. Every sample "
        "and reconstruction on this page is a function of continuous coordinates, shown in renderings.</p>",
    ]
    if evaluated.pipe.diffusion is None:
        parts.append('<p class="notice">The second stage has not been trained: there are no samples yet.</p>')
    parts.append(hero)
    tiles = []
    for found in headlines:
        if numbers.get(found.path) is None:
            continue
        label, _, path = found.beside.partition("=")
        beside = (
            f"<small>{escape(label)} {numbers.show(path, found.form, found.unit)}</small>" if numbers.get(path) else ""
        )
        value = numbers.show(found.path, found.form, found.unit)
        tiles.append(f"<div><dt>{escape(found.label)}</dt><dd>{value}{beside}</dd></div>")
    if tiles:
        parts.append(f'<dl class="tiles">{"".join(tiles)}</dl>')
    stages = " + ".join(numbers.show(f"training/{s}/steps", ",") for s in STAGES if numbers.get(f"training/{s}"))
    entries = [
        ("trained", numbers.show("training/finished")),
        ("training time", numbers.show("training/minutes", ".1f", " min")),
        ("optimiser steps", stages or "not recorded"),
        ("parameters", numbers.show("model/parameters/total", ",")),
        (
            "of which denoiser",
            numbers.show("model/parameters/denoiser", ",") if evaluated.pipe.diffusion is not None else "none",
        ),
        ("latent planes (width×height)", f"{escape(planes)}, {numbers.show('model/latent/channels')} channels"),
        ("condition", escape(config.diffusion.condition)),
        (
            "items for training, held out",
            f"{numbers.show('model/data/train', ',')}, {numbers.show('model/data/held_out', ',')}",
        ),
    ]
    parts.append(facts([(name, value) for name, value in entries if value != "–"]))
    return "".join(parts)


def curves(run: Path, numbers: Numbers) -> Section:
    """The loss terms of each stage over its steps."""
    blocks = []
    for stage, lines in journals(run).items():
        names = list(dict.fromkeys(key for line in lines for key in line if key not in NOT_TERMS))
        drawn = [
            Line(name, [r["step"] for r in lines if name in r], [r[name] for r in lines if name in r]) for name in names
        ]
        last = [f"{escape(name)} {numbers.show(f'training/{stage}/last/{name}', '.4g')}" for name in names]
        at = f"training/{stage}"
        skipped = f", {numbers.show(f'{at}/skipped')} non-finite steps skipped" if numbers.get(f"{at}/skipped") else ""
        blocks.append(
            f"<div><h3>{escape(STAGES[stage])} <small>{numbers.show(f'{at}/minutes', '.1f')} min, "
            f"{numbers.show(f'{at}/seconds_per_step', '.3f')} s a step{skipped}</small></h3>"
            f"{plot(drawn, 'step', 'loss terms, as weighted in the sum')}{legend(last)}</div>"
        )
    body = f'<div class="curves">{"".join(blocks)}</div>' if blocks else '<p class="soft">No journal was kept.</p>'
    lead = "Means over the steps between two records, on a logarithmic scale; the last value of each term stands below."
    return Section("training", "Training", lead, body)


def metrics(numbers: Numbers, names: Sequence[str], part: Part) -> Section:
    """Every metric with its protocol."""
    sampling = numbers.get("sampling") or {}
    parts = []
    for name in names:
        note = f"<p>{escape(part.NOTES[name])}</p>" if name in part.NOTES else ""
        how = numbers.get(f"{name}/protocol") or {}
        told = [k for k in how if k not in ("model", "sampling")]  # the page is of one model, and says how it drew
        protocol = ", ".join(f"{words(k)} {numbers.show(f'{name}/protocol/{k}')}" for k in told)
        took = f"{protocol}{'; ' if protocol else ''}took {numbers.show(f'{name}/seconds', '.1f')} s"
        parts.append(f'<h3>{words(name)}</h3>{_values(name, numbers)}<p class="soft"><small>{took}</small></p>{note}')
    if sampling.get("samples"):
        drawn = facts([(k.replace("_", " "), numbers.show(f"sampling/{k}")) for k in sampling])
        parts.append(f"<h3>How the samples were drawn</h3>{drawn}")
    lead = (
        "All numbers on this page stand in <code>metrics.json</code> beside it, with the protocol they were taken "
        "with. They compare runs of this program under one protocol; they are not comparable with published numbers, "
        "which count other samples, features or splits, and with few samples small differences mean nothing."
    )
    return Section("metrics", "Metrics and how they were taken", lead, "".join(parts), "Metrics")


def _values(name: str, numbers: Numbers) -> str:
    """The numbers of a metric: a table of those in groups, one of each group of groups, and a list of the others."""
    found = numbers.get(name)
    groups = {key: v for key, v in found.items() if isinstance(v, dict) and key != "protocol"}
    nested = [key for key, v in groups.items() if v and all(isinstance(x, dict) for x in v.values())]
    tables = [_table(f"{name}/{key}", groups.pop(key), numbers, words(key)) for key in nested]
    if groups:
        tables.insert(0, _table(name, groups, numbers))
    keys = [key for key, value in found.items() if isinstance(value, int | float) and key != "seconds"]
    scalars = [(words(key), numbers.show(f"{name}/{key}", form(found[key]))) for key in keys]
    return "".join(tables) + (table(["", ""], scalars) if scalars else "")


def _table(place: str, groups: dict[str, dict[str, Any]], numbers: Numbers, title: str = "") -> str:
    """A row for each group, and one for each group inside one."""
    rows = dict(_rows(groups))
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    body = [
        [
            ", ".join(map(words, path.split("/"))),
            *(numbers.show(f"{place}/{path}/{c}", form(row.get(c))) for c in columns),
        ]
        for path, row in rows.items()
    ]
    return table([title, *map(words, columns)], body)


def _rows(groups: dict[str, dict[str, Any]], above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each group lies, with its own numbers; those inside it follow."""
    for key, group in groups.items():
        own = {k: v for k, v in group.items() if not isinstance(v, dict | list)}
        if own:
            yield above + key, own
        yield from _rows({k: v for k, v in group.items() if isinstance(v, dict)}, f"{above}{key}/")


def footer(run: Path, data: str | Path | None, evaluated: Evaluated, numbers: Numbers, credits: Sequence[str]) -> str:
    """How to make the page again, with what, and whose data it shows."""
    config = evaluated.pipe.config
    path = f" --data {data}" if data is not None else ""
    commands = f"ddmi train {config.name}{path} --out {run.name}\nddmi report {run.name}{path}"
    settings = escape(json.dumps(to_dict(config), indent=2))
    took = f"this page took {numbers.show('report/seconds', '.0f')} s on {numbers.show('sampling/device')}"
    made = " · ".join(f"{key} {numbers.show(f'made_with/{key}')}" for key in numbers.get("made_with"))
    return (
        f"<p>Made again by</p><pre>{escape(commands)}</pre>"
        "<p>with the settings below, where they differ from the preset's.</p>"
        f"<details><summary>The whole configuration</summary><pre>{settings}</pre></details>"
        + "".join(f"<p>{escape(line)}</p>" for line in credits)
        + f"<p>{made} · {took}</p>"
    )
