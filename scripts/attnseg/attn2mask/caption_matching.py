"""Which classes a caption names, and where (attn2mask, Dataset generation).

Whole words only, in the singular and the plural. The longest phrase wins where several begin at a
word: a "hot dog" is no dog, a "train station" no train, and a "train car" is a train.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

IRREGULAR_PLURALS = {
    "aircraft": ("aircraft",),
    "bus": ("buses", "busses"),
    "calf": ("calves",),
    "cattle": (),
    "child": ("children",),
    "goose": ("geese",),
    "man": ("men",),
    "ox": ("oxen",),
    "person": ("people", "persons"),
    "person with clothes": ("people with clothes",),
    "sheep": (),
    "t.v.": (),
    "tv": ("tvs",),
    "woman": ("women",),
}


@dataclass(frozen=True)
class Mention:
    """A class named at characters [start, end) of a caption."""

    name: str
    start: int
    end: int


def plurals(noun: str) -> tuple[str, ...]:
    """The plural forms of a noun, by its last word: "dining table" -> ("dining tables",)."""
    head, _, last = noun.rpartition(" ")
    known = IRREGULAR_PLURALS.get(noun, IRREGULAR_PLURALS.get(last))
    if known is None:
        if re.search(r"[^aeiou]y$", last):
            known = (last[:-1] + "ies",)
        elif last.endswith("man") and len(last) > 3:
            known = (last[:-3] + "men",)
        elif last.endswith(("s", "sh", "ch", "x")):
            known = (last + "es",)
        else:
            known = (last + "s",)
    elif noun in IRREGULAR_PLURALS:
        return known
    return tuple(f"{head} {form}".strip() for form in known)


@functools.cache
def _phrases(
    names: tuple[tuple[str, tuple[str, ...]], ...], distractors: tuple[str, ...]
) -> tuple[re.Pattern, dict[str, str | None]]:
    """A pattern of all phrases, longest first, and phrase -> class (None for a distractor)."""
    owner: dict[str, str | None] = {}
    for name, nouns in (*names, (None, distractors)):
        for noun in nouns:
            for form in (noun, *plurals(noun)):
                owner[form] = name
    longest_first = sorted(owner, key=lambda phrase: (-len(phrase.split()), -len(phrase)))
    choices = "|".join(r"[\s-]+".join(map(re.escape, p.split())) for p in longest_first)
    return re.compile(rf"(?<!\w)(?:{choices})(?!\w)", re.IGNORECASE), owner


def mentions(
    caption: str,
    names: Mapping[str, Sequence[str]],
    distractors: Sequence[str] = (),
) -> list[Mention]:
    """Every mention of a class in the order of the caption, none inside another.

    `names`: class -> how it may be called, in the singular; `distractors`: phrases that hold such a
    word and name no class. Words of a phrase may be parted by a
    hyphen.
    """
    pattern, owner = _phrases(
        tuple((name, tuple(nouns)) for name, nouns in names.items()), tuple(distractors)
    )
    found = []
    for match in pattern.finditer(caption):
        name = owner[re.sub(r"[\s-]+", " ", match.group().lower())]
        if name is not None:
            found.append(Mention(name, match.start(), match.end()))
    return found


def classes_and_spans(found: Sequence[Mention]) -> tuple[list[str], list[list[list[int]]]]:
    """The classes in order of first mention, and per class all its [start, end)."""
    spans: dict[str, list[list[int]]] = {}
    for mention in found:
        spans.setdefault(mention.name, []).append([mention.start, mention.end])
    return list(spans), list(spans.values())
