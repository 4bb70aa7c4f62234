"""What reaches a terminal is text alone: nothing in a file name or a caption makes it act."""

from __future__ import annotations

import logging

import pytest

from ddmi.base.terminal import complain, plain, say, talking, verdict

HOSTILE = "a\x1b[2J\x9b31m\x07\u202egpj.exe\r\x7f\ud800"
SHOWN = r"a\x1b[2J\x9b31m\x07\u202egpj.exe\r\x7f\ud800"


def test_what_a_terminal_acts_on_becomes_visible():
    assert plain(HOSTILE) == SHOWN


@pytest.mark.parametrize("text", ["café 木 \U0001f9d1\u200d\U0001f680", "two\nlines\tand a column", ""])
def test_text_of_any_script_stays(text):
    assert plain(text) == text


def test_results_errors_and_warnings_are_plain(capsys):
    with talking():
        say(HOSTILE)
        complain(HOSTILE)
        logging.getLogger("ddmi.anything").warning("%s", HOSTILE)
    out, err = capsys.readouterr()
    shown = SHOWN.replace("\\r", " ")  # an error is one line: what breaks lines is a space
    assert out == SHOWN + "\n" and err == f"ddmi: error: {shown}\nddmi: {shown}\n"


def test_memory_that_is_not_there_is_one_line():
    with pytest.raises(MemoryError) as raised:
        bytearray(1 << 62)
    assert verdict(raised.value) == (1, "not enough memory")
