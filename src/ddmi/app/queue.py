"""One line in which all rendering waits: the most urgent first, and what nobody waits for any more costs nothing."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from ddmi.base.errors import UserError, WorkError

NOW, SOON, LATER = 0, 1, 2
"""How urgent: what a person looks at, what a person waits for, what may take its time."""


class Abandoned(Exception):
    """Whoever wanted the result has gone."""


class Busy(WorkError):
    """More waits than the queue takes."""


@dataclass(order=True)
class Job:
    """A piece of work: its result or error comes as that of a future. Several threads may look at it."""

    urgency: int
    number: int
    work: Callable[[], Any] = field(compare=False)
    future: Future[Any] = field(compare=False, default_factory=Future)
    deadline: float = field(compare=False, default=0.0)
    abandoned: bool = field(compare=False, default=False)
    evaluations: int = field(compare=False, default=0)
    """How often a network was evaluated for it so far."""

    def give_up(self) -> None:
        """Nobody waits for it: it is not begun, or ends at the next evaluation of a network."""
        self.abandoned = True
        self.future.cancel()


class RenderQueue:
    """One thread that does one job after another.

    A job that evaluates networks calls `check` as often as it does. More urgent jobs are then done in between, and one
    that was given up, or takes too long, ends there.

    Args:
        most: jobs that may wait. seconds: that one may take, with what is done in between.
    """

    def __init__(self, most: int = 256, seconds: float = 300.0) -> None:
        self.most, self.seconds = most, seconds
        self._waiting: list[Job] = []
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._running: list[Job] = []
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="render", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], Any], urgency: int = NOW) -> Job:
        """Put a job into the line. Raises Busy when too many wait."""
        job = Job(urgency, next(self._numbers), work)
        with self._changed:
            self._waiting = [other for other in self._waiting if not other.abandoned]
            heapq.heapify(self._waiting)
            if len(self._waiting) >= self.most:
                raise Busy("too much is being rendered: try again in a moment")
            heapq.heappush(self._waiting, job)
            self._changed.notify()
        return job

    def check(self) -> None:
        """Called by the job that runs, in its thread. Raises what ends it."""
        if threading.current_thread() is not self._thread:
            return
        job = self._running[-1]
        job.evaluations += 1
        while (other := self._next(job.urgency)) is not None:
            self._do(other)
        if job.abandoned or self._closed:
            raise Abandoned
        if time.monotonic() > job.deadline:
            raise UserError(f"this takes more than {self.seconds:g} seconds here: choose fewer steps or a smaller size")

    def close(self) -> None:
        """End the thread; what waits is given up."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=10)

    def _next(self, before: int) -> Job | None:
        """The first job that is more urgent than `before`, taken out of the line."""
        with self._changed:
            if self._waiting and self._waiting[0].urgency < before:
                return heapq.heappop(self._waiting)
        return None

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    for job in self._waiting:
                        job.give_up()
                    return
                job = heapq.heappop(self._waiting)
            self._do(job)

    def _do(self, job: Job) -> None:
        if not job.future.set_running_or_notify_cancel():
            return
        job.deadline = time.monotonic() + self.seconds
        self._running.append(job)
        try:
            job.future.set_result(job.work())
        except BaseException as error:  # of one job: the next one is done all the same
            job.future.set_exception(error)
        finally:
            self._running.pop()
