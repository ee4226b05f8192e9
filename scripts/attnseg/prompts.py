"""Text queries and where a class's words stand among the tokens (Text2Mask, Section 3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass

from attnseg.datasets import Dataset
from attnseg.datasets.voc import DATASET as USUAL  # whose words serve where no data set is named
from attnseg.errors import UserError


@dataclass(frozen=True)
class Query:
    """`text`, and a class the characters [start, end) that name it."""

    text: str
    spans: tuple[tuple[int, int], ...]


def background_words(
    classes: Sequence[str], profile: str, vocabulary: Dataset = USUAL
) -> list[str]:
    """The words appended for these classes: the union over them, in order, without repeats."""
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

    `vocabulary`: whose synonyms the classes are asked for by, and whose background words follow.
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


def token_positions(tokenizer, query: Query) -> list[list[int]]:
    """Per class the positions of its tokens in the encoded query; the first token (BOS) is 0.

    All words of a class count, and all pieces of a word. Positions come from the tokenizer alone,
    so any vocabulary will do.

    Raises:
        UserError: where a class's tokens do not fit the tokenizer's window.
    """

    def count(end: int) -> int:
        return len(tokenizer(query.text[:end], add_special_tokens=False).input_ids)

    positions = [list(range(1 + count(start), 1 + count(end))) for start, end in query.spans]
    room = tokenizer.model_max_length - 1  # the last place is the end-of-text token's
    for (start, end), places in zip(query.spans, positions, strict=True):
        phrase = query.text[start:end]
        if not places:
            raise UserError(f"the tokenizer has no token for {phrase!r}: use another word for it")
        if places[-1] >= room:
            raise UserError(
                f"{phrase!r} is past the text encoder's window of {room + 1} tokens in a query of "
                f"{len(query.spans)} classes: ask for fewer classes at a time"
            )
    return positions


def encode_text(tokenizer, texts: Sequence[str], device="cpu"):
    """Token ids [B, window] padded to the window, on `device`."""
    return tokenizer(
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids.to(device)
