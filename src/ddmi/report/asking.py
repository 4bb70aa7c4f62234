"""What a report asks a model for, beside what its evaluated samples were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddmi.evaluation import Evaluated

FEW = 3


def wanted(evaluated: Evaluated, prompts: Sequence[str] = ()) -> dict[str, list[Any]]:
    """What the pipeline is asked for: {"text": prompts} or {"label": classes}; empty for a model without condition.

    Args:
        prompts: those of data that is known beforehand; without any, the first captions of the data.
    """
    condition, classes = evaluated.pipe.config.diffusion.condition, evaluated.train.classes
    if condition == "class" and classes:
        return {"label": list(range(min(FEW, len(classes))))}
    if condition != "text":
        return {}
    captions = prompts or evaluated.held_out.captions or evaluated.train.captions or []
    found = list(dict.fromkeys(caption for caption in captions if caption))[:FEW]
    return {"text": found} if found else {}
