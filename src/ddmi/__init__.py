"""DDMI: generative models of continuous signals. A sample is a function: `field(coordinates) -> signal`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["DDMIPipeline", "Field", "Observations", "SamplingConfig", "UserError", "WorkError", "train"]

if TYPE_CHECKING:
    from ddmi.base.errors import UserError, WorkError
    from ddmi.field import Field
    from ddmi.model.observed import Observations
    from ddmi.model.sampling import SamplingConfig
    from ddmi.pipeline import DDMIPipeline
    from ddmi.training.run import train

_HOMES = {
    "DDMIPipeline": "ddmi.pipeline",
    "Field": "ddmi.field",
    "Observations": "ddmi.model.observed",
    "SamplingConfig": "ddmi.model.sampling",
    "UserError": "ddmi.base.errors",
    "WorkError": "ddmi.base.errors",
    "train": "ddmi.training.run",
}


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that `import ddmi` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
