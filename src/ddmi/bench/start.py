"""How long a person waits before anything happens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from ddmi.bench.measure import Row


def start(quick: bool) -> Iterator[Row]:
    """The time until `import ddmi` and `ddmi --help` are through, interpreter included."""
    from ddmi.estimate import seconds

    for name, command in (("import ddmi", ["-c", "import ddmi"]), ("ddmi --help", ["-m", "ddmi", "--help"])):
        call = [sys.executable, *command]
        took = seconds(lambda call=call: subprocess.run(call, check=True, capture_output=True), 3)  # type: ignore[misc]
        yield {"stage": name, "seconds": took}
