"""The program, `ddmi` or `python -m ddmi`: the second is for torchrun."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command line of this process; returns the exit status."""
    for name in ("stdout", "stderr"):  # closed: what is printed is for nobody, and no file takes its number
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    # OpenMP reads it when torch is loaded: by default its threads spin while they wait for one another, which on a busy
    # machine takes the core from the very thread that they wait for.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from ddmi.cli import main as command
    except KeyboardInterrupt:
        sys.stderr.write("ddmi: error: interrupted\n")
        return 130
    return command()


if __name__ == "__main__":
    sys.exit(main())
