"""Running a domain's metrics on a run, every number with its protocol.

`evaluated.py` a run with its data and samples; `samples.py` sampling and decoding; `latent.py` how easy the latents are
to denoise; `nfe.py` quality against function evaluations (Table 12); `ablation.py` the parts of the decoder left out
one by one (Table 8).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddmi.base.errors import MissingPackage, UserError, unknown
from ddmi.base.progress import working
from ddmi.base.storage import aside, read_json, write_json
from ddmi.domains.base import Domain
from ddmi.evaluation import latent
from ddmi.evaluation.evaluated import Evaluated, Protocol, prepare

log = logging.getLogger(__name__)


def evaluate(
    evaluated: Evaluated, names: Sequence[str] | None = None, keep: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """The metrics of the run's domain (all, or those named), each with its protocol and the seconds it took.

    `keep` is given the results so far after every metric. A metric whose package is not installed is left out with a
    warning, unless it was asked for by its name.

    Raises:
        UserError: a metric that the domain does not have; allowed ones are named.
    """
    available = evaluated.pipe.config.domain.metrics().functions
    check_metrics(evaluated.pipe.config.domain, names or ())
    results: dict[str, Any] = {"preset": evaluated.pipe.config.name, "sampling": evaluated.protocol}
    evidence = evaluated.evidence
    for name in names or [latent.NAME, *available]:
        began = time.monotonic()
        try:
            with working("measuring", name):
                found = latent.health(evaluated) if name == latent.NAME else available[name](evidence)
        except MissingPackage as error:
            if names:
                raise
            log.warning("%s is left out: %s", name, error)
            continue
        if not found:
            continue
        how = {**found.get("protocol", {}), "model": evaluated.weights, "sampling": evaluated.protocol}
        results[name] = {**found, "protocol": how, "seconds": round(time.monotonic() - began, 2)}
        if keep is not None:
            keep(results)
    return results


def at_sizes(
    evaluated: Evaluated,
    names: Sequence[str],
    sizes: Sequence[int],
    keep: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Metrics of one set of samples at each of these sizes (Tables 1, 3 and 4), under "metric@size".

    Args:
        names: metrics of `Metrics.sized`; none: all of them.
        keep: as for `evaluate`.

    Raises:
        UserError: a metric that is taken at one size only; a size below 1.
    """
    allowed = evaluated.pipe.config.domain.metrics().sized
    results: dict[str, Any] = {}
    for size in sizes:
        looked = replace(evaluated, looked=replace(evaluated.looked, size=size))
        found = evaluate(looked, names or allowed)
        results |= {f"{name}@{size}" if name in allowed else name: part for name, part in found.items()}
        if keep is not None:
            keep(results)
    return results


def check_sizes(domain: Domain, names: Sequence[str], sizes: Sequence[int], limit: int = 0) -> None:
    """Raises UserError where the domain, or a metric of these, does not go with sizes or a limit."""
    sized = domain.metrics().sized
    if (sizes or limit) and not sized:
        raise UserError(f"{'--sizes' if sizes else '--limit'} is for models of images")
    for name in names if sizes else ():
        if name not in sized:
            raise UserError(f"--sizes: {name} is taken at one size; allowed are {', '.join(sized)}")


def check_metrics(domain: Domain, names: Sequence[str]) -> None:
    """Raises UserError for a metric that the domain does not have, and names those it has."""
    known = metrics_of(domain)
    for name in names:
        if name not in known:
            raise unknown("metric", name, known)


def metrics_of(domain: Domain) -> list[str]:
    """The names of all metrics of a domain: that of its latents, and its own."""
    return [latent.NAME, *domain.metrics().functions]


def richer(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of `before` that looked at more samples of the same model than those of `now`."""
    found = {}
    for name, metric in now.items():
        old, new = (m.get("protocol", {}) if isinstance(m, Mapping) else {} for m in (before.get(name), metric))
        if old.get("model") and old["model"] == new.get("model") and old.get("samples", 0) > new.get("samples", 0):
            found[name] = before[name]
    return found


def at(results: Mapping[str, Any], place: str) -> Any:
    """The value at "metric/key/key", None where there is none."""
    found: Any = results
    for key in place.split("/"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def numbers(metric: str, found: Any, where: str = "") -> Iterator[tuple[str, str, str]]:
    """The numbers of a metric for a table, (metric, name, value) each, without its protocol."""
    for key, value in found.items():
        name = f"{where} {key}".strip()
        if isinstance(value, dict) and key != "protocol":
            yield from numbers(metric, value, name)
        elif isinstance(value, int | float) and key != "seconds":
            yield (metric, name.replace("_", " "), f"{value:.4g}")


def write(results: dict[str, Any], path: str | Path) -> None:
    """Add the results to a metrics file; what it holds under other names stays."""
    path = Path(path)
    if path.suffix != ".json":
        raise UserError(f"{path}: metrics are written as .json")
    before = read_json(path) if path.exists() else {}
    with aside(path) as scratch:
        write_json({**before, **results}, scratch)


__all__ = [
    "Evaluated",
    "Protocol",
    "at",
    "at_sizes",
    "check_metrics",
    "check_sizes",
    "evaluate",
    "metrics_of",
    "numbers",
    "prepare",
    "richer",
    "write",
]
