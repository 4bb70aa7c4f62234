"""Checkpoints: safetensors and JSON with their digests, put in place by a rename, so that a crash never leaves half."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddmi.base.errors import UserError
from ddmi.base.storage import MANIFEST, aside, fill, load_tensors, read_json, save_tensors, seal, verify, write_json

log = logging.getLogger(__name__)

FILES = ("model.safetensors", "averaged.safetensors", "optimiser.safetensors", "state.json", MANIFEST)
MORE = ("averaged-*.safetensors",)
"""Averages of other lengths, where a training keeps them."""


@dataclass(frozen=True)
class Checkpoint:
    """One stored state of a stage: `folder` holds weights, averages, optimiser and state.json."""

    folder: Path
    step: int


def find(folder: Path, stage: str) -> list[Checkpoint]:
    """Complete checkpoints of a stage, oldest first. Half-written ones have another name and do not count."""
    found = []
    for path in folder.glob(f"{stage}-*"):
        if (match := re.fullmatch(rf"{stage}-(\d+)", path.name)) and (path / "state.json").exists():
            found.append(Checkpoint(path, int(match[1])))
    return sorted(found, key=lambda c: c.step)


def save(
    folder: Path,
    stage: str,
    step: int,
    modules: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    state: dict[str, Any],
    keep: int,
) -> Checkpoint:
    """Write the state after `step` optimiser steps, then drop those of later steps and all but the newest `keep`.

    Args:
        modules: "model", and averages of it: each becomes a file of this name.

    Raises:
        WorkError: the disk is full; the checkpoints that were there still are.
    """
    target = folder / f"{stage}-{step:08d}"
    moments = optimiser.state_dict()["state"]
    tensors = {f"{i}.{key}": torch.as_tensor(v) for i, slots in moments.items() for key, v in slots.items()}
    with aside(target, own=(*FILES, *MORE)) as scratch:
        scratch.mkdir()
        for name, module in modules.items():
            save_tensors(module.state_dict(), scratch / f"{name}.safetensors")
        save_tensors(tensors, scratch / "optimiser.safetensors")
        write_json({"stage": stage, "step": step, **state}, scratch / "state.json")
        seal(scratch)
    there = find(folder, stage)
    damaged = [c for c in there if c.step > step]  # the training went on from an older one
    for old in damaged + [c for c in there if c.step <= step][:-keep]:
        shutil.rmtree(old.folder, ignore_errors=True)
    return Checkpoint(target, step)


def newest(found: Sequence[Checkpoint]) -> Checkpoint:
    """The newest of some checkpoints, oldest first, that is whole; a warning names each damaged one.

    Raises:
        UserError: none is whole; the file that is damaged in the newest is named.
    """
    damaged: list[UserError] = []
    for checkpoint in reversed(found):
        try:
            verify(checkpoint.folder, FILES)
        except UserError as error:
            damaged.append(error)
            continue
        for reason in damaged:
            log.warning("%s; going on from the checkpoint of step %d", reason, checkpoint.step)
        return checkpoint
    raise damaged[0]


def restore(
    checkpoint: Checkpoint, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer
) -> dict[str, Any]:
    """Load a checkpoint into modules and optimiser that were built from the same configuration; returns state.json.

    Raises:
        UserError: a file is missing or damaged, or was made with other settings.
    """
    folder = checkpoint.folder
    for name, module in modules.items():
        fill(module, load_tensors(folder / f"{name}.safetensors"), folder / f"{name}.safetensors")
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in load_tensors(folder / "optimiser.safetensors").items():
        index, key = name.split(".", 1)
        if int(index) >= len(parameters):
            raise UserError(f"{folder / 'optimiser.safetensors'} was made with other settings")
        if tensor.shape == parameters[int(index)].shape:  # in the memory layout of its parameter
            tensor = torch.empty_like(parameters[int(index)], requires_grad=False).copy_(tensor)
        moments.setdefault(int(index), {})[key] = tensor
    plain = optimiser.state_dict()
    optimiser.load_state_dict({"state": moments, "param_groups": plain["param_groups"]})
    return read_json(folder / "state.json")
