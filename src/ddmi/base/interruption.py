"""Stopping: by Ctrl-C, by a termination signal, or because the time is up; at any moment, and without loss."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

STATUS = 130
"""Exit status of a program that Ctrl-C or a termination signal ended: that of a shell, 128 + SIGINT."""
AGAIN = 0.1
"""Seconds until an import is over that must not be broken off, or until it is looked at again."""
ALARM = None if sys.platform == "win32" else signal.SIGALRM


class Interrupted(KeyboardInterrupt):
    """The work stops here, where nothing is half done."""


class Interruption:
    """Set by SIGINT or SIGTERM, or when the time is up.

    While it listens, it raises `Interrupted` at once; inside `patience` it waits to be asked (`due`), so that a
    training step ends and a checkpoint is written. A second signal acts as usual.

    Args:
        deadline: in seconds of `time.monotonic`; None: there is none.
    """

    def __init__(self, deadline: float | None) -> None:
        self.deadline = deadline
        self.asked = False
        self._listens = self._patient = False

    @property
    def due(self) -> bool:
        """Whether to stop after this step."""
        return self.asked or self._late

    @property
    def _late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    @contextmanager
    def listening(self) -> Iterator[Interruption]:
        """Signals and the deadline interrupt this block.

        Off the main thread there are no signals, and only `check` and `due` see the deadline; so on Windows, which has
        no alarms.
        """
        before: dict[int, Any] = {}

        def note(number: int, frame: FrameType | None) -> None:
            if number != ALARM:
                if self.asked:
                    _usual(before[number], number, frame)
                    return
                self.asked = True
            if self._patient or not self._listens:
                return
            if importing(frame):
                if self.asked and _last_words:
                    _end()
                _alarm(AGAIN)
                return
            raise Interrupted

        try:
            for kind in (signal.SIGINT, signal.SIGTERM, *([ALARM] if ALARM else [])):
                before[kind] = signal.signal(kind, note)
        except ValueError:  # not the main thread: signals go elsewhere
            before = {}
        try:
            self._listens = True
            if before and self.deadline is not None:
                _alarm(max(1e-3, self.deadline - time.monotonic()))
            yield self
        finally:
            self._listens = False
            if before:
                _alarm(0)
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def patience(self, patient: bool = True) -> Iterator[None]:
        """Whether interruptions wait to be asked for in this block."""
        before, self._patient = self._patient, patient
        try:
            if not patient:
                self.check()
            yield
        finally:
            self._patient = before

    def check(self) -> None:
        """Raises Interrupted when it listens and is due."""
        if self._listens and (self.asked or self._late):
            raise Interrupted

    def until(self, items: Iterable[T], patient: bool = False) -> Iterator[T]:
        """The items, until an interruption comes while one is waited for."""
        iterator = iter(items)
        while True:
            try:
                with self.patience(patient):
                    item = next(iterator)
            except (StopIteration, Interrupted):
                return
            yield item


def importing(frame: FrameType | None) -> bool:
    """Whether this is in the middle of an import: some packages swallow what is raised there, or break."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


_last_words: list[Callable[[], None]] = []
"""What the program says when it ends in an import; empty where this is no program."""


def _end() -> None:
    _last_words[-1]()
    os._exit(STATUS)


@contextmanager
def breaking(say: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C ends this block with KeyboardInterrupt. In the middle of an import it ends the program, after `say()`.

    Imports take seconds, and nothing is half done in one: what is written stands aside until it is whole.
    """

    def note(number: int, frame: FrameType | None) -> None:
        if importing(frame):
            _end()
        raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, note)
        _last_words.append(say)
    try:
        yield
    finally:
        if ours:
            _last_words.remove(say)
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _usual(handler: Any, number: int, frame: FrameType | None) -> None:
    """What a signal does without us."""
    if callable(handler):
        handler(number, frame)
    else:
        signal.signal(number, handler)
        os.kill(os.getpid(), number)


def _alarm(seconds: float) -> None:
    """Let the alarm ring after so long; 0: not at all."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_REAL, seconds)
