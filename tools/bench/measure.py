"""What the stages share: rows of the table, and a step's time as a share of what the machine can multiply."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from ddmi.config import Config
    from ddmi.field import Field
    from ddmi.training.loop import Objective

Row = dict[str, Any]
"""Keys: stage; and where they make sense seconds, rate (a text), share (of the product rate), psnr, peak_bytes."""


def peak_bytes() -> int:
    """Most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def operations(work: Callable[[], Any]) -> int:
    """Floating-point operations of some work, as torch counts them: products and convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def step(objective: Objective, batch: Any) -> Callable[[str], None]:
    """A training step as a function of the precision: forward, backward, clipping and AdamW, as in training."""
    import torch

    from ddmi.config import TrainingConfig
    from ddmi.training.estimate import PRECISIONS
    from ddmi.training.loop import adamw

    optimiser = adamw(objective, TrainingConfig())
    parameters = optimiser.param_groups[0]["params"]

    def run(precision: str) -> None:
        mixed = torch.autocast("cpu", PRECISIONS[precision]) if precision != "fp32" else nullcontext()
        with mixed:
            terms: dict[str, Tensor] = objective(batch, 0.5)
        torch.stack(list(terms.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return run


def steps(name: str, objective: Objective, batch: Any, signals: int, quick: bool) -> Iterator[Row]:
    """A training step in fp32 and in bf16."""
    from ddmi.base.allocation import keep_freed_memory
    from ddmi.training.estimate import product_rate, seconds

    keep_freed_memory()
    run = step(objective, batch)
    counted = 0
    for precision in ("fp32", "bf16"):
        took = seconds(lambda precision=precision: run(precision), 1 if quick else 5)  # type: ignore[misc]
        row = {"stage": f"{name}, {precision}", "seconds": took, "rate": f"{signals / took:.2f} signals/s"}
        row["peak_bytes"] = peak_bytes()
        counted = counted or operations(lambda: run("fp32"))  # after the memory is known: it takes some itself
        yield {**row, "share": counted / took / product_rate(precision)}


def random_field(config: Config) -> Field:
    """A field of random values with the sizes that a configuration gives basis fields and read-out."""
    import torch

    from ddmi.field import Field
    from ddmi.model.readout import Readout
    from ddmi.model.signal import Signal

    domain, settings = config.domain, config.autoencoder
    width = settings.decoder.field_width
    network = Readout(
        settings.readout, len(settings.decoder.fields), width, planes=len(domain.layout), periods=domain.periods
    )
    shapes = settings.decoder.shapes(domain.layout)
    fields = [
        {
            name: torch.randn(1, width, *shape).contiguous(memory_format=torch.channels_last)
            for name, shape in shapes[i].items()
        }
        for i in settings.decoder.fields
    ]
    head = domain.head(settings.readout.width)
    return Field(Signal(fields, network.eval(), head.eval(), domain.layout), domain)
