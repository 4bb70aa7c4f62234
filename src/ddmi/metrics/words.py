"""The nouns of a caption, by lists and endings: what its image shows, but not how many, how, or where.

The lists are made from all words in the captions of the emoji, with everyday words of other captions beside them. They
are strict, and when in doubt a word is no noun: so with one that is also an attribute ("orange"), that names nothing
to be shown ("speech", "health"), or that is part of the names of unlike things ("ice", "post").
"""

from __future__ import annotations

import re

PEOPLE = frozenset({"man", "woman", "person", "boy", "girl", "child", "adult"})
"""Nouns that say that there is somebody, and not who."""

_FUNCTION = """
a an the and or nor but if so as than that this these those with without of in on at by for from to into onto over under
behind above below beside between near inside outside through across around against along off out up down away toward
towards upon about among before after during no not non some any all both each every other another same such i me my
you your he him his she her it its we us our they them their who whom whose which what where when why how is are was
were be being been am has have had do does did done can could will would may must there here very too only also just
together slightly loudly horizontally vertically clockwise counterclockwise soon again still per vs etc hello please
"""
_COLOURS = """
black white red green blue yellow orange purple violet pink brown grey gray golden silver beige tan turquoise cyan
magenta colour color light medium dark bright dim pale skin tone
"""
_SIZES = """
big large small little tiny huge giant great long short tall high low wide narrow broad thick thin deep shallow heavy
full empty mini size
"""
_SHAPES = """
round square circle circular oval triangle triangular rectangle rectangular diamond crescent gibbous spiral flat
straight curly wavy hollow pointed curved cross line dot dash curl loop shape pattern
"""
_QUANTITIES = """
one two three four five six seven eight nine ten eleven twelve eighteen thirty hundred thousand first second third
single double triple half quarter couple pair group set lot bunch pile piece part roll several many few much more most
less least amount number level
"""
_PLACES = """
left right leftward rightward upward downward forward backward upside top bottom middle centre center side front back
next last end edge corner horizontal vertical diagonal reverse place position direction way indoors outdoors close
"""
_KINDS = """
button symbol sign mark emblem type mode index point name image photo photograph picture drawing view scene background
"""
_STATES = """
bald blond hairy steamy leafy leafless sleepy dizzy weary woozy wry zany angry anxious sad happy cold hot cool cut raw
fearful neutral pensive expressionless deaf pregnant evil male female old older new young fresh open broken fallen
frozen struck oncoming fast slow soft sweet wet dry clean dirty beautiful pretty cute nice ok free single secret
acceptable aerial anatomical classical decorative deciduous electric evergreen manual martial mechanical medical
military monthly musical national optical polar potable public radioactive tropical wireless different modern wooden
plastic transgender magic auto milky foggy derelict downcast postal mobile french japanese american african european
latin hindu shinto orthodox mr mrs mx
"""
_DOINGS = """
repeat pause play stop check call see hear speak massage kick shuffle record divide multiply equals plus minus rescue
claim eject entry charge input admission arrival departure application balance bargain beginner business ceremony
congratulation construction control convenience credit currency customs decoration delivery department discount
exchange fight fortune game gesture grade health identification love joy fear anger aid adhesive lowercase uppercase
safety service speech thought speed sport test trade utility vacancy vibration victory voltage worship alternation
liquid volume art liberty peace suspension graduation funeral prayer takeout carpentry birthday goal information sos
zzz
"""
_SEVERAL = """
bar blood cricket desktop fountain ice lady lotus motor office palm petri post suit track video
"""  # words of several senses, and parts of the names of unlike things
_THINGS = """
building ring wing king string earring ceiling clothing painting railing sling swing icing dumpling duckling seedling
pudding herring lightning wedding awning starling viking stocking
bed sled bobsled shed seed weed seaweed reed steed moped
"""  # that end like participles; all other words on -ing and -ed are what somebody does or has had done
_WHOLE = """
glasses sunglasses eyeglasses goggles binoculars scissors trousers pants jeans shorts briefs clothes pyjamas pajamas gas
lens christmas canvas atlas biceps rhinoceros fries news species series aries pisces
"""  # whose s is no plural, or whose plural is another thing: glasses are worn
_PLURALS = """
men:man women:woman people:person children:child feet:foot teeth:tooth mice:mouse geese:goose oxen:ox buses:bus
lenses:lens leaves:leaf wolves:wolf knives:knife loaves:loaf wives:wife shelves:shelf scarves:scarf elves:elf
calves:calf hooves:hoof thieves:thief halves:half movies:movie cookies:cookie pies:pie ties:tie zombies:zombie
genies:genie selfies:selfie brownies:brownie hoodies:hoodie potatoes:potato tomatoes:tomato heroes:hero
superheroes:superhero mangoes:mango volcanoes:volcano mosquitoes:mosquito buffaloes:buffalo cacti:cactus skis:ski
taxis:taxi bikinis:bikini kiwis:kiwi axes:axe moustaches:moustache mustaches:mustache
"""

_NO_NOUNS = frozenset(
    f"{_FUNCTION} {_COLOURS} {_SIZES} {_SHAPES} {_QUANTITIES} {_PLACES} {_KINDS} {_STATES} {_DOINGS} {_SEVERAL}".split()
)
_LIKE_PARTICIPLES, _UNCOUNTED = frozenset(_THINGS.split()), frozenset(_WHOLE.split())
_IRREGULAR = dict(pair.split(":") for pair in _PLURALS.split())
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")


def nouns(caption: str) -> frozenset[str]:
    """The nouns of a caption in lower case, several as one: "Two women holding hands" -> {"woman", "hand"}.

    No nouns are function words, attributes (colours and tones, sizes, shapes, quantities, places, states), owners
    ("man's"), words of fewer than three letters but "ox", words with digits, and words on -ing and -ed that are no
    things ("smiling", not "ring"). Nor are "button", "symbol", "sign" and "mark": they stand in the names of images
    that have nothing in common, and tell nothing of what is on them. "face", "hand", "flag" and "letter" tell what is
    to be seen, and count. What follows "flag of" is a name, and of a flag only "flag" counts: the Isle of Man is no
    man.
    """
    words = re.sub(r"\bflags? of\b.*", "flag", caption.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    found = (_noun(word) for word in _WORD.findall(re.sub(r"\w*\d\w*", " ", words)))
    return frozenset(word for word in found if word)


def _noun(word: str) -> str:
    """The word as one of its kind, "" where it is no noun."""
    one = _singular(word)
    if "'" in word or word in _NO_NOUNS or one in _NO_NOUNS or (len(one) < 3 and one != "ox"):
        return ""
    return one if one in _LIKE_PARTICIPLES or not one.endswith(("ing", "ed")) else ""


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _UNCOUNTED or len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("xes", "ches", "shes", "sses")) else word[:-1]
