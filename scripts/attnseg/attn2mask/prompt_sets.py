"""Prompts to generate training images from, with where they name which class (attn2mask).

A prompts file has one JSON object a line: {id, prompt, classes, spans, seed}. `spans` holds, a class,
every [start, end) in characters where the prompt names it. The seed is the sample's own: a hash of
the run's seed, the set's name and the id.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from attnseg.attn2mask.caption_matching import classes_and_spans, mentions
from attnseg.core.seeds import seed_of
from attnseg.datasets import Dataset
from attnseg.errors import UserError
from attnseg.io.files import safe_name, write_atomically


@dataclass(frozen=True)
class Prompt:
    """One sample to generate. `spans`: per class all [start, end) that name it."""

    id: str
    prompt: str
    classes: list[str]
    spans: list[list[list[int]]]
    seed: int


def write_prompts(path: Path, prompts: Sequence[Prompt]) -> None:
    """The prompts file, atomically."""
    with write_atomically(path) as partial, open(partial, "w") as file:
        for prompt in prompts:
            file.write(json.dumps(asdict(prompt)) + "\n")


def read_prompts(path: Path) -> list[Prompt]:
    """All prompts of a file, in order.

    Raises:
        UserError: names the line that is none, or the id that comes twice.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: run build_prompts first") from None
    prompts, seen = [], set()
    for number, line in enumerate(lines, 1):
        try:
            prompt = Prompt(**json.loads(line))
            if len(prompt.classes) != len(prompt.spans):
                raise ValueError("classes and spans differ in number")
            prompt.prompt.encode(), int(prompt.seed)
            safe_name(prompt.id, path)
        except (TypeError, ValueError, AttributeError) as problem:
            raise UserError(
                f"{path}, line {number}: not a prompt ({problem}): build it anew"
            ) from None
        if prompt.id in seen:
            raise UserError(f"{path}, line {number}: id {prompt.id!r} comes twice: build it anew")
        seen.add(prompt.id)
        prompts.append(prompt)
    if not prompts:
        raise UserError(f"{path}: no prompts: build it anew")
    return prompts


def shuffled(items: Sequence, seed: int) -> Iterator:
    """The items in a random order, again and again in new ones; its head depends on no count."""
    turn = 0
    while True:
        order = np.random.default_rng([seed, turn]).permutation(len(items))
        yield from (items[i] for i in order)
        turn += 1


def numbered(
    name: str, seed: int, texts: Iterator[tuple[str, list, list]], count: int
) -> list[Prompt]:
    """`count` prompts of (text, classes, spans), with ids and seeds."""
    prompts = []
    for index in range(count):
        text, classes, spans = next(texts)
        prompt_id = f"{name}_{index:06d}"
        prompts.append(Prompt(prompt_id, text, classes, spans, seed_of(seed, name, prompt_id)))
    return prompts


def read_captions(path: Path) -> list[str]:
    """The captions of a COCO captions file, one line each, in its order."""
    try:
        annotations = json.loads(Path(path).read_text())["annotations"]
        return [" ".join(annotation["caption"].split()) for annotation in annotations]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: check the data set's annotations") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: not a COCO captions file: give captions_train2014.json") from None


def named_captions(
    captions: Sequence[str], dataset: Dataset, literal: bool = False
) -> list[tuple[str, list, list]]:
    """The captions that name a class: (caption, classes, spans)."""
    names = dataset.caption_names(literal)
    found = ((text, mentions(text, names, dataset.distractors)) for text in captions)
    return [(text, *classes_and_spans(hits)) for text, hits in found if hits]


def caption_prompts(
    captions: Sequence[str], count: int | None, seed: int, dataset: Dataset, literal: bool = False
) -> list[Prompt]:
    """Prompts from captions that name a class, in random order; all of them without a `count`.

    Where there are fewer than `count`, captions come again, with other seeds. `literal`: by fewer
    words for some classes.
    """
    kept = named_captions(captions, dataset, literal)
    if not kept:
        raise UserError("no caption names a class: give a file of captions in English")
    count = len(kept) if count is None else count
    return numbered(dataset.name, seed, shuffled(kept, seed), count)


def template(before: str, words: Sequence[str], joint: str, after: str) -> tuple[str, list]:
    """A sentence around a list of words, and the span of each."""
    text, spans = before, []
    for i, word in enumerate(words):
        text += joint if i else ""
        spans.append([[len(text), len(text) + len(word)]])
        text += word
    return text + after, spans


def template_prompts(
    dataset: Dataset, count: int, seed: int, root: Path | None = None, adapted: bool = False
) -> list[Prompt]:
    """The data set's template around the words for some of its classes.

    Where it takes one class the classes take turns in random order, so that their numbers differ by
    at most one. Else one to `dataset.prompt_classes` of them in random order. `adapted`: with the
    domain token of a LoRA; the classes and seeds are those of the other set.
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
