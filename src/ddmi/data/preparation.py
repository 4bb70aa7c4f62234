"""Meshes prepared once: points of the surface and points of space, in the files of Occupancy Networks.

`<class>/<model>/pointcloud.npz` has `points` and `normals`, `points.npz` and `near.npz` have `points` and `occupancies`
(bits, packed by numpy.packbits), all float16 in their frame of [-0.55, 0.55] (Mescheder et al. 2019, released data).
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from ddmi.base.errors import MissingPackage, UserError, WorkError
from ddmi.base.randomness import derive
from ddmi.base.storage import append, aside, locked, read_json, write_json
from ddmi.data.catalogues import ARCHIVES, licences
from ddmi.data.folders import printable
from ddmi.data.meshes import Model, Rejected, Up, check_up, find, normalised, read
from ddmi.data.solids import ambiguous, boundary, enclosed, near, winding

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

UNIT = 0.55
"""Ours times this is theirs."""
CLOUD, SPACE, NEAR = "pointcloud.npz", "points.npz", "near.npz"
CAPTIONS, CREDITS, REJECTED = "captions.jsonl", "credits.jsonl", "rejected.jsonl"
LICENCES, SETTINGS = "licences", "preparation.json"

MOST_AMBIGUOUS = 0.02
"""Of the cube: a mesh with more space of which it is open whether it is inside has holes that matter."""
PROBE = 20_000
"""Points of the cube at which that is measured, however many queries are stored."""
LEAST_OCCUPIED = 0.005
"""Of the cube: what encloses less is wires and sheets."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a preparation has left in its folder."""

    kept: list[str]
    rejected: dict[str, str]  # the reason of each
    fresh: int  # how many were done by this call

    @property
    def classes(self) -> dict[str, int]:
        """How many models each class keeps; {} when there are no classes."""
        return dict(sorted(Counter(name.split("/")[0] for name in self.kept if "/" in name).items()))


def prepare(
    src: str | Path | Sequence[str | Path],
    dst: str | Path,
    *,
    processes: int = 1,
    surface: int = 30_000,
    queries: int = 50_000,
    up: Up = "y",
    seed: int = 0,
    progress: Progress | None = None,
) -> Summary:
    """Prepare all meshes at one or several paths; models that `dst` has already, or has rejected, are passed over.

    The content of a model's files depends on the mesh, the settings and the model's name, never on what else there is
    or on when the work was interrupted. Besides the models there are `captions.jsonl`, `credits.jsonl`,
    `licences/` (a file for each archive), `rejected.jsonl` and `preparation.json` (the settings). Lines of the first
    two stay as they are where these sources say nothing of their model: somebody else wrote them.

    Args:
        src: see `ddmi.data.meshes.find`.
        processes: how many work at once; with 1 this one does.
        surface: points of the surface of each model.
        queries: points of the cube, and as many close to the surface.
        up: the axis that points up in the meshes.
        progress: called with (models done, models in all).

    Raises:
        UserError: no mesh, a bad archive, bad settings, or a `dst` that was prepared with others.
        WorkError: a process died, or the disk is full; what is done stays.
    """
    if min(surface, queries) < 100:
        raise UserError(f"surface and queries must be at least 100, not {min(surface, queries)}")
    check_up(up)
    settings: dict[str, Any] = {"surface": surface, "queries": queries, "up": up, "seed": seed}
    one = partial(prepare_one, **settings)
    return carry_out(src, Path(dst), settings, one, (CLOUD, SPACE, NEAR), processes=processes, progress=progress)


