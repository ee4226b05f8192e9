"""Captions matched to classes, and the prompts built of them."""

import json

import pytest

from attnseg.attn2mask import caption_matching, prompt_sets
from attnseg.attn2mask.caption_matching import Mention, classes_and_spans, plurals
from attnseg.attn2mask.generate import class_positions
from attnseg.datasets import load
from attnseg.datasets.imagenet_s import ImageNetS
from attnseg.errors import UserError
from attnseg.mini.world.prompts import mini_world_prompts
from attnseg.mini.world.vocabulary import WORDS

VOC, STREETS = load("voc"), load("cityscapes")


def mentions(caption: str) -> list[Mention]:
    return caption_matching.mentions(caption, VOC.caption_words, VOC.distractors)


def named(caption: str) -> list[str]:
    return [mention.name for mention in mentions(caption)]


@pytest.mark.parametrize(
    ("caption", "classes"),
    [
        ("A dog eating a hot dog", ["dog"]),
        ("Two hot dogs and a hot-dog bun", []),
        ("A busy street in business hours", []),
        ("Buses and a bus", ["bus", "bus"]),
        ("a catfish on a table cloth", []),
        ("Cats, kittens and PUPPIES", ["cat", "cat", "dog"]),
        ("a dining  room table and three wine bottles", ["diningtable", "bottle"]),
        ("potted plants near a power plant", ["pottedplant"]),
        ("People wait at a train station for the train.", ["person", "train"]),
        ("an old train car and a car", ["train", "car"]),
        ("a double-decker bus at the bus stop", ["bus", "bus"]),
        ("women, children and a policeman's horse", ["person", "person", "horse"]),
        ("geese over sheep and calves", ["bird", "sheep", "cow"]),
        ("a motorcycle beside a bike", ["motorbike", "bicycle"]),
        ("scarf, carpet, oxygen, traincase", []),
        ("", []),
    ],
)
def test_whole_words_plurals_and_phrases_name_classes(caption, classes):
    assert named(caption) == classes


def test_every_occurrence_of_a_class_is_found_at_its_characters():
    caption = "A man and his dog: the Man pets dogs."
    classes, spans = classes_and_spans(mentions(caption))
    assert classes == ["person", "dog"]
    assert [[caption[s:e] for s, e in group] for group in spans] == [
        ["man", "Man"],
        ["dog", "dogs"],
    ]


@pytest.mark.parametrize(
    ("noun", "forms"),
    [
        ("bus", ("buses", "busses")),
        ("puppy", ("puppies",)),
        ("boy", ("boys",)),
        ("couch", ("couches",)),
        ("dining table", ("dining tables",)),
        ("gentleman", ("gentlemen",)),
        ("person with clothes", ("people with clothes",)),
        ("sheep", ()),
    ],
)
def test_plurals(noun, forms):
    assert plurals(noun) == forms


def test_the_words_of_the_queries_and_of_the_mini_world_are_known():
    for name in VOC.classes:
        for word in (*WORDS[name], VOC.synonyms.get(name, name)):
            assert named(f"a photo of {word}.") == [name], word
    assert set(VOC.caption_words) == set(VOC.classes)


