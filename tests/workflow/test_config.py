"""The configuration: its checks, the paths behind its names, and its descriptions."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_origin

import jsonschema
import pytest
import yaml

from attnseg.config.reading import read_config
from attnseg.config.resolved import merge, resolve_segmentor, resolve_variant
from attnseg.errors import UserError
from attnseg.settings import Config, Settings
from attnseg.settings.base import options_of
from tools import write_config_readme

REPOSITORY = Path(__file__).resolve().parents[2]
PAPER = REPOSITORY / "config" / "config.yaml"
MINI = REPOSITORY / "config" / "mini.yaml"


def read(*files):
    return read_config(*files)


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
        (  # braces would be wildcards
            "paths: {work: 'x{input}'}\n",
            "/own.yaml:1: `paths.work`: 'x{input}' does not match ^[\\w./]",
        ),
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
            "/own.yaml:1: `profile`: 'offical' is not one of paper, official; did you mean `official`?",
        ),
        (
            "extraction: {noises: 0}\n",
            "/own.yaml:1: `extraction.noises`: 0 is too small; must be at least 1",
        ),
        ("extraction: {noises: many}\n", "`extraction.noises`: expected integer, not 'many'"),
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
        ("seed: \x07\n", "own.yaml:1: not valid YAML: special characters are not allowed"),
        (
            "synthesis: {more: {dataset: voc, source: coco, count: 3, lora: cityscape}}\n",
            "'cityscape' is not configured; did you mean `cityscapes`?",
        ),
        (
            "datasets:\n  voc12: {root: data, splits: {}}\n",
            "/own.yaml:2: datasets.voc12: no such data set; give it `classes`, or a `layout`: voc, "
            "coco, imagenet_s, cityscapes, mug19; did you mean `voc`?",
        ),
        (
            "datasets:\n  mine: {layout: cityscape, root: data, splits: {}}\n",
            "/own.yaml:2: datasets.mine: no such data set; give it `classes`, or a `layout`: voc, "
            "coco, imagenet_s, cityscapes, mug19; did you mean `cityscapes`?",
        ),
        ("inversions: {base: {}}\n", "`inversions.base` is also the name of a variant"),
        (
            "segmentors: {attn2mask_voc_2000: {train: {masks: otzu}}}\n",
            "'otzu' is not configured; did you mean `otsu`?",
        ),
        (
            "segmentors:\n  attn2mask_cityscapes:\n    train: {images: 13000}\n",
            "/own.yaml:3: `segmentors.attn2mask_cityscapes.train.images`: 13000 images, but "
            "synthesis.cityscapes has 12000; raise its count",
        ),
        (
            "segmentors: {attn2mask_voc_2000: {train: {split: train}}}\n",
            "generated images have no split; set it to null, or `synthesis`",
        ),
        (
            "segmentors:\n  mine:\n    extends: deeplabv2_voc\n"
            "    train: {dataset: cityscapes, split: train, masks: truth}\n",
            "/own.yaml:2: `segmentors.mine.loss`: balanced, but cityscapes has no background; set "
            "`loss: plain`",
        ),
        (
            "segmentors: {attn2mask_voc_2000: {train: {synthesis: cityscapes}}}\n",
            "synthesis.cityscapes has the classes of cityscapes; set it to that",
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


def test_the_paper_configuration_repeats_no_default():
    def repeated(cls, values, at=""):
        for name, value in values.items():
            field = cls.model_fields[name]
            if not field.is_required() and value == plain(
                field.get_default(call_default_factory=True)
            ):
                yield f"{at}{name}"
            for option in options_of(field.annotation):
                if isinstance(option, type) and issubclass(option, Settings):
                    yield from repeated(option, value, f"{at}{name}.")
                elif isinstance(value, dict) and get_origin(option) is dict:
                    (inner, *_) = options_of(get_args(option)[1])
                    if isinstance(inner, type) and issubclass(inner, Settings):
                        for entry, item in value.items():
                            # an entry that extends another may set a default over it
                            if not item.get("extends"):
                                yield from repeated(inner, item, f"{at}{name}.{entry}.")

    def plain(value):
        return value.dump() if isinstance(value, Settings) else value

    assert list(repeated(Config, yaml.safe_load(PAPER.read_text()))) == []


def test_mini_overrides_only():
    """Every key of the mini file has another value than the paper's."""
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
        assert base != value, keys


def test_a_variant_overrides_single_keys():
    config = read(PAPER)
    base, one = resolve_variant(config, "base"), resolve_variant(config, "prompt_001")
    assert base["noises"] == 10 and base["cross_blocks"] == "usual" and base["seed"] == 0
    changed = {"composed": False, "synonyms": False, "background_words": True}
    assert one["query"] == base["query"] | changed
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


def classes(cls=Config):
    """The settings' classes that a configuration is made of."""
    yield cls
    for field in cls.model_fields.values():
        for option in options_of(field.annotation):
            for inner in (option, *(o for a in get_args(option) for o in options_of(a))):
                for last in (inner, *(o for a in get_args(inner) for o in options_of(a))):
                    if isinstance(last, type) and issubclass(last, Settings):
                        yield from classes(last)


def test_every_key_is_described_in_a_sentence():
    for cls in set(classes()):
        for name, field in cls.model_fields.items():
            assert field.description and field.description[-1] in ".)", (cls, name)


def test_the_readme_and_the_schema_of_the_configuration_are_up_to_date():
    for file, text in (
        (write_config_readme.README, write_config_readme.text()),
        (write_config_readme.SCHEMA, write_config_readme.schema()),
    ):
        assert file.read_text() == text, "run scripts/tools/write_config_readme.py"


@pytest.mark.parametrize("file", [PAPER, MINI], ids=lambda file: file.stem)
def test_the_schema_for_editors_accepts_the_shipped_configurations(file):
    schema = json.loads((REPOSITORY / "workflow/schemas/config.schema.json").read_text())
    jsonschema.validate(yaml.safe_load(file.read_text()), schema)


def test_the_settings_need_neither_numpy_nor_torch():
    code = (
        "import sys, attnseg.config.reading, attnseg.settings.cli\n"
        "print(sorted({'numpy', 'torch', 'jsonschema', 'PIL', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stdout + done.stderr


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