def carry_out(
    src: str | Path | Sequence[str | Path],
    target: Path,
    settings: dict[str, Any],
    one: Callable[[Model, Path], str | None],
    files: Sequence[str],
    *,
    processes: int = 1,
    progress: Progress | None = None,
) -> Summary:
    """What `prepare` does, whatever is made of a mesh: find, do what is left to do, and write the tables.

    Args:
        settings: they decide the content; a folder has one set of them.
        one: puts the folder of one model into the target, as a whole, or returns why it is rejected; can be pickled.
        files: a model's folder that has these is done.

    Raises:
        UserError, WorkError: as `prepare`.
    """
    if processes < 1:
        raise UserError(f"processes must be at least 1, not {processes}")
    settings = json.loads(json.dumps(settings))
    _check_settings(target, settings)  # before the sources are searched
    models = _all([Path(path) for path in ([src] if isinstance(src, str | Path) else src)])

    def done(name: str) -> bool:
        return all((target / name / file).is_file() for file in files)

    with locked(target):
        _check_settings(target, settings)
        with aside(target / SETTINGS) as scratch:
            write_json(settings, scratch)
        reasons = {entry["model"]: entry["reason"] for _, entry in _lines(target / REJECTED) if "reason" in entry}
        left = [model for name, model in models.items() if name not in reasons and not done(name)]
        begun = len(models) - len(left)
        try:
            for fresh, (name, reason) in enumerate(_work(left, target, one, processes), 1):
                if reason is not None:
                    reasons[name] = reason
                    append(json.dumps({"model": name, "reason": reason}, ensure_ascii=False), target / REJECTED)
                    log.warning("left out %s: %s", name, reason)
                if progress is not None:
                    progress(begun + fresh, len(models))
        finally:
            kept = [model for name, model in models.items() if done(name)]
            _write_tables(target, kept, reasons)
    rejected = {name: reasons[name] for name in models if name in reasons}
    if not kept:
        name, reason = next(iter(rejected.items()))
        raise UserError(f"none of the {len(models)} meshes can be used, the first, {name}: {reason}")
    return Summary(kept=[model.name for model in kept], rejected=rejected, fresh=len(left))


