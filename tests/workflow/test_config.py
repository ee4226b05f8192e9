"""The configuration: what is checked, what names stand for, and that it is described."""

import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from attnseg.config import merge, read_config, resolve_segmentor, resolve_variant
from attnseg.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMA = REPOSITORY / "workflow" / "schemas" / "config.schema.yaml"
PAPER = REPOSITORY / "config" / "config.yaml"
MINI = REPOSITORY / "config" / "mini.yaml"


def read(*files):
    return read_config(*files, schema=SCHEMA)


def refusal(tmp_path, text: str) -> str:
    """The message that refuses `text` over the paper's configuration."""
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as refused:
        read(PAPER, file)
    message = str(refused.value)
    assert "\n" not in message
    return message.replace(str(tmp_path), "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed: 1\n", "/own.yaml:1: unknown key `sed`; did you mean `seed`?"),
        (
            "extraction:\n  query:\n    synonims: true\n",
            "/own.yaml:3: unknown key `extraction.query.synonims`; "
            "did you mean `extraction.query.synonyms`?",
        ),
        (
            "variants:\n  mine: {timesteps: 3}\n",
            "/own.yaml:2: unknown key `variants.mine.timesteps`; "
            "did you mean `variants.mine.timestep`?",
        ),
        (
            "segmentors:\n  deeplabv2_voc:\n    bacbone: resnet18\n",
            "/own.yaml:3: unknown key `segmentors.deeplabv2_voc.bacbone`; "
            "did you mean `segmentors.deeplabv2_voc.backbone`?",
        ),
        (
            "profile: offical\n",
            "/own.yaml:1: `profile`: 'offical' is none of paper, official; did you mean `official`?",
        ),
        (
            "extraction: {noises: 0}\n",
            "/own.yaml:1: `extraction.noises`: 0 is too small; at least 1",
        ),
        ("extraction: {noises: many}\n", "`extraction.noises`: 'many' is no integer"),
        (
            "segmentors: {mine: {train: {dataset: voc, split: trian, masks: truth}}}\n",
            "'trian' is not configured; did you mean `train`?",
        ),
        (
            "segmentors: {mine: {train: {dataset: voc, split: train, masks: base/crv}}}\n",
            "'crv' is not configured; did you mean `crf`?",
        ),
        ("segmentors: {mine: {extends: deeplabv3_voc}}\n", "did you mean `deeplabv2_voc`?"),
        ("segmentors: {a: {extends: b}, b: {extends: a}}\n", "segmentors a, b extend each other"),
        ("seed: [\n", "not valid YAML"),
        (
            "synthesis: {more: {dataset: voc, source: coco, count: 3, lora: cityscape}}\n",
            "'cityscape' is not configured; did you mean `cityscapes`?",
        ),
        (
            "datasets:\n  voc12: {root: data, splits: {}}\n",
            "/own.yaml:2: `datasets.voc12`: no layout is named 'voc12': there are cityscapes, "
            "coco, imagenet_s, mug19, voc, and those that you add (docs/adding.md); did you mean `voc`?",
        ),
        ("inversions: {base: {}}\n", "`inversions.base` is the name of a variant"),
        (
            "segmentors: {attn2mask_voc_2000: {train: {masks: otzu}}}\n",
            "'otzu' is not configured; did you mean `otsu`?",
        ),
        (
            "segmentors:\n  attn2mask_cityscapes:\n    train: {images: 13000}\n",
            "/own.yaml:3: `segmentors.attn2mask_cityscapes.train.images`: 13000 of the 12000 images "
            "of synthesis.cityscapes; raise its count",
        ),
        (
            "segmentors: {attn2mask_voc_2000: {train: {split: train}}}\n",
            "generated images have no split; set it to null, or `synthesis`",
        ),
        (
            "segmentors: {attn2mask_voc_2000: {train: {synthesis: cityscapes}}}\n",
            "synthesis.cityscapes has the classes of cityscapes; name that",
        ),
    ],
)
def test_a_mistake_is_one_line_that_says_where_and_what_to_do(tmp_path, text, message):
    assert message in refusal(tmp_path, text)


