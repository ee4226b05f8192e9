"""Tokens of a text, and the token positions of its classes (Text2Mask, Section 3.3)."""

from collections.abc import Sequence
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
    """A text, and for each class the characters [start, end) that name it."""

    text: str
    spans: tuple[tuple[int, int], ...]


def token_positions(tokenizer: "PreTrainedTokenizerBase", query: Query) -> list[list[int]]:
    """Per class the positions of its tokens in the encoded query; the first token (BOS) is 0.

    They cover all words of a class and all pieces of a word.

    Raises:
        TooLong: if a class does not fit the tokenizer's window.
        UserError: if a class has no tokens.
    """

    def count(end: int) -> int:
        return len(tokenizer(query.text[:end], add_special_tokens=False).input_ids)

    positions = [list(range(1 + count(start), 1 + count(end))) for start, end in query.spans]
    room = tokenizer.model_max_length - 1  # the last position is the end-of-text token's
    for (start, end), places in zip(query.spans, positions, strict=True):
        phrase = query.text[start:end]
        if not places:
            raise UserError(f"the tokenizer has no token for {phrase!r}: use another word for it")
        if places[-1] >= room:
            raise TooLong(
                f"{phrase!r} is past the text encoder's window of {room + 1} tokens in a query of "
                f"{len(query.spans)} classes: use a shorter name"
            )
    return positions


def encode_text(
    tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], device: "torch.device | str" = "cpu"
) -> "torch.Tensor":
    """Token ids [B, window] padded to the window, on `device`."""
    return tokenizer(
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids.to(device)
