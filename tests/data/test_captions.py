"""One caption of several: the same for a name wherever it stands, and each of them about as often."""

from __future__ import annotations

from ddmi.data.captions import one_of_each


def test_the_name_alone_chooses():
    names, phrasings = ["a", "b", "c"], [["one", "two", "three"], [], ["four"]]
    told = one_of_each(names, phrasings)
    assert told[0] in phrasings[0] and told[1:] == ["", "four"]
    assert one_of_each(names[::-1], phrasings[::-1]) == told[::-1]


def test_no_phrasing_is_preferred():
    told = one_of_each([str(k) for k in range(3000)], [["one", "two", "three"]] * 3000)
    deviation = (3000 * 1 / 3 * 2 / 3) ** 0.5
    assert all(abs(told.count(text) - 1000) < 3 * deviation for text in ("one", "two", "three"))
