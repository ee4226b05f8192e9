"""The tables, figures and pictures that a configuration can make, and the evaluations behind each."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from attnseg.config.resolved import model_of, real_path, resolve_variant
from attnseg.evaluations import GIVEN, Evaluation
from attnseg.jobs import REFERENCES, Flags, Jobs, device
from attnseg.results import (
    FIGURES,
    GENERATED_PICTURES,
    PICTURES,
    TABLES,
    TARGETS,
    Table,
    claims,
    competitors,
    evaluations_needed,
)

GROUPS = ("attn2mask", "mug19", "claims", "backbones")  # the rest is Text2Mask's
# metric -> refinement
CROSS = {"Initial": "cross_none", "dCRF": "cross_crf"}
PROPAGATED = {"Initial": "none", "dCRF": "crf"}
INITIAL = (CROSS["Initial"], PROPAGATED["Initial"])


@dataclass(frozen=True)
class Targets:
    jobs: Jobs
    tables: Mapping[str, Table] = field(default_factory=lambda: TABLES)

    @property
    def config(self) -> Mapping:
        return self.jobs.config

    # -- which there are

    @cached_property
    def available(self) -> list[str]:
        """Those that this configuration can make."""
        known = dict.fromkeys((*TARGETS, *self.pictures))
        return [target for target in known if self.is_available(target)]

    @property
    def pictures(self) -> list[str]:
        """The names of all pictures."""
        own = (*self.config["pictures"], *self.config["predictions"])
        return list(dict.fromkeys((*PICTURES, *own)))

    @property
    def wanted(self) -> list[str]:
        """Those that a run without a named target makes."""
        named = self.config["targets"]
        return self.available if named == "all" else named

    def is_available(self, target: str) -> bool:
        """True if this configuration can make a target; a table needs at least one value of ours."""
        if target in self.tables:
            return bool(self.measured(target))
        if target in ("claims", "voc_figure_2", *self.config["predictions"]):
            return True
        if target in GENERATED_PICTURES:
            return set(GENERATED_PICTURES[target]) <= set(self.config["synthesis"])
        if target == "mug19_figure_5":
            return "mug19" in self.config["datasets"]
        shown = self.shown("backbones" if target == "backbones_picture" else target)
        return bool(shown) and all(evaluation.can_be_made(self.config) for evaluation in shown)

    def group(self, name: str) -> list[str]:
        """The files of the available targets of a group; the ledger, of both papers, is in none."""
        first = {target: target.split("_")[0] for target in self.available}
        groups = {target: word if word in GROUPS else "text2mask" for target, word in first.items()}
        return [self.file(target) for target in self.available if groups[target] == name]

    def file(self, target: str) -> str:
        """The file that a target is."""
        if "/" in target:
            return target
        return f"<results>/{target}.{'png' if target in self.pictures else 'csv'}"

    def drawing(self, target: str) -> list[str]:
        """The drawing that a target brings along, if any."""
        if target in FIGURES:
            return [f"<results>/{target}.svg"]
        return [self.file(target)] if target in self.pictures else []

    def reported(self) -> list[str]:
        """The tables, figures and claims in the report."""
        pictures = self.pictures
        return [self.file(t) for t in self.wanted if t not in pictures and "/" not in t]

    def others(self) -> list[str]:
        """Files among the targets, after which the report comes, so that it has their costs."""
        return [t for t in self.wanted if "/" in t and t != "<results>/report.zip"]

    def captions(self) -> list[str]:
        """The texts under what is in the report; pictures of one's own have none there."""
        return [f"<captions>/{t}.rst" for t in self.wanted if t in TARGETS]

    def paper(self, target: str) -> str:
        """The paper whose table it is."""
        return self.tables[target].number.split(",")[0]

    # -- tables

    def is_made(self, evaluation: Evaluation) -> bool:
        """True if an evaluation exists already."""
        return Path(real_path(evaluation.path, self.config)).is_file()

    def command(self, evaluation: Evaluation) -> str | None:
        """The command that makes an evaluation which this run leaves out; None for one it makes."""
        if self.config["targets"] == "all":
            return None
        return self.config["leave_out"].get(evaluation.method)

    def made(self, evaluation: Evaluation) -> bool:
        """True if this run makes an evaluation, or if it exists already."""
        return self.is_made(evaluation) or self.command(evaluation) is None

    def configured(self, target: str) -> list[Evaluation]:
        """The evaluations of a table that this configuration can make; other cells say why not."""
        named = map(Evaluation.parse, evaluations_needed(self.tables[target]))
        return [evaluation for evaluation in named if evaluation.can_be_made(self.config)]

    def measured(self, target: str) -> list[Evaluation]:
        """The evaluations in a table: those that this run makes, and others that are there already."""
        return list(filter(self.made, self.configured(target)))

    def metrics(self, target: str) -> list[str]:
        """The files of the evaluations in a table."""
        return [evaluation.path for evaluation in self.measured(target)]

    def submissions(self, target: str) -> dict[str, str]:
        """What only an evaluation server can score in a table, and the record of the archive for it."""
        named = map(Evaluation.parse, evaluations_needed(self.tables[target]))
        return {
            str(evaluation): f"<results>/submissions/{evaluation.method}/{evaluation.split}.json"
            for evaluation in named
            if evaluation.needs_server(self.config)
        }

    def submission_records(self, target: str) -> list[str]:
        """The records of the archives for an evaluation server, as an input."""
        return list(self.submissions(target).values())

    def evaluations_flags(self, target: str) -> Flags:
        """The evaluations of a table and their files; those that are left out and their commands."""
        measured = self.measured(target)
        left_out = [e for e in self.configured(target) if e not in measured]
        submissions = self.submissions(target).items()
        return {
            "evaluations": [f"{e}={real_path(e.path, self.config)}" for e in measured] or None,
            "left_out": [f"{e}={self.command(e)}" for e in left_out] or None,
            "submissions": [f"{name}={real_path(file, self.config)}" for name, file in submissions]
            or None,
            "methods": competitors.argument(self.tables[target]) or None,
        }

    def provenance_flags(self, target: str) -> Flags:
        """Flags for what a table's provenance records besides the evaluations."""
        resources = self.config["paths"]["resources"]
        data: dict[str, None] = {}
        for evaluation in self.measured(target):
            name = evaluation.data(self.config)
            data[f"{name}={resources}/{name}.json"] = None
            if name and evaluation.postprocessing == GIVEN:
                folder = self.jobs.masks.given(name, evaluation.split, evaluation.method)
                data[f"{evaluation}={folder}"] = None
        if not data:
            return {}
        return {
            "data": list(data),
            "model": [f"{self.config['model']['path']}={self.jobs.models.folder}"],
            "device": device(self.config),
            "benchmarks": self.benchmarks,
        }

    @property
    def benchmarks(self) -> str:
        """The folder of the records of all jobs."""
        return f"{self.config['paths']['work']}/benchmarks"

    def cost_flags(self) -> Flags:
        """Flags for the folder of the jobs' records, for a figure's provenance."""
        return {"benchmarks": self.benchmarks, "device": device(self.config)}

    # -- figures and pictures

    def shown(self, target: str) -> list[Evaluation]:
        """The masks that a figure or a picture shows, by their evaluations."""
        if target in self.pictures:
            shown = self.config["pictures"].get(target)
            return [] if shown is None else [masks_of(shown)]
        shown = self.config["figures"][target]
        if target == "backbones":
            return [
                masks_of(shown, f"{row['variant']}/{refinement}")
                for row in shown["rows"]
                for refinements in self.readings(row["variant"]).values()
                for refinement in refinements.values()
            ]
        curves = shown.get("curves")
        if curves is None:
            return [masks_of(shown)]
        points = [point["masks"] for curve in curves.values() for point in curve]
        return [masks_of(shown, masks) for masks in dict.fromkeys(points)]

    def similarity(self, target: str) -> str:
        """The file that says how alike the classes of the images of some masks are."""
        (shown,) = self.shown(target)
        return f"<work>/evaluation/similarity/{shown.masks}/per_image.npz"

    def curve_metrics(self, target: str) -> list[str]:
        """The evaluations of the points of a figure's curves."""
        return [evaluation.path for evaluation in self.shown(target)]

    def curves_flags(self, target: str) -> Flags:
        """A figure's curves as configured, and the evaluations of their points."""
        pairs = [
            f"{shown.method}/{shown.postprocessing}={real_path(shown.path, self.config)}"
            for shown in self.shown(target)
        ]
        # as text: in the configuration's order
        curves = json.dumps(self.config["figures"][target]["curves"])
        return {"curves": curves, "evaluations": pairs}

    def readings(self, variant: str) -> dict[str, dict[str, str]]:
        """The rows of a variant in the table of backbones: the refinement of each metric."""
        rows = {"": CROSS}
        if resolve_variant(self.config, variant)["self_block"] is not None:
            rows["propagated"] = PROPAGATED
        return rows

    def backbone_rows(self) -> list[dict]:
        """The rows of the table of backbones: their protocol, and the files of their evaluations or, where
        the model is not there, the reason."""
        shown, rows = self.config["figures"]["backbones"], []
        for row in shown["rows"]:
            variant, folder = row["variant"], model_of(self.config, row["variant"])["path"]
            for propagation, refinements in self.readings(variant).items():
                evaluations = {m: masks_of(shown, f"{variant}/{r}") for m, r in refinements.items()}
                made = all(e.can_be_made(self.config) for e in evaluations.values())
                files = {m: real_path(e.path, self.config) for m, e in evaluations.items()}
                parts = (row["backbone"], row["reading"], propagation)
                rows.append(
                    {
                        "method": ", ".join(filter(None, parts)),
                        "protocol": self.protocol(shown, variant, refinements["Initial"]),
                        "missing": "" if made else f"no folder {folder}: put the model there",
                        "files": files if made else {},
                    }
                )
        return rows

    def readings_folders(self) -> dict[str, str]:
        """The folders of the initial masks of each row of the table of backbones that can be made."""
        work = self.config["paths"]["work"]
        return {
            row["method"]: f"{work}/masks/{evaluation.masks}" for row, evaluation in self._initial()
        }

    def readings_files(self) -> dict[str, str | list[str]]:
        """The masks that the picture of backbones shows, and the attention that names its photos."""
        shown = [evaluation for _, evaluation in self._initial()]
        return {
            "attention": f"<work>/attention/{shown[0].masks.rpartition('/')[0]}/manifest.json",
            "masks": [f"<work>/masks/{evaluation.masks}/manifest.json" for evaluation in shown],
        }

    def _initial(self) -> list[tuple[dict, Evaluation]]:
        initial = [e for e in self.shown("backbones") if e.postprocessing in INITIAL]
        rows = zip(self.backbone_rows(), initial, strict=True)
        return [(row, evaluation) for row, evaluation in rows if not row["missing"]]

    def protocol(self, shown: Mapping, variant: str, refinement: str) -> str:
        """What a mean IoU depends on: labels, blocks, timestep, size, background's score, CRF."""
        extraction = resolve_variant(self.config, variant)
        background = self.config["refinements"][refinement]["background"]
        labels = self.jobs.data.label_source(shown["dataset"], extraction["profile"])
        threshold, power = background["threshold"], background["power"]
        score = f"{threshold:g}" if power is None else f"({threshold:g} - max)^{power:g}"
        crf = self.config["crf"]["bilateral"]
        said = {
            "labels": labels,
            "split": f"{shown['dataset']} {shown['split']}",
            "reading": extraction["reading"],
            "tokens": extraction["tokens"],
            "Cross": _blocks(extraction["cross_blocks"]),
            "Self": _blocks(extraction["self_block"]),
            "t": extraction["timestep"],
            "noises": extraction["noises"],
            "size": extraction["resize"],
            "background": score,
            "dCRF": f"sxy {crf['sxy']:g}, srgb {crf['srgb']:g}",
        }
        return ", ".join(f"{key} {value}" for key, value in said.items())

    def backbone_metrics(self) -> list[str]:
        """The evaluations of the table of backbones that can be made, as an input."""
        return [e.path for e in self.shown("backbones") if e.can_be_made(self.config)]

    # -- claims

    @cached_property
    def claimed(self) -> list[tuple[str, Evaluation]]:
        """(the name of an evaluation in the claims, one of its runs) for each that can be made."""
        runs = []
        for name in claims.evaluations_needed():
            if name == claims.SIMILARITY:
                if self.is_available(name):
                    (shown,) = self.shown(name)
                    runs.append((name, Evaluation.parse(f"similarity/{shown.masks}")))
                continue
            if name.startswith((claims.FIGURE, claims.BACKBONES)):
                figure, _, masks = name.partition("/")
                evaluation = masks_of(self.config["figures"][figure], masks)
            else:
                evaluation = Evaluation.parse(name)
            if evaluation.can_be_made(self.config):
                trained = evaluation.trained
                trainings = self.config["claims"]["training_runs"] if trained else 1
                runs += [(name, evaluation.again(run)) for run in range(1, 1 + trainings)]
        return runs

    def claimed_metrics(self) -> list[str]:
        """The files of the evaluations behind the claims."""
        return list(dict.fromkeys(evaluation.path for _, evaluation in self.claimed))

    def claims_flags(self) -> Flags:
        """The evaluations behind the claims, and what the ledger's provenance records."""
        return {
            "evaluations": [f"{name}={real_path(e.path, self.config)}" for name, e in self.claimed],
            "resamples": self.config["claims"]["resamples"],
            "device": device(self.config),
            "benchmarks": self.benchmarks,
        }

    # -- the report

    def references(self) -> list[str]:
        """Evaluations printed beside the tables, in none of them: of masks without a model, and of
        segmentors trained on ground truth."""
        masks: dict[Evaluation, None] = {}
        trained: dict[tuple, None] = {}
        segmentors = self.config["segmentors"]
        for target in filter(self.tables.get, self.wanted):
            for evaluation in self.measured(target):
                dataset, split = evaluation.data(self.config), evaluation.split
                if dataset is None:  # measured evaluations have one
                    continue
                facts = self.jobs.data.facts[dataset]
                if evaluation.trained:
                    architecture = segmentors[evaluation.method]["architecture"]
                    trained[split, dataset, architecture] = None
                if facts.background and facts.label_sources:
                    for reference in REFERENCES:
                        of_none = Evaluation("masks", split, "reference", dataset, reference)
                        masks[of_none] = None
        of_truth = [
            Evaluation("segmentors", split, name)
            for name, settings in segmentors.items()
            for split, dataset, architecture in trained
            if settings["train"]["masks"] == "truth"
            and settings["train"]["dataset"] == dataset
            and settings["architecture"] == architecture
        ]
        named = [target for target in self.wanted if target.endswith("/metrics.json")]
        return [evaluation.path for evaluation in (*masks, *filter(self.made, of_truth))] + named


def masks_of(shown: Mapping, masks: str | None = None) -> Evaluation:
    """The evaluation of the masks of an entry of `figures` or `pictures`, or of others beside them."""
    name = f"masks/{shown['dataset']}/{shown['split']}/{masks or shown['masks']}"
    return Evaluation.parse(name)


def _blocks(said: object) -> str:
    """Blocks as configured: their numbers or places, or `usual`, which is what the model's family takes."""
    return " ".join(map(str, said)) if isinstance(said, list | tuple) else str(said)
