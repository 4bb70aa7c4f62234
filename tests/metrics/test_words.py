"""The nouns of captions against what a person would say."""

from __future__ import annotations

import pytest

from ddmi.metrics.words import PEOPLE, nouns


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("kiss, woman and man, light and dark skin tones", "kiss woman man"),
        ("person in motorized wheelchair facing right, medium-light skin tone", "person wheelchair"),
        ("smiling face with smiling eyes", "face eye"),
        ("man running, dark skin tone", "man"),
        ("two women holding hands", "woman hand"),
        ("large orange diamond", ""),
        ("small blue button", ""),
        ("crossed swords", "sword"),
        ("index pointing up", ""),
        ("white square with the red sign", ""),
        ("A man's shoe", "shoe"),
        ("woman\N{RIGHT SINGLE QUOTATION MARK}s hat", "hat"),
        ("eight o\N{RIGHT SINGLE QUOTATION MARK}clock", ""),
        ("1st place medal", "medal"),
        ("keycap 10", "keycap"),
        ("a cat on a 4wheeler", "cat"),
        ("t-rex", "rex"),
        ("ox", "ox"),
        ("ok", ""),
        ("Pi\N{LATIN SMALL LETTER N WITH TILDE}ata", "pi\N{LATIN SMALL LETTER N WITH TILDE}ata"),
        ("", ""),
    ],
)
def test_what_a_caption_shows(caption, expected):
    assert nouns(caption) == frozenset(expected.split())


@pytest.mark.parametrize(
    ("several", "one"),
    [
        ("cats", "cat"),
        ("boxes", "box"),
        ("dishes", "dish"),
        ("watches", "watch"),
        ("dresses", "dress"),
        ("houses", "house"),
        ("cherries", "cherry"),
        ("cookies", "cookie"),
        ("leaves", "leaf"),
        ("men", "man"),
        ("people", "person"),
        ("children", "child"),
        ("feet", "foot"),
        ("buses", "bus"),
        ("wings", "wing"),
    ],
)
def test_several_are_one(several, one):
    assert nouns(several) == nouns(one) == {one}


@pytest.mark.parametrize("word", ["glasses", "bus", "cactus", "scissors", "dress", "iris", "compass", "shorts", "gas"])
def test_not_every_s_is_a_plural(word):
    assert nouns(word) == {word}


def test_glasses_are_worn_and_a_glass_is_filled():
    assert not nouns("glasses") & nouns("a glass of milk")


def test_endings_of_participles_are_no_nouns_but_for_things():
    assert nouns("raised, walking, locked, dancing, wrapped, speaking, tired") == frozenset()
    things = "building ring king string dumpling bed sled seed"
    assert nouns(things) == frozenset(things.split())


def test_of_a_flag_its_name_says_nothing():
    assert nouns("flag of isle of man") == nouns("flag of france") == nouns("crossed flags") == {"flag"}
    assert nouns("flag in hole") == {"flag", "hole"}


def test_people_are_told_by_the_names_that_nouns_have():
    assert {
        noun for word in ("Men", "woman", "PEOPLE", "boys", "girls", "children", "adults") for noun in nouns(word)
    } == PEOPLE
    assert not nouns("firefighter, elf and baby") & PEOPLE
