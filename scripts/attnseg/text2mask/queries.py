"""The text query of a photo's classes (Text2Mask, Section 3.3)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from attnseg.backbones.text import Query, encode_text, token_positions
from attnseg.datasets import Dataset
from attnseg.datasets.voc import DATASET as USUAL  # the default vocabulary
from attnseg.errors import UserError


def background_words(
    classes: Sequence[str], profile: str, vocabulary: Dataset = USUAL
) -> list[str]:
    """The words appended for these classes: the union over them, in order, without repeats."""
    usual, official = vocabulary.background_words or (), vocabulary.official_background_words
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
        spans.append((len(text), len(text) + len(word)))
        text += word
    return Query(text + ".", tuple(spans[: len(names)]), tuple(spans[len(names) :]))


def class_embeddings(model: Path, dataset: Dataset) -> np.ndarray:
    """[K, D] float32: the last hidden state of a class's tokens, averaged."""
    from transformers import CLIPTextModel, CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer", local_files_only=True)
        encoder = CLIPTextModel.from_pretrained(
            model / "text_encoder", dtype=torch.float32, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{model}: no text encoder ({str(error).splitlines()[0]})") from None
    queries = [text_query([name], background=False, vocabulary=dataset) for name in dataset.classes]
    with torch.no_grad():
        states = encoder(encode_text(tokenizer, [query.text for query in queries]))[0]
    return np.stack(
        [
            state[token_positions(tokenizer, query)[0]].mean(0).numpy()
            for state, query in zip(states, queries, strict=True)
        ]
    )
