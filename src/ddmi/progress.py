"""Progress of long work: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

EVERY = 30.0
"""Seconds between two lines where there is no terminal."""


class Bar:
    """A named task of `total` steps, `done` of which were done before."""

    def __init__(self, name: str, total: int, done: int = 0, visible: bool = True) -> None:
        self.name, self.total, self.first, self.done = name, total, done, done
        self.visible, self.text = visible, ""
        self.console = Console(stderr=True)
        self.live = self.console.is_terminal
        self.began = self.printed = time.monotonic()
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
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()
        if self.visible and not self.live and kind is None and self.done > self.first:
            self._line()

    @property
    def left(self) -> str:
        """Time left at the mean speed since this process began."""
        if self.done <= self.first:
            return "?"
        seconds = (time.monotonic() - self.began) / (self.done - self.first) * (self.total - self.done)
        return duration(seconds)

    def say(self, text: str) -> None:
        """Text behind the bar."""
        self.text = text

    def advance(self, done: int) -> None:
        """So many steps are done."""
        self.done = done
        if not self.visible:
            return
        if self.live:
            self.progress.update(self.task, completed=done, left=self.left, text=self.text)
        elif time.monotonic() - self.printed >= EVERY:
            self._line()

    def _line(self) -> None:
        self.printed = time.monotonic()
        self.console.print(
            f"{self.name} {self.done}/{self.total}, left {self.left}  {self.text}", highlight=False, soft_wrap=True
        )


def duration(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
