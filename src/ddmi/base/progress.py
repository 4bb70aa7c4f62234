"""Progress of long work: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

EVERY = 30.0
"""Seconds between two lines where there is no terminal."""
RECENT = 50
"""Advances that the time left is measured by."""

CONSOLE = Console(stderr=True)
_open: list[Bar] = []
"""The bars that stand on the terminal."""
_said = time.monotonic()
"""When there was a line where there is no terminal."""


class Bar:
    """A named task of `total` steps, `done` of which were done before."""

    def __init__(self, name: str, total: int, done: int = 0, visible: bool = True) -> None:
        self.name, self.total, self.first, self.done = name, total, done, done
        self.visible, self.text = visible, ""
        self.live = CONSOLE.is_terminal
        self.advances: deque[tuple[float, int]] = deque(maxlen=RECENT)
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left {task.fields[left]}  {task.fields[text]}"),
        )
        self.progress = Progress(*columns, console=CONSOLE, disable=not (visible and self.live))
        self.task = self.progress.add_task(name, total=total, completed=done, left="?", text="")

    def __enter__(self) -> Bar:
        self.progress.start()
        _open.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()
        _open.remove(self)
        if self.visible and not self.live and kind is None and self.done > self.first:
            _line(self._told())

    @property
    def left(self) -> str:
        """Time left at the speed of the last advances: neither loading nor what another process did counts."""
        if self.done >= self.total:
            return duration(0)
        if len(self.advances) < 2:
            return "?"
        (began, first), (now, last) = self.advances[0], self.advances[-1]
        return duration((now - began) / max(1, last - first) * (self.total - last))

    def say(self, text: str) -> None:
        """Text behind the bar."""
        self.text = text

    def advance(self, done: int) -> None:
        """So many steps are done."""
        self.done = done
        self.advances.append((time.monotonic(), done))
        self.show()

    def show(self, doing: str = "") -> None:
        """The bar as it stands, with its text or what goes on between two advances."""
        if self.visible and self.live:
            text = escape(doing or self.text)
            self.progress.update(self.task, completed=self.done, left=self.left, text=text)
        elif self.visible and time.monotonic() - _said >= EVERY:
            _line(self._told(doing))

    def _told(self, doing: str = "") -> str:
        return f"{self.name} {self.done}/{self.total}, left {self.left}  {doing or self.text}"


@contextmanager
def working(what: str, detail: str = "") -> Iterator[None]:
    """Say what this block does: behind the open bar; on a terminal without one, beside a spinner.

    Elsewhere there is a line every `EVERY` seconds. Only the first of several processes says anything.
    """
    text = "".join(c if c.isprintable() else "?" for c in (f"{what}: {detail}" if detail else what))  # names of files
    if multiprocessing.parent_process() is not None or os.environ.get("RANK", "0") != "0":
        yield
    elif _open:
        _open[-1].show(text)
        yield
        _open[-1].show()
    elif CONSOLE.is_terminal:
        with CONSOLE.status(escape(text)):
            yield
    else:
        if time.monotonic() - _said >= EVERY:
            _line(text)
        yield


def _line(text: str) -> None:
    global _said
    _said = time.monotonic()
    CONSOLE.print(text, highlight=False, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
