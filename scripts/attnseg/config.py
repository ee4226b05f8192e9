"""Read and check the workflow's configuration; resolve variants, segmentors and jobs.

Errors are one line with the file, its line, the key, and the nearest valid key or value. The keys are
defined in attnseg.settings.
"""

import copy
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from attnseg import datasets
from attnseg.errors import UserError
from attnseg.settings import (
    ClassImagesJob,
    Config,
    ExtractionJob,
    Generation,
    InversionJob,
    LabellingJob,
    LoraJob,
    RefinementJob,
    Segmentor,
    SubjectSegmentationJob,
    SubjectTrainingJob,
    TestJob,
    read_segmentor,
    read_settings,
)
from attnseg.settings.base import (
    Keys,
    Stage,
    dotted,
    explain,
    nearest,
    nearest_or_all,
    unknown_keys,
)


def read_config(*files: str | Path) -> dict:
    """Read a configuration from `files`, later ones overriding earlier ones; check it, set defaults."""
    config: dict = {}
    for file in files:
        try:
            content = yaml.safe_load(Path(file).read_text())
        except OSError as error:
            raise UserError(
                f"{file}: {error.strerror}; name an existing configuration file"
            ) from None
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", None) or getattr(error, "reason", error)
            line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
            raise UserError(f"{file}:{line}: not valid YAML: {problem}") from None
        except (ValueError, RecursionError) as error:  # no text, a date that is none, depth
            raise UserError(f"{file}: not valid YAML: {str(error)[:200]}") from None
        if not isinstance(content, dict):
            raise UserError(f"{file}: empty or not a mapping; write `key: value` lines")
        config = merge(config, content)
    return prepare(config, files)


def prepare(config: dict, files: Iterable[str | Path] = ()) -> dict:
    """Return a copy of `config`, checked, with inheritance resolved and defaults set.

    `files` are the files it was read from, for error messages.
    """
    files = list(files)
    config = copy.deepcopy(dict(config))
    for keys, valid in unknown_keys(Config, config):
        raise UserError(
            f"{_where(keys, files)}: unknown key `{dotted(keys)}`{nearest_or_all(keys, valid)}"
        )
    given = config.get("segmentors") or {}
    # else it is said below
    if isinstance(given, Mapping) and all(isinstance(s or {}, Mapping) for s in given.values()):
        config["segmentors"] = {name: resolve_segmentor(config, name) for name in given}
    try:
        checked = Config.model_validate(config).dump()
    except ValidationError as error:
        keys, reason = explain(error, Config, config)
        place = f"`{dotted(keys)}`" if keys else "the configuration"
        raise UserError(
            f"{_where(keys, files, value_at(config, keys))}: {place}: {reason}"
        ) from None
    _check_references(checked, files)
    return checked


def value_at(config: Any, keys: Keys) -> object:
    """The value at `keys`, None where there is none."""
    for key in keys:
        try:
            config = config[key]
        except (KeyError, IndexError, TypeError):
            return None
    return config


def merge(base: Mapping, over: Mapping) -> dict:
    """Override values of `base` by those of `over`, recursively; return the result."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else copy.deepcopy(value)
    return merged


def resolve_variant(config: Mapping, name: str) -> dict:
    """Settings of the extraction in the variant `name`.

    These are the keys of `extraction`, and `seed`, `profile`, `cross_blocks` and `self_block`, which
    a variant may also override; the last two are by default its model's.
    """
    model = model_of(config, name)
    base = {
        **config["extraction"],
        "seed": config["seed"],
        "profile": config["profile"],
        "cross_blocks": model["cross_blocks"],
        "self_block": model["self_block"],
    }
    settings = merge(base, config["variants"][name] or {})
    settings.pop("backbone", None)
    return settings


def model_of(config: Mapping, variant: str) -> dict:
    """The text-to-image model of a variant."""
    variants, name = config["variants"], variant
    if name not in variants:
        raise UserError(
            f"unknown variant {name!r}{nearest(name, variants)}; a variant is an entry of "
            f"`variants` in the configuration ({', '.join(variants)})"
        )
    backbone = (variants[name] or {}).get("backbone")
    return config["model"] if backbone is None else config["backbones"][backbone]


def resolve_segmentor(config: Mapping, name: str) -> dict:
    """Settings of a segmentor, including those inherited through `extends`."""
    seen: list[str] = []
    chain: list[Any] = []
    segmentors = config["segmentors"]
    while name is not None:
        if name in seen:
            raise UserError(f"segmentors {', '.join(seen)} extend each other; remove one `extends`")
        if not isinstance(name, str) or name not in segmentors:
            where = f"segmentors.{seen[-1]}.extends: " if seen else ""
            raise UserError(
                f"{where}no segmentor {name!r}{nearest(str(name), segmentors)}; "
                f"configured are {', '.join(segmentors)}"
            )
        seen.append(name)
        chain.append(segmentors[name] or {})
        name = chain[-1].get("extends")
    resolved: dict = {}
    for settings in reversed(chain):
        resolved = merge(resolved, settings)
    resolved.pop("extends", None)
    return resolved


def resolve_run(config: Mapping, name: str) -> dict:
    """The settings of a segmentor with its seed; `<name>@2` is `<name>` with another one."""
    name, _, run = name.partition("@")
    settings = resolve_segmentor(config, name)
    first = config["seed"] if settings["seed"] is None else settings["seed"]
    return settings | {"seed": first + int(run or 1) - 1}


def real_path(path: str, config: Mapping) -> str:
    """A path with the configured folders in place of Snakemake's <results>, <work> and <resources>."""
    for name, folder in config["paths"].items():
        path = path.replace(f"<{name}>", folder)
    return path


