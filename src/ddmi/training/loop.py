"""The one training loop."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ddmi.base.errors import UserError, WorkError
from ddmi.base.interruption import Interrupted, Interruption
from ddmi.base.processes import check_all_here, wanted
from ddmi.base.progress import Bar
from ddmi.base.randomness import derive
from ddmi.base.storage import append, aside, save_tensors
from ddmi.config import TrainingConfig
from ddmi.pretrained import weights_of
from ddmi.training import checkpoint
from ddmi.training.batches import Batches, Source, load
from ddmi.training.objectives import Average

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)


@runtime_checkable
class Objective(Protocol):
    """What the loop trains: `forward(batch, progress)` returns named loss terms; `model` is what is kept."""

    model: nn.Module

    def __call__(self, batch: Any, progress: float) -> dict[str, Tensor]: ...
    def groups(self) -> list[dict[str, Any]]: ...


@dataclass(frozen=True)
class Stage:
    """One stage of a run: its name, its length, its batch size, the decay of its averaged weights (0: none), and the
    step at which these are also kept as they are then, for autoguidance (0: never).
    """

    name: str
    steps: int
    batch_size: int
    ema_decay: float = 0.0
    guide_step: int = 0


@dataclass(frozen=True)
class Fitted:
    """The outcome: the weights to use (averaged ones where there are any), steps done, whether that was all, whether
    this call had anything left to train.
    """

    model: nn.Module
    step: int
    finished: bool
    trained: bool = True


def schedule(step: int, steps: int, config: TrainingConfig) -> float:
    """Learning rate as a share of the full one: linear warm-up (a tenth of all steps at most), then half a cosine."""
    warmup = min(config.warmup_steps, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return config.final_learning_rate + (1 - config.final_learning_rate) * 0.5 * (1 + math.cos(math.pi * share))


def fit(
    objective: Objective,
    source: Source[Any],
    stage: Stage,
    config: TrainingConfig,
    run: Path,
    accelerator: Accelerator,
    interruption: Interruption,
    preview: Callable[[nn.Module, int], dict[str, float] | None] | None = None,
) -> Fitted:
    """Train to the end of the stage, going on from the newest checkpoint of the run where there is one.

    Args:
        preview: called every `config.preview_every` steps with the weights to use and the step; what it returns is
            logged beside the terms of that step.

    Raises:
        WorkError: several non-finite steps in a row, or a checkpoint that cannot be written; the last good one stays.
    """
    batches = Batches(
        source,
        stage.name,
        config.seed,
        stage.batch_size,
        config.accumulation,
        accelerator.process_index,
        accelerator.num_processes,
    )
    device = accelerator.device
    assert isinstance(objective, nn.Module)
    objective.to(device)
    averaged = None
    if stage.ema_decay:
        averaged = AveragedModel(objective.model, multi_avg_fn=Average(stage.ema_decay))
        averaged.update_parameters(objective.model)  # the first update copies
    optimiser = adamw(objective, config)
    rates = [group["lr"] for group in optimiser.param_groups]

    start, skipped, elapsed = 0, 0, 0.0
    folder = run / "checkpoints"
    found = checkpoint.find(folder, stage.name)
    if found:
        state = checkpoint.restore(checkpoint.newest(found), objective, averaged, optimiser)
        start, skipped, elapsed = state["step"], state["skipped"], state["seconds"]
        if accelerator.scaler is not None and state.get("scaler"):
            accelerator.scaler.load_state_dict(state["scaler"])
    kept = averaged.get_submodule("module") if averaged is not None else objective.model
    if start >= stage.steps:
        return Fitted(kept, start, True, trained=False)
    if config.compile:
        for child in objective.model.children():
            child.compile()
    step_module, step_optimiser = accelerator.prepare(objective, optimiser)
    main = accelerator.is_main_process
    if accelerator.log_with and not accelerator.trackers:
        accelerator.init_trackers("tensorboard")
    journal = Journal(run / "logs" / f"{stage.name}.jsonl", start, accelerator) if main else None
    began = time.monotonic()

    def store(step: int) -> None:
        if main:
            scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else None
            state = {"skipped": skipped, "seconds": elapsed + time.monotonic() - began, "scaler": scaler}
            checkpoint.save(folder, stage.name, step, objective, averaged, optimiser, state, config.keep)

    guide = guide_of(run)
    if main and stage.guide_step and not found:
        guide.unlink(missing_ok=True)  # of a training that left no checkpoint
    in_a_row, step = 0, start
    stored = start if found else -1
    bar = Bar(stage.name, stage.steps, start, visible=main)
    loaded = load(batches, start, stage.steps, config.workers)
    together = accelerator.num_processes > 1  # stop after the same step: the others would wait for this one
    with interruption.patience(), bar:
        for step, micro_batches in enumerate(interruption.until(loaded, patient=together), start=start + 1):
            progress = (step - 1) / stage.steps
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * schedule(step - 1, stage.steps, config)
            torch.manual_seed(derive(config.seed, stage.name, "dropout", step, accelerator.process_index))
            terms: dict[str, Tensor] = {}
            watched: dict[str, float] = {}
            for i, batch in enumerate(micro_batches):
                last = i == len(micro_batches) - 1
                with nullcontext() if last else accelerator.no_sync(step_module):
                    parts = step_module(batch.to(device), progress)
                    accelerator.backward(torch.stack(list(parts.values())).sum() / len(micro_batches))
                for name, value in parts.items():
                    terms[name] = terms.get(name, 0.0) + value.detach() / len(micro_batches)
            if accelerator.scaler is not None:
                accelerator.scaler.unscale_(optimiser)
            norms = [
                torch.nn.utils.clip_grad_norm_(g["params"], config.clip or math.inf) for g in optimiser.param_groups
            ]
            finite = bool(torch.stack([torch.isfinite(n) for n in norms]).all())
            if finite:
                in_a_row = 0
                step_optimiser.step()
                if averaged is not None:
                    averaged.update_parameters(objective.model)
            else:
                skipped, in_a_row = skipped + 1, in_a_row + 1
                if accelerator.scaler is not None:
                    step_optimiser.step()  # the scaler itself leaves this step out, and lowers its scale
                log.warning("%s: step %d is not finite and was skipped (%d in a row)", stage.name, step, in_a_row)
            step_optimiser.zero_grad()
            limit = config.non_finite_limit * (4 if accelerator.scaler is not None else 1)
            if in_a_row >= limit:
                good = checkpoint.find(folder, stage.name)
                where = f"the last good checkpoint is {good[-1].folder}" if good else "no checkpoint was written yet"
                raise WorkError(f"{in_a_row} non-finite steps in a row at step {step} of the {stage.name}; {where}")
            bar.advance(step)
            if main and 0 < stage.guide_step <= step and not guide.exists():
                with aside(guide) as scratch:
                    save_tensors(weights_of(kept, half=True), scratch)
            stopping = interruption.due
            if accelerator.num_processes > 1:
                stopping = bool(accelerator.reduce(torch.tensor(float(stopping), device=device)) > 0)
            if not in_a_row and (
                step == stage.steps or stopping or (config.checkpoint_every and step % config.checkpoint_every == 0)
            ):
                store(step)
                stored = step
            if main and preview and config.preview_every and (step % config.preview_every == 0 or step == stage.steps):
                training = objective.training
                try:
                    with interruption.patience(together):
                        watched = preview(kept.eval(), step) or {}
                except Interrupted:
                    log.warning("%s: no preview of step %d", stage.name, step)
                kept.train(training)
            if journal is not None:
                if finite:
                    journal.add(terms)
                if watched or step % config.log_every == 0 or step == stage.steps:
                    summary = journal.write(step, optimiser.param_groups[0]["lr"], skipped, watched)
                    bar.say(" ".join(f"{k} {v:.4f}" for k, v in summary.items()))
            if stopping and step < stage.steps:
                break
        if max(stored, start) < step < stage.steps and not in_a_row:  # interrupted while it waited for data
            store(step)
            stored = step
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    if stored < 0 and step > start:
        log.warning("%s: stopped before the first good step", stage.name)
    return Fitted(kept, step, step >= stage.steps)


def guide_of(run: Path) -> Path:
    """The weaker version of the denoiser that a run keeps for autoguidance, in half precision."""
    return run / "checkpoints" / "diffusion-guide.safetensors"


def adamw(objective: Objective, config: TrainingConfig) -> torch.optim.AdamW:
    """The optimiser of a stage: fused into one pass over the parameters where torch can."""
    groups = objective.groups()
    fused = all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])
    return torch.optim.AdamW(groups, betas=config.betas, weight_decay=config.weight_decay, fused=fused)


class Journal:
    """Mean loss terms over the steps between two lines of `logs/<stage>.jsonl`, and the same for tensorboard."""

    def __init__(self, path: Path, start: int, accelerator: Accelerator) -> None:
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [
            line for line in lines if _step(line) <= start
        ]  # a resumed run writes again what came after its checkpoint
        with aside(path) as scratch:
            scratch.write_text("".join(line + "\n" for line in kept))
        self.path = path
        self.stage, self.trackers = path.stem, accelerator.trackers
        self.sums: dict[str, Tensor] = {}
        self.count, self.began = 0, time.monotonic()

    def add(self, terms: dict[str, Tensor]) -> None:
        """Take in the terms of one step."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value
        self.count += 1

    def write(self, step: int, rate: float, skipped: int, watched: dict[str, float]) -> dict[str, float]:
        """A line with the means since the last one, and with what else was measured at this step."""
        means = {name: float(total) / max(self.count, 1) for name, total in self.sums.items()} | watched
        seconds = (time.monotonic() - self.began) / max(self.count, 1)
        line = {"step": step, **means, "learning_rate": rate, "skipped": skipped, "seconds_per_step": seconds}
        append(json.dumps(line), self.path)
        for tracker in self.trackers:
            tracker.log({f"{self.stage}/{k}": v for k, v in line.items() if k != "step"}, step=step)
        self.sums, self.count, self.began = {}, 0, time.monotonic()
        return means


def _step(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError):
        return 1 << 62


def accelerate(config: TrainingConfig, run: Path) -> Accelerator:
    """The engine: devices, precision, processes and trackers. Refuses a launch that silently lost its processes."""
    import importlib.util

    from accelerate import Accelerator

    tracking = importlib.util.find_spec("tensorboard") is not None
    try:
        accelerator = Accelerator(
            mixed_precision="fp16" if config.precision == "fp16" else "no",  # the objectives cast for the others
            log_with="tensorboard" if tracking else None,
            project_dir=run / "logs",
            cpu=wanted() > 1 and not torch.cuda.is_available(),  # without it, processes without accelerators stay apart
        )
    except ValueError as error:
        raise UserError(f"cannot train here with training.precision={config.precision}: {error}") from error
    check_all_here(accelerator.num_processes)
    return accelerator
