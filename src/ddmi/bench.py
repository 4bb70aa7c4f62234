"""`python -m ddmi.bench`: how fast and how large everything is on this machine, beside the machine's own product rate.

Every stage runs in a process of its own, so that its peak memory is its own. Times are medians, after a run that does
not count; a share is counted floating-point operations over the time, beside what a matrix product reaches here.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ddmi.config import Config

Row = dict[str, Any]
"""Keys: stage; seconds; and where they make sense share (of the product rate), rate (a text), psnr."""


def product(quick: bool) -> Iterator[Row]:
    """The rate of (65536 x 256) @ (256 x 256) products, at once and 8192 rows at a time."""
    from ddmi.estimate import product_rate

    for precision in ("fp32", "bf16"):
        for rows, name in ((1 << 16, "whole"), (8192, "8192 rows at a time")):
            rate = product_rate(precision, rows)
            yield {"stage": f"matrix product, {precision}, {name}", "rate": f"{rate / 1e9:.1f} GFLOP/s"}


def autoencoder(quick: bool) -> Iterator[Row]:
    """A stage-1 step: 16 pictures of 64x64, the read-out at all pixels of one scale, or at a fifth of them."""
    import torch

    from ddmi.domains.base import Batch
    from ddmi.training.objectives import AutoencoderObjective

    config = _images()
    for size, name in ((64 * 64, "all points"), (64 * 64 // 5, "a fifth of the points")):
        batch = Batch(
            x=torch.rand(16, 3, 64, 64) * 2 - 1,
            coordinates=torch.rand(16, size, 2) * 2 - 1,
            targets=torch.rand(16, size, 3) * 2 - 1,
            periods=torch.ones(config.domain.periods),
            seeds=tuple(range(16)),
        )
        yield from _steps(f"autoencoder step, {name}", AutoencoderObjective(config), batch, 16, quick)


def diffusion(quick: bool) -> Iterator[Row]:
    """A stage-2 step: 16 latents of 16x16x16."""
    import torch

    from ddmi.estimate import networks
    from ddmi.training.latents import LatentBatch
    from ddmi.training.objectives import DiffusionObjective

    config = _images()
    posterior = torch.randn(2, 16, 16, 256)
    batch = LatentBatch(posterior[0], posterior[1] - 5, None, tuple(range(16)))
    yield from _steps("denoiser step", DiffusionObjective(config, networks(config, "cpu")[1]), batch, 16, quick)


def readout(quick: bool) -> Iterator[Row]:
    """One latent drawn at 1024x1024: three fields of 64 channels, four blocks of width 256; then in bf16."""
    import torch

    from ddmi.coordinates import grid
    from ddmi.domains.image import Image
    from ddmi.estimate import product_rate, seconds
    from ddmi.field import Field
    from ddmi.metrics.pixels import psnr
    from ddmi.readout import Readout, ReadoutConfig
    from ddmi.signal import Signal

    domain = Image(resolution=256)
    network = Readout(ReadoutConfig(width=256, blocks=4), fields=3, field_width=64, planes=1, periods=domain.periods)
    fields = [{"xy": torch.randn(1, 64, n, n).contiguous(memory_format=torch.channels_last)} for n in (64, 128, 256)]
    field = Field(Signal(fields, network.eval(), domain.head(256), domain.layout), domain)
    size = 512 if quick else 1024
    few = grid((64, 64))
    operations = _operations(lambda: field(few, torch.ones(1))) * size**2 / len(few)
    exact, points = field(grid((256, 256)), torch.ones(1)), size**2 / 1e6
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        narrow = field.to(dtype=dtype)
        took = seconds(lambda narrow=narrow: narrow.render(size), 1 if quick else 3)  # type: ignore[misc]
        row = {"stage": f"read-out, {size}x{size}, {precision}", "seconds": took}
        row |= {"rate": f"{points / took:.2f} Mpixel/s", "share": operations / took / product_rate(precision)}
        if precision != "fp32":
            near = narrow(grid((256, 256)), torch.ones(1))
            row["psnr"] = float(psnr(*(x.clamp(-1, 1).t().reshape(1, 3, 256, 256) for x in (near, exact))))
        yield row


def sampling(quick: bool) -> Iterator[Row]:
    """Samples of the small preset with 50 DDIM steps, decoded and drawn at twice its resolution."""
    from ddmi.estimate import networks, seconds
    from ddmi.pipeline import DDMIPipeline
    from ddmi.presets import find

    config = find("emoji-32")
    config = replace(config, diffusion=replace(config.diffusion, guidance_scale=1.0))
    model, denoiser = (part.eval().requires_grad_(False) for part in networks(config, "cpu"))
    pipe = DDMIPipeline(config, model, denoiser)  # type: ignore[arg-type]
    count, steps = (4, 10) if quick else (16, 50)
    size = 2 * getattr(config.domain, "resolution", 32)

    def draw() -> None:
        for field in pipe(count, sampler="ddim", steps=steps):
            field.render(size)

    took = seconds(draw, 1)
    stage = f"{count} samples of {config.name}, {steps} DDIM steps, drawn at {size}x{size}"
    yield {"stage": stage, "seconds": took, "rate": f"{count / took:.2f} samples/s"}


def start(quick: bool) -> Iterator[Row]:
    """The time until `import ddmi` and `ddmi --help` are through, interpreter included."""
    from ddmi.estimate import seconds

    for name, command in (("import ddmi", ["-c", "import ddmi"]), ("ddmi --help", ["-m", "ddmi", "--help"])):
        call = [sys.executable, *command]
        took = seconds(lambda call=call: subprocess.run(call, check=True, capture_output=True), 3)  # type: ignore[misc]
        yield {"stage": name, "seconds": took}


STAGES: dict[str, Callable[[bool], Iterator[Row]]] = {
    stage.__name__: stage for stage in (product, autoencoder, diffusion, readout, sampling, start)
}


def _images() -> Config:
    """64x64 pictures, a 16x16x16 latent; base width 32 and 64, two blocks a level, read-out of width 128."""
    from ddmi.autoencoder import AutoencoderConfig
    from ddmi.config import Config
    from ddmi.decoder import DecoderConfig
    from ddmi.diffusion import DiffusionConfig
    from ddmi.domains.image import Image
    from ddmi.encoders.image import ConvEncoderConfig
    from ddmi.readout import ReadoutConfig
    from ddmi.unet import UNetConfig

    return Config(
        name="bench",
        domain=Image(resolution=64, encode=ConvEncoderConfig(base=32, multipliers=(1, 2, 4), blocks=2)),
        autoencoder=AutoencoderConfig(
            latent_channels=16,
            decoder=DecoderConfig(base=32, blocks=2),
            readout=ReadoutConfig(width=128),
        ),
        diffusion=DiffusionConfig(unet=UNetConfig(base=64, multipliers=(1, 2, 4), blocks=2)),
    )


def _operations(work: Callable[[], Any]) -> int:
    """Floating-point operations of some work."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def _steps(name: str, objective: nn.Module, batch: Any, signals: int, quick: bool) -> Iterator[Row]:
    """Forward, backward and AdamW, in fp32 and in bf16."""
    import torch

    from ddmi.estimate import product_rate, seconds

    optimiser = torch.optim.AdamW(objective.parameters(), lr=0.0)

    def step(mixed: Any) -> None:
        with mixed:
            terms: dict[str, Tensor] = objective(batch, 0.5)
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
        optimiser.zero_grad()

    operations = _operations(lambda: step(nullcontext()))
    for precision in ("fp32", "bf16"):
        mixed = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()
        took = seconds(lambda mixed=mixed: step(mixed), 1 if quick else 3)  # type: ignore[misc]
        row = {"stage": f"{name}, {precision}", "seconds": took, "rate": f"{signals / took:.2f} signals/s"}
        yield {**row, "share": operations / took / product_rate(precision)}


