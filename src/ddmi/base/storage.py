"""Files that are never half written and never unpickled: safetensors, JSON, and folders put in place by a rename."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddmi.base.errors import UserError, WorkError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
DIGEST = "ddmi.sha256"
"""In the metadata of a safetensors file that stands alone."""
SMALL = 1 << 20
"""Bytes beyond which a file is no configuration and no manifest."""
SPARE = 1 << 24
"""Numbers that a network may compute for itself, beside the weights that it reads from a file."""


@contextmanager
def aside(target: Path, own: Sequence[str] = ()) -> Iterator[Path]:
    """A scratch path beside `target` that takes its place when the block ends well, and is removed when it does not.

    Args:
        own: patterns of what a folder that may stand there holds, such as "frame*.png". A folder is only ever replaced
            by a folder, and only when each file in it matches one of these.

    Raises:
        UserError: a folder stands there that is not to be replaced, naming what it holds; or a device or a pipe.
        WorkError: the disk is full or not writable, naming the target; what stood there before is untouched.
    """
    _check_folder(target, own)
    scratch, old = (target.with_name(f".{target.name}.{what}") for what in ("writing", "old"))
    if old.is_dir() and not target.exists():  # a process was killed between the two renames below
        old.rename(target)
    _remove(scratch)
    try:
        with parents(target):
            try:
                yield scratch
                for path in [scratch, *scratch.rglob("*")] if scratch.is_dir() else [scratch]:
                    if path.is_file():
                        with path.open("rb") as file:
                            os.fsync(file.fileno())
                _check_folder(target, own if scratch.is_dir() else ())
                if target.is_dir():
                    _remove(old)
                    target.rename(old)
                    scratch.rename(target)
                    _remove(old)
                else:
                    os.replace(scratch, target)
            finally:
                _remove(scratch)
    except OSError as error:
        raise WorkError(f"cannot write {target}: {error.strerror or error}") from error


def _check_folder(target: Path, own: Sequence[str]) -> None:
    """Raise the UserError of `aside` where `target` is a device, or a folder that holds more than its `own` files."""
    if not target.is_dir():
        if target.exists() and not target.is_file():  # the rename would remove it: /dev/null for everyone
            raise UserError(f"{target} is a device or a pipe, which no file takes the place of")
        return
    if not own:
        raise UserError(f"{target} is a folder: no file takes its place")
    for path in sorted(target.rglob("*")):
        name = path.relative_to(target)
        if path.is_dir() and not path.is_symlink():
            continue
        if not any(name.match(pattern) and len(name.parts) == len(Path(pattern).parts) for pattern in own):
            raise UserError(f"{target} holds {name}: only a folder of {', '.join(own)} is replaced")


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder, made where it is missing, for this process; it is free again however the process ends.

    Nothing is held where the operating system or the file system has no such locks (Windows, some network drives).

    Args:
        wait: for another process that holds it.

    Raises:
        UserError: another process holds it and it was not to `wait`, or it cannot be a folder.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(parents(folder / "inside"))
            handle = os.open(folder, os.O_RDONLY)
        except OSError as error:
            raise UserError(f"{folder} cannot be a folder: {error.strerror}") from error
        stack.callback(os.close, handle)
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise UserError(f"another process is at work in {folder}: wait for it, or name another folder") from error
        except (ImportError, OSError) as error:
            log.debug("%s is not locked: %s", folder, error)
        yield


def unnamed(shape: Sequence[int], folder: Path | None) -> np.ndarray:
    """8-bit zeros in a file without a name, for what is too large for memory; the space is free when the array is.

    Args:
        folder: where the space is taken; None for that of temporary files.

    Raises:
        OSError: there is no space.
    """
    import numpy as np

    place = Path(tempfile.gettempdir()) if folder is None else folder
    with parents(place / "inside"), tempfile.TemporaryFile(dir=place) as file:  # the map outlives name and handle
        if hasattr(os, "posix_fallocate"):  # through a memory map, a full disk kills the process
            try:
                os.posix_fallocate(file.fileno(), 0, math.prod(shape))
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(place)) from error
        return np.memmap(file, np.uint8, "w+", shape=tuple(shape))


@contextmanager
def parents(target: Path) -> Iterator[None]:
    """The folder of `target`, made where it is missing; what was made goes when it is still empty in the end."""
    made = []
    for folder in target.parents:
        if folder.exists():
            break
        made.append(folder)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for folder in made:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # what cannot be removed fails where it stands in the way, with the name of the target
            path.unlink()


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file. Raises OSError on a full disk, as every other write does.

    Args:
        metadata: of a file that stands alone, outside of a sealed folder: a SHA-256 of it and of the tensors is written
            with it, and compared by `load_tensors`.
    """
    from safetensors.torch import save

    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    if metadata is None:
        path.write_bytes(save(tensors))
        return
    content = save(tensors, {**metadata, DIGEST: _contents_digest(tensors, metadata)})
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))  # the library's order is another each time
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the values begin at a multiple of 8, as the format wants
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


