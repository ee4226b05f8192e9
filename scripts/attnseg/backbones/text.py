"""Tokens of a text, and the token positions of its classes (Text2Mask, Section 3.3)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnseg.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


class TooLong(UserError):
    """A class of a query is past the text encoder's window."""


@dataclass(frozen=True)
class Query:
    """A text, and for each class the characters [start, end) that name it.

    `others`: the same of the words for backgrounds.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    others: tuple[tuple[int, int], ...] = ()


def token_positions(
    tokenizer: "PreTrainedTokenizerBase", query: Query, window: int | None = None
) -> list[list[int]]:
    """Per class the positions of its tokens in the encoded query.

    They cover all words of a class and all pieces of a word. `window`: of the text encoder, by
    default the tokenizer's; its last position is the end-of-text token's.

    Raises:
        TooLong: if a class does not fit the window.
        UserError: if a class has no tokens.
    """
    found = places(tokenizer, query.text, query.spans)
    return checked(query, found, window or tokenizer.model_max_length, ending=1)


def places(
    tokenizer: "PreTrainedTokenizerBase", text: str, spans: Iterable[tuple[int, int]]
) -> list[list[int]]:
    """The tokens of `text`, special ones counted, that share characters with each [start, end)."""
    found = tokenizer(text, return_offsets_mapping=True, verbose=False).offset_mapping
    return [
        [place for place, (first, last) in enumerate(found) if first < end and last > start]
        for start, end in spans
    ]


def checked(
    query: Query, positions: list[list[int]], window: int, ending: int = 0
) -> list[list[int]]:
    """`positions` as they are, if every class has some and all fit the text encoder's window, of whose
    tokens the last `ending` are its own."""
    for (start, end), found in zip(query.spans, positions, strict=True):
        phrase = query.text[start:end]
        if not found:
            raise UserError(f"the tokenizer has no token for {phrase!r}: use another word for it")
        if found[-1] >= window - ending:
            raise TooLong(
                f"{phrase!r} is past the text encoder's window of {window} tokens in a query of "
                f"{len(query.spans)} classes: use a shorter name"
            )
    return positions


def encode_text(
    tokenizer: "PreTrainedTokenizerBase",
    texts: Sequence[str],
    device: "torch.device | str" = "cpu",
    window: int | None = None,
) -> "torch.Tensor":
    """Token ids [B, window] padded to the window, by default the tokenizer's, on `device`."""
    return tokenizer(
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=window or tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids.to(device)


def lowered(text: str) -> str:
    """`text` in lower case, except for letters that would become two: places in it stay the same."""
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
