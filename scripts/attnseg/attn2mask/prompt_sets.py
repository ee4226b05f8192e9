"""Prompts for image generation, with the classes that they name (attn2mask).

A prompts file has one JSON object per line: {id, prompt, classes, spans, seed}. `spans` holds, for
each class, the character ranges [start, end) that name it. The seed is a hash of the run's seed, the
data set's name and the id.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from attnseg.attn2mask.caption_matching import classes_and_spans, mentions
from attnseg.core.seeds import seed_of
from attnseg.datasets import Dataset
from attnseg.errors import UserError
from attnseg.io.files import parsed, safe_name, write_atomically


@dataclass(frozen=True)
class Prompt:
    """One sample to generate; `spans`: per class, all character ranges [start, end) that name it."""

    id: str
    prompt: str
    classes: list[str]
    spans: list[list[list[int]]]
    seed: int


def write_prompts(path: Path, prompts: Sequence[Prompt]) -> None:
    """Write a prompts file, atomically."""
    with write_atomically(path) as partial, open(partial, "w") as file:
        for prompt in prompts:
            file.write(json.dumps(asdict(prompt)) + "\n")


def read_prompts(path: Path) -> list[Prompt]:
    """Read all prompts of a file, in order.

    Raises:
        UserError: if a line is invalid or an id is repeated; the message names it.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: run build_prompts first") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a file of prompts ({error}): build it again") from None
    prompts, seen = [], set()
    for number, line in enumerate(lines, 1):
        try:
            prompt = Prompt(**parsed(line))
            if len(prompt.classes) != len(prompt.spans):
                raise ValueError("classes and spans differ in number")
            for start, end in (span for spans in prompt.spans for span in spans):
                if not 0 <= start < end <= len(prompt.prompt):
                    raise ValueError(f"no span of its text: {start} to {end}")
            prompt.prompt.encode(), int(prompt.seed)
            safe_name(prompt.id, path)
        except (TypeError, ValueError, AttributeError) as problem:
            raise UserError(
                f"{path}, line {number}: not a prompt ({problem}): build the file again"
            ) from None
        if prompt.id in seen:
            raise UserError(
                f"{path}, line {number}: repeated id {prompt.id!r}: build the file again"
            )
        seen.add(prompt.id)
        prompts.append(prompt)
    if not prompts:
        raise UserError(f"{path}: no prompts: build the file again")
    return prompts


def shuffled(items: Sequence, seed: int) -> Iterator:
    """Yield the items endlessly, in a new random order each time."""
    turn = 0
    while True:
        order = np.random.default_rng([seed, turn]).permutation(len(items))
        yield from (items[i] for i in order)
        turn += 1


def numbered(
    name: str, seed: int, texts: Iterator[tuple[str, list, list]], count: int
) -> list[Prompt]:
    """Make `count` prompts from (text, classes, spans), with ids and seeds."""
    prompts = []
    for index in range(count):
        text, classes, spans = next(texts)
        prompt_id = f"{name}_{index:06d}"
        prompts.append(Prompt(prompt_id, text, classes, spans, seed_of(seed, name, prompt_id)))
    return prompts


def read_captions(path: Path) -> list[str]:
    """Captions of a COCO captions file, in its order, with whitespace normalised.

    If it is not there and that of one other year is, the captions of that year, with a line that says so.
    """
    path = Path(path)
    if not path.is_file():
        others = sorted(path.parent.glob(re.sub(r"\d{4}\b", "[0-9][0-9][0-9][0-9]", path.name)))
        if len(others) == 1:
            captions = read_captions(others[0])
            print(f"no {path}: {len(captions):,} captions of {others[0].name} in its place")
            return captions
    try:
        annotations = parsed(Path(path).read_bytes())["annotations"]
        return [" ".join(annotation["caption"].split()) for annotation in annotations]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: check the data set's annotations") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: not a COCO captions file: give captions_train2014.json") from None


def named_captions(
    captions: Sequence[str], dataset: Dataset, literal: bool = False
) -> list[tuple[str, list, list]]:
    """Captions that name a class, as (caption, classes, spans)."""
    names = dataset.caption_names(literal)
    found = ((text, mentions(text, names, dataset.distractors)) for text in captions)
    return [(text, *classes_and_spans(hits)) for text, hits in found if hits]


def caption_prompts(
    captions: Sequence[str], count: int | None, seed: int, dataset: Dataset, literal: bool = False
) -> list[Prompt]:
    """Prompts from captions that name a class, in random order.

    `count`: by default the number of such captions; if larger, captions are repeated with other
    seeds. `literal`: match fewer names for some classes (`Dataset.caption_names`).
    """
    kept = named_captions(captions, dataset, literal)
    if not kept:
        raise UserError("no caption names a class: give a file of captions in English")
    count = len(kept) if count is None else count
    return numbered(dataset.name, seed, shuffled(kept, seed), count)


def template(before: str, words: Sequence[str], joint: str, after: str) -> tuple[str, list]:
    """Enclose a list of words in a sentence; return it and the span of each word."""
    text, spans = before, []
    for i, word in enumerate(words):
        text += joint if i else ""
        spans.append([[len(text), len(text) + len(word)]])
        text += word
    return text + after, spans


def template_prompts(
    dataset: Dataset, count: int, seed: int, root: Path | None = None, adapted: bool = False
) -> list[Prompt]:
    """Prompts from the data set's template, with the names of one or more classes.

    If the template takes one class, the classes take turns in random order, so that their counts
    differ by at most one. Otherwise each prompt names 1 to `dataset.prompt_classes` random classes.
    `adapted`: use the template with a LoRA's domain token; classes and seeds stay the same.
    """
    most, names = dataset.prompt_classes, dataset.prompt_names(root)
    sentence = dataset.adapted_prompt if adapted else dataset.prompt
    if sentence is None:
        raise UserError(f"{dataset.name} has no prompt for an adapted model: leave out --adapted")
    before, _, after = sentence.partition("{}")
    rng = np.random.default_rng([seed, 1 if most == 1 else 2])
    turns = shuffled(list(names), seed)

    def texts() -> Iterator[tuple[str, list, list]]:
        while True:
            if most == 1:
                classes = [next(turns)]
            else:
                order = rng.permutation(len(names))[: int(rng.integers(1, most + 1))]
                classes = [list(names)[i] for i in order]
            words = [
                names[name][int(rng.integers(len(names[name])))] if most == 1 else names[name][0]
                for name in classes
            ]
            text, spans = template(before, words, ", ", after)
            yield text, classes, spans

    return numbered(dataset.name, seed, texts(), count)
