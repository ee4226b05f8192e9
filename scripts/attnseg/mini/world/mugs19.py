"""Write mini Mug19: the held-out mugs, in the layout of ``attnseg.datasets.mug19``.

A mug's design is its pattern, colour and handle; its content may change from scene to scene. Mugs
that differ only in colour form a series. There are four kinds of scenes:

semantic  different designs, contents shared by pairs: the words fit several mugs, the look only one;
visual    two copies of a design, different contents: the look fits several mugs, the words only one;
both      copies and shared contents: only look and words together identify a mug;
series    siblings, and mugs of the same colour from other series.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from attnseg.io.files import write_json
from attnseg.mini.world.scenes import Scene, arrange_mugs
from attnseg.mini.world.vocabulary import HELD_OUT_MUGS, MUG_CONTENTS

STREAM = 19  # differs from the random streams of other splits
SCENES = {"semantic": 14, "visual": 10, "both": 9, "series": 14}
VIEWS = 6  # per scene
PHOTOS = (5, 10)  # per subject, minimum and maximum
MOST_HIDDEN = 0.4  # maximum occluded fraction of a mug


def subject_id(design: int) -> str:
    return f"mug{design:02d}"


def traits_of(design: int, content: str | None) -> dict:
    pattern, colour, handle = HELD_OUT_MUGS[design]
    return {"pattern": pattern, "colour": colour, "handle": handle, "content": content}


def series_of(design: int) -> str:
    pattern, _, handle = HELD_OUT_MUGS[design]
    return f"{pattern} {handle}"


def siblings(design: int) -> list[int]:
    """The other designs of a design's series."""
    others = range(len(HELD_OUT_MUGS))
    return [i for i in others if i != design and series_of(i) == series_of(design)]


def content_words(content: str | None) -> str:
    return "the mug that is empty" if content is None else f"the mug filled with {content}"


def colour_words(colour: str) -> str:
    return f"the {colour} mug"


def choose(rng: np.random.Generator, options: Iterable[Any], count: int) -> list:
    """`count` different ones of the options, in random order."""
    every = list(options)
    return [every[i] for i in rng.permutation(len(every))[:count]]


