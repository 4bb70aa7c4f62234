"""Stopping at any moment: at once where nothing is half done, after the step in training, never inside an import."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from ddmi.base.interruption import Interrupted, Interruption, breaking


@pytest.fixture(autouse=True)
def _as_usual() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may ignore it
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(100):  # the handler runs between two of these
        pass


def test_a_signal_raises_at_once():
    interruption = Interruption(None)
    with pytest.raises(Interrupted), interruption.listening():
        press()
        pytest.fail("it went on")
    assert interruption.due


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_patient_block_ends_first(number):
    done = []
    interruption = Interruption(None)
    with pytest.raises(Interrupted), interruption.listening():
        with interruption.patience():
            os.kill(os.getpid(), number)
            while not interruption.due:
                pass
            done.append("the step")
        interruption.check()
        done.append("what follows")
    assert done == ["the step"]


def test_a_second_signal_acts_as_usual():
    with Interruption(None).listening() as interruption, interruption.patience():
        press()
        assert interruption.due
        with pytest.raises(KeyboardInterrupt) as error:
            press()
        assert error.type is KeyboardInterrupt


def test_the_deadline_breaks_off_what_never_ends():
    interruption = Interruption(time.monotonic() + 0.05)
    with pytest.raises(Interrupted), interruption.listening():
        while True:
            pass
    assert interruption.due and not interruption.asked


def test_a_deadline_that_passed_in_a_patient_block_is_seen_before_the_next():
    interruption = Interruption(time.monotonic() + 0.05)
    with pytest.raises(Interrupted), interruption.listening():
        with interruption.patience():
            while not interruption.due:
                pass
            time.sleep(0.1)  # the alarm has rung, and nothing was raised
        with interruption.patience(False):
            pytest.fail("it went on")


def test_a_deadline_that_is_far_leaves_nothing_behind():
    with Interruption(time.monotonic() + 1000).listening():
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_items_end_where_one_is_waited_for():
    def items() -> Iterator[int]:
        yield 1
        yield 2
        press()
        yield 3

    interruption = Interruption(None)
    with interruption.listening(), interruption.patience():
        assert list(interruption.until(items())) == [1, 2]


def test_an_import_is_not_broken_off(tmp_path, monkeypatch):
    """What is raised there may be swallowed: it waits, and is raised behind."""
    (tmp_path / "swallows_it.py").write_text(
        "import os, signal\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    for _ in range(1000): pass\n"
        "except BaseException:\n"
        "    broken = True\n"
        "else:\n"
        "    broken = False\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    interruption = Interruption(None)
    with pytest.raises(Interrupted), interruption.listening():
        import swallows_it  # type: ignore[import-not-found]

        assert not swallows_it.broken
        while True:
            pass


def test_ctrl_c_is_keyboard_interrupt():
    with pytest.raises(KeyboardInterrupt), breaking(lambda: pytest.fail("no import is going on")):
        press()


SCRIPT = """
import os, signal, sys
{before}
def found(*arguments):
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000): pass
    return None
class Finder:
    find_spec = staticmethod(lambda name, *rest: found() if name == {module!r} else None)
sys.meta_path.insert(0, Finder())
sys.argv = ["ddmi", *{arguments!r}]
from ddmi.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("module", "arguments", "line"),
    [
        ("ddmi.cli", ["presets"], "interrupted"),  # the program itself
        ("torch", ["show", "emoji-32"], "interrupted; the same command starts again"),
        ("torch._C", ["train", "emoji-32", "--out", "run"], "interrupted; the same command with --resume goes on"),
        ("resvg_py", ["train", "emoji-32", "--out", "run"], "interrupted; the same command with --resume goes on"),
    ],
)
def test_ctrl_c_while_packages_are_loaded_is_one_line(module, arguments, line, tmp_path):
    before = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    script = SCRIPT.format(module=module, arguments=arguments, before=before)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"ddmi: error: {line}\n")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
