"""Progress: the time left, and what is going on, on a terminal and elsewhere."""

from __future__ import annotations

import pytest
from rich.console import Console

from ddmi.base import progress
from ddmi.base.progress import Bar, working


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still; `clock[0] += 5` moves it."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "_said", now[0])
    return now


@pytest.fixture(params=["terminal", "file"])
def terminal(request, monkeypatch) -> bool:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if request.param == "terminal":
        monkeypatch.setenv("FORCE_COLOR", "1")
    else:
        monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr(progress, "CONSOLE", Console(stderr=True))
    return request.param == "terminal"


def test_the_time_left_after_a_resume_by_hand(clock):
    with Bar("steps", 1000, 900) as bar:
        assert bar.left == "?"
        clock[0] += 60  # loading, and the first step
        bar.advance(901)
        assert bar.left == "?"  # one advance has no speed yet
        clock[0] += 2
        bar.advance(902)
        assert bar.left == "3:16"  # 98 steps of 2 seconds
        for step in range(903, 960):
            clock[0] += 1
            bar.advance(step)
        assert bar.left == "0:41"  # the last 50 took a second each
        clock[0] += 1
        bar.advance(1000)
        assert bar.left == "0:00"


def test_what_goes_on_is_said(terminal, clock, capsys):
    """On a terminal at once; elsewhere when there was nothing for half a minute, so that quick work is silent."""
    with working("carving", "a [bold] \x1b[2J chair"):
        pass
    assert ("carving: a [bold] ?[2J chair" in capsys.readouterr().err) == terminal
    clock[0] += progress.EVERY
    for _ in range(2):
        with working("carving"):
            pass
    told = capsys.readouterr().err
    assert "carving" in told if terminal else told == "carving\n"


def test_what_goes_on_stands_behind_an_open_bar(terminal, clock, capsys):
    with Bar("steps", 10) as bar:
        bar.say("loss 1")
        clock[0] += progress.EVERY
        with working("carving", "chair"):
            bar.progress.refresh()
        bar.advance(1)
    told = capsys.readouterr().err
    assert "carving: chair" in told
    if not terminal:
        assert told == "steps 0/10, left ?  carving: chair\nsteps 1/10, left ?  loss 1\n"


def test_a_bar_in_a_spinner_and_a_spinner_in_another(terminal, capsys):
    with working("measuring"):
        with Bar("samples", 2) as bar:
            bar.advance(2)
        with working("carving"):
            pass
    assert ("measuring" in capsys.readouterr().err) == terminal


def test_only_the_first_process_says_anything(clock, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("RANK", "1")
    with working("carving"):
        pass
    assert capsys.readouterr().err == ""
