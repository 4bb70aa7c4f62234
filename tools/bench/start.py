"""How long a person waits before anything happens."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator

from tools.bench.measure import Row


def start(quick: bool) -> Iterator[Row]:
    """The time until `import ddmi` and `ddmi --help` are through, interpreter included."""
    from ddmi.training.estimate import seconds

    for name, command in (("import ddmi", ["-c", "import ddmi"]), ("ddmi --help", ["-m", "ddmi", "--help"])):
        call = [sys.executable, *command]
        took = seconds(lambda call=call: subprocess.run(call, check=True, capture_output=True), 3)  # type: ignore[misc]
        yield {"stage": name, "seconds": took}


SHOWN = {
    "emoji-64": ("--text", "red apple", "--size", "512"),
    "furniture": ("--text", "a chair with arm rests"),
    "clips": (),
    "furniture-views": ("--text", "a red chair with arm rests"),
}
"""Name of a model that ships -> what is asked for."""


def first(quick: bool) -> Iterator[Row]:
    """The time until `ddmi sample` has written the first sample of a model that ships, interpreter included."""
    from ddmi.training.estimate import seconds

    for name, asked in SHOWN.items():
        with tempfile.TemporaryDirectory() as folder:
            call = [sys.executable, "-m", "ddmi", "sample", name, *asked, "--out", folder]
            took = seconds(lambda call=call: subprocess.run(call, check=True, capture_output=True), 1 if quick else 3)  # type: ignore[misc]
        yield {"stage": " ".join(["ddmi sample", name, *asked]), "seconds": took}
