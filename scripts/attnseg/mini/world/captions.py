"""Captions of scenes, as varied and incomplete as alt texts."""

from collections.abc import Iterable

import numpy as np

from attnseg.datasets.cityscapes import SYNONYMS as STREET_WORDS
from attnseg.mini.world.scenes import Scene
from attnseg.mini.world.vocabulary import BACKGROUNDS, CLOTHED_PERSON, PROPS, WORDS

OPENINGS = ("a photo of", "a picture of", "there is", "an image of")
LINKS = ("on", "in front of", "with", "near")


def pick(rng: np.random.Generator, options: Iterable[str]) -> str:
    """One of the options, the first about half the time."""
    every = list(options)
    if len(every) == 1 or rng.random() < 0.45:
        return every[0]
    return every[int(rng.integers(len(every)))]


def article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def listed(nouns: list[str]) -> str:
    """Join nouns: ``x``, ``x and y``, ``x, y, and z``."""
    if len(nouns) < 3:
        return " and ".join(nouns)
    return ", ".join(nouns[:-1]) + ", and " + nouns[-1]


def noun_of(rng: np.random.Generator, name: str, clothed: bool) -> str:
    if name == "person" and clothed and rng.random() < 0.45:
        return CLOTHED_PERSON
    return pick(rng, WORDS.get(name, (STREET_WORDS.get(name, name),)))


def behind_words(rng: np.random.Generator, scene: Scene) -> list[str]:
    return [pick(rng, (BACKGROUNDS | PROPS)[kind]) for kind in scene.behind]


def mug_noun(rng: np.random.Generator, traits: dict) -> str:
    words = [traits["colour"] if rng.random() < 0.8 else "", traits["pattern"]]
    if traits["pattern"] == "plain" or rng.random() < 0.3:
        words.pop()
    noun = " ".join([*filter(None, words), "mug"])
    if traits["content"] is None:
        return noun + (" that is empty" if rng.random() < 0.3 else "")
    return noun + (f" filled with {traits['content']}" if rng.random() < 0.8 else "")


def caption(rng: np.random.Generator, scene: Scene) -> str:
    """A caption that names the things of a scene, and often its background."""
    clothed = {thing.name for thing in scene.things if thing.traits.get("clothed")}
    if scene.things and scene.things[0].name == "mug":
        nouns = [mug_noun(rng, thing.traits) for thing in scene.things]
    else:
        nouns = [noun_of(rng, name, name in clothed) for name in scene.classes()]
    rng.shuffle(nouns)
    if len(nouns) > 1 and rng.random() < 0.08:
        nouns.pop()
    behind = behind_words(rng, scene)
    rng.shuffle(behind)
    style = rng.random()
    if style < 0.25:  # bare lists
        return f"a photo including {listed(nouns + behind)}."
    if style < 0.32 and len(nouns) == 1:
        return f"a photo of {nouns[0]} with a background"
    things = listed([article(noun) for noun in nouns]) or "nothing"
    text = f"{pick(rng, OPENINGS)} {things}"
    if behind and rng.random() < 0.75:
        text += f" {pick(rng, LINKS)} {listed(['the ' + word for word in behind])}"
    return text + ("." if rng.random() < 0.5 else "")


def street_caption(rng: np.random.Generator, scene: Scene) -> str:
    """attn2mask's template for driving scenes (Dataset generation), with all classes in view."""
    names = [STREET_WORDS.get(name, name) for name in scene.classes()]
    rng.shuffle(names)
    return f"a photo of {', '.join(names)} in cityscape by a dashboard camera"
