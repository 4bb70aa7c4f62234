"""The one training loop."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ddmi.base.errors import UserError, WorkError
from ddmi.base.interruption import Interrupted, Interruption
from ddmi.base.processes import check_all_here, wanted
from ddmi.base.progress import Bar
from ddmi.base.randomness import derive
from ddmi.base.storage import append, aside, save_tensors
from ddmi.config import TrainingConfig
from ddmi.pretrained import weights_of
from ddmi.training import checkpoint
from ddmi.training.averages import Average, PowerAverage, Snapshots, averaged, exponent_of
from ddmi.training.batches import Batches, Source, load

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)

Preview = Callable[[nn.Module, int], "dict[str, float] | None"]
"""(weights to use, step) -> what is logged beside the loss."""


@runtime_checkable
class Objective(Protocol):
    """What the loop trains: `forward(batch, progress)` returns named loss terms; `model` is what is kept."""

    model: nn.Module

    def __call__(self, batch: Any, progress: float) -> dict[str, Tensor]: ...
    def groups(self) -> list[dict[str, Any]]: ...


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Args:
        ema_decay: of the averaged weights; 0: none. ema_lengths: of more averages, see `averages.PowerAverage`.
        guide_step: at which the averaged weights are also kept as they are then, for autoguidance; 0: never.
    """

    name: str
    steps: int
    batch_size: int
    ema_decay: float = 0.0
    ema_lengths: tuple[float, ...] = ()
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


def adamw(objective: Objective, config: TrainingConfig) -> torch.optim.AdamW:
    """The optimiser of a stage: fused into one pass over the parameters where torch can."""
    groups = objective.groups()
    fused = all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])
    return torch.optim.AdamW(groups, betas=config.betas, weight_decay=config.weight_decay, fused=fused)


def guide_of(run: Path) -> Path:
    """The weaker version of the denoiser that a run keeps for autoguidance, in half precision."""
    return run / "checkpoints" / "diffusion-guide.safetensors"


