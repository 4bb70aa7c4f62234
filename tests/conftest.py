"""Fixtures of all tests: one thread unless OMP_NUM_THREADS says otherwise, and a folder of small pictures."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

os.environ["ACCELERATE_USE_CPU"] = "true"  # the same bits on every machine
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Every test starts from the same random numbers and without an engine of a test before it."""
    torch.manual_seed(0)
    yield
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


@pytest.fixture(autouse=True)
def _just_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program says what it is doing after half a minute, which these have not been running for."""
    monkeypatch.setattr("ddmi.base.progress._said", time.monotonic())


@pytest.fixture(autouse=True)
def _nothing_kept(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hulls and views that another version of the code has made are not found, and none are left to the user."""
    from ddmi.data import kept

    monkeypatch.setattr(kept, "home", lambda: tmp_path_factory.getbasetemp() / "kept")


def drawing(seed: int, size: int = 24) -> np.ndarray:
    """A smooth picture: a few colour waves."""
    numbers = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    waves = [np.sin(2 * np.pi * (a * x + b * y + c)) for a, b, c in numbers.uniform(-1, 1, (3, 3))]
    return ((np.stack(waves, axis=2) + 1) * 127.5).round().astype(np.uint8)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 pictures of 24 x 24 pixels, of which at least one is held out."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    for k in range(12):
        Image.fromarray(drawing(k)).save(folder / f"{k:02d}.png")
    return folder
