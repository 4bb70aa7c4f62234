"""Short and long captions of a piece from its traits, and prompts that ask for one trait."""

from __future__ import annotations

import random

from ddmi.base.randomness import derive
from ddmi.data.furniture.pieces import Trait

NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}

Wanted = dict[str, Trait]


def article(words: str) -> str:
    """The words with "a" or "an" in front."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def listed(words: list[str]) -> str:
    """A list in words: "legs, a back and arm rests"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def legs(count: int, shape: str = "") -> str:
    """How many legs in words: "four round legs"."""
    shape = "wide" if count == 2 else shape
    return " ".join(word for word in (NUMBERS[count], shape, "leg" if count == 1 else "legs") if word)


def about_legs(noun: str, count: int) -> list[str]:
    """The ways to say how many legs a thing has, and nothing else."""
    return [f"{article(noun)} with {legs(count)}", f"{article(noun)} on {legs(count)}"]


def about_arm_rests(noun: str, there: bool) -> list[str]:
    """The ways to say whether a chair has arm rests, and nothing else."""
    if there:
        return [f"{article(noun)} with arm rests", f"{article(noun)} with two arm rests"]
    return [f"{article(noun)} with no arm rests", f"{article(noun)} without arm rests"]


def features(traits: dict[str, Trait]) -> list[str]:
    """What follows "with", one for each trait: ["four round legs", "a slatted back", "no arm rests"]."""
    phrases = []
    if "legs" in traits:
        phrases.append(legs(int(traits["legs"]), str(traits.get("leg_shape", ""))))
    if "boards" in traits:
        phrases += [f"{NUMBERS[int(traits['boards'])]} boards", "a back panel" if traits["panel"] else "no back panel"]
    if "seat" in traits:
        phrases.append(f"a {traits['seat']} seat")
    if "back" in traits:
        style = {"none": "no back", "frame": "an open back"}
        phrases.append(style.get(str(traits["back"]), f"a {traits['back']} back"))
    if "arm_rests" in traits:
        phrases.append("arm rests" if traits["arm_rests"] else "no arm rests")
    if "shade" in traits:
        phrases.append(f"a {traits['shade']} shade")
    return phrases


def noun_of(kind: str, traits: dict[str, Trait]) -> str:
    """The kind with the adjectives of its outline: "low round table", "floor lamp", "open shelf"."""
    words = [kind]
    if kind == "table":
        words = [str(traits["top"]), kind]
        words[:0] = ["two-layered"] if traits["layers"] == 2 else []
        words[:0] = [str(traits["height"])] if traits["height"] != "middling" else []
    if kind == "lamp":
        words = [str(traits["place"]), kind]
    return " ".join(words)


def captions(kind: str, traits: dict[str, Trait]) -> list[str]:
    """Several captions, short and long; the same traits give the same ones.

    Single traits are named alone often enough (the number of legs and the arm rests above all) that a model trained on
    captions sampled evenly from the list learns them one by one.
    """
    colour, noun, phrases = str(traits["colour"]), noun_of(kind, traits), features(traits)
    coloured, full = f"{colour} {kind}", listed(phrases)
    found = [article(kind), article(noun), article(coloured)]
    if "legs" in traits:
        count = int(traits["legs"])
        found += [*about_legs(kind, count), *about_legs(noun, count), f"{article(coloured)} with {legs(count)}"]
    if "arm_rests" in traits:
        found += about_arm_rests(kind, bool(traits["arm_rests"]))
        found += [
            f"{article(coloured)} with {phrases[-1]}",
            f"{article(kind)} with {listed([legs(count), phrases[-1]])}",
        ]
    found += [f"{article(kind)} with {feature}" for feature in phrases]
    if kind == "table":
        outline = f"{traits['top']} table"
        found += [article(outline), f"{article(outline)} on {legs(count)}"]
        found += ["a two-layered table"] if traits["layers"] == 2 else []
    found += [f"{article(noun)} with {full}", f"{article(f'{colour} {noun}')} with {full}"]
    if traits["leg_colour"] != colour:
        found += [f"{article(coloured)} with {carrier(kind, traits)}"]
    return list(dict.fromkeys(found))


def carrier(kind: str, traits: dict[str, Trait]) -> str:
    """What carries the piece, with its colour: "black legs", "a white base"."""
    colour = str(traits["leg_colour"])
    if kind == "shelf":
        return f"{colour} sides"
    if kind == "lamp":
        return f"{article(colour)} base"
    return f"{article(colour)} leg" if traits["legs"] == 1 else f"{colour} legs"


def prompts(count: int, seed: int = 0) -> list[tuple[str, Wanted]]:
    """Prompts that each ask for one trait, in the words of the captions, with what they ask for.

    Every second one is about legs (chairs, stools and tables on one, three or four: {"kind": "table", "legs": 3}), the
    others about the arm rests of chairs ({"kind": "chair", "arm_rests": False}). Prompt k depends on the seed and on k.
    """
    of_legs = [(kind, number) for number in (4, 3, 1) for kind in ("chair", "stool", "table")]
    found: list[tuple[str, Wanted]] = []
    for index in range(count):
        dice = random.Random(derive("furniture prompts", seed, index))
        if index % 2 == 0:
            kind, number = of_legs[index // 2 % len(of_legs)]
            found.append((dice.choice(about_legs(kind, number)), {"kind": kind, "legs": number}))
        else:
            there = index // 2 % 2 == 0
            found.append((dice.choice(about_arm_rests("chair", there)), {"kind": "chair", "arm_rests": there}))
    return found
