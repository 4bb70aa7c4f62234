"""A run from its configuration to a model folder: stage 1, the latents, stage 2, and its distillation."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from ddmi import config as configuration
from ddmi.base.allocation import keep_freed_memory
from ddmi.base.errors import UserError, WorkError
from ddmi.base.interruption import Interrupted, Interruption
from ddmi.base.planes import unpack
from ddmi.base.processes import Processes
from ddmi.base.progress import Bar, working
from ddmi.base.storage import MANIFEST, aside, digest, fill, load_tensors, locked, read_json, write_json
from ddmi.base.terminal import rank
from ddmi.config import Config, TrainingConfig, to_dict
from ddmi.domains.base import Dataset
from ddmi.field import Field, fields_of
from ddmi.model import text
from ddmi.model.autoencoder import D2CVAE, freeze
from ddmi.model.diffusion import Diffusion
from ddmi.model.sampling import SamplingConfig, draw, sample_seeds
from ddmi.model.unet import Condition
from ddmi.pretrained import (
    AGAIN,
    AUTOENCODER,
    DIFFUSION,
    FLOW,
    check_export,
    data_of,
    export,
    intact,
    load_autoencoder,
    load_diffusion,
    remember_data,
)
from ddmi.rendering import files
from ddmi.training import averages, latents, precision
from ddmi.training.batches import Batches, Source
from ddmi.training.checkpoint import find
from ddmi.training.loop import Fitted, Stage, accelerate, fit, guide_of
from ddmi.training.objectives import AutoencoderObjective, DiffusionObjective, DistillationObjective, denoising_loss
from ddmi.training.plan import Plan, costs
from ddmi.training.trajectories import Trajectories

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)

HELD_OUT = 128
"""Held-out signals whose denoising loss is logged."""
PREVIEWS = 8
"""Signals in a preview image."""
PREVIEW = SamplingConfig(sampler="dpm", steps=15, guidance_scale=1.0, autoguidance=1.0)
"""How they are sampled."""

Part = Literal["autoencoder", "diffusion", "distillation", "all"]


def train(
    config: Config,
    out: str | Path,
    data: str | Path | None = None,
    *,
    stage: Part = "all",
    resume: bool = False,
    max_minutes: float | None = None,
    minutes: float | None = None,
) -> bool:
    """Train a configuration into a run folder.

    Args:
        out: the run folder: config.json, data.json, checkpoints/, model/, samples/, logs/, cache/.
        data: what the domain's `open` reads; None for that of the run, or for a domain that brings its own.
        stage: "autoencoder", "diffusion" or "distillation" (on what the folder has already), or "all", with the last
            one where `training.distillation_steps` are given.
        resume: go on from the newest checkpoint; on a folder without one, simply start.
        max_minutes: stop after so long, with a checkpoint; loading and checking the data count. One training step,
            with its checkpoint, is not broken off. SIGINT and SIGTERM stop it likewise.
        minutes: plan the steps of all stages for so long, loading and checking the data included, instead of taking
            those of the configuration, whose proportions are kept. A run that has begun keeps its plan. Text is left
            out where the data has none. It ends with a model that samples, however short the time.

    Returns:
        Whether everything that was asked for is finished (False: stopped early, resume to go on).

    Raises:
        UserError: the folder holds another run, the data cannot be used, or a setting does not work.
        WorkError: training diverged or a file cannot be written; the last good checkpoint stays.
    """
    run = Path(out)
    if minutes is not None and stage != "all":
        raise UserError(f"minutes plan all stages, not stage {stage}: leave one of the two out")
    ends = None if minutes is None else time.monotonic() + 60 * minutes
    keep_freed_memory()
    interruption = Interruption(None if max_minutes is None else time.monotonic() + 60 * max_minutes)
    try:
        with interruption.listening():
            return _train(config, run, data, stage, resume, interruption, ends)
    except Interrupted:
        return False


def _train(
    config: Config,
    run: Path,
    data: str | Path | None,
    stage: Part,
    resume: bool,
    interruption: Interruption,
    ends: float | None,
) -> bool:
    config = replace(config, training=precision.at_once(config.training))
    with nullcontext() if rank() else locked(run):
        _check_run(run, resume)
        config = replace(config, training=_as_begun(config.training, run))
        if stage == "distillation" and not rank():
            _check_teacher(config, run)
        with working("reading the data"):
            data = data_of(run, data)
            source = config.domain.open(data)
        config = replace(config, domain=config.domain.fitted(source))
        dataset, held_out = (config.domain.dataset(source, part) for part in ("train", "test"))
        if ends is not None and config.diffusion.condition == "text" and not any(dataset.captions or ()):
            log.warning("the data has no captions: the model is trained without text")
            config = replace(config, diffusion=replace(config.diffusion, condition="none"))
        config = _conditioned(config, dataset)
        _check_networks(config, text_too=stage != "autoencoder")
        accelerator = accelerate(config.training, run)
        planned: Plan | None = None
        if ends is not None and not _started(run):
            if accelerator.num_processes > 1:
                raise UserError("minutes are planned for one process: give steps, or max-minutes, to several")
            planned = Plan(costs(config, dataset), ends)
            config = replace(config, training=planned(config.training))
        if accelerator.is_main_process:
            _claim(run, config)
            if data is not None:
                remember_data(run, data)
        accelerator.wait_for_everyone()
        if accelerator.num_processes > 1 and accelerator.is_main_process:
            log.warning("training with %d processes", accelerator.num_processes)
        try:
            finished = True
            if stage in ("autoencoder", "all"):
                finished = _autoencoder(config, run, dataset, held_out, accelerator, interruption).finished
            if stage in ("diffusion", "all") and finished:
                config = _planned_anew(config, run, planned, "diffusion")  # as stage 1 has it
                finished = _diffusion(config, run, dataset, held_out, accelerator, interruption).finished
            if finished and (stage == "distillation" or (stage == "all" and config.training.distillation_steps)):
                config = _planned_anew(config, run, planned, "distillation")
                finished = _distillation(config, run, dataset, accelerator, interruption).finished
        finally:
            accelerator.end_training()
    return finished


def _planned_anew(config: Config, run: Path, planned: Plan | None, stage: str) -> Config:
    """The configuration as the run has it, with the steps of this stage and later ones for the time that is left."""
    config = replace(config, training=configuration.load(run / "config.json").training)
    if planned is not None:
        config = replace(config, training=planned(config.training, stage))
        with aside(run / "config.json") as scratch:
            configuration.save(config, scratch)
    return config


def _as_begun(training: TrainingConfig, run: Path) -> TrainingConfig:
    """The settings with the precision that a run has begun with in place of "auto": resumed, it is the same run."""
    if training.precision != "auto" or not _started(run):
        return training
    before = configuration.load(run / "config.json").training
    return replace(training, precision=before.precision, diffusion_precision=before.diffusion_precision)


def _precise(
    config: Config, run: Path, stage: Stage, objective: nn.Module, source: Source[Any], accelerator: Accelerator
) -> Config:
    """The configuration with the precision of a stage, chosen by timing steps where it is open, and stored."""
    training = config.training
    if precision.of_stage(training, stage.name) != "auto":
        return config
    batch = Batches(source, stage.name, training.seed, stage.batch_size, training.accumulation, 0, 1)[0][0]
    config = replace(config, training=precision.chosen(training, stage.name, objective, batch, accelerator))
    objective.precision = precision.of_stage(config.training, stage.name)  # type: ignore[assignment]
    if accelerator.is_main_process:
        with aside(run / "config.json") as scratch:
            configuration.save(config, scratch)
    return config


def _conditioned(config: Config, dataset: Dataset) -> Config:
    """The configuration with the classes of the data; its condition is checked against what the data has."""
    diffusion = config.diffusion
    if diffusion.condition == "text" and not any(dataset.captions or ()):
        raise UserError("diffusion.condition=text needs captions, and this data has none (captions.jsonl)")
    if diffusion.condition != "class":
        return config
    if dataset.labels is None:
        raise UserError("diffusion.condition=class needs classes, and the data has none: one folder for each")
    classes = tuple(dataset.classes)
    if diffusion.classes not in ((), classes):
        raise UserError(f"diffusion.classes are {diffusion.classes}, but the data has {classes}; [] takes those")
    return replace(config, diffusion=replace(diffusion, classes=classes))


def _started(run: Path) -> bool:
    """Whether the folder has checkpoints."""
    return any(find(run / "checkpoints", stage) for stage in ("autoencoder", "diffusion", "distillation"))


def _check_run(run: Path, resume: bool) -> None:
    """Make sure that this folder can be trained in, before data is read.

    Raises:
        UserError: it holds a run that is not to be resumed, or a config.json or a model that no training wrote here.
    """
    if _started(run) and not resume:
        raise UserError(f"{run} already holds a run: add --resume to go on with it, or choose another --out")
    for name in ("checkpoints", "samples", "logs", "cache"):
        if (run / name).exists() and not (run / name).is_dir():
            raise UserError(f"{run / name} is a file: choose another --out")
    path = run / "config.json"
    there = read_json(path) if path.exists() else None
    if there is not None and not (isinstance(there, dict) and there.keys() >= {f.name for f in fields(Config)}):
        raise UserError(f"{path} is not of a run: choose another --out")
    if (run / MANIFEST).exists():
        raise UserError(f"{run} holds a {MANIFEST}, so it is a model and no run: choose another --out")
    check_export(run / "model")


def _check_networks(config: Config, *, text_too: bool) -> None:
    """Make sure that both stages can be built and evaluated, before the first is trained: networks without memory, and,
    where the second stage is wanted, the width of its text encoder.
    """
    try:
        with torch.device("meta"), torch.no_grad():
            shape = D2CVAE(config.autoencoder, config.domain).latent_shape
            model = Diffusion(config.diffusion, config.domain.layout, config.autoencoder.latent_channels)
            model.epsilon(torch.empty(1, *shape), torch.empty(1), model.null(1))
    except UserError:
        raise
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"these settings describe no network: {error}") from error
    if text_too and config.diffusion.condition == "text":
        _encoder(config)


def _encoder(config: Config) -> text.TextEncoder:
    """The text encoder of stage 2. Raises UserError when the denoiser is made for states of another width."""
    encoder = text.load(config.diffusion.text_encoder)
    if encoder.width != config.diffusion.text_width:
        name, width = config.diffusion.text_encoder, config.diffusion.text_width
        raise UserError(f"diffusion.text_width is {width}, but {name} gives {encoder.width}: set it to that")
    return encoder


def _claim(run: Path, config: Config) -> None:
    """Write config.json, or check that the one that is there is the same run."""
    path = run / "config.json"
    if _started(run):
        before, now = to_dict(configuration.load(path)), to_dict(config)
        for name in ("domain", "autoencoder", "diffusion"):
            begun = any(find(run / "checkpoints", stage) for stage in ("diffusion", "distillation"))
            if name == "diffusion" and not begun:
                continue  # stage 2 has not begun: its settings may still change
            if (difference := _difference(before[name], now[name], name)) is not None:
                again = f"remove {run}/checkpoints/diffusion-* to train stage 2 again with them, or "
                raise UserError(
                    f"{path} was made with other settings: {difference}; "
                    f"{again if name == 'diffusion' else ''}choose another --out"
                )
    with aside(path) as scratch:
        configuration.save(config, scratch)


def _difference(before: Any, now: Any, where: str) -> str | None:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in before.keys() | now.keys():
            if (found := _difference(before.get(key), now.get(key), f"{where}.{key}")) is not None:
                return found
        return None
    return None if before == now else f"{where} was {json.dumps(before)}, not {json.dumps(now)}"


def _autoencoder(
    config: Config,
    run: Path,
    dataset: Dataset,
    held_out: Dataset,
    accelerator: Accelerator,
    interruption: Interruption,
) -> Fitted:
    training = config.training
    torch.manual_seed(training.seed)
    objective = AutoencoderObjective(config)
    shown = held_out if len(held_out) else dataset
    indices = range(min(PREVIEWS, len(shown)))

    def preview(model: nn.Module, step: int) -> None:
        with torch.no_grad():
            posterior = model.encode(shown.inputs(indices).to(accelerator.device))  # type: ignore[operator]
            signal = model.decode(posterior.mode)  # type: ignore[operator]
        _show(config, fields_of(signal, config.domain), run / "samples" / f"autoencoder-{step:06d}")

    stage = Stage("autoencoder", training.autoencoder_steps, training.batch_size, training.autoencoder_ema)
    config = _precise(config, run, stage, objective, dataset, accelerator)
    fitted = fit(objective, dataset, stage, training, run, accelerator, interruption, preview)
    if fitted.finished and training.decoder_steps:
        tuned = AutoencoderObjective(config, decoder_only=True)
        tuned.model.load_state_dict(fitted.model.state_dict())
        stage = Stage("decoder", training.decoder_steps, training.batch_size, training.autoencoder_ema)
        fitted = fit(tuned, dataset, stage, training, run, accelerator, interruption, preview)
    if accelerator.is_main_process and _to_export(fitted, run / "model", AUTOENCODER):
        with interruption.patience():
            export(run / "model", config, autoencoder=fitted.model)
    accelerator.wait_for_everyone()
    return fitted


def _diffusion(
    config: Config,
    run: Path,
    dataset: Dataset,
    held_out: Dataset,
    accelerator: Accelerator,
    interruption: Interruption,
) -> Fitted:
    interruption.check()
    training, domain = config.training, config.domain
    weights = run / "model" / AUTOENCODER
    if weights.exists() and not intact(run / "model", AUTOENCODER):
        raise UserError(f"{weights} was altered: {AGAIN}")
    autoencoder: D2CVAE = freeze(load_autoencoder(run / "model", config)).to(accelerator.device)  # type: ignore[assignment]
    torch.manual_seed(training.seed + 1)
    model = Diffusion(config.diffusion, domain.layout, config.autoencoder.latent_channels)

    key = hashlib.sha256()
    key.update(digest(run / "model" / AUTOENCODER).encode())
    key.update(repr((len(dataset), dataset.names)).encode())
    cached = run / "cache" / "latents.npy"
    _check_origin(run, "diffusion", "another autoencoder or other data", {"latents": key.hexdigest()})
    stored = None
    if accelerator.is_main_process:
        with Bar("latents", len(dataset)) as bar:
            stored = latents.encode(
                autoencoder, dataset, cached, key.hexdigest(), accelerator.device, progress=lambda i, n: bar.advance(i)
            )
        _note_origin(run, "diffusion", {"latents": key.hexdigest()})
    accelerator.wait_for_everyone()
    if stored is None:
        stored = latents.encode(autoencoder, dataset, cached, key.hexdigest(), accelerator.device)
    mean, std = latents.statistics(stored, [h * w for h, w in (plane.shape for plane in domain.layout)])
    model.mean.copy_(mean)
    model.std.copy_(std)

    conditions = _conditions(config, dataset, model)
    source = latents.LatentDataset(stored, dataset, conditions)
    show = _previews(config, run, dataset, conditions, autoencoder)

    unseen = []
    if training.preview_every or config.diffusion.ema_lengths:
        unseen = _held_out(config, held_out, autoencoder, model, accelerator.device)

    def held_out_loss(model: nn.Module) -> float:
        with torch.no_grad():
            losses = [len(batch.seeds) * float(denoising_loss(model, batch)) for batch in unseen]  # type: ignore[arg-type]
        return sum(losses) / sum(len(batch.seeds) for batch in unseen)

    def preview(averaged: nn.Module, step: int) -> dict[str, float]:
        show(averaged, PREVIEW, f"diffusion-{step:06d}")  # type: ignore[arg-type]
        return {"held_out": held_out_loss(averaged)} if unseen else {}

    objective = DiffusionObjective(config, model)
    steps, share = training.diffusion_steps, config.diffusion.guide_at
    guide_step = max(1, round(share * steps)) if share else 0
    decay, lengths = config.diffusion.ema_decay, config.diffusion.ema_lengths
    stage = Stage("diffusion", steps, training.diffusion_batch, decay, lengths, guide_step)
    config = _precise(config, run, stage, objective, source, accelerator)
    fitted = fit(objective, source, stage, training, run, accelerator, interruption, preview)
    if accelerator.is_main_process and _to_export(fitted, run / "model", DIFFUSION):
        if lengths and fitted.finished and unseen:
            snapshots = averages.Snapshots(run / "checkpoints", stage.name, lengths, steps)
            fitted = replace(fitted, model=averages.best(fitted.model, snapshots, held_out_loss))
        elif lengths and fitted.finished:
            log.warning("diffusion.ema_lengths has no effect without held-out data, whose loss would choose one")
        if guide_step and guide_of(run).exists():
            guide = Diffusion(config.diffusion, domain.layout, config.autoencoder.latent_channels)
            if config.diffusion.condition == "text":
                guide.null_tokens, guide.null_mask = model.null_tokens.clone(), model.null_mask.clone()
            fill(guide, load_tensors(guide_of(run)), guide_of(run))
            fitted.model.guide = guide
        with interruption.patience():
            export(run / "model", config, diffusion=fitted.model)
    accelerator.wait_for_everyone()
    return fitted


def _distillation(
    config: Config, run: Path, dataset: Dataset, accelerator: Accelerator, interruption: Interruption
) -> Fitted:
    interruption.check()
    _check_teacher(config, run)
    training, decay = config.training, config.diffusion.ema_decay
    teacher = load_diffusion(run / "model", config)
    assert teacher is not None
    teacher.flow = None  # an earlier one
    teacher = teacher.to(accelerator.device)
    torch.manual_seed(training.seed + 2)
    objective = DistillationObjective(config, teacher)
    conditions = _conditions(config, dataset, teacher)

    guidance = SamplingConfig(sampler="dpm").of(config.diffusion).guidance
    told = repr((digest(run / "model" / DIFFUSION), guidance, training.seed, dataset.names, dataset.captions))
    key = hashlib.sha256(told.encode()).hexdigest()
    _check_origin(run, "distillation", "another denoiser or other data", {"teacher": key})
    if accelerator.is_main_process:
        _note_origin(run, "distillation", {"teacher": key})
    processes = Processes(accelerator.process_index, accelerator.num_processes, accelerator.device)
    source = Trajectories(teacher, guidance, conditions, len(dataset), run / "cache", key[:16], training, processes)
    autoencoder: D2CVAE = freeze(load_autoencoder(run / "model", config)).to(accelerator.device)  # type: ignore[assignment]
    show = _previews(config, run, dataset, conditions, autoencoder)

    def preview(student: nn.Module, step: int) -> None:
        teacher.flow = student  # type: ignore[assignment]
        show(teacher, SamplingConfig(sampler="flow"), f"distillation-{step:06d}")
        teacher.flow = None

    stage = Stage("distillation", training.distillation_steps, training.diffusion_batch, decay)
    config = _precise(config, run, stage, objective, source, accelerator)
    settings = replace(config.training, workers=0)  # trajectories are made where they are read
    fitted = fit(objective, source, stage, settings, run, accelerator, interruption, preview)
    if accelerator.is_main_process and _to_export(fitted, run / "model", FLOW):
        with interruption.patience():
            by_default = replace(config.diffusion, sampler="flow", sampling_steps=0)
            export(run / "model", replace(config, diffusion=by_default), flow=fitted.model)
    if fitted.finished:
        source.remove()
    accelerator.wait_for_everyone()
    return fitted


def _check_teacher(config: Config, run: Path) -> None:
    """Make sure that there is a denoiser to distil, and how long to. Raises UserError where there is none."""
    if not config.training.distillation_steps:
        steps = "--set training.distillation_steps=2000"
        raise UserError(f"training.distillation_steps is 0: say how many, e.g. {steps} (a fifth of those of stage 2)")
    weights = run / "model" / DIFFUSION
    if not weights.exists():
        raise UserError(f"{weights} is missing: train stage 2 first (--stage diffusion), whose denoiser is distilled")
    if not intact(run / "model", DIFFUSION):
        raise UserError(f"{weights} was altered: train stage 2 with --resume to write it again from its checkpoints")


def _check_origin(run: Path, stage: str, other: str, origin: dict[str, str]) -> None:
    """Make sure that the checkpoints of a stage are for what it is trained on. Raises UserError where they are not."""
    marker = run / "checkpoints" / f"{stage}.json"
    if find(run / "checkpoints", stage) and marker.exists() and read_json(marker) != origin:
        raise UserError(
            f"{run} has checkpoints of the {stage} for {other}: remove {run}/checkpoints/{stage}-* to train it again"
        )


def _note_origin(run: Path, stage: str, origin: dict[str, str]) -> None:
    with aside(run / "checkpoints" / f"{stage}.json") as scratch:
        write_json(origin, scratch)


def _conditions(config: Config, dataset: Dataset, model: Diffusion) -> latents.Conditions:
    """What the items are conditioned on; the null condition of text goes into the model."""
    if config.diffusion.condition == "text":
        with working("encoding the captions"):
            return latents.Conditions(texts=_texts(config, dataset, model))
    return latents.Conditions(labels=dataset.labels if config.diffusion.condition == "class" else None)


def _previews(
    config: Config, run: Path, dataset: Dataset, conditions: latents.Conditions, autoencoder: D2CVAE
) -> Callable[[Diffusion, SamplingConfig, str], None]:
    """(denoiser, how to sample, name): saves samples with the conditions of items spread over the data."""
    spread = range(0, len(dataset), max(1, len(dataset) // PREVIEWS))[:PREVIEWS]
    shown = conditions.take(spread, spread)
    seeds = sample_seeds(config.training.seed, 0, PREVIEWS if shown is None else len(spread))

    def show(diffusion: Diffusion, sampling: SamplingConfig, name: str) -> None:
        condition = None if shown is None else shown.to(diffusion.mean.device)
        drawn = draw(diffusion, seeds, condition, sampling)
        with torch.no_grad():
            signal = autoencoder.decode(unpack(drawn.z, config.domain.layout))
        _show(config, fields_of(signal, config.domain), run / "samples" / name)

    return show


def _held_out(
    config: Config, dataset: Dataset, autoencoder: D2CVAE, model: Diffusion, device: torch.device
) -> list[latents.LatentBatch]:
    """Items that training does not see, each with one draw of latent, noise and time that stays the same: their
    denoising loss rises when the denoiser memorises. Empty where nothing is held out.
    """
    count = min(HELD_OUT, len(dataset))
    items = [k * len(dataset) // count for k in range(count)]
    batches = []
    for start in range(0, count, 32):
        indices = items[start : start + 32]
        with torch.no_grad():
            posterior = autoencoder.encode(dataset.inputs(indices).to(device))
        condition = None
        seeds = sample_seeds(config.training.seed, start, len(indices))
        if config.diffusion.condition == "text":
            condition = _texts(config, dataset, model, indices).take(range(len(indices)), seeds)
        elif dataset.labels is not None and config.diffusion.condition == "class":
            condition = Condition(labels=torch.tensor([dataset.labels[i] for i in indices]))
        batches.append(latents.LatentBatch(posterior.mean, posterior.log_variance, condition, tuple(seeds)).to(device))
    return batches


def _to_export(fitted: Fitted, folder: Path, name: str) -> bool:
    """Whether the model folder lacks these weights, or has them damaged: a stage that had been finished before is not
    written again.
    """
    wanted = fitted.trained or not (folder / name).exists()
    if not wanted and not intact(folder, name):
        log.warning("%s was altered, and is written again from its checkpoint", folder / name)
        return True
    return fitted.step > 0 and wanted


def _texts(
    config: Config, dataset: Dataset, model: Diffusion, indices: Sequence[int] | None = None
) -> latents.TextTable:
    """The dataset's captions (of all items, or of these) as token states.

    The null condition goes into the model, so that sampling without text needs no text encoder.
    """
    encoder = _encoder(config)

    def encode(captions: Any) -> tuple[torch.Tensor, torch.Tensor]:
        states = encoder.encode(captions)
        return states.tokens, states.mask

    assert dataset.captions is not None
    phrasings = dataset.phrasings or [[caption] for caption in dataset.captions]
    if indices is not None:
        phrasings = [phrasings[i] for i in indices]
    encoder.warn(phrase for phrases in phrasings for phrase in phrases)
    tokens, mask = encode([""])
    length = int(mask.sum())
    model.null_tokens, model.null_mask = tokens[0, :length].clone(), mask[0, :length].clone()
    return latents.TextTable.of(phrasings, encode)


def _show(config: Config, fields: list[Field], stem: Path) -> None:
    """Render and save a sheet; a preview that cannot be written is reported, and training goes on."""
    formats = config.domain.formats
    try:
        if formats.sheets:
            files.save_sheet([field.render() for field in fields], stem.with_suffix(formats.sheets[0]))
        else:
            files.save(fields[0].render(), stem.with_suffix(formats.files[0]))
    except (OSError, UserError, WorkError) as error:
        log.warning("no preview: %s", error)
