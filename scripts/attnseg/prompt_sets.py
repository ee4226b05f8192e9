"""Prompts to generate training images from, with where they name which class (attn2mask).

A prompts file has one JSON object a line: {id, prompt, classes, spans, seed}. `spans` holds, a class,
every [start, end) in characters where the prompt names it. The seed is the sample's own: a hash of
the run's seed, the set's name and the id.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from attnseg.caption_matching import VOC_NAMES, classes_and_spans, mentions
from attnseg.datasets.cityscapes import CLASSES as STREET_CLASSES
from attnseg.datasets.voc import CLASSES as VOC_CLASSES
from attnseg.errors import UserError
from attnseg.files import safe_name, write_atomically
from attnseg.mini_world.captions import caption
from attnseg.mini_world.scenes import object_scene
from attnseg.mini_world.vocabulary import STREET_WORDS
from attnseg.seeds import seed_of

CITYSCAPES_ENDING = "in cityscape by a dashboard camera"
ADAPTED_CITYSCAPES_ENDING = "in sks cityscape by a dashboard camera"
MINI_STREAM = 2_000_000  # apart from the scenes of the training and of every split


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
    captions: Sequence[str], names: Mapping[str, Sequence[str]] = VOC_NAMES
) -> list[tuple[str, list, list]]:
    """The captions that name a class: (caption, classes, spans)."""
    found = ((text, mentions(text, names)) for text in captions)
    return [(text, *classes_and_spans(hits)) for text, hits in found if hits]


def caption_prompts(
    captions: Sequence[str],
    count: int | None,
    seed: int,
    names: Mapping[str, Sequence[str]] = VOC_NAMES,
    name: str = "voc",
) -> list[Prompt]:
    """Prompts from captions that name a class, in random order; all of them without a `count`.

    Where there are fewer than `count`, captions come again, with other seeds.
    """
    kept = named_captions(captions, names)
    if not kept:
        raise UserError("no caption names a class: give a file of captions in English")
    return numbered(name, seed, shuffled(kept, seed), len(kept) if count is None else count)


def template(before: str, words: Sequence[str], joint: str, after: str) -> tuple[str, list]:
    """A sentence around a list of words, and the span of each."""
    text, spans = before, []
    for i, word in enumerate(words):
        text += joint if i else ""
        spans.append([[len(text), len(text) + len(word)]])
        text += word
    return text + after, spans


def imagenet_s_prompts(
    names: Mapping[str, Sequence[str]], count: int, seed: int, name: str = "imagenet_s"
) -> list[Prompt]:
    """``a photo of <class> with a background``; `names`: class -> its synonyms.

    The classes take turns in random order, so that their numbers differ by at most one.
    """
    rng = np.random.default_rng([seed, 1])

    def texts() -> Iterator[tuple[str, list, list]]:
        for class_name in shuffled(list(names), seed):
            synonyms = names[class_name]
            word = synonyms[int(rng.integers(len(synonyms)))]
            text, spans = template("a photo of ", [word], "", " with a background")
            yield text, [class_name], spans

    return numbered(name, seed, texts(), count)


def cityscapes_prompts(
    count: int, seed: int, adapted: bool = False, most: int = 8, name: str = "cityscapes"
) -> list[Prompt]:
    """``a photo of <class>, <class>, ... in cityscape by a dashboard camera``.

    One to `most` of the 19 classes in random order (the paper prints no distribution), terrain
    called sand and vegetation plant. `adapted`: the domain token `sks` before "cityscape"; the
    classes and seeds are those of the other set.
    """
    rng = np.random.default_rng([seed, 2])
    ending = ADAPTED_CITYSCAPES_ENDING if adapted else CITYSCAPES_ENDING

    def texts() -> Iterator[tuple[str, list, list]]:
        while True:
            chosen = rng.permutation(len(STREET_CLASSES))[: int(rng.integers(1, most + 1))]
            classes = [STREET_CLASSES[i] for i in chosen]
            words = [STREET_WORDS.get(c, c) for c in classes]
            text, spans = template("a photo of ", words, ", ", " " + ending)
            yield text, classes, spans

    return numbered(name, seed, texts(), count)


def mini_world_prompts(count: int, seed: int, name: str = "voc") -> list[Prompt]:
    """Prompts from captions of scenes like those of the mini model's training, and none of them."""

    def texts() -> Iterator[tuple[str, list, list]]:
        index = 0
        while True:
            rng = np.random.default_rng([seed, MINI_STREAM, index])
            yield from named_captions([caption(rng, object_scene(rng, VOC_CLASSES))])
            index += 1

    return numbered(name, seed, texts(), count)