def scene_mugs(rng: np.random.Generator, kind: str) -> list[tuple[int, str | None]]:
    """Draw the three to five mugs of a scene, as (design, content)."""
    count = int(rng.choice([3, 4, 5], p=[0.35, 0.45, 0.2]))
    every = range(len(HELD_OUT_MUGS))
    # Cola in a dark mug looks like an empty one: a scene has either cola or empty mugs.
    dark = "cola" if rng.random() < 0.5 else None
    contents = choose(rng, [dark, *(c for c in MUG_CONTENTS if c != "cola")], len(MUG_CONTENTS))
    if kind == "semantic":
        shared = [contents[i // 2 % 2] for i in range(count)]  # a, a, b, b, a
        return list(zip(choose(rng, every, count), shared, strict=True))
    if kind == "visual":
        first, second, third = choose(rng, every, 3)
        designs = [first, first, second, second, third][:count]
        return list(zip(designs, contents[:count], strict=True))
    if kind == "both":
        first, second, third = choose(rng, every, 3)
        a, b = contents[:2]
        return [(first, a), (first, b), (second, a), (second, b), (third, a)][:count]
    target = int(rng.integers(len(HELD_OUT_MUGS)))
    designs = [target, choose(rng, siblings(target), 1)[0]]
    colour = HELD_OUT_MUGS[target][1]
    designs += choose(rng, [i for i in every if HELD_OUT_MUGS[i][1] == colour and i != target], 1)
    designs += choose(rng, [i for i in every if i not in designs], count - len(designs))
    return list(zip(designs, contents[:count], strict=True))


def expressions(rng: np.random.Generator, mugs: list[tuple[int, str | None]]) -> list[dict]:
    """Referring expressions for the instances of a scene, by their own and by siblings' photos.

    Scenes with two copies of a design have none by siblings, which could not tell the copies apart.
    """
    designs, contents = [design for design, _ in mugs], [content for _, content in mugs]
    described = []
    for i, (design, content) in enumerate(mugs):
        alike, fitting = designs.count(design), contents.count(content)
        splits = ["all"]
        if fitting > 1 and alike == 1:
            splits.append("semantic_distractor")
        if alike > 1 and fitting == 1:
            splits.append("visual_distractor")
        described.append(
            {
                "instance": i + 1,
                "subject": subject_id(design),
                "description": content_words(content),
                "splits": splits,
            }
        )
    if len(set(designs)) == len(designs):
        for i, design in enumerate(designs):
            near = [s for s in siblings(design) if s in designs] or siblings(design)
            described.append(
                {
                    "instance": i + 1,
                    "subject": subject_id(choose(rng, near, 1)[0]),
                    "description": colour_words(HELD_OUT_MUGS[design][1]),
                    "splits": ["variant"],
                }
            )
    return described


def photograph(seeds: list[int], traits: list[dict], place: str | None) -> tuple[Scene, list[int]]:
    """Compose a photo in which every mug is well visible, on a `place` of the given kind, if any.

    Returns the scene and, for each of `traits`, the index of its thing.
    """
    for attempt in range(1000):
        rng = np.random.default_rng([*seeds, attempt])
        order = rng.permutation(len(traits)).tolist()
        scene = arrange_mugs(rng, [traits[i] for i in order])
        seen = len(scene.things) == len(traits)
        if seen and all(t.hidden <= MOST_HIDDEN for t in scene.things):
            if place in (None, scene.behind[0]):
                return scene, [order.index(i) for i in range(len(traits))]
    raise RuntimeError(f"no arrangement of {len(traits)} mugs shows them all")


def save(path: Path, pixels: np.ndarray) -> None:
    """Save [H, W, 3] uint8 as a JPEG, [H, W] uint8 as a grey PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if pixels.ndim == 3 else {}
    Image.fromarray(pixels).save(path, **options)


def write_mug19(root: Path, seed: int) -> None:
    """Write mini Mug19 to `root`; the same seed writes the same bytes."""
    subjects = {
        subject_id(i): {"class": "mug", "series": series_of(i), **traits_of(i, None)}
        for i in range(len(HELD_OUT_MUGS))
    }
    for i, subject in enumerate(subjects):
        del subjects[subject]["content"]
        write_subject(root, seed, i)
    scenes: dict[str, dict] = {}
    triplets: list[dict] = []
    for kind in (kind for kind, count in SCENES.items() for _ in range(count)):
        number = len(scenes)
        name = f"scene{number:02d}"
        rng = np.random.default_rng([seed, STREAM, 1, number])
        mugs = scene_mugs(rng, kind)
        described = expressions(rng, mugs)
        place = "room" if rng.random() < 0.75 else "sand"
        traits = [traits_of(design, content) for design, content in mugs]
        views = [f"{view:03d}" for view in range(VIEWS)]
        for view in views:
            scene, things = photograph([seed, STREAM, 2, number, int(view)], traits, place)
            mask = np.zeros(scene.image.shape[:2], np.uint8)
            for instance, thing in enumerate(things, 1):
                mask[scene.things[thing].mask] = instance
            save(root / "scenes" / name / f"{view}.jpg", scene.image)
            save(root / "masks" / name / f"{view}.png", mask)
            for expression in described:
                by = "-variant" if "variant" in expression["splits"] else ""
                identity = f"{name}-{view}-{expression['instance']}{by}"
                triplets.append({"id": identity, "scene": name, "view": view, **expression})
        scenes[name] = {
            "kind": kind,
            "instances": [
                {"subject": subject_id(design), **traits_of(design, content)}
                for design, content in mugs
            ],
            "views": views,
        }
    write_json(root / "subjects.json", subjects)
    write_json(root / "scenes.json", scenes)
    write_json(root / "triplets.json", triplets)


def write_subject(root: Path, seed: int, design: int) -> None:
    """Write the photos of one mug on its own, with random contents."""
    rng = np.random.default_rng([seed, STREAM, 0, design])
    for photo in range(int(rng.integers(PHOTOS[0], PHOTOS[1] + 1))):
        content = choose(rng, [*MUG_CONTENTS, None], 1)[0]
        seeds = [seed, STREAM, 3, design, photo]
        scene, _ = photograph(seeds, [traits_of(design, content)], None)
        name = f"{photo:02d}"
        save(root / "subjects" / subject_id(design) / f"{name}.jpg", scene.image)
        mask = scene.things[0].mask.astype(np.uint8)
        save(root / "subject_masks" / subject_id(design) / f"{name}.png", mask)
