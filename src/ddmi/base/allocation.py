"""How the C library hands memory back: a setting of the process that decides a quarter of a training step's time."""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let glibc keep large freed blocks for the next tensor instead of returning them to the kernel.

    By default every tensor above 32 MB is mapped anew, and the kernel clears it page by page: a training step on a
    CPU, which allocates the same tensors over and over, spends a quarter of its time so. The price is that
    the process keeps its peak memory until it ends. A person's own MALLOC_ settings stay.

    Returns:
        Whether it was done: False for another C library, or where the environment sets these thresholds.
    """
    if any(f"MALLOC_{name}_THRESHOLD_" in os.environ for name in ("TRIM", "MMAP")):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, MOST)) and bool(mallopt(M_TRIM_THRESHOLD, MOST))