def test_defaults_are_filled_in(tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text("datasets: {voc: {root: data, splits: {train: {images: 3}}}}\nsegmentors: {}\n")
    config = read(file)
    assert config["crf"]["bilateral"] == {"sxy": 67, "srgb": 3, "compat": 4}
    assert config["extraction"]["query"]["composed"] is True
    assert config["datasets"]["voc"]["splits"]["train"] == {"images": 3, "truth": True}
    assert config["variants"] == {"base": {}}


def test_the_paper_configuration_states_the_defaults():
    paper = read(PAPER)
    schema = yaml.safe_load(SCHEMA.read_text())["properties"]
    for key in ("paths", "model", "extraction"):
        for name, value in schema[key]["properties"].items():
            if "default" in value and value["default"] != {}:
                assert paper[key][name] == value["default"], f"{key}.{name}"


def test_mini_overrides_only():
    """Every key of the mini file has another value than the paper's, splits of its own aside."""
    paper, mini = read(PAPER), yaml.safe_load(MINI.read_text())

    def leaves(value, at=()):
        if not isinstance(value, dict):
            yield at, value
            return
        for key, item in value.items():
            yield from leaves(item, (*at, key))

    for keys, value in leaves(mini):
        base = paper
        for key in keys:
            base = base.get(key) if isinstance(base, dict) else None
        assert base != value or keys[:2] == ("segmentors", "deeplabv2_voc"), keys


def test_a_variant_overrides_single_keys():
    config = read(PAPER)
    base, one = resolve_variant(config, "base"), resolve_variant(config, "prompt_001")
    assert base["noises"] == 10 and base["cross_blocks"] == [4, 5, 6, 7, 8] and base["seed"] == 0
    assert one["query"] == {"composed": False, "synonyms": False, "background_words": True}
    assert {key for key in base if base[key] != one[key]} == {"noises", "query"}
    assert resolve_variant(config, "official")["profile"] == "official"
    with pytest.raises(UserError, match="did you mean `one_noise`"):
        resolve_variant(config, "one_nose")


def test_a_segmentor_takes_what_it_extends():
    config = read(PAPER, MINI)
    pseudo, truth = (
        resolve_segmentor(config, name) for name in ("deeplabv2_voc", "deeplabv2_voc_true_masks")
    )
    assert pseudo["backbone"] == truth["backbone"] == "resnet18"
    assert pseudo["train"]["masks"] == "base/crf" and truth["train"]["masks"] == "truth"
    assert {key for key in pseudo if pseudo[key] != truth[key]} == {"train"}


def test_merging_leaves_its_arguments_as_they_were():
    base, over = {"a": {"b": 1, "c": 2}}, {"a": {"b": None}, "d": {"e": 3}}
    assert merge(base, over) == {"a": {"b": None, "c": 2}, "d": {"e": 3}}
    assert base == {"a": {"b": 1, "c": 2}}


def entries(schema, name=""):
    """(key, its schema, whether it needs a default) everywhere in the schema."""
    for key, value in schema.get("properties", {}).items():
        optional = key not in schema.get("required", [])
        yield f"{name}.{key}", value, optional
        yield from entries(value, f"{name}.{key}")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from entries(schema["additionalProperties"], f"{name}.<name>")


def test_every_key_is_described_and_no_other_is_allowed():
    schema = yaml.safe_load(SCHEMA.read_text())
    parts = {"": schema, **{f"$defs.{name}": part for name, part in schema["$defs"].items()}}
    for name, part in parts.items():
        for key, value, optional in entries(part, name):
            assert value.get("description"), key
            # a variant's keys have no defaults: what is absent is as under `extraction`
            if optional and not name.startswith("$defs.variant"):
                assert "default" in value, key
            if "properties" in value:
                assert value["additionalProperties"] is False, key


def test_the_readme_of_the_configuration_is_up_to_date():
    sys.path.insert(0, str(REPOSITORY / "scripts" / "tools"))
    import write_config_readme

    assert write_config_readme.README.read_text() == write_config_readme.text(), (
        "run scripts/tools/write_config_readme.py"
    )


def test_segmentors_are_configured_with_the_keys_that_the_program_reads():
    settings = pytest.importorskip("attnseg.segmentation.settings")
    schema = yaml.safe_load(SCHEMA.read_text())["$defs"]["segmentor"]["properties"]
    program = {field.name for field in fields(settings.Settings)} - {"test"}
    assert set(schema) - {"extends", "train", "test"} == program


def pins(text: str) -> dict[str, str]:
    found = re.findall(
        r"^[\s-]*(?:pip install --no-deps )?([A-Za-z][\w.-]*)==([^\s\\]+)", text, re.M
    )
    return {name.lower().replace("_", "-"): version for name, version in found}


@pytest.mark.parametrize("file", sorted((REPOSITORY / "envs").glob("*.yaml")), ids=lambda f: f.stem)
def test_conda_environments_pin_what_the_lock_pins(file):
    lock = pins((REPOSITORY / "envs" / "requirements.lock").read_text())
    environment = yaml.safe_load(file.read_text())
    assert environment["channels"][0] == "conda-forge"
    packages = next(
        entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)
    )
    assert len(pins("\n".join(packages))) == len(packages)
    steps = file.with_suffix(".post-deploy.sh")
    text = "\n".join(packages) + ("\n" + steps.read_text() if steps.exists() else "")
    for name, version in pins(text).items():
        assert lock.get(name) == version, name
