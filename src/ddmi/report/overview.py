"""What every page has, whatever the domain: what the model is, training curves, metrics, how to make it again."""

from __future__ import annotations

import json
import platform
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import ddmi
from ddmi import presets
from ddmi.config import Config, to_dict
from ddmi.domains import name_of
from ddmi.report.content import Block, Facts, Inline, Row, Section, Settings, Table, Text
from ddmi.report.numbers import Numbers
from ddmi.report.plots import chart
from ddmi.report.words import few, form, headlines, note, section, words

if TYPE_CHECKING:
    from ddmi.evaluation import Evaluated

STAGES = {
    "autoencoder": "Stage 1: autoencoder",
    "decoder": "Stage 1: decoder alone",
    "diffusion": "Stage 2: latent diffusion",
}
NOT_TERMS = ("step", "learning_rate", "skipped", "seconds_per_step")
MOST = 400
"""Points of a curve; a longer one is averaged in equal stretches."""


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
        seconds = float(np.diff(steps) @ [line.get("seconds_per_step", 0.0) for line in lines])
        terms = {key: value for key, value in lines[-1].items() if key not in NOT_TERMS}
        about = {"steps": int(steps[-1]), "minutes": seconds / 60, "seconds_per_step": seconds / max(steps[-1], 1)}
        numbers.put(f"training/{stage}", {**about, "skipped": int(lines[-1].get("skipped", 0)), "last": terms})
    written = [path.stat().st_mtime for path in (run / "logs").glob("*.jsonl")]
    if written:
        numbers.put("training/finished", time.strftime("%Y-%m-%d %H:%M", time.localtime(max(written))))
        numbers.put("training/minutes", sum(numbers.get(f"training/{s}/minutes") or 0.0 for s in STAGES))
    versions = {"ddmi": ddmi.__version__, "torch": torch.__version__, "python": platform.python_version()}
    numbers.put("made_with", versions)


def header(evaluated: Evaluated, numbers: Numbers, hero: Sequence[Block]) -> list[Block]:
    """What the model is, some samples, its headline numbers."""
    config, show = evaluated.pipe.config, numbers.show
    domain = name_of(config.domain)
    planes = ", ".join(f"{p.name} {'×'.join(map(str, reversed(p.shape)))}" for p in config.domain.layout)
    blocks: list[Block] = [
        Text(
            f"A generative model of continuous signals, domain {domain}. Every sample and reconstruction on this page "
            "is a function of continuous coordinates, shown in renderings."
        )
    ]
    if evaluated.pipe.diffusion is None:
        blocks.append(Text("The second stage has not been trained: there are no samples yet.", "notice"))
    blocks += hero
    if large := headlines(domain, numbers):
        blocks.append(Facts(large, large=True))
    stages = [show(f"training/{stage}/steps", ",") for stage in STAGES if numbers.get(f"training/{stage}")]
    entries: list[tuple[str, Inline]] = [
        ("trained", show("training/finished")),
        ("training time", show("training/minutes", ".1f", " min")),
        ("optimiser steps", tuple(part for number in stages for part in (" + ", number))[1:] or "not recorded"),
        ("parameters", show("model/parameters/total", ",")),
        ("of which denoiser", show("model/parameters/denoiser", ",") if evaluated.pipe.diffusion else "none"),
        ("latent planes (width×height)", (f"{planes}, ", show("model/latent/channels"), " channels")),
        ("condition", config.diffusion.condition),
        ("items for training, held out", (show("model/data/train", ","), ", ", show("model/data/held_out", ","))),
    ]
    blocks.append(Facts([(name, value) for name, value in entries if str(value) != "–"]))
    return blocks


def curves(run: Path, numbers: Numbers) -> Section:
    """The loss terms of each stage over its steps."""
    figures = []
    for stage, lines in journals(run).items():
        at = f"training/{stage}"
        names = list(dict.fromkeys(key for line in lines for key in line if key not in NOT_TERMS))
        terms = {name: _thinned([(r["step"], r[name]) for r in lines if name in r]) for name in names}
        about: list[Any] = [f"{STAGES[stage]}: ", numbers.show(f"{at}/minutes", ".1f", " min, ")]
        about += [numbers.show(f"{at}/seconds_per_step", ".3f", " s per step")]
        if numbers.get(f"{at}/skipped"):
            about += [", ", numbers.show(f"{at}/skipped"), " non-finite steps skipped"]
        about.append(". Last values: ")
        for name in numbers.get(f"{at}/last"):
            about += [f"{words(name)} ", numbers.show(f"{at}/last/{name}", ".4g"), "; "]
        named = {words(name): line for name, line in terms.items()}
        unit = "loss term, weighted (no unit)"
        figures.append(chart(named, "training step", unit, log_y=True, caption=tuple(about[:-1])))
    blocks: list[Block] = [Row(figures, min(len(figures), 2), kind="charts")] if figures else []
    return section("training", numbers, blocks, none="" if figures else " No log was kept.")