# -- what jobs are told


def extraction_job(config: Mapping, variant: str) -> ExtractionJob:
    """Settings of the extraction in a variant."""
    return read_settings(ExtractionJob, resolve_variant(config, variant), f"variants.{variant}")


def refinement_job(config: Mapping, variant: str, refinement: str) -> RefinementJob:
    """Settings of a refinement of a variant's attention."""
    settings = config["refinements"][refinement]
    added = {
        "crf": config["crf"] if settings["crf"] else None,
        "profile": resolve_variant(config, variant)["profile"],
    }
    return read_settings(RefinementJob, settings | added, f"refinements.{refinement}")


def labelling_job(config: Mapping, labelling: str) -> LabellingJob:
    """Settings of the post-processing of generated images or inverted photos."""
    settings = config["labellings"][labelling] | {"crf": config["labelling_crf"]}
    return read_settings(LabellingJob, settings, f"labellings.{labelling}")


def generation_job(config: Mapping) -> Generation:
    """Settings of image generation."""
    return read_settings(Generation, config["generation"], "generation")


def inversion_job(config: Mapping, inversion: str) -> InversionJob:
    """Settings of an inversion, without the number of photos."""
    return _part(InversionJob, config["inversions"][inversion], f"inversions.{inversion}")


def lora_job(config: Mapping, lora: str) -> LoraJob:
    """Settings of an adapter's training, without its photos."""
    more = {"seed": config["seed"], "guidance": config["generation"]["guidance"]}
    return _part(LoraJob, config["loras"][lora] | more, f"loras.{lora}")


def class_images_job(config: Mapping) -> ClassImagesJob:
    """Settings of the generation of images of the subjects' class."""
    return _part(ClassImagesJob, subject_training_job(config).dump(), "personalised.training")


def subject_training_job(config: Mapping) -> SubjectTrainingJob:
    """Settings of the training of subjects."""
    settings = config["personalised"]["training"] | {"seed": config["seed"]}
    return read_settings(SubjectTrainingJob, settings, "personalised.training")


def subject_segmentation_job(config: Mapping) -> SubjectSegmentationJob:
    """Settings of personalised segmentation; blocks that are not set are the model's, or else the paper's."""
    settings = dict(config["personalised"]["segmentation"]) | {"seed": config["seed"]}
    for key in ("cross_blocks", "self_block"):
        if settings[key] is None:
            settings[key] = config["model"][key]
        if settings[key] == "usual":
            del settings[key]
    return read_settings(SubjectSegmentationJob, settings, "personalised.segmentation")


def segmentor_job(config: Mapping, segmentor: str) -> Segmentor:
    """The training of a segmentor; its data are another matter."""
    settings = resolve_run(config, segmentor)
    weights = real_path(backbone_weights(settings), config)
    return read_segmentor(settings | {"pretrained": weights or None}, f"segmentors.{segmentor}")


def backbone_weights(settings: Mapping) -> str:
    """The file of the ImageNet weights that a segmentor starts from; "" for random ones."""
    pretrained = settings["pretrained"] or ""
    if pretrained.startswith("https:"):
        return f"<resources>/models/{Path(pretrained).stem}.safetensors"
    return pretrained


