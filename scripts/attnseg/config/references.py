"""Names in a configuration that point at another part of it, and those that would share a folder.

Errors are one line with the nearest name; `files`, here throughout, are those that the configuration was
read from, so that the line of the wrong name can be told.
"""

from collections.abc import Mapping
from typing import Any

from attnseg import datasets
from attnseg.config.places import where, wrong
from attnseg.errors import UserError
from attnseg.settings.base import Keys, nearest


def check_references(config: dict, files: list) -> None:
    """Refuse a configuration in which a name points at nothing, or two would share a folder."""
    _check_datasets(config, files)
    for name in config["leave_out"]:
        _require(name, config["segmentors"] | config["variants"], ("leave_out", name), files)
    for name, prediction in config["predictions"].items():
        keys = ("predictions", name, "segmentor")
        _require(prediction["segmentor"], config["segmentors"], keys, files)
    _check_masks(config, files)
    _check_figures(config, files)
    _check_generation(config, files)
    features = config["personalised"]["features"]
    if features is not None:
        _require(features, config["segmentors"], ("personalised", "features"), files)
    for name, variant in config["variants"].items():
        if (backbone := (variant or {}).get("backbone")) is not None:
            _require(backbone, config["backbones"], ("variants", name, "backbone"), files)
    _check_folders(config, files)


def _check_datasets(config: dict, files: list) -> None:
    """Every data set can be loaded, and so can the one whose words it takes."""
    for name, entry in config["datasets"].items():
        if name == "generated":
            raise wrong(
                ("datasets", name),
                files,
                "that folder holds the masks of generated images; choose another name",
            )
        try:
            datasets.load(name, entry)
            if entry["vocabulary"] not in (None, *config["datasets"]):
                datasets.load(entry["vocabulary"])
        except UserError as error:
            raise UserError(f"{where(('datasets', name), files)}: {error}") from None


def _check_masks(config: dict, files: list) -> None:
    """The masks of pictures and of segmentors can be made, and a segmentor's loss fits them."""
    uses: dict[Keys, Any] = {
        ("pictures", name): shown for name, shown in config["pictures"].items()
    }
    uses["figures", "voc_figure_d9"] = config["figures"]["voc_figure_d9"]
    for name, segmentor in config["segmentors"].items():
        uses["segmentors", name, "train"] = segmentor["train"]
    for at, train in uses.items():
        if train.get("synthesis") is not None:
            _check_synthetic(config, train, at, files)
            continue
        _require_split(train, config, at, files)
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
                f"{where(('segmentors', name), files)}: `segmentors.{name}.loss`: balanced, but "
                f"{dataset} has no background; set `loss: plain`"
            )


def _check_synthetic(config: dict, train: dict, at: Keys, files: list) -> None:
    """The images on which a segmentor is trained are configured, and enough of them."""
    _require(train["dataset"], config["datasets"], (*at, "dataset"), files)
    _require(train["synthesis"], config["synthesis"], (*at, "synthesis"), files)
    _require(train["masks"], config["labellings"], (*at, "masks"), files)
    synthesis = config["synthesis"][train["synthesis"]]
    if train["split"] is not None:
        reason = "generated images have no split; set it to null, or `synthesis`"
        raise wrong((*at, "split"), files, reason)
    if synthesis["dataset"] != train["dataset"]:
        raise wrong(
            (*at, "dataset"),
            files,
            f"synthesis.{train['synthesis']} has the classes of {synthesis['dataset']}; set it to that",
        )
    if (train["images"] or 1) > synthesis["count"]:
        raise wrong(
            (*at, "images"),
            files,
            f"{train['images']} images, but synthesis.{train['synthesis']} has {synthesis['count']}; "
            "raise its count",
        )


def _check_figures(config: dict, files: list) -> None:
    """The masks that the figures are drawn from can be made."""
    shown, at = config["figures"]["voc_figure_2"], ("figures", "voc_figure_2")
    _require_split(shown, config, at, files)
    _require(shown["variant"], config["variants"], (*at, "variant"), files)
    table, at = config["figures"]["backbones"], ("figures", "backbones")
    for i, row in enumerate(table["rows"]):
        _require(row["variant"], config["variants"], (*at, "rows", i, "variant"), files)
        _require_split(table, config, at, files)
    figure, at = config["figures"]["voc_figure_b8"], ("figures", "voc_figure_b8")
    for curve, points in figure["curves"].items():
        _require_split(figure, config, at, files)
        for i, point in enumerate(points):
            variant, _, refinement = point["masks"].partition("/")
            keys = (*at, "curves", curve, i, "masks")
            _require(variant, config["variants"], keys, files)
            _require(refinement, config["refinements"], keys, files)


def _check_generation(config: dict, files: list) -> None:
    """Generated images have a data set's classes; an adapter has photos of a domain."""
    for name, synthesis in config["synthesis"].items():
        _require(synthesis["dataset"], config["datasets"], ("synthesis", name, "dataset"), files)
        if synthesis["lora"] is not None:
            _require(synthesis["lora"], config["loras"], ("synthesis", name, "lora"), files)
    for name, lora in config["loras"].items():
        _require_split(lora, config, ("loras", name), files)


def _check_folders(config: dict, files: list) -> None:
    """No two names are those of one folder or file."""
    for name in config["predictions"]:
        if name in config["pictures"]:
            raise UserError(
                f"{where(('predictions', name), files)}: `predictions.{name}` is also the name of a "
                "picture, and they would share a file; rename one"
            )
    for kind in ("variants", "inversions"):
        if "reference" in config[kind]:
            reason = "that folder holds the reference masks; choose another name"
            raise wrong((kind, "reference"), files, reason)
    for name in config["methods"]:
        for kind in ("variants", "inversions"):
            if name in config[kind] or name == "reference":
                other = "the reference masks" if name == "reference" else f"`{kind}.{name}`"
                reason = f"{other} would share its folder; rename it"
                raise wrong(("methods", name), files, reason)
    for name in config["inversions"]:
        if name in config["variants"]:
            raise UserError(
                f"{where(('inversions', name), files)}: `inversions.{name}` is also the name of a "
                "variant, and their masks would share a folder; rename one"
            )


def _require_split(used: Mapping, config: dict, at: Keys, files: list) -> None:
    """The data set and the split that the entry `used` names, at the keys `at`."""
    _require(used["dataset"], config["datasets"], (*at, "dataset"), files)
    splits = config["datasets"][used["dataset"]]["splits"]
    _require(used["split"], splits, (*at, "split"), files)


def _require(name: str, known: Mapping, keys: Keys, files: list) -> None:
    if name not in known:
        raise wrong(
            keys,
            files,
            f"{name!r} is not configured{nearest(name, known)}; configured are {', '.join(known)}",
        )
