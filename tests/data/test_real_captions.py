"""The caption matcher on the 25,014 real captions of COCO val2017."""

import random
from collections import Counter

import pytest

from attnseg.attn2mask import prompt_sets
from attnseg.attn2mask.caption_matching import mentions
from attnseg.datasets.voc import DATASET as VOC

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def captions(real_data):
    path = real_data / "coco" / "annotations" / "captions_val2017_full.json"
    if not path.is_file():
        pytest.skip(f"no real captions at {path}")
    return prompt_sets.read_captions(path)


@pytest.fixture(scope="module")
def found(captions):
    return [(text, mentions(text, VOC.caption_words, VOC.distractors)) for text in captions]


def test_every_class_is_named(found, capsys):
    assert len(found) == 25_014
    counts = Counter(name for _, hits in found for name in {hit.name for hit in hits})
    with capsys.disabled():
        total = sum(bool(hits) for _, hits in found)
        print(f"\n{total} of {len(found)} real captions name a VOC class:")
        print(", ".join(f"{name} {counts[name]}" for name in VOC.classes))
    assert set(counts) == set(VOC.classes)
    assert min(counts.values()) >= 50


def test_the_share_of_captions_with_person_taken_literally_is_the_papers(captions):
    """168,679 of train2014's 414,113 captions, 40.7 %."""
    share = len(prompt_sets.named_captions(captions, VOC, literal=True)) / len(captions)
    assert share == pytest.approx(168_679 / 414_113, abs=0.01)


def test_hot_dogs_are_no_dogs_and_busy_streets_no_buses(found):
    """An independent reading, by splitting at blanks, of captions with one such word."""
    sausages = busy = 0
    for text, hits in found:
        words = [word.strip(".,!?;:'\"()").lower() for word in text.split()]
        names = {hit.name for hit in hits}
        if any(
            pair in (["hot", "dog"], ["hot", "dogs"])
            for pair in map(list, zip(words, words[1:], strict=False))
        ):
            others = sum(w in ("dog", "dogs", "puppy", "puppies", "doggy", "pup") for w in words)
            hot = sum(
                a == "hot" and b.startswith("dog") for a, b in zip(words, words[1:], strict=False)
            )
            if others == hot:
                sausages += 1
                assert "dog" not in names, text
        if "busy" in words and not any(w.startswith("bus") and w != "busy" for w in words):
            if "double" not in text.lower() and "minibus" not in words:
                busy += 1
                assert "bus" not in names, text
    assert sausages > 50 and busy > 20


def test_spans_hold_whole_words(found):
    for text, hits in found:
        for hit in hits:
            assert hit.start == 0 or not text[hit.start - 1].isalnum(), text
            assert hit.end == len(text) or not text[hit.end].isalnum(), text


def test_plain_names_are_never_missed(found):
    """Every caption with the very word of an unambiguous class, by another tokenisation."""
    for name in ("sheep", "motorcycle", "sofa", "couch", "airplane", "kitten", "television"):
        for text, hits in found:
            if name in "".join(c if c.isalnum() else " " for c in text.lower()).split():
                spoken = {text[hit.start : hit.end].lower() for hit in hits}
                distracted = any(
                    d in text.lower()
                    for d in ("television stand", "television remote", "motorcycle helmet")
                )
                assert distracted or any(name in phrase for phrase in spoken), text


def test_prompts_of_real_captions_fit_the_file(captions, tmp_path):
    prompts = prompt_sets.caption_prompts(captions, 500, 0, VOC)
    path = tmp_path / "prompts.jsonl"
    prompt_sets.write_prompts(path, prompts)
    read = prompt_sets.read_prompts(path)
    assert read == prompts and len({p.prompt for p in read}) > 490
    assert random.Random(0).choice(read).prompt in captions