def test_captions_of_the_year_that_is_there_are_read_and_counted(tmp_path, capsys):
    content = {"annotations": [{"caption": " a dog\n"}, {"caption": "two  cats"}]}
    wanted = tmp_path / "captions_train2014.json"
    with pytest.raises(UserError, match="captions_train2014.json: No such file"):
        prompt_sets.read_captions(wanted)
    for name in ("captions_val2017", "captions_train2017"):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert prompt_sets.read_captions(wanted) == ["a dog", "two cats"]
    said = capsys.readouterr().out
    assert f"no {wanted}: 2 captions of captions_train2017.json in its place" in said
    (tmp_path / "captions_train2019.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="captions_train2014.json: No such file"):
        prompt_sets.read_captions(wanted)  # which of two is not guessed


def test_caption_prompts_are_heads_of_larger_sets_and_repeat_with_new_seeds():
    captions = ["a dog", "two cats", "nothing here", "a red car by a boat"]
    few, many = (prompt_sets.caption_prompts(captions, n, 3, VOC) for n in (2, 8))
    assert many[:2] == few
    assert sorted(p.prompt for p in many[:3]) == ["a dog", "a red car by a boat", "two cats"]
    assert len({p.seed for p in many}) == len({p.id for p in many}) == 8
    assert len(prompt_sets.caption_prompts(captions, None, 3, VOC)) == 3
    assert prompt_sets.caption_prompts(captions, 8, 4, VOC)[0].seed != many[0].seed


def test_imagenet_s_template_takes_all_classes_and_their_synonyms(monkeypatch):
    names = {"n1": ("tench", "Tinca tinca"), "n2": ("hen",), "n3": ("ox",)}
    monkeypatch.setattr(ImageNetS, "prompt_names", lambda self, root: names)
    prompts = prompt_sets.template_prompts(load("imagenet_s"), 60, seed=0)
    words = {p.prompt[p.spans[0][0][0] : p.spans[0][0][1]] for p in prompts}
    assert words == {"tench", "Tinca tinca", "hen", "ox"}
    assert all(p.prompt.startswith("a photo of ") for p in prompts)
    assert all(p.prompt.endswith(" with a background") for p in prompts)
    counts = [sum(p.classes == [name] for p in prompts) for name in names]
    assert counts == [20, 20, 20]


def test_cityscapes_template_replaces_two_words_and_may_hold_the_domain_token():
    plain = prompt_sets.template_prompts(STREETS, 200, seed=0)
    adapted = prompt_sets.template_prompts(STREETS, 200, seed=0, adapted=True)
    assert {len(p.classes) for p in plain} == set(range(1, 9))
    assert {name for p in plain for name in p.classes} == set(STREETS.classes)
    for one, other in zip(plain, adapted, strict=True):
        assert one.prompt.endswith(" in cityscape by a dashboard camera")
        assert other.prompt == one.prompt.replace(" in cityscape", " in sks cityscape")
        assert (one.classes, one.seed, one.spans) == (other.classes, other.seed, other.spans)
        for name, ((start, end),) in zip(one.classes, one.spans, strict=True):
            word = {"terrain": "sand", "vegetation": "plant"}.get(name, name)
            assert one.prompt[start:end] == word


def test_mini_world_prompts_name_the_classes_they_say():
    prompts = mini_world_prompts(40, seed=0)
    assert mini_world_prompts(10, seed=0) == prompts[:10]
    for prompt in prompts:
        assert prompt.classes == list(dict.fromkeys(named(prompt.prompt)))


def test_prompts_survive_the_file(tmp_path):
    prompts = prompt_sets.template_prompts(STREETS, 5, seed=1)
    path = tmp_path / "prompts.jsonl"
    prompt_sets.write_prompts(path, prompts)
    assert prompt_sets.read_prompts(path) == prompts
    assert set(json.loads(path.read_text().splitlines()[0])) == {
        "id", "prompt", "classes", "spans", "seed",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no prompts"),
        ('{"id": "a"}\n', "line 1: not a prompt"),
        ("{\n", "line 1: not a prompt"),
        ('{"id": "a", "prompt": "a dog", "classes": ["dog"], "spans": [], "seed": 0}\n', "line 1"),
        (2 * '{"id": "a", "prompt": "a", "classes": [], "spans": [], "seed": 0}\n', "repeated id"),
    ],
)
def test_a_damaged_prompts_file_is_named_with_its_line(tmp_path, content, message):
    path = tmp_path / "prompts.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        prompt_sets.read_prompts(path)
    assert str(path) in str(caught.value)


def test_positions_are_all_tokens_of_all_mentions(tiny_backbone):
    tokenizer = tiny_backbone.tokenizer
    text = "a dog, a potted plant and a dog"
    prompt = prompt_sets.Prompt("x", text, *classes_and_spans(mentions(text)), 0)
    tokens = tokenizer(text).input_ids
    found = class_positions(tiny_backbone, prompt)
    spelled = [
        "".join(tokenizer.convert_ids_to_tokens([tokens[i] for i in places])) for places in found
    ]
    assert [s.replace("</w>", "") for s in spelled] == ["dogdog", "pottedplant"]


def test_a_mention_past_the_window_counts_only_where_it_is_the_only_one(tiny_backbone):
    filler = " and a cat" * 40
    text = f"a dog{filler} and a dog"
    prompt = prompt_sets.Prompt("x", text, *classes_and_spans(mentions(text)), 0)
    first = class_positions(tiny_backbone, prompt)[0]
    alone = prompt_sets.Prompt("x", "a dog", ["dog"], [[[2, 5]]], 0)
    assert first == class_positions(tiny_backbone, alone)[0]
    text = f"a{filler} and a dog"
    lost = prompt_sets.Prompt("x", text, *classes_and_spans(mentions(text)), 0)
    with pytest.raises(UserError, match="window"):
        class_positions(tiny_backbone, lost)


def test_a_prompt_without_a_class_is_refused(tiny_backbone):
    with pytest.raises(UserError, match="no class"):
        class_positions(tiny_backbone, prompt_sets.Prompt("x", "sky", [], [], 0))
