"""The render queue: the most urgent first, what was given up costs nothing, and no job ends the thread."""

from __future__ import annotations

import threading

import pytest

from ddmi.app.queue import LATER, NOW, SOON, Abandoned, Busy, RenderQueue
from ddmi.base.errors import UserError


@pytest.fixture
def queue():
    made = RenderQueue(most=8, seconds=60)
    yield made
    made.close()


@pytest.fixture
def held(queue):
    """A job that runs until it is let go; others then wait."""
    free, began = threading.Event(), threading.Event()

    def work():
        began.set()
        free.wait(30)

    queue.submit(work)
    began.wait(30)
    yield free
    free.set()


def test_the_most_urgent_is_done_first(queue, held):
    done = []
    jobs = [queue.submit(lambda u=u: done.append(u), u) for u in (LATER, SOON, NOW, SOON, NOW)]
    held.set()
    for job in jobs:
        job.future.result(30)
    assert done == sorted(done)


def test_what_was_given_up_is_never_begun(queue, held):
    done = []
    gone, kept = (queue.submit(lambda k=k: done.append(k)) for k in (0, 1))
    gone.give_up()
    held.set()
    kept.future.result(30)
    assert done == [1]


def test_a_running_job_ends_at_its_next_evaluation(queue):
    began, on = threading.Event(), threading.Event()

    def work():
        began.set()
        on.wait(30)
        queue.check()
        raise AssertionError("went on")

    job = queue.submit(work)
    began.wait(30)
    job.give_up()
    on.set()
    with pytest.raises(Abandoned):
        job.future.result(30)


def test_a_long_job_lets_urgent_ones_pass(queue):
    seen = []

    def long():
        tile = queue.submit(lambda: seen.append("tile"), NOW)
        other = queue.submit(lambda: seen.append("other"), SOON)
        queue.check()
        seen.append(tile.future.done() and not other.future.done())
        return other

    queue.submit(long, SOON).future.result(30).future.result(30)
    assert seen == ["tile", True, "other"]


def test_a_job_has_its_time():
    queue = RenderQueue(seconds=0)
    with pytest.raises(UserError, match="fewer steps"):
        queue.submit(lambda: [queue.check() for _ in range(10_000_000)]).future.result(30)
    queue.close()


def test_errors_stay_with_their_job(queue):
    for error in (RuntimeError("broken"), SystemExit(3), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            queue.submit(lambda error=error: (_ for _ in ()).throw(error)).future.result(30)
    assert queue.submit(lambda: 5).future.result(30) == 5


def test_the_queue_takes_a_number_of_jobs(queue, held):
    jobs = [queue.submit(lambda: None) for _ in range(8)]
    with pytest.raises(Busy):
        queue.submit(lambda: None)
    jobs[3].give_up()
    queue.submit(lambda: None)  # in the place of that one