def measure(stage: str, quick: bool, threads: int) -> list[Row]:
    """The rows of one stage, measured in a process of its own, with its peak memory."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    call = [sys.executable, "-m", "ddmi.bench", "--stage", stage, *(["--quick"] if quick else [])]
    done = subprocess.run(call, env=environment, capture_output=True, text=True)
    if done.returncode:
        return [{"stage": stage, "error": (done.stderr.strip().splitlines() or ["no message"])[-1]}]
    return json.loads(done.stdout)


def main(arguments: list[str] | None = None) -> int:
    """Measure all stages, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(prog="python -m ddmi.bench", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller pictures and fewer runs")
    parser.add_argument("--threads", type=int, default=1, help="threads of a process (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.stage:
        rows = list(STAGES[given.stage](given.quick))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        sys.stdout.write(json.dumps([{**row, "peak_bytes": peak} for row in rows]))
        return 0

    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table("stage", title=f"{given.threads} thread{'s' * (given.threads > 1)}, shares of the product rate")
    for column in ("seconds", "rate", "share", "peak memory", "PSNR to fp32"):
        table.add_column(column, justify="right")
    rows = []
    for stage in STAGES:
        with console.status(stage):
            found = measure(stage, given.quick, given.threads)
        for row in found:
            rows.append(row)
            if "error" in row:
                table.add_row(row["stage"], f"failed: {row['error']}")
                continue
            table.add_row(
                row["stage"],
                f"{row['seconds']:.3f}" if "seconds" in row else "",
                row.get("rate", ""),
                f"{row['share']:.0%}" if "share" in row else "",
                f"{row['peak_bytes'] / 1e6:.0f} MB",
                f"{row['psnr']:.1f} dB" if "psnr" in row else "",
            )
    console.print(table)
    if given.json:
        given.json.write_text(
            json.dumps({"threads": given.threads, "quick": given.quick, "rows": rows}, indent=2) + "\n"
        )
    return int(any("error" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
