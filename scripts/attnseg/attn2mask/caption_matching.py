"""Find mentions of classes in captions (attn2mask, Dataset generation).

Whole words match, in singular and plural. Of phrases that start at the same word the longest wins: a
"hot dog" is not a dog, a "train station" not a train, but a "train car" is a train.
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
    """Plural forms of a noun, whose last word is inflected: "dining table" -> ("dining tables",)."""
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
    """A pattern that matches all phrases, longest first; and phrase -> class, None for distractors."""
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
    """Mentions of classes in a caption, in order and without overlaps.

    Args:
        names: class -> its names, in the singular. A hyphen may join the words of a name.
        distractors: phrases that contain such a name but do not mean the class.
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
    """Classes in order of first mention, and the spans [start, end) of each one's mentions."""
    spans: dict[str, list[list[int]]] = {}
    for mention in found:
        spans.setdefault(mention.name, []).append([mention.start, mention.end])
    return list(spans), list(spans.values())
