"""Text queries and where a class's words stand among the tokens (Text2Mask, Section 3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass

from attnseg.errors import UserError

# CLIP-ES's synonyms, except person, for which the paper found a better one (Appendix A).
SYNONYMS = {
    "bird": "bird avian",
    "chair": "chair seat",
    "diningtable": "dining table",
    "person": "person with clothes",
    "pottedplant": "potted plant",
    "tv": "tv monitor screen",
    "tvmonitor": "tv monitor screen",
}
# Those for COCO as well; CLIP-ES misspells snowboard, which is not followed.
COCO_SYNONYMS = SYNONYMS | {
    "airplane": "aeroplane",
    "backpack": "backpack, bag",
    "baseball glove": "glove",
    "couch": "sofa",
    "hair drier": "hairdrier, blowdrier",
    "handbag": "handbag, purse",
    "motorcycle": "motorbike",
    "remote": "remote control",
    "spoon": "dessert spoon",
    "tie": "necktie",
    "umbrella": "umbrella, parasol",
}
VOCABULARIES = {"voc": SYNONYMS, "coco": COCO_SYNONYMS}
BACKGROUND_WORDS = (
    "tree", "river", "sea", "lake", "water", "railway", "railroad", "track", "stone", "rocks",
)  # fmt: skip
# The authors' code has words of its own for these classes of VOC.
OFFICIAL_BACKGROUND_WORDS = {
    "boat": ("river", "sea", "lake", "water", "mountain"),
    "cow": ("grass", "stone", "rocks"),
    "train": ("railway", "railroad", "track"),
    "tvmonitor": ("keyboard", "wall"),
}


@dataclass(frozen=True)
class Query:
    """`text`, and a class the characters [start, end) that name it."""

    text: str
    spans: tuple[tuple[int, int], ...]


def background_words(classes: Sequence[str], profile: str, vocabulary: str = "voc") -> list[str]:
    """The words appended for these classes: the union over them, in order, without repeats."""
    if profile == "paper" or vocabulary != "voc":
        return list(BACKGROUND_WORDS)
    words = (OFFICIAL_BACKGROUND_WORDS.get(name, BACKGROUND_WORDS) for name in classes)
    return list(dict.fromkeys(word for group in words for word in group))


def text_query(
    classes: Sequence[str],
    *,
    synonyms: bool = True,
    background: bool = True,
    profile: str = "paper",
    vocabulary: str = "voc",
) -> Query:
    """``a photo including <class>, <class>, <background>, ..., and <background>.``

    `vocabulary`: of `VOCABULARIES`, whose synonyms the classes are asked for by.
    """
    if not classes:
        raise UserError("a query needs at least one class: none was given")
    known = VOCABULARIES[vocabulary] if synonyms else {}
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
