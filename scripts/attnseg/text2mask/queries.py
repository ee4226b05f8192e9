"""The text query of a photo's classes (Text2Mask, Section 3.3)."""

from collections.abc import Sequence

from attnseg.backbones.text import Query
from attnseg.datasets import Dataset
from attnseg.datasets.voc import DATASET as USUAL  # the default vocabulary
from attnseg.errors import UserError


def background_words(
    classes: Sequence[str], profile: str, vocabulary: Dataset = USUAL
) -> list[str]:
    """Background words appended to a query: their union over `classes`, in order."""
    usual, official = vocabulary.background_words, vocabulary.official_background_words
    if profile == "paper":
        return list(usual)
    words = (official.get(name, usual) for name in classes)
    return list(dict.fromkeys(word for group in words for word in group))


def text_query(
    classes: Sequence[str],
    *,
    synonyms: bool = True,
    background: bool = True,
    profile: str = "paper",
    vocabulary: Dataset = USUAL,
) -> Query:
    """``a photo including <class>, <class>, <background>, ..., and <background>.``

    `synonyms`: replace classes by their synonyms in `vocabulary`. `background`: append its background
    words.
    """
    if not classes:
        raise UserError("a query needs at least one class: none was given")
    known = vocabulary.synonyms if synonyms else {}
    names = [known.get(name, name) for name in classes]
    words = names + (background_words(classes, profile, vocabulary) if background else [])
    text, spans = "a photo including ", []
    for i, word in enumerate(words):
        if i:
            last = i == len(words) - 1
            text += (", and " if len(words) > 2 else " and ") if last else ", "
        if i < len(names):
            spans.append((len(text), len(text) + len(word)))
        text += word
    return Query(text + ".", tuple(spans))