def _contents_digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 of metadata and tensors: names, types, shapes and bits."""
    import torch

    found = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        UserError: the file is missing, damaged, or without the SHA-256 that was written with it; it is named.
    """
    from safetensors.torch import load_file

    with _reading(path, "is damaged or no safetensors file"):
        tensors = load_file(path)
    metadata = _metadata(path)
    expected = metadata.pop(DIGEST, None)  # files in a sealed folder have none
    if expected is not None and expected != _contents_digest(tensors, metadata):
        raise UserError(f"{path} is damaged: its contents do not have the SHA-256 that was written with them")
    return tensors


def load_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file. Raises UserError naming the file when it is missing or damaged."""
    return {name: value for name, value in _metadata(path).items() if name != DIGEST}


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with _reading(path, "is damaged or no safetensors file"), safe_open(path, framework="pt") as file:
        return file.metadata() or {}


@contextmanager
def _reading(path: Path, otherwise: str) -> Iterator[None]:
    """Any error in this block as a UserError that names the file: a broken one raises nearly every kind."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(f"{path} {otherwise}: {' '.join(reason.split())[:200]}") from error


def write_json(value: Any, path: Path) -> None:
    """Indented JSON with a final newline."""
    path.write_text(json.dumps(value, indent=2) + "\n")


def read_text(path: Path) -> str:
    """All of a text file in UTF-8, with or without a byte order mark; every line ends in a plain newline.

    Raises:
        UserError: the file is missing, cannot be read, or is not UTF-8; it is named.
    """
    with _reading(path, "cannot be read"):
        try:
            return path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 text") from error


def append(line: str, path: Path) -> None:
    """Add a line to a file that a reader may find cut off in its last line. Raises WorkError naming the file."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
    except OSError as error:
        raise WorkError(f"cannot write {path}: {error.strerror or error}") from error


def read_arrays(path: Path, *names: str, optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Arrays of an npz file by name, in the order asked for; nothing is unpickled.

    Raises:
        UserError: the file is missing or damaged, or lacks an array that is not optional; it is named.
    """
    import numpy as np

    with _reading(path, "is damaged or no npz file of numbers"), np.load(path, allow_pickle=False) as file:
        if missing := [name for name in names if name not in file.files]:
            raise UserError(f"{path} has no array `{missing[0]}`, only {', '.join(file.files) or 'none'}")
        return {name: file[name] for name in (*names, *optional) if name in file.files}


def read_json(path: Path, most: int | None = None) -> Any:
    """Read a JSON file.

    Args:
        most: bytes that it may have.

    Raises:
        UserError: the file is missing, too large or no JSON; it is named.
    """
    if most is not None and path.is_file() and path.stat().st_size > most:
        raise UserError(f"{path} has more than {most:,} bytes, and is not read")
    with _reading(path, "is not valid JSON"):
        try:
            return json.loads(read_text(path))
        except RecursionError as error:
            raise UserError(f"{path} is not valid JSON: it is nested too deeply") from error


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path) -> None:
    """Write the digests of the folder's files into its manifest."""
    write_json(
        {p.name: digest(p) for p in sorted(folder.iterdir()) if p.name != MANIFEST and p.is_file()}, folder / MANIFEST
    )


