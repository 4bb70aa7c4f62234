"""Commands that evaluate a model, and the demo that trains, evaluates and reports one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from ddmi.base.errors import UserError, unknown
from ddmi.base.interruption import STATUS
from ddmi.base.terminal import say
from ddmi.cli import reading
from ddmi.cli.options import Data, Sampling

log = logging.getLogger(__name__)


def evaluate(
    run: Annotated[str, typer.Argument(help="A run folder, or a model; with --ablation also a preset.")],
    *,
    data: Data = None,
    metrics: Annotated[str, typer.Option(metavar="A,B", help="Which metrics; without it, all.")] = "",
    samples: Annotated[int, typer.Option(min=1, help="Samples to generate.")] = 256,
    sampling: Sampling,
    sizes: Annotated[
        str, typer.Option(metavar="N,N", help="Of images: metrics of the same samples at each of these sizes.")
    ] = "",
    size: Annotated[int, typer.Option(min=0, help="Of --ablation: pixels a side; 0: the resolution.")] = 0,
    limit: Annotated[int, typer.Option(min=0, help="Of images: real images of each part, at most.")] = 0,
    features: Annotated[
        str,
        typer.Option(metavar="NAME|FILE", help="efficientnet-lite0, or a file of Inception-v3 or VGG-16."),
    ] = "efficientnet-lite0",
    judge: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="An evaluator: classifier=FILE, clip=FOLDER|hub:NAME, i3d=FILE."),
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
    from ddmi.cli import measuring
    from ddmi.evaluation import Protocol

    if nfe and ablation:
        raise UserError("--nfe and --ablation exclude one another")
    given = {**vars(sampling), "metrics": metrics, "budget": budget, "seeds": seeds - 3, "sizes": sizes, "size": size}
    for name in [name for name, value in given.items() if value and name in _WITHOUT_EFFECT[nfe, ablation]]:
        log.warning("--%s has no effect here", name)
    measuring.check_features(features, nfe or ablation or "distributions" in metrics)
    protocol = Protocol(
        samples=samples,
        sampling=reading.sampling(sampling),
        features=features,
        neighbours=neighbours_k,
        evaluators=measuring.evaluators(judge or ()),
        size=size if ablation else 0,
        limit=limit,
    )
    if ablation:
        measuring.ablation(reading.preset(run), data, budget, seeds, protocol, out)
    elif nfe:
        measuring.evaluations(run, data, protocol, out)
    else:
        measuring.metrics(run, data, metrics, protocol, out, measuring.sizes_of(sizes))


_WITHOUT_EFFECT = {
    (False, False): ("budget", "seeds", "size"),
    (True, False): ("metrics", "sampler", "steps", "budget", "seeds", "sizes", "size", "eta"),
    (False, True): ("metrics", "sizes"),
}
"""Options that (--nfe, --ablation) do not read."""


def report(run: Annotated[Path, typer.Argument(help="A run folder.")], data: Data = None) -> None:
    """Write report.html into a run folder."""
    if not run.is_dir():
        raise UserError(f"{run} does not exist: name a run folder")
    from ddmi import report as reports

    say(str(reports.write(run, data)))


def demo(
    domain: Annotated[str, typer.Argument(help="image, shape, video or nerf, or one of another package.")] = "image",
    out: Annotated[Path | None, typer.Option(metavar="RUN", help="Default: runs/demo-DOMAIN.")] = None,
) -> None:
    """Train, sample and report in some minutes.

    On data that comes with the installed packages: nothing is downloaded.
    """
    from ddmi import presets
    from ddmi.cli.rendering import check_folder

    if domain not in presets.demos():
        raise unknown("demo", domain, presets.demos())
    target = out or Path("runs") / f"demo-{domain}"
    check_folder(target)
    from ddmi.cli import demonstration

    made = demonstration.run(domain, target)
    say(str(made))
    if made.is_dir():  # no page: it was interrupted
        raise typer.Exit(STATUS)
