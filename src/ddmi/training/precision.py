"""The precision that a stage trains in: what the configuration says, or the faster one here, by timing real steps."""

from __future__ import annotations

import copy
import logging
import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ddmi.config import TrainingConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)

CANDIDATES = ("fp32", "bf16")
SECONDS = 2.0
"""How long steps are timed: at least one of each precision, whatever it takes."""
MARGIN = 1.1
"""So many times as fast must bf16 be: otherwise its rounding buys nothing."""


def of_stage(training: TrainingConfig, stage: str) -> str:
    """The setting that counts for "autoencoder", "diffusion" or "distillation"; it may be "auto"."""
    other = training.diffusion_precision
    return other if stage != "autoencoder" and other != "same" else training.precision


def at_once(training: TrainingConfig) -> TrainingConfig:
    """The settings with "auto" replaced where no step need be timed: on CUDA a half precision is the faster one."""
    if not torch.cuda.is_available():
        return training
    half = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    both = {"precision": training.precision, "diffusion_precision": training.diffusion_precision}
    return replace(training, **{name: half for name, value in both.items() if value == "auto"})  # type: ignore[arg-type]


def autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    """The context of a forward pass. fp16 needs scaled gradients, and is the engine's; "auto" is not chosen yet."""
    if precision == "bf16":
        return torch.autocast(device, torch.bfloat16)
    return torch.autocast(device, enabled=False) if precision == "fp32" else nullcontext()


def timed(objective: nn.Module, batch: Any) -> dict[str, float]:
    """Seconds of a forward and a backward pass in each precision, the least of several taken in turns.

    They run on a copy: nothing that is trained, no buffer and no random number is touched.
    """
    trial = copy.deepcopy(objective).train()
    least = dict.fromkeys(CANDIDATES, math.inf)
    began, rounds = time.monotonic(), 0
    with torch.random.fork_rng(devices=[]):
        while not rounds or time.monotonic() - began < SECONDS:
            for precision in CANDIDATES:
                trial.precision = precision  # type: ignore[assignment]
                start = time.perf_counter()
                torch.stack(list(trial(batch, 0.5).values())).sum().backward()
                least[precision] = min(least[precision], time.perf_counter() - start)
                trial.zero_grad()
            rounds += 1
    return least


def chosen(
    training: TrainingConfig, stage: str, objective: nn.Module, batch: Any, accelerator: Accelerator
) -> TrainingConfig:
    """The settings with the faster precision in place of a stage's "auto"; all processes take what the first finds."""
    from accelerate.utils import broadcast_object_list

    names = ["fp32"]
    if accelerator.is_main_process:
        took = timed(objective.to(accelerator.device), batch.to(accelerator.device))
        names = ["bf16" if took["fp32"] > MARGIN * took["bf16"] else "fp32"]
        both = ", ".join(f"{precision} {seconds:.2g} s" for precision, seconds in took.items())
        log.warning("%s: a pass takes %s; trained in %s", stage, both, names[0])
    broadcast_object_list(names)
    if stage != "autoencoder" and training.diffusion_precision != "same":
        return replace(training, diffusion_precision=names[0])  # type: ignore[arg-type]
    both_open = training.precision == "auto" and training.diffusion_precision == "same" and stage == "autoencoder"
    later = "auto" if both_open else training.diffusion_precision
    return replace(training, precision=names[0], diffusion_precision=later)  # type: ignore[arg-type]
