"""Quality against function evaluations, one row for each way of sampling (Table 12)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ddmi.base.errors import UserError
from ddmi.base.storage import digest, read_json
from ddmi.domains.base import fingerprint
from ddmi.evaluation import at, evaluate, write
from ddmi.evaluation.evaluated import Evaluated, Protocol
from ddmi.model.diffusion import DiffusionConfig
from ddmi.model.sampling import SamplingConfig

log = logging.getLogger(__name__)

KEY = "nfe"
"""Where the table stands in metrics.json."""
COUNTED = "evaluations of the denoiser for one sample; with guidance each is two network calls"


class Way(NamedTuple):
    """A sampler with its steps or, for "rk45", its tolerance."""

    sampler: str
    steps: int = 0
    tolerance: float | None = None

    @property
    def name(self) -> str:
        """For a table."""
        return f"tolerance {self.tolerance:g}" if self.tolerance is not None else f"{self.steps} steps"


WAYS = (
    *(Way("flow", n) for n in (1, 2, 4)),
    *(Way("dpm", n) for n in (4, 10, 20, 50)),
    *(Way("ddim", n) for n in (10, 20, 50)),
    *(Way("rk45", tolerance=t) for t in (1e-2, 1e-3, 1e-4, 1e-5)),
    Way("ddpm", 1000),
)
"""The rows, those that take the least time first."""


def ways_for(model: DiffusionConfig, flow: bool) -> list[Way]:
    """The rows of a model: no sampler takes more steps than it has times, and a flow map needs to be there."""
    ways = dict.fromkeys(way._replace(steps=min(way.steps, model.timesteps)) for way in WAYS)
    return [way for way in ways if flow or way.sampler != "flow"]


def _flow(evaluated: Evaluated, sampling: SamplingConfig) -> bool:
    """Whether there is a flow map with the guidance that is asked for."""
    model, denoiser = evaluated.pipe.config.diffusion, evaluated.pipe.diffusion
    own = SamplingConfig(sampler="dpm").of(model).guidance
    if denoiser is None or denoiser.flow is None:
        return False
    if replace(sampling, sampler="dpm", steps=0).of(model).guidance != own:
        log.warning("no rows of the flow map: its guidance is fixed, and another one is asked for")
        return False
    return True


def measure(
    evaluated: Evaluated, protocol: Protocol, target: Path, ways: Sequence[Way] | None = None
) -> dict[str, Any]:
    """The table of a model. It is written into `target` after every row.

    Rows that stand there already under the identical protocol are kept, so that an interrupted table goes on. A table
    of another model is replaced.

    Args:
        evaluated: a model with a denoiser, as `opened` gives it.
        protocol: how many samples of which seed, and what looks at them; its sampler and steps are those of the rows.
        ways: the rows; without them, those of `ways_for`.

    Raises:
        UserError: the domain names no numbers that compare samples, there are too few samples or data for them, or
            `target` holds a table of this model under another protocol.
    """
    quality = evaluated.pipe.config.domain.metrics().quality
    if not quality:
        raise UserError(
            f"--nfe: the domain of {evaluated.pipe.config.name} has no metric that compares sets of samples"
        )
    if ways is None:
        ways = ways_for(evaluated.pipe.config.diffusion, _flow(evaluated, protocol.sampling))
    shared = identity(evaluated, protocol)
    before = stored(target, evaluated) or {"protocol": shared, "rows": []}
    if other := [name for name in {**shared, **before["protocol"]} if before["protocol"].get(name) != shared.get(name)]:
        raise UserError(
            f"{target} holds a table of this model with another {other[0]} "
            f"({before['protocol'].get(other[0])}, not {shared.get(other[0])}): name another file with --out"
        )
    rows = before["rows"]
    order = list(dict.fromkeys([*ways, *WAYS, *map(way_of, rows)]))
    for way in ways:
        if any(way_of(row) == way for row in rows):
            continue
        tolerance = protocol.sampling.tolerance if way.tolerance is None else way.tolerance
        sampling = replace(protocol.sampling, sampler=way.sampler, steps=way.steps, tolerance=tolerance)
        sampled = evaluated.drawn(replace(protocol, sampling=sampling))
        results = evaluate(sampled, metrics_of(quality)) if evaluated.processes.main else {}
        rates = ("evaluations", "sampling_seconds", "samples_per_second", "device")
        row = {**way._asdict(), **{name: sampled.protocol[name] for name in rates}, "scores": scores(results, quality)}
        errors = {name: f"{place}_standard_error" for name, place in quality.items()}
        row["standard_errors"] = scores(results, errors)
        if evaluated.processes.main and not row["scores"]:
            raise UserError(
                f"--nfe: {protocol.samples} samples or the data are too few to compare: draw more (--samples)"
            )
        rows = sorted([*rows, row], key=lambda row: order.index(way_of(row)))
        if evaluated.processes.main:
            write({KEY: {"protocol": shared, "rows": rows}}, target)
        evaluated.processes.wait()
    return {"protocol": shared, "rows": rows}


def stored(target: Path, evaluated: Evaluated) -> dict[str, Any] | None:
    """The table in a metrics file, if it is of this model."""
    found = read_json(target).get(KEY) if target.is_file() else None
    return found if found is not None and found["protocol"]["model"] == evaluated.weights else None


def identity(evaluated: Evaluated, protocol: Protocol) -> dict[str, Any]:
    """What numbers of samples depend on beside the sampler: two tables with the same are one table."""
    config, sampling = evaluated.pipe.config, protocol.sampling
    ways = replace(sampling, sampler="ddim", steps=0)  # the sampler that depends on eta as well
    shared = {
        "samples": protocol.samples,
        "seed": sampling.seed,
        **{name: value for name, value in ways.told(config.diffusion).items() if name not in Way._fields},
        "condition": config.diffusion.condition,
        "counted": COUNTED,
        "features": protocol.features,
        "features_file": digest(Path(protocol.features)) if Path(protocol.features).is_file() else None,
        "k": protocol.neighbours,
        "model": evaluated.weights,
        "data": [fingerprint(part, range(len(part))) for part in (evaluated.train, evaluated.held_out)],
    }
    return json.loads(json.dumps(shared))  # as a file has it


def lines(table: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The table as text, its head first."""
    rows = table["rows"]
    names = list(rows[0]["scores"])
    yield ("sampler", "", "evaluations", *(name.replace("_", " ") for name in names), "samples/s")
    for row in rows:
        scores = [_with_error(row, name) for name in names]
        rate = f"{row['samples_per_second']:.3g}"
        yield (row["sampler"], way_of(row).name, f"{row['evaluations']:.4g}", *scores, rate)


def _with_error(row: Mapping[str, Any], name: str) -> str:
    value, error = row["scores"].get(name), row.get("standard_errors", {}).get(name)
    return "" if value is None else f"{value:.4g}" if error is None else f"{value:.4g} ± {error:.2g}"


def way_of(row: Mapping[str, Any]) -> Way:
    """How the samples of a row were drawn."""
    return Way(row["sampler"], row["steps"], row["tolerance"])


def scores(results: Mapping[str, Any], wanted: Mapping[str, str]) -> dict[str, float]:
    """The numbers that a domain compares by, those that are there."""
    found = {name: at(results, place) for name, place in wanted.items()}
    return {name: float(value) for name, value in found.items() if value is not None}


def metrics_of(wanted: Mapping[str, str]) -> list[str]:
    """The metrics that these numbers stand in."""
    return list(dict.fromkeys(place.partition("/")[0] for place in wanted.values()))


__all__ = ["KEY", "WAYS", "Way", "lines", "measure"]