def test_job(config: Mapping, segmentor: str) -> TestJob:
    """Settings of a segmentor's evaluation."""
    settings = config["segmentors"][segmentor.partition("@")[0]]["test"]
    added = (
        {"crf": config["crf"], "profile": config["profile"]} if settings["crf"] else {"crf": None}
    )
    return read_settings(TestJob, settings | added, f"segmentors.{segmentor}.test")


def prediction_job(config: Mapping, segmentor: str) -> TestJob:
    """Settings of a prediction that is refined by another job, where the CRF's belong."""
    return test_job(config, segmentor).but(crf=None, profile="paper")


test_job.__test__ = False  # type: ignore[attr-defined]  # no test of pytest's


def _part(cls: type[Stage], values: Mapping, where: str) -> Stage:
    """Settings of class `cls`, from those of its keys that are in `values`."""
    known = {key: value for key, value in values.items() if key in cls.model_fields}
    return read_settings(cls, known, where)


# -- checks


def _check_references(config: dict, files: list) -> None:
    """Names that point at another part of the configuration exist there."""
    uses: dict[Keys, Any] = {
        ("pictures", name): shown for name, shown in config["pictures"].items()
    }
    uses["figures", "voc_figure_d9"] = config["figures"]["voc_figure_d9"]
    for name, entry in config["datasets"].items():
        if name == "generated":
            raise UserError(
                f"{_where(('datasets', name), files)}: `datasets.generated`: that folder holds the masks "
                "of generated images; choose another name"
            )
        try:
            datasets.load(name, entry)
            if entry["vocabulary"] not in (None, *config["datasets"]):
                datasets.load(entry["vocabulary"])
        except UserError as error:
            raise UserError(f"{_where(('datasets', name), files)}: {error}") from None
    for name in config["leave_out"]:
        _require(name, config["segmentors"] | config["variants"], ("leave_out", name), files)
    for name, prediction in config["predictions"].items():
        keys: Keys = ("predictions", name)
        _require(prediction["segmentor"], config["segmentors"], (*keys, "segmentor"), files)
        if name in config["pictures"]:
            raise UserError(
                f"{_where(keys, files)}: `predictions.{name}` is also the name of a picture, and they "
                "would share a file; rename one"
            )
    for name, segmentor in config["segmentors"].items():
        uses["segmentors", name, "train"] = segmentor["train"]
    for at, train in uses.items():
        _require(train["dataset"], config["datasets"], (*at, "dataset"), files)
        if train.get("synthesis") is not None:
            _check_synthetic(config, train, at, files)
            continue
        splits = config["datasets"][train["dataset"]]["splits"]
        _require(train["split"], splits, (*at, "split"), files)
        if train["masks"] != "truth":
            variant, _, refinement = train["masks"].partition("/")
            inverted = variant in config["inversions"]
            known = config["labellings" if inverted else "refinements"]
            names = [*config["variants"], *config["inversions"]]
            _require(variant, dict.fromkeys(names), (*at, "masks"), files)
            _require(refinement, known, (*at, "masks"), files)
    for name, segmentor in config["segmentors"].items():
        dataset = segmentor["train"]["dataset"]
        facts = datasets.load(dataset, config["datasets"][dataset])
        if segmentor["loss"] == "balanced" and not facts.background:
            raise UserError(
                f"{_where(('segmentors', name), files)}: `segmentors.{name}.loss`: balanced, but "
                f"{dataset} has no background; set `loss: plain`"
            )
    _check_figures(config, files)
    for name, synthesis in config["synthesis"].items():
        _require(synthesis["dataset"], config["datasets"], ("synthesis", name, "dataset"), files)
        if synthesis["lora"] is not None:
            _require(synthesis["lora"], config["loras"], ("synthesis", name, "lora"), files)
    for name, lora in config["loras"].items():
        _require(lora["dataset"], config["datasets"], ("loras", name, "dataset"), files)
        splits = config["datasets"][lora["dataset"]]["splits"]
        _require(lora["split"], splits, ("loras", name, "split"), files)
    features = config["personalised"]["features"]
    if features is not None:
        _require(features, config["segmentors"], ("personalised", "features"), files)
    for name, variant in config["variants"].items():
        if (backbone := (variant or {}).get("backbone")) is not None:
            _require(backbone, config["backbones"], ("variants", name, "backbone"), files)
    for kind in ("variants", "inversions"):
        if "reference" in config[kind]:
            raise UserError(
                f"{_where((kind, 'reference'), files)}: `{kind}.reference`: that folder holds the "
                "reference masks; choose another name"
            )
    for name in config["methods"]:
        for kind in ("variants", "inversions"):
            if name in config[kind] or name == "reference":
                raise UserError(
                    f"{_where(('methods', name), files)}: `methods.{name}`: "
                    f"{'the reference masks' if name == 'reference' else f'`{kind}.{name}`'} would "
                    "share its folder; rename it"
                )
    for name in config["inversions"]:
        if name in config["variants"]:
            raise UserError(
                f"{_where(('inversions', name), files)}: `inversions.{name}` is also the name of a "
                "variant, and their masks would share a folder; rename one"
            )