def metrics(numbers: Numbers, names: Sequence[str], domain: str) -> Section:
    """Every metric with its protocol."""
    blocks: list[Block] = []
    for name in names:
        blocks += _metric(name, numbers)
        how = numbers.get(f"{name}/protocol") or {}
        about: list[Any] = []
        for key in [k for k in how if k not in ("model", "sampling")]:  # the page is of one model
            about += [f"{words(key)} ", numbers.show(f"{name}/protocol/{key}"), ", "]
        blocks.append(Text(("Protocol: ", *about, "time ", numbers.show(f"{name}/seconds", ".1f", " s")), "small"))
        if note(domain, name):
            blocks.append(Text(note(domain, name)))
    if numbers.get("sampling/samples"):
        blocks.append(Text("How the samples were generated", "heading"))
        blocks.append(Facts([(words(key), numbers.show(f"sampling/{key}")) for key in numbers.get("sampling")]))
    return section("metrics", numbers, blocks)


def reproduction(
    run: Path, data: str | Path | None, evaluated: Evaluated, numbers: Numbers, credits: list[str]
) -> list[Block]:
    """The commands that make the run and its page again, all settings, whose data is shown, with what it was made."""
    settings = compared(evaluated.pipe.config)
    path = [] if data is None else ["--data", str(data)]
    name = evaluated.pipe.config.name
    known = name in presets.functions()
    changed = [f"{key}={value}" for key, value, preset in settings if preset is not None and key != "name"]
    source = name if known else str(run / "config.json")
    train = ["ddmi", "train", source, *path, "--out", str(run), *(p for one in changed for p in ("--set", one))]
    commands = "\n".join(map(shlex.join, (train, ["ddmi", "report", str(run), *path])))
    made = [part for key in numbers.get("made_with") for part in (f"{key} ", numbers.show(f"made_with/{key}"), ", ")]
    took = ("this page took ", numbers.show("report/seconds", ".0f", " s on "), numbers.show("sampling/device"))
    blocks: list[Block] = [Text("These commands make the run and this page again:"), Text(commands, "code")]
    return [*blocks, Settings(settings), *map(Text, credits), Text((*made, *took), "small")]


def compared(config: Config) -> list[tuple[str, str, str | None]]:
    """Every setting: (dotted name, its value as `--set` takes it, the preset's where that is another, else None)."""
    own = dict(_flat(to_dict(config)))
    known = dict(_flat(to_dict(presets.find(config.name)))) if config.name in presets.functions() else own
    return [(key, value, None if known.get(key) == value else known.get(key, "")) for key, value in own.items()]


def _flat(plain: dict[str, Any], where: str = "") -> Iterator[tuple[str, str]]:
    for key, value in plain.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value if isinstance(value, str) else json.dumps(value)


def _metric(name: str, numbers: Numbers) -> list[Block]:
    """A table of the numbers in groups, one of each group of groups, and one of the others."""
    found = numbers.get(name)
    title = words(name)
    groups = {key: v for key, v in found.items() if isinstance(v, dict) and key != "protocol"}
    nested = [key for key, v in groups.items() if v and all(isinstance(x, dict) for x in v.values())]
    tables = [_table(f"{name}/{key}", groups.pop(key), numbers, f"{title}: {words(key)}") for key in nested]
    scalars = {key: v for key, v in found.items() if isinstance(v, int | float) and key != "seconds"}
    if groups:
        tables.insert(0, _table(name, groups, numbers, title))
    if scalars:
        count = few(numbers, name) if "precision" in scalars else ()
        marks = dict.fromkeys(("precision", "recall"), f" (few samples: {count[1]})" if count else "")
        shown = {key: numbers.show(f"{name}/{key}", form(value)) for key, value in scalars.items()}
        rows = [(words(key) + marks.get(key, ""), value) for key, value in shown.items()]
        tables.append(Table(["number", "value"], rows, title if not groups else ""))
    return [*tables]


def _table(place: str, groups: dict[str, Any], numbers: Numbers, title: str) -> Table:
    """A row for each group, and one for each group inside one."""
    rows = dict(_rows(groups))
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    body: list[list[Inline]] = []
    for path, row in rows.items():
        values = [numbers.show(f"{place}/{path}/{c}", form(row.get(c))) for c in columns]
        body.append([", ".join(map(words, path.split("/"))), *values])
    return Table(["", *map(words, columns)], body, title)


def _rows(groups: dict[str, dict[str, Any]], above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each group lies, with its own numbers; those inside it follow."""
    for key, group in groups.items():
        own = {k: v for k, v in group.items() if not isinstance(v, dict | list)}
        if own:
            yield above + key, own
        yield from _rows({k: v for k, v in group.items() if isinstance(v, dict)}, f"{above}{key}/")


def _thinned(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    stretch = -(-len(points) // MOST) or 1
    groups = [points[i : i + stretch] for i in range(0, len(points), stretch)]
    return [sum(x for x, _ in g) / len(g) for g in groups], [sum(y for _, y in g) / len(g) for g in groups]