def verify(folder: Path, needed: Iterable[str] = ()) -> None:
    """Compare the folder with its manifest.

    Args:
        needed: files that are read where they exist, which the manifest must then list.

    Raises:
        UserError: a file is missing, altered or not listed, or the manifest is none of ours; the file is named.
    """
    listed = read_json(folder / MANIFEST, SMALL)
    if not isinstance(listed, dict) or not listed:
        raise UserError(f"{folder / MANIFEST} lists no file: it must give the SHA-256 of each by its name")
    for name in needed:
        if (folder / name).exists() and name not in (*listed, MANIFEST):
            raise UserError(f"{folder / name} is not listed in {MANIFEST}: nothing tells whether it is whole")
    for name, expected in listed.items():
        if not re.fullmatch(r"[\w.-]+", name):
            raise UserError(f"{folder / MANIFEST} names {name!r}: only files in the folder itself can be listed")
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing: the folder is incomplete")
        if digest(folder / name) != expected:
            raise UserError(f"{folder / name} was altered: its SHA-256 is not the one in {MANIFEST}")


def unfilled() -> Any:
    """A context in which random initial weights are not drawn, for modules whose weights a file replaces.

    On the meta device torch would import its compiler for them, which takes longer than all else.
    """
    from torch.overrides import TorchFunctionMode

    class Unfilled(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            named = kwargs or {}
            if function.__name__.endswith(("normal_", "uniform_")):  # of tensors, and of torch.nn.init
                return args[0] if args else named["tensor"]
            return function(*args, **named)

    return Unfilled()


def build(make: Callable[[], Any], tensors: dict[str, Tensor], path: Path) -> Any:
    """The module that `make` makes, with these weights.

    It is made without memory first and compared with them: what a configuration of a stranger asks for is never more
    than the file has.

    Raises:
        UserError: `make` fails, or the weights do not fit; the file they are from is named.
    """
    import torch
    from torch.nn.modules.module import register_module_parameter_registration_hook

    builder, left = threading.get_ident(), 2 * len(tensors) + 64

    def count(module: Any, name: str, parameter: Any) -> None:
        nonlocal left
        left -= threading.get_ident() == builder
        if left < 0:
            raise UserError(f"{path} has {len(tensors)} tensors, fewer than its configuration asks for")

    counting = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"), unfilled():
            planned = make()
    except UserError:
        raise
    except Exception as error:  # layers raise nearly every kind of error on sizes that cannot be
        raise UserError(f"{path}: its configuration describes no network: {error}") from error
    finally:
        counting.remove()
    _compare(planned, tensors, path)
    kept = planned.state_dict()
    if sum(t.numel() for name, t in planned.named_buffers() if name not in kept) > SPARE:
        raise UserError(f"{path}: its configuration asks for more memory than a model may take")
    with unfilled():
        module = make()
    fill(module, tensors, path)
    return module


def fill(module: Any, tensors: dict[str, Tensor], path: Path) -> None:
    """Load weights into a module. Raises UserError naming the file and the first tensor that does not fit."""
    _compare(module, tensors, path)
    module.load_state_dict(tensors)


def _compare(module: Any, tensors: dict[str, Tensor], path: Path) -> None:
    own = module.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        if name not in tensors:
            raise UserError(f"{path} lacks the tensor {name}: it was made with other settings")
        if name not in own:
            raise UserError(f"{path} has the unknown tensor {name}: it was made with other settings")
        if own[name].shape != tensors[name].shape:
            shapes = f"{tuple(tensors[name].shape)}, not {tuple(own[name].shape)}"
            raise UserError(f"{path}: {name} has the shape {shapes}: it was made with other settings")