def _check_figures(config: dict, files: list) -> None:
    """The masks that the figures are drawn from can be made."""
    keys: Keys
    shown, keys = config["figures"]["voc_figure_2"], ("figures", "voc_figure_2")
    _require(shown["dataset"], config["datasets"], (*keys, "dataset"), files)
    splits = config["datasets"][shown["dataset"]]["splits"]
    _require(shown["split"], splits, (*keys, "split"), files)
    _require(shown["variant"], config["variants"], (*keys, "variant"), files)
    at = ("figures", "backbones")
    table = config["figures"]["backbones"]
    for i, row in enumerate(table["rows"]):
        _require(row["variant"], config["variants"], (*at, "rows", i, "variant"), files)
        _require(table["dataset"], config["datasets"], (*at, "dataset"), files)
        splits = config["datasets"][table["dataset"]]["splits"]
        _require(table["split"], splits, (*at, "split"), files)
    at = ("figures", "voc_figure_b8")
    figure = config["figures"]["voc_figure_b8"]
    for curve, points in figure["curves"].items():
        _require(figure["dataset"], config["datasets"], (*at, "dataset"), files)
        splits = config["datasets"][figure["dataset"]]["splits"]
        _require(figure["split"], splits, (*at, "split"), files)
        for i, point in enumerate(points):
            variant, _, refinement = point["masks"].partition("/")
            keys = (*at, "curves", curve, i, "masks")
            _require(variant, config["variants"], keys, files)
            _require(refinement, config["refinements"], keys, files)


def _check_synthetic(config: dict, train: dict, at: Keys, files: list) -> None:
    """Check that the images on which a segmentor is trained are configured, and enough of them."""
    _require(train["synthesis"], config["synthesis"], (*at, "synthesis"), files)
    _require(train["masks"], config["labellings"], (*at, "masks"), files)
    synthesis = config["synthesis"][train["synthesis"]]
    keys = (*at, "images")
    if train["split"] is not None:
        raise UserError(
            f"{_where((*at, 'split'), files)}: `{dotted((*at, 'split'))}`: generated images have no "
            "split; set it to null, or `synthesis`"
        )
    if synthesis["dataset"] != train["dataset"]:
        raise UserError(
            f"{_where((*at, 'dataset'), files)}: `{dotted((*at, 'dataset'))}`: "
            f"synthesis.{train['synthesis']} has the classes of {synthesis['dataset']}; set it to that"
        )
    if (train["images"] or 1) > synthesis["count"]:
        raise UserError(
            f"{_where(keys, files)}: `{dotted(keys)}`: {train['images']} images, but "
            f"synthesis.{train['synthesis']} has {synthesis['count']}; raise its count"
        )


def _require(name: str, known: Mapping, keys: Keys, files: list) -> None:
    if name not in known:
        raise UserError(
            f"{_where(keys, files)}: `{dotted(keys)}`: {name!r} is not configured"
            f"{nearest(name, known)}; configured are {', '.join(known)}"
        )


def _where(keys: Keys, files: list, value: object = None) -> str:
    """``file:line`` of the last file that sets `keys`, or ``config`` if none does.

    If `value` is given, only files with that value there count: --config may have overridden it.
    """
    for file in reversed(files):
        line, found = line_of(file, keys)
        if line is not None and value in (None, found):
            name = os.path.relpath(file)
            return f"{file if name.startswith('..') else name}:{line}"
    return "config"


def line_of(file: str | Path, keys: Keys) -> tuple[int | None, object]:
    """(line of `keys` in a YAML file, counted from 1; its value), or (None, None) if absent."""
    try:
        text = Path(file).read_text()
        node, value = yaml.compose(text), yaml.safe_load(text)
    except (OSError, yaml.YAMLError):
        return None, None
    line = None
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if k.value == str(key)]
            if not found or key not in value:
                return None, None
            line = found[0][0].start_mark.line + 1
            node = found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        else:
            return None, None
        value = value[key]
    return line, value