def prepare_one(model: Model, target: Path, *, surface: int, queries: int, up: Up, seed: int) -> str | None:
    """Prepare one model into `target / model.name`, put in place as a whole.

    Returns:
        The reason why it is rejected, None when it is done.
    """
    rng = np.random.default_rng(derive(seed, "shape", model.name))
    try:
        mesh = normalised(read(model), up)
        space = _rounded(rng.uniform(-1, 1, (queries, 3)))
        probe = np.random.default_rng(derive(seed, "probe", model.name)).uniform(-1, 1, (PROBE, 3))
        first = winding(mesh, probe[: PROBE // 5])
        _check(first, slack=2)  # what is far from useful is known at a fraction of the price
        _check(np.concatenate([first, winding(mesh, probe[PROBE // 5 :])]))
        inside = enclosed(winding(mesh, space / UNIT))
        points, normals = boundary(mesh, surface, rng)
        close = _rounded(near(points, queries, rng))
        close_inside = enclosed(winding(mesh, close / UNIT))
    except Rejected as error:
        return str(error).removeprefix(model.place).lstrip(": ")
    files: dict[str, dict[str, Any]] = {
        CLOUD: {"points": _rounded(points), "normals": normals},
        SPACE: {"points": space, "occupancies": np.packbits(inside)},
        NEAR: {"points": close, "occupancies": np.packbits(close_inside)},
    }
    with aside(target / model.name, own=tuple(files)) as folder:
        folder.mkdir()
        for name, arrays in files.items():
            halves = {key: a.astype(np.float16) if a.dtype.kind == "f" else a for key, a in arrays.items()}
            np.savez(folder / name, allow_pickle=False, **halves)
    return None


def _check(numbers: Float[np.ndarray, "n"], slack: float = 1) -> None:
    """Raises Rejected when a mesh with these winding numbers, uniform in the cube, is not closed or nearly empty."""
    if not np.isfinite(numbers).all():
        raise Rejected("winding numbers that are not finite")
    if (share := ambiguous(numbers).mean()) > MOST_AMBIGUOUS * slack:
        raise Rejected(f"not closed: of {share:.1%} of the cube it is open whether they are inside")
    if (share := enclosed(numbers).mean()) < LEAST_OCCUPIED / slack:
        raise Rejected(f"encloses {share:.2%} of the cube, at least {LEAST_OCCUPIED:.1%} are needed")


def _rounded(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Our coordinates in their frame, as float16 will keep them: what is inside is evaluated at these."""
    return (points * UNIT).astype(np.float16).astype(np.float64)


def _all(sources: list[Path]) -> dict[str, Model]:
    """The models of all sources by name; one that two sources have is an error."""
    models: dict[str, Model] = {}
    for source in sources:
        for model in find(source):
            if model.name in models:
                raise UserError(
                    f"{source} and {models[model.name].file} both have a model {model.name}: prepare them apart"
                )
            models[model.name] = model
    return dict(sorted(models.items()))


def _check_settings(target: Path, settings: dict[str, Any]) -> None:
    """Raises UserError when the folder was prepared with other settings, or is not one that was prepared."""
    path = target / SETTINGS
    if path.is_file():
        if (there := read_json(path)) != settings:
            differ = sorted(key for key in settings | there if there.get(key) != settings.get(key))
            changes = ", ".join(f"{key} was {there.get(key)}, not {settings.get(key)}" for key in differ)
            raise UserError(f"{target} was prepared with other settings ({changes}): name another folder")
    elif target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file: a folder is needed")
    elif target.is_dir() and any(target.iterdir()):
        raise UserError(f"{target} is not empty, and not a folder that was prepared: name another folder")


def _work(
    models: list[Model], target: Path, one: Callable[[Model, Path], str | None], processes: int
) -> Iterator[tuple[str, str | None]]:
    """Name and reason (None: kept) of each model, as they end."""
    if processes == 1 or len(models) < 2:
        for model in models:
            yield model.name, _attempt(one, model, target)
        return
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_alone)
    try:
        left = {pool.submit(_attempt, one, model, target): model.name for model in models}
        for ended in as_completed(list(left)):
            try:
                reason = ended.result()
            except BrokenProcessPool as error:
                names = ", ".join(list(left.values())[:processes])  # the next ones in order were at work
                raise WorkError(f"a process died (out of memory?) on one of {names}; what is done stays") from error
            yield left.pop(ended), reason
    except BaseException:  # interrupted: a model may take minutes, and whatever is half done is beside its place
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _attempt(one: Callable[[Model, Path], str | None], model: Model, target: Path) -> str | None:
    """The result of `one` for a model. An unforeseen error is a reason too: one file never stops the others."""
    try:
        reason = one(model, target)
    except (MissingPackage, WorkError):  # these are the same for all models
        raise
    except Exception as error:
        log.debug("%s", model.place, exc_info=True)
        reason = f"cannot be read: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return reason if reason is None else printable(reason)


def _alone() -> None:
    """A process of the pool: one thread, and the key that interrupts is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["IGL_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def _write_tables(target: Path, kept: list[Model], rejected: dict[str, str]) -> None:
    """Write what is known of the models; captions and credits of others stay as they are, rejections are all given."""
    tables: dict[str, list[dict[str, str]]] = {
        CAPTIONS: [{"model": model.name, "text": text} for model in kept for text in model.captions],
        CREDITS: [{"model": model.name, **model.credit} for model in kept if model.credit],
        REJECTED: [{"model": name, "reason": reason} for name, reason in sorted(rejected.items())],
    }
    for name, rows in tables.items():
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        if name != REJECTED:
            own = {row["model"] for row in rows}
            lines += [line for line, entry in _lines(target / name) if entry.get("model") not in own]
        if lines or name == REJECTED:
            with aside(target / name) as scratch:
                text = "".join(f"{line}\n" for line in lines)
                scratch.write_text(text, encoding="utf-8", errors="surrogateescape")
    for path in sorted({model.file for model in kept if model.file.suffix.lower() in ARCHIVES}):
        if text := licences(path):
            with aside(target / LICENCES / f"{path.name}.txt") as scratch:
                scratch.write_text(text, encoding="utf-8")


def _lines(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The lines of a table, each with its texts: {} where it names no model, as a last line that was cut off."""
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape") if path.is_file() else ""
    for line in filter(str.strip, text.split("\n")):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        texts = (
            {key: value for key, value in entry.items() if isinstance(value, str)} if isinstance(entry, dict) else {}
        )
        yield line, texts if "model" in texts else {}
