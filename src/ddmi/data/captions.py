"""One caption for each item that has several."""

from __future__ import annotations

from collections.abc import Sequence

from ddmi.randomness import derive


def one_of_each(names: Sequence[str], phrasings: Sequence[Sequence[str]]) -> list[str]:
    """The caption of each item, chosen by its name and not always the first: they differ in what they tell.

    Args:
        names: of the items. phrasings: the captions of each; "" is told of one without any.
    """
    told = zip(names, phrasings, strict=True)
    return [texts[derive("caption", name) % len(texts)] if texts else "" for name, texts in told]
