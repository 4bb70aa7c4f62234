"""What `ddmi evaluate` does: checks before any work, then measures, prints and writes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddmi import evaluation, weights
from ddmi.base.errors import UserError, unknown
from ddmi.base.hub import folder_of
from ddmi.base.storage import read_json
from ddmi.base.terminal import say, table
from ddmi.cli.rendering import check_file, check_folder
from ddmi.config import Config
from ddmi.evaluation import Protocol, nfe
from ddmi.evaluation import ablation as study
from ddmi.evaluation.evaluated import opened
from ddmi.metrics import features
from ddmi.metrics.features.efficientnet import EfficientNetLite0
from ddmi.pretrained import open_folder
from ddmi.report import tables


def metrics(
    run: str, data: Path | None, wanted: str, protocol: Protocol, out: Path | None, sizes: tuple[int, ...] = ()
) -> None:
    """The metrics of a model, all or those named ("a,b"); at several sizes those that can be."""
    target = _metrics_file(run, out)
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if Path(run).is_dir() or weights.find(run):  # before any sample is drawn
        domain = open_folder(run)[1].domain
        evaluation.check_metrics(domain, names)
        evaluation.check_sizes(domain, names, sizes, protocol.limit)
    evaluated = evaluation.prepare(run, data, protocol)
    if not evaluated.processes.main:
        return

    def keep(found: dict[str, Any]) -> None:
        evaluation.write(found, target)

    if sizes:
        results = evaluation.at_sizes(evaluated, names, sizes, keep)
    else:
        results = evaluation.evaluate(evaluated, names or None, keep)
    evaluation.write(results, target)
    found = {name: part for name, part in results.items() if name not in ("preset", "sampling")}
    rows = [row for name, part in found.items() for row in evaluation.numbers(name, part)]
    say(table([("metric", "", "value"), *rows]))
    say(str(target))


def evaluations(run: str, data: Path | None, protocol: Protocol, out: Path | None) -> None:
    """Quality against function evaluations (Table 12)."""
    target = _metrics_file(run, out)
    evaluated = opened(run, data, denoiser=True)
    evaluation.check_sizes(evaluated.pipe.config.domain, (), (), protocol.limit)
    found = nfe.measure(evaluated, protocol, target)
    if not evaluated.processes.main:
        return
    say(table([*nfe.lines(found)]))
    say(str(target))
    say(str(tables.write_nfe(run, target)))


def ablation(config: Config, data: Path | None, budget: str, seeds: int, protocol: Protocol, out: Path | None) -> None:
    """The parts of the decoder left out one by one (Table 8)."""
    steps = _steps(budget)
    folder = out or Path("runs") / f"ablation-{config.name}"
    check_folder(folder)
    evaluation.check_sizes(config.domain, (), (protocol.size,) if protocol.size else (), protocol.limit)
    study.run(config, folder, data, budget=steps, seeds=seeds, protocol=protocol)
    say(tables.text(tables.ablation_table(tables.ablation_numbers(folder))))
    say(str(folder / study.FILE))
    say(str(tables.write_ablation(folder)))


def check_features(name: str, needed: bool) -> None:
    """Refuse a feature network that is not there, before any sample is drawn.

    Where it is not `needed`, the package of the default one may be missing: its metrics are then left out.
    """
    if name == EfficientNetLite0.name and not needed:
        return
    try:
        features.load(name)
    except FileNotFoundError as error:
        raise UserError(f"--features: {error}") from error


EVALUATORS = ("classifier", "clip", "i3d")
"""Networks that some metrics look with."""


def evaluators(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """`classifier=voxels.safetensors` and the like as pairs. Raises UserError for another name, or a missing file."""
    found = []
    for one in given:
        name, _, place = one.partition("=")
        if name not in EVALUATORS:
            raise unknown("evaluator", name, EVALUATORS)
        if not place:
            raise UserError(f"--judge takes NAME=FILE, e.g. classifier=voxels.safetensors, not {one!r}")
        if name == "clip":
            folder_of(place, "CLIP model", "connect once, or name a folder that holds one")
        elif not Path(place).is_file():
            raise UserError(f"--judge: {place} does not exist")
        found.append((name, place))
    return tuple(found)


def _steps(budget: str) -> tuple[int, int] | None:
    """Steps of both stages of "300,600" or "300"; None for those of the preset."""
    if not budget:
        return None
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)?", budget):
        raise UserError(f"--budget takes steps, one number for both stages or two (300,600), not {budget!r}")
    first, _, second = budget.partition(",")
    return int(first), int(second or first)


def sizes_of(text: str) -> tuple[int, ...]:
    """Sizes in pixels of "64,128". Raises UserError for anything else."""
    if not text:
        return ()
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", text):
        raise UserError(f"--sizes takes pixels a side, separated by commas (64,128,256), not {text!r}")
    return tuple(dict.fromkeys(int(part) for part in text.split(",")))


def _metrics_file(run: str, out: Path | None) -> Path:
    """Where numbers are written."""
    target = out or Path(run) / "metrics.json"
    if target.suffix != ".json":
        raise UserError(f"--out {target} must end in .json")
    if out is None and not Path(run).is_dir():
        raise UserError(f"{run} is no run folder, which would keep the numbers: add --out {Path(run).name}.json")
    check_file(target)
    if target.exists() and not isinstance(read_json(target), dict):  # numbers are added to what it holds
        raise UserError(f"--out {target} holds something else than metrics: name another file")
    return target
