"""`python -m ddmi`: the same program as `ddmi`, for torchrun."""

from __future__ import annotations

import sys

from ddmi.cli import main

if __name__ == "__main__":
    sys.exit(main())
