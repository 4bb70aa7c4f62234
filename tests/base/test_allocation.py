"""Freed memory stays with the process: seen from outside, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, os, sys, torch
from ddmi.base.allocation import keep_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

done = keep_freed_memory() if sys.argv[1] == "keep" else None
before = resident()
x = torch.ones(100_000_000, dtype=torch.uint8)
full = resident()
del x
print(json.dumps([done, full - before, resident() - before]))
"""


def run(word: str, **environment: str) -> tuple[bool | None, int, int]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, word], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return tuple(json.loads(done.stdout))


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_a_freed_tensor_stays_with_the_process():
    _, used, left = run("leave")
    assert used > 90e6 > 10e6 > left
    done, used, left = run("keep")
    if not done:
        pytest.skip("this C library has no mallopt")
    assert used > 90e6 and left > 90e6


def test_the_settings_of_a_person_stay():
    done, _, left = run("keep", MALLOC_TRIM_THRESHOLD_="131072")
    assert done is False and left < 10e6