class Optimisation:
    """What a stage trains, one optimiser step at a time, and what of it a checkpoint holds."""

    def __init__(
        self, objective: Objective, stage: Stage, config: TrainingConfig, run: Path, accelerator: Accelerator
    ) -> None:
        assert isinstance(objective, nn.Module)
        self.stage, self.config, self.run, self.accelerator = stage, config, run, accelerator
        self.objective = objective.to(accelerator.device)
        self.averaged = averaged(objective.model, Average(stage.ema_decay)) if stage.ema_decay else None
        self.others = [averaged(objective.model, PowerAverage(exponent_of(length))) for length in stage.ema_lengths]
        self.optimiser = adamw(objective, config)
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.step = self.skipped = self.in_a_row = 0
        self.seconds, self.began = 0.0, time.monotonic()
        self.folder = run / "checkpoints"
        self.snapshots = Snapshots(self.folder, stage.name, stage.ema_lengths, stage.steps)

    @property
    def kept(self) -> nn.Module:
        """The weights to use."""
        return self.objective.model if self.averaged is None else self.averaged.module

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What is stored, by the names of the files."""
        main = {} if self.averaged is None else {"averaged": self.averaged}
        return {"model": self.objective, **main, **{f"averaged-{k}": other for k, other in enumerate(self.others)}}

    def restore(self) -> bool:
        """Go on from the newest checkpoint; False where there is none."""
        found = checkpoint.find(self.folder, self.stage.name)
        if found:
            state = checkpoint.restore(checkpoint.newest(found), self.modules, self.optimiser)
            self.step, self.skipped, self.seconds = state["step"], state["skipped"], state["seconds"]
            if self.accelerator.scaler is not None and state.get("scaler"):
                self.accelerator.scaler.load_state_dict(state["scaler"])
        elif self.accelerator.is_main_process:  # what a training without a checkpoint left
            for path in [*self.snapshots.stored(), *([guide_of(self.run)] if self.stage.guide_step else [])]:
                path.unlink(missing_ok=True)
        return bool(found)

    def prepare(self) -> None:
        """Get ready for steps."""
        if self.config.compile:
            for child in self.objective.model.children():
                child.compile()
        self._module, self._optimiser = self.accelerator.prepare(self.objective, self.optimiser)
        self.began = time.monotonic()

    def store(self) -> None:
        """Write a checkpoint."""
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None
            seconds = self.seconds + time.monotonic() - self.began
            state = {"skipped": self.skipped, "seconds": seconds, "scaler": scaler}
            name, keep = self.stage.name, self.config.keep
            checkpoint.save(self.folder, name, self.step, self.modules, self.optimiser, state, keep)

    def advance(self, micro_batches: Sequence[Any]) -> dict[str, Tensor] | None:
        """One optimiser step; the mean loss terms, or None where a gradient was not finite and nothing was changed.

        Raises:
            WorkError: that happened too many times in a row.
        """
        stage, scaler = self.stage, self.accelerator.scaler
        progress = self.step / stage.steps
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * schedule(self.step, stage.steps, self.config)
        self.step += 1
        torch.manual_seed(derive(self.config.seed, stage.name, "dropout", self.step, self.accelerator.process_index))
        terms: dict[str, Tensor] = {}
        for i, batch in enumerate(micro_batches):
            last = i == len(micro_batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self._module):
                parts = self._module(batch.to(self.accelerator.device), progress)
                self.accelerator.backward(torch.stack(list(parts.values())).sum() / len(micro_batches))
            for name, value in parts.items():
                terms[name] = terms.get(name, 0.0) + value.detach() / len(micro_batches)
        if scaler is not None:
            scaler.unscale_(self.optimiser)
        clip = self.config.clip or math.inf
        norms = [torch.nn.utils.clip_grad_norm_(g["params"], clip) for g in self.optimiser.param_groups]
        finite = bool(torch.stack([torch.isfinite(n) for n in norms]).all())
        if finite or scaler is not None:  # the scaler itself leaves out a step that is not, and lowers its scale
            self._optimiser.step()
        self._optimiser.zero_grad()
        if not finite:
            self._skip()
            return None
        self.in_a_row = 0
        for average in (*([self.averaged] if self.averaged is not None else []), *self.others):
            average.update_parameters(self.objective.model)
        return terms

    def _skip(self) -> None:
        name = self.stage.name
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        log.warning("%s: step %d is not finite and was skipped (%d in a row)", name, self.step, self.in_a_row)
        if self.in_a_row >= self.config.non_finite_limit * (4 if self.accelerator.scaler is not None else 1):
            good = checkpoint.find(self.folder, name)
            where = f"the last good checkpoint is {good[-1].folder}" if good else "no checkpoint was written yet"
            raise WorkError(f"{self.in_a_row} non-finite steps in a row at step {self.step} of the {name}; {where}")

    def keep_weights(self) -> None:
        """Store what is needed after the training: averages for other lengths, and the guide of autoguidance."""
        if self.accelerator.is_main_process:
            self.snapshots.store(self.step, self.others)
            guide = guide_of(self.run)
            if 0 < self.stage.guide_step <= self.step and not guide.exists():
                with aside(guide) as scratch:
                    save_tensors(weights_of(self.kept, half=True), scratch)


class Journal:
    """Mean loss terms over the steps between two lines of `logs/<stage>.jsonl`, and the same for tensorboard."""

    def __init__(self, path: Path, start: int, accelerator: Accelerator) -> None:
        if accelerator.log_with and not accelerator.trackers:
            accelerator.init_trackers("tensorboard")
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if _step(line) <= start]  # what came after the checkpoint is written again
        with aside(path) as scratch:
            scratch.write_text("".join(line + "\n" for line in kept))
        self.path = path
        self.stage, self.trackers = path.stem, accelerator.trackers
        self.sums: dict[str, Tensor] = {}
        self.count, self.began = 0, time.monotonic()

    def add(self, terms: dict[str, Tensor]) -> None:
        """Take in the terms of one step, none where it was skipped."""
        if not terms:
            return
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


def fit(
    objective: Objective,
    source: Source[Any],
    stage: Stage,
    config: TrainingConfig,
    run: Path,
    accelerator: Accelerator,
    interruption: Interruption,
    preview: Preview | None = None,
) -> Fitted:
    """Train to the end of the stage, going on from the newest checkpoint of the run where there is one.

    Args:
        preview: called every `config.preview_every` steps with the weights to use and the step; what it returns is
            logged beside the terms of that step.

    Raises:
        WorkError: several non-finite steps in a row, or a checkpoint that cannot be written; the last good one stays.
    """
    processes, main = accelerator.num_processes, accelerator.is_main_process
    share = config.accumulation, accelerator.process_index, processes
    batches = Batches(source, stage.name, config.seed, stage.batch_size, *share)
    trained = Optimisation(objective, stage, config, run, accelerator)
    stored = trained.step if trained.restore() else -1
    start = trained.step
    if start >= stage.steps:
        return Fitted(trained.kept, start, True, trained=False)
    trained.prepare()
    journal = Journal(run / "logs" / f"{stage.name}.jsonl", start, accelerator) if main else None
    loaded = load(batches, start, stage.steps, config.workers)
    together = processes > 1  # stop after the same step: the others would wait for this one

    with interruption.patience(), Bar(stage.name, stage.steps, start, visible=main) as bar:
        for micro_batches in interruption.until(loaded, patient=together):
            terms = trained.advance(micro_batches)
            step = trained.step
            last, stopping = step == stage.steps, _any(interruption.due, accelerator)
            bar.advance(step)
            trained.keep_weights()
            if terms is not None and (last or stopping or _every(config.checkpoint_every, step)):
                trained.store()
                stored = step
            watched: dict[str, float] = {}
            if main and preview and (_every(config.preview_every, step) or (last and config.preview_every)):
                watched = _preview(preview, trained, interruption, together)
            if journal is not None:
                journal.add(terms or {})
                if watched or last or _every(config.log_every, step):
                    rate = trained.optimiser.param_groups[0]["lr"]
                    summary = journal.write(step, rate, trained.skipped, watched)
                    bar.say(" ".join(f"{k} {v:.4f}" for k, v in summary.items()))
            if stopping:
                break
        if max(stored, start) < trained.step < stage.steps and not trained.in_a_row:  # interrupted while it waited
            trained.store()
            stored = trained.step
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    if stored < 0 and trained.step > start:
        log.warning("%s: stopped before the first good step", stage.name)
    return Fitted(trained.kept, trained.step, trained.step >= stage.steps)


def _every(count: int, step: int) -> bool:
    return count > 0 and step % count == 0


def _any(here: bool, accelerator: Accelerator) -> bool:
    """Whether it is so in any process."""
    if accelerator.num_processes == 1:
        return here
    return bool(accelerator.reduce(torch.tensor(float(here), device=accelerator.device)) > 0)


def _preview(preview: Preview, trained: Optimisation, interruption: Interruption, patient: bool) -> dict[str, float]:
    """What a preview of the weights to use says; nothing where it is interrupted."""
    kept, training = trained.kept, trained.objective.training
    try:
        with interruption.patience(patient):
            return preview(kept.eval(), trained.step) or {}
    except Interrupted:
        log.warning("%s: no preview of step %d", trained.stage.name, trained.step)
        return {}
    finally:
        kept.train(training)


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
