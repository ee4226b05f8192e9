"""Queries and token positions, with small and with CLIP's real vocabulary."""

import importlib.util

import pytest
from transformers import CLIPTokenizer

from attnseg.backbones.text import Query, token_positions
from attnseg.datasets import load
from attnseg.datasets.dataset import BACKGROUND_WORDS
from attnseg.datasets.voc import CLASSES as VOC_CLASSES
from attnseg.errors import UserError
from attnseg.mini.model import train_tokenizer
from attnseg.text2mask.queries import background_words, text_query
from tools.make_random_sd import clip_tokenizer

COCO_CLASSES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,"
    "stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,"
    "backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,"
    "baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,"
    "banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,"
    "oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
).split(",")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> CLIPTokenizer:
    texts = ["a photo including dog, cat, and sofa.", "a person with clothes, tree"] * 30
    return train_tokenizer(texts, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> CLIPTokenizer:
    """CLIP's byte-pair vocabulary, in the order that its authors number it."""
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("open-clip-torch, which holds CLIP's vocabulary, is not installed")
    return clip_tokenizer(tmp_path_factory.mktemp("clip"))


def test_the_papers_example_sentence():
    query = text_query(["bottle", "chair", "sofa"], synonyms=False, background=False)
    assert query.text == "a photo including bottle, chair, and sofa."
    assert [query.text[a:b] for a, b in query.spans] == ["bottle", "chair", "sofa"]
    assert text_query(["dog"], background=False).text == "a photo including dog."
    assert text_query(["dog", "cat"], background=False).text == "a photo including dog and cat."


def test_synonyms_and_the_ten_background_words():
    query = text_query(["person", "tvmonitor"])
    assert query.text == (
        "a photo including person with clothes, tv monitor screen, tree, river, sea, lake, water, "
        "railway, railroad, track, stone, and rocks."
    )


def test_each_data_set_has_clip_ess_synonyms_of_its_own():
    classes = ["backpack", "hair drier", "couch", "tv", "person", "zebra"]
    query = text_query(classes, background=False, vocabulary=load("coco"))
    assert [query.text[a:b] for a, b in query.spans] == [
        "backpack, bag", "hairdrier, blowdrier", "sofa", "tv monitor screen",
        "person with clothes", "zebra",
    ]  # fmt: skip
    assert set(load("coco").synonyms) - set(VOC_CLASSES) <= set(COCO_CLASSES)
    plain = text_query(classes, background=False)
    assert [plain.text[a:b] for a, b in plain.spans][:3] == classes[:3]
    # VOC's classes with background words of their own have the ten in COCO
    assert background_words(["boat"], "official", load("coco")) == list(BACKGROUND_WORDS)


def test_official_background_words_are_a_union_without_repeats():
    assert background_words(["boat"], "official") == ["river", "sea", "lake", "water", "mountain"]
    assert background_words(["cow", "train"], "official") == [
        "grass", "stone", "rocks", "railway", "railroad", "track",
    ]  # fmt: skip
    assert background_words(["boat", "dog"], "official")[5:] == [
        word for word in BACKGROUND_WORDS if word not in ("river", "sea", "lake", "water")
    ]


def test_no_class_is_an_error():
    with pytest.raises(UserError, match="at least one class"):
        text_query([])


def decoded(tokenizer, query, positions) -> list[str]:
    ids = tokenizer(query.text).input_ids
    return [tokenizer.decode([ids[p] for p in places]).replace(" ", "") for places in positions]


def test_positions_cover_all_words_and_all_pieces(small):
    query = text_query(["person", "dog", "zebra"], background=False)
    positions = token_positions(small, query)
    assert len(positions[0]) > 1 and len(positions[2]) > 1
    assert decoded(small, query, positions) == ["personwithclothes", "dog", "zebra"]


@pytest.mark.parametrize("synonyms", [True, False])
@pytest.mark.parametrize("classes", [VOC_CLASSES, COCO_CLASSES], ids=["VOC", "COCO"])
def test_positions_with_clips_vocabulary(clip, classes, synonyms):
    for first, second in zip(classes, classes[1:] + classes[:1], strict=True):
        query = text_query([first, second], synonyms=synonyms)
        positions = token_positions(clip, query)
        phrases = [query.text[a:b].replace(" ", "") for a, b in query.spans]
        assert decoded(clip, query, positions) == phrases
        assert not set(positions[0]) & set(positions[1])


def test_clips_own_numbers(clip):
    assert clip("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    (places,) = token_positions(clip, text_query(["tvmonitor"], synonyms=False, background=False))
    assert len(places) > 1  # one word, several tokens


def test_a_class_past_the_window_is_named_and_background_words_may_fall_off(clip):
    names = [name for name in COCO_CLASSES if " " in name] * 2
    with pytest.raises(UserError, match="past the text encoder's window of 77 tokens"):
        token_positions(clip, text_query(names[:40], background=False))
    crowded = text_query(COCO_CLASSES[:28])
    assert len(clip(crowded.text).input_ids) > 77
    assert token_positions(clip, crowded)[-1][-1] < 76


def test_a_phrase_without_tokens_is_an_error(small):
    with pytest.raises(UserError, match="no token"):
        token_positions(small, Query("a photo of  .", ((11, 11),)))
