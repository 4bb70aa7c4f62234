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
from rich.status import Status

EVERY = 30.0
"""Seconds between two lines where there is no terminal."""
RECENT = 50
"""Advances that the time left is measured by."""


class Bar:
    """A named task of `total` steps, `done` of which were done before."""

    def __init__(self, name: str, total: int, done: int = 0, visible: bool = True) -> None:
        self.name, self.total, self.first, self.done = name, total, done, done
        self.visible, self.text = visible, ""
        self.console = Console(stderr=True)
        self.live = self.console.is_terminal
        self.printed = time.monotonic()
        self.advances: deque[tuple[float, int]] = deque(maxlen=RECENT)
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left {task.fields[left]}  {task.fields[text]}"),
        )
        self.progress = Progress(*columns, console=self.console, disable=not (visible and self.live))
        self.task = self.progress.add_task(name, total=total, completed=done, left="?", text="")

    def __enter__(self) -> Bar:
        _pause()
        self.progress.start()
        _shown.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()
        _shown.remove(self)
        _go_on()
        if self.visible and not self.live and kind is None and self.done > self.first:
            self._line()

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
        if not self.visible:
            return
        if self.live:
            self.progress.update(self.task, completed=done, left=self.left, text=self.text)
        elif time.monotonic() - self.printed >= EVERY:
            self._line()

    def _line(self, text: str = "") -> None:
        self.printed = time.monotonic()
        line = f"{self.name} {self.done}/{self.total}, left {self.left}  {text or self.text}"
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def doing(self, text: str) -> None:
        """What goes on between two advances; "" for nothing."""
        if self.visible and self.live:
            self.progress.update(self.task, text=escape(text or self.text))
        elif self.visible and text and time.monotonic() - self.printed >= EVERY:
            self._line(text)


_shown: list[Bar | Status] = []
"""What stands on the terminal, the newest last; the others wait."""
_said = time.monotonic()
"""When there was a line of `working` without a bar."""


@contextmanager
def working(what: str, detail: str = "") -> Iterator[None]:
    """Say what this block does: behind the open bar; on a terminal without one, beside a spinner.

    Elsewhere there is a line every `EVERY` seconds. Only the first of several processes says anything.
    """
    text = "".join(c if c.isprintable() else "?" for c in (f"{what}: {detail}" if detail else what))  # names of files
    newest = _shown[-1] if _shown else None
    if multiprocessing.parent_process() is not None or os.environ.get("RANK", "0") != "0":
        yield
    elif isinstance(newest, Bar):
        newest.doing(text)
        yield
        newest.doing("")
    else:
        yield from _alone(text)


def _alone(text: str) -> Iterator[None]:
    global _said
    console = Console(stderr=True)
    if not console.is_terminal:
        if time.monotonic() - _said >= EVERY:
            _said = time.monotonic()
            console.print(text, highlight=False, markup=False, soft_wrap=True)
        yield
        return
    _pause()
    status = Status(escape(text), console=console)
    status.start()
    _shown.append(status)
    try:
        yield
    finally:
        status.stop()
        _shown.remove(status)
        _go_on()


def _pause() -> None:
    """Two things that move do not fit on one terminal."""
    if _shown and isinstance(_shown[-1], Status):
        _shown[-1].stop()


def _go_on() -> None:
    if _shown and isinstance(_shown[-1], Status):
        _shown[-1].start()


def duration(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
