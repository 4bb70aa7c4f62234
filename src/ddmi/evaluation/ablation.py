"""The parts of the decoder and the read-out left out one by one, at equal budget (Table 8)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ddmi import config as configuration
from ddmi.base.errors import UserError, WorkError
from ddmi.base.processes import launched
from ddmi.base.storage import aside, read_json, write_json
from ddmi.config import Config
from ddmi.evaluation import evaluate, write
from ddmi.evaluation.evaluated import Protocol, opened
from ddmi.evaluation.nfe import identity, metrics_of, scores
from ddmi.metrics.uncertainty import mean_and_deviation
from ddmi.training.checkpoint import find
from ddmi.training.run import train

log = logging.getLogger(__name__)

KEY = "ablation"
FILE = "ablation.json"
STAGES = ("autoencoder", "diffusion")


class Variant(NamedTuple):
    """A row of the table: with or without hierarchical basis fields (HDBF), and the coarse-to-fine read-out (CFC)."""

    name: str
    hierarchical: bool
    coarse_to_fine: bool

    def of(self, config: Config) -> Config:
        """The configuration with these two switches."""
        own = config.autoencoder
        decoder = replace(own.decoder, hierarchical=self.hierarchical)
        readout = replace(own.readout, coarse_to_fine=self.coarse_to_fine)
        return replace(config, autoencoder=replace(own, decoder=decoder, readout=readout))


VARIANTS = (
    Variant("full", hierarchical=True, coarse_to_fine=True),
    Variant("no-cfc", hierarchical=True, coarse_to_fine=False),
    Variant("no-hdbf", hierarchical=False, coarse_to_fine=True),
    Variant("neither", hierarchical=False, coarse_to_fine=False),
)


def trained_as(variant: Variant, config: Config) -> Variant:
    """The variant whose network this one is: with a single embedding to concatenate there is no order to leave out."""
    single = len(variant.of(config).autoencoder.decoder.fields) == 1
    if not single or config.autoencoder.readout.conditioning != "concatenate":
        return variant
    return next(v for v in VARIANTS if v.hierarchical == variant.hierarchical)


def budgeted(config: Config, budget: tuple[int, int] | None, seed: int) -> Config:
    """The configuration at this many steps of each stage (None: its own), with this seed."""
    first, second = budget or (config.training.autoencoder_steps, config.training.diffusion_steps)
    training = replace(config.training, autoencoder_steps=first, diffusion_steps=second, seed=seed, preview_every=0)
    return replace(config, training=training)


def run(
    config: Config,
    out: Path,
    data: str | Path | None = None,
    *,
    budget: tuple[int, int] | None = None,
    seeds: int = 3,
    protocol: Protocol | None = None,
) -> dict[str, Any]:
    """Train and evaluate every variant under every seed, each in a run folder of its own below `out`.

    The same call goes on where it was interrupted. `out/ablation.json` is written after every run.

    Raises:
        UserError: `out` holds runs of another budget or configuration, or several processes were launched.
        WorkError: training was stopped.
    """
    if launched().count > 1:
        raise UserError("--ablation trains many small models one after another: start it without torchrun")
    metrics = config.domain.metrics()
    if not (metrics.quality and metrics.fidelity):
        raise UserError(f"--ablation: the domain of {config.name} has no metrics that compare models")
    protocol = protocol or Protocol()
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in range(seeds):
        for variant in VARIANTS:
            own = trained_as(variant, config)
            if own is variant:
                wanted = budgeted(variant.of(config), budget, seed)
                one = _run(wanted, out / f"{variant.name}-seed-{seed}", data, protocol)
                found.setdefault(variant.name, []).append({"seed": seed, **one})
            result = summary(config, budget, protocol, found)
            with aside(out / FILE) as scratch:
                write_json(result, scratch)
    return result


def summary(
    config: Config, budget: tuple[int, int] | None, protocol: Protocol, found: Mapping[str, Sequence[dict[str, Any]]]
) -> dict[str, Any]:
    """The table: mean and spread of every number over the seeds that are done."""
    plain = configuration.to_dict(budgeted(config, budget, 0))
    sampling = protocol.sampling.told(config.diffusion)
    about = {
        "preset": config.name,
        "steps": {stage: plain["training"][f"{stage}_steps"] for stage in STAGES},
        "batch": {"autoencoder": config.training.batch_size, "diffusion": config.training.diffusion_batch},
        "points": plain["domain"].get("points"),
        "seeds": max((len(runs) for runs in found.values()), default=0),
        "samples": protocol.samples,
        "sampling_steps": sampling.pop("steps"),
        "sampling_seed": protocol.sampling.seed,
        **sampling,
        "features": protocol.features,
        "k": protocol.neighbours,
        "size": protocol.size or None,
        "limit": protocol.limit or None,
    }
    rows = []
    for variant in VARIANTS:
        own = trained_as(variant, config)
        runs = found.get(own.name, [])
        row: dict[str, Any] = {**variant._asdict(), "runs": list(runs), "mean": {}, "deviation": {}}
        if own is not variant:
            row["same_network_as"] = own.name
        if runs:
            row["parameters"] = runs[0]["parameters"]
        for name in (*runs[0]["scores"], "seconds") if runs else ():
            values = [{**run["scores"], "seconds": run["seconds"]}[name] for run in runs]
            row["mean"][name], row["deviation"][name] = mean_and_deviation(values)
        rows.append(row)
    return {"protocol": about, "rows": rows}


def _run(config: Config, folder: Path, data: str | Path | None, protocol: Protocol) -> dict[str, Any]:
    """Train one model, or go on with it, and evaluate it unless that was done."""
    _check(config, folder)
    log.warning("%s", folder.name)
    if not train(config, folder, data, resume=True):
        raise WorkError(f"stopped in {folder}; the same command goes on with it")
    shared = folder.parent / "cache"  # features of the data are the same for all variants
    evaluated = replace(opened(folder, data, denoiser=True), cache=shared)
    sampling = protocol.sampling.of(config.diffusion)
    about = {**identity(evaluated, protocol), "sampler": sampling.sampler, "steps": sampling.steps}
    about |= {"tolerance": sampling.tolerance, "size": protocol.size, "limit": protocol.limit, "eta": sampling.eta}
    target = folder / "metrics.json"
    before = read_json(target).get(KEY) if target.exists() else None
    if before is not None and before["protocol"] == about:
        return before["found"]
    metrics = config.domain.metrics()
    wanted = {**metrics.fidelity, **metrics.quality}
    results = evaluate(evaluated.drawn(protocol), metrics_of(wanted))
    states = [read_json(find(folder / "checkpoints", stage)[-1].folder / "state.json") for stage in STAGES]
    found = {
        "scores": scores(results, wanted),
        "seconds": sum(state["seconds"] for state in states),
        "parameters": sum(p.numel() for p in evaluated.pipe.autoencoder.parameters()),
    }
    write({**results, KEY: {"protocol": about, "found": found}}, target)
    return found


def _check(config: Config, folder: Path) -> None:
    """Raises UserError for a folder with a run of another budget: it would count as finished, or go on past its end."""
    path = folder / "config.json"
    if not path.exists():
        return
    before, now = (configuration.to_dict(c.training) for c in (configuration.load(path), config))
    for name in before:
        if name not in ("precision", "diffusion_precision") and before[name] != now[name]:
            raise UserError(
                f"{path} was made with training.{name} = {before[name]}, not {now[name]}: choose another --out"
            )
