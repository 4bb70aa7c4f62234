"""Quality at equal time against the number of read-out points of a stage-1 step (Eq. 9 is an expectation over them)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tools.bench.measure import Row, step

if TYPE_CHECKING:
    from ddmi.config import Config

SECONDS = 30.0
"""Of training for each number of points."""
COUNTS = (64, 256, 1024)
"""Of the 1,024 points that a 32x32 picture has."""
JUDGED = 128
"""Held-out pictures."""


def points(quick: bool) -> Iterator[Row]:
    """Stage 1 of `emoji-32`, trained for the same time at each number of points, and what it then reconstructs."""
    for count in (96, 1024) if quick else COUNTS:
        config = budgeted(count, 10.0 if quick else SECONDS)
        seconds, psnr = trained(config)
        done = config.training.autoencoder_steps
        stage = f"stage 1 of {config.name}, {count} points, {done} steps"
        rate = f"{psnr[1]:.2f} dB at 1x, {psnr[2]:.2f} dB at 2x"
        yield {"stage": stage, "seconds": seconds, "rate": rate, "points": count, "steps": done, "decibels": psnr}


def budgeted(count: int, seconds: float) -> Config:
    """`emoji-32` with so many points, and as many steps as this machine does in that time, schedule and all."""
    import torch

    from ddmi.config import override
    from ddmi.presets import find
    from ddmi.training import estimate
    from ddmi.training.objectives import AutoencoderObjective

    config = override(find("emoji-32"), {"domain.points": str(count)})
    dataset = config.domain.dataset(config.domain.open(None), "train")
    size = config.training.batch_size

    def feed() -> object:
        return dataset.batch(range(size), torch.Generator().manual_seed(0), range(size))

    run = step(AutoencoderObjective(config), feed())
    one = estimate.seconds(feed, 5) + estimate.seconds(lambda: run("fp32"), 5)
    training = replace(
        config.training, autoencoder_steps=max(1, round(seconds / one)), checkpoint_every=0, preview_every=0
    )
    return replace(config, training=training)


def trained(config: Config) -> tuple[float, dict[int, float]]:
    """(seconds of training, mean PSNR in dB of held-out pictures by scale)."""
    import time

    import numpy as np

    from ddmi.domains.image import ImageDataset
    from ddmi.metrics.pixels import psnr
    from ddmi.pipeline import DDMIPipeline
    from ddmi.rendering.grid import to_signal
    from ddmi.training.run import train

    with tempfile.TemporaryDirectory() as scratch:
        began = time.perf_counter()
        train(config, scratch, stage="autoencoder")
        took = time.perf_counter() - began
        pipe = DDMIPipeline.from_pretrained(Path(scratch), device="cpu")
    held_out = config.domain.dataset(config.domain.open(None), "test")
    assert isinstance(held_out, ImageDataset)
    indices = [group[0] for group in held_out.groups][:JUDGED]
    fields = pipe.decode(pipe.posterior_modes(held_out.inputs(indices)))
    found = {}
    for scale in (1, 2):
        size = scale * held_out.domain.resolution
        drawn = to_signal(np.stack([np.array(field.render(size)) for field in fields]))
        found[scale] = float(psnr(drawn.permute(0, 3, 1, 2), held_out.images(indices, size)).mean())
    return took, found


def plot(rows: list[Row], path: Path) -> None:
    """The figure of the rows: PSNR over the number of points. It needs matplotlib."""
    from matplotlib.figure import Figure

    rows = [row for row in rows if "points" in row]
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for scale in rows[0]["decibels"]:
        curve = [row["decibels"][scale] for row in rows]
        axes.plot([row["points"] for row in rows], curve, marker="o", label=f"{scale}x")
    axes.set_xscale("log", base=2)
    axes.set_xticks([row["points"] for row in rows], [str(row["points"]) for row in rows])
    axes.set_xlabel("read-out points of each picture in a step, of 1,024")
    axes.set_ylabel("PSNR, dB")
    axes.set_title("held-out reconstructions after equal training time", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
