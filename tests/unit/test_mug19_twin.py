"""Mini Mug19: the properties of its splits, checked from its texts and mugs."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from attnseg.datasets.mug19 import SPLITS, Mug19, Triplet, read_mug19
from attnseg.mini.world import mugs19
from attnseg.mini.world.scenes import training_mugs
from attnseg.mini.world.vocabulary import MUG_COLOURS, MUG_CONTENTS, MUG_PATTERNS


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> Mug19:
    root = tmp_path_factory.mktemp("mug19")
    mugs19.write_mug19(root, 0)
    return read_mug19(root)


def means(description: str) -> dict:
    """What a description says about a mug, read from its words alone."""
    said = {}
    for trait, words in (
        ("colour", MUG_COLOURS),
        ("pattern", MUG_PATTERNS),
        ("content", MUG_CONTENTS),
    ):
        found = [word for word in words if re.search(rf"\b{word}\b", description)]
        assert len(found) <= 1
        if found:
            said[trait] = found[0]
    if "empty" in description:
        said["content"] = None
    assert said, f"{description!r} says nothing"
    return said


def fits(mug: dict, description: str) -> bool:
    return all(mug[trait] == value for trait, value in means(description).items())


def mugs_of(twin: Mug19, triplet: Triplet) -> tuple[list[dict], dict]:
    mugs = twin.scenes[triplet.scene]["instances"]
    return mugs, mugs[triplet.instance - 1]


def looks(mug: dict) -> tuple:
    return mug["pattern"], mug["colour"], mug["handle"]


def in_split(twin: Mug19, split: str) -> list[Triplet]:
    return [triplet for triplet in twin.triplets if split in triplet.splits]


def test_it_is_as_large_as_mug19(twin):
    assert len(twin.subjects) == 19 and len(twin.scenes) >= 47
    assert all(5 <= len(twin.photos(subject)) <= 10 for subject in twin.subjects)
    assert all(3 <= len(scene["instances"]) <= 5 for scene in twin.scenes.values())
    assert all(len(scene["views"]) > 2 for scene in twin.scenes.values())
    for split in SPLITS:
        assert len(in_split(twin, split)) >= 100


def test_the_mugs_differ_in_series_of_one_pattern_and_handle(twin):
    designs = {tuple(s[t] for t in ("pattern", "colour", "handle")) for s in twin.subjects.values()}
    assert len(designs) == 19
    for series in {s["series"] for s in twin.subjects.values()}:
        members = [s for s in twin.subjects.values() if s["series"] == series]
        assert len(members) >= 3
        assert len({(m["pattern"], m["handle"]) for m in members}) == 1
        assert len({m["colour"] for m in members}) == len(members)


def test_the_training_world_never_shows_a_mug_of_the_twin(twin):
    held_out = {(s["pattern"], s["colour"]) for s in twin.subjects.values()}
    assert not held_out & set(training_mugs())


def test_every_description_is_true(twin):
    for triplet in twin.triplets:
        _, target = mugs_of(twin, triplet)
        assert fits(target, triplet.description)


def test_words_and_photos_together_mean_one_mug(twin):
    for triplet in in_split(twin, "all"):
        mugs, target = mugs_of(twin, triplet)
        assert triplet.subject == target["subject"]
        meant = [
            m for m in mugs if m["subject"] == triplet.subject and fits(m, triplet.description)
        ]
        assert meant == [target]


def test_semantic_distractors_share_the_words_and_the_looks_decide(twin):
    for triplet in in_split(twin, "semantic_distractor"):
        mugs, target = mugs_of(twin, triplet)
        fitting = [mug for mug in mugs if fits(mug, triplet.description)]
        assert len(fitting) >= 2
        assert [mug for mug in fitting if mug["subject"] == triplet.subject] == [target]


def test_visual_distractors_look_alike_and_the_words_decide(twin):
    for triplet in in_split(twin, "visual_distractor"):
        mugs, target = mugs_of(twin, triplet)
        alike = [mug for mug in mugs if looks(mug) == looks(target)]
        assert len(alike) >= 2
        assert [mug for mug in alike if fits(mug, triplet.description)] == [target]


def test_variants_are_asked_for_by_a_sibling_and_the_colour(twin):
    for triplet in in_split(twin, "variant"):
        mugs, target = mugs_of(twin, triplet)
        assert triplet.subject != target["subject"]  # so none of the target's photos is used
        subject = twin.subjects[triplet.subject]
        assert subject["series"] == twin.subjects[target["subject"]]["series"]
        series = [m for m in mugs if twin.subjects[m["subject"]]["series"] == subject["series"]]
        assert [m for m in series if fits(m, triplet.description)] == [target]


def test_no_scene_needs_cola_to_be_told_from_an_empty_mug(twin):
    for scene in twin.scenes.values():
        contents = {mug["content"] for mug in scene["instances"]}
        assert not {"cola", None} <= contents


def test_every_mug_can_be_seen_in_every_view(twin):
    for scene, view in twin.views():
        masks = twin.read_masks(scene, view, twin.read_view(scene, view).shape[:2])
        assert len(masks) == len(twin.instances(scene))
        assert masks.sum(0).max() == 1 and masks.sum((1, 2)).min() >= 100


def test_a_mask_lies_where_its_mug_is(twin):
    """A mug of a plain design has the design's hue inside its mask."""
    checked = 0
    for scene, view in twin.views():
        image = twin.read_view(scene, view).astype(float)
        masks = twin.read_masks(scene, view)
        for mug, mask in zip(twin.scenes[scene]["instances"], masks, strict=True):
            if mug["pattern"] != "plain" or mug["colour"] == "white":
                continue
            core = ndimage.binary_erosion(mask, iterations=3)
            seen = np.median(image[core], 0)
            expected = np.array(MUG_COLOURS[mug["colour"]], float)
            cosine = seen @ expected / np.linalg.norm(seen) / np.linalg.norm(expected)
            assert cosine > 0.95
            checked += 1
    assert checked > 50


def test_the_same_seed_writes_the_same_bytes_and_another_seed_does_not(twin, tmp_path, monkeypatch):
    monkeypatch.setattr(mugs19, "SCENES", {"semantic": 1, "series": 1})
    monkeypatch.setattr(mugs19, "VIEWS", 2)
    monkeypatch.setattr(mugs19, "HELD_OUT_MUGS", mugs19.HELD_OUT_MUGS[:7])
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        mugs19.write_mug19(tmp_path / name, seed)

    def content(root: Path) -> dict[str, bytes]:
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a") != content(tmp_path / "c")


def test_photos_of_a_subject_show_one_mug(twin):
    for subject in twin.subjects:
        for photo in twin.photos(subject):
            with Image.open(twin.subject_mask_path(photo)) as mask, Image.open(photo) as image:
                assert mask.size == image.size
                assert 0.04 < (np.asarray(mask) > 0).mean() < 0.7
