"""The checked configuration, and what rules derive from it."""

import json
import math
import os
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

REPOSITORY = Path(str(workflow.basedir))
sys.path.insert(0, str(REPOSITORY / "scripts"))

from attnseg.config import prepare, resolve_segmentor, resolve_variant
from attnseg.errors import UserError
from attnseg.tables import TABLES, evaluations_needed, find

# `python` in a rule is the interpreter that runs Snakemake, unless a conda env puts its own first
os.environ.update(
    PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
)


def checked_config():
    """The configuration with its defaults. A mistake in it ends the run with one line."""
    schema = REPOSITORY / "workflow" / "schemas" / "config.schema.yaml"
    try:
        checked = prepare(config, schema, workflow.configfiles)
        for target in checked["targets"]:
            find(target)
        return checked
    except UserError as error:
        raise SystemExit(f"error: {error}")


config.update(checked_config())


pathvars:
    results=config["paths"]["results"],
    work=config["paths"]["work"],
    resources=config["paths"]["resources"],
    logs=f"{config['paths']['work']}/logs",
    benchmarks=f"{config['paths']['work']}/benchmarks",
    # of the repository, which need not be the working directory
    scripts=os.path.relpath(REPOSITORY / "scripts"),
    assets=os.path.relpath(REPOSITORY / "assets"),
    published=os.path.relpath(REPOSITORY / "config" / "published"),
    captions=os.path.relpath(REPOSITORY / "workflow" / "report"),


# masks that take no model, to know what a mean IoU is worth
REFERENCES = ["all_background", "random_labels"]


def one_of(names):
    """A wildcard's constraint to names; of none, what matches nothing."""
    return "|".join(names) or "(?!)"


wildcard_constraints:
    dataset="|".join(config["datasets"]),
    split=r"[\w-]+",
    variant=one_of([*config["variants"], *config["inversions"], "reference"]),
    refinement=one_of([*config["refinements"], *config["labellings"], *REFERENCES]),
    synthesis=one_of(config["synthesis"]),
    lora=one_of(config["loras"]),
    inversion=one_of(config["inversions"]),
    labelling=one_of(config["labellings"]),
    number=r"\d+",
    segmentor="|".join(config["segmentors"]),
    shard=r"\d{5}",
    target="|".join(TABLES),


# -- resources


def gpus(wildcards):
    """GPUs of a job that needs one; a run that grants too few is refused, not slowed down."""
    needed = config["resources"]["gpu_per_job"]
    granted = workflow.global_resources.get("gpu").value
    if config["device"] != "cpu" and granted is not None and granted < needed:
        raise WorkflowError(
            f"this job needs {needed} GPU and the run grants {granted} (--resources gpu={granted}); "
            f"grant gpu={needed}, or set `device: cpu` in the configuration"
        )
    return needed


def device():
    """What programs are told: with a GPU granted to the job, no quiet fall back on the CPU."""
    if config["device"] == "auto" and config["resources"]["gpu_per_job"] > 0:
        return "cuda"
    return config["device"]


def growing(amount):
    """A resource that grows with every retry of a job."""
    return lambda wildcards, attempt: amount * attempt


# -- data sets


# folders of the masks that segmentors learn from; those of other data sets are written anew
TRUE_MASKS = {"voc": "SegmentationClassAug", "coco": "masks"}


def split_settings(dataset, split):
    """What is configured for a split."""
    splits = config["datasets"][dataset]["splits"]
    if split not in splits:
        raise WorkflowError(
            f"datasets.{dataset}.splits has no {split!r}; configured are {', '.join(splits)}"
        )
    return splits[split]


def dataset_manifest(dataset, split):
    """The manifest that says a data set is there, with every split that is configured."""
    split_settings(dataset, split)
    return f"<resources>/{dataset}.json"


def split_manifest(wildcards):
    """The same, as an input."""
    return dataset_manifest(wildcards.dataset, wildcards.split)


def images_listed(wildcards):
    """How many images a split lists."""
    return split_settings(wildcards.dataset, wildcards.split)["images"]


def download_flags(wildcards):
    """What a data set must hold, and where."""
    settings = config["datasets"][wildcards.dataset]
    return flags(
        dataset=wildcards.dataset,
        root=settings["root"],
        source=settings["source"],
        splits=[
            f"{name}={split['images']}" for name, split in settings["splits"].items()
        ],
    )


def dataset_flags(wildcards):
    """The flags of every program that reads a split."""
    return flags(
        dataset=wildcards.dataset,
        root=config["datasets"][wildcards.dataset]["root"],
        split=wildcards.split,
    )


def photo_flags(wildcards):
    """The flags of a program that reads the photos named by an earlier one."""
    root = config["datasets"][wildcards.dataset]["root"]
    return flags(dataset=wildcards.dataset, root=root)


def dataset_name(dataset):
    """The name printed in tables."""
    return config["datasets"][dataset]["name"] or dataset


def mask_labels(wildcards):
    """What tables print beside a number: which data set, which model, which seed."""
    reference = wildcards.variant == "reference"
    of_run = reference or wildcards.variant in config["inversions"]
    return flags(
        dataset_name=dataset_name(wildcards.dataset),
        model=wildcards.refinement if reference else config["model"]["path"],
        seed=(config if of_run else resolve_variant(config, wildcards.variant))["seed"],
    )


def scored_images(wildcards):
    """How many images of a split have masks, where not all."""
    if wildcards.variant not in config["inversions"]:
        return ""
    return flags(
        limit=config["inversions"][wildcards.variant]["images"].get(wildcards.split)
    )


def reference_flags(wildcards):
    """How reference masks are made."""
    labels = label_source(wildcards.dataset, config["profile"])
    return flags(kind=wildcards.refinement, labels=labels, seed=config["seed"])


# -- models


def model_folder():
    """The folder that the model is loaded from."""
    if config["model"]["revision"] is None:
        return config["model"]["path"]
    name = "--".join(Path(config["model"]["path"]).parts)
    return f"{config['paths']['resources']}/models/{name}"


def model_files(wildcards):
    """The model as an input: its index, and the weights where they are here already."""
    folder = Path(model_folder())
    weights = []
    if config["model"]["revision"] is None:
        weights = sorted(map(str, folder.glob("*/*.safetensors")))
    return [str(folder / "model_index.json"), *weights]


def backbone_weights(wildcards):
    """The file of a segmentor's ImageNet weights, "" where it starts from random ones."""
    pretrained = segmentor_settings(wildcards.segmentor)["pretrained"]
    if pretrained is None:
        return ""
    if pretrained.startswith("https:"):
        return f"<resources>/models/{Path(pretrained).stem}.safetensors"
    return pretrained


def backbone_input(wildcards):
    """The same, as an input."""
    return backbone_weights(wildcards) or []


def backbone_address(wildcards):
    """The address of a file of backbone weights."""
    for settings in config["segmentors"].values():
        if Path(settings["pretrained"] or "").stem == wildcards.backbone:
            return settings["pretrained"]
    raise WorkflowError(
        f"no segmentor is configured with the weights {wildcards.backbone}"
    )


# -- attention and masks


def flags(**values):
    """Command line flags: key=value becomes --key value, True a bare flag, None and False nothing."""
    words = []
    for key, value in values.items():
        if value is None or value is False:
            continue
        words.append(f"--{key.replace('_', '-')}")
        if isinstance(value, (list, tuple)):
            words += map(str, value)
        elif isinstance(value, dict):
            words.append(json.dumps(value, sort_keys=True, separators=(",", ":")))
        elif value is not True:
            words.append(str(value))
    return shlex.join(words)


def shards(wildcards):
    """The shards of a split under a variant."""
    count = math.ceil(
        images_listed(wildcards)
        / resolve_variant(config, wildcards.variant)["shard_size"]
    )
    return expand(
        "<work>/attention/{dataset}/{split}/{variant}/shard-{shard:05d}.safetensors",
        dataset=wildcards.dataset,
        split=wildcards.split,
        variant=wildcards.variant,
        shard=range(count),
    )


def label_source(dataset, profile):
    """Where image-level labels are read; the official code takes them from the true masks."""
    return "mask" if profile == "official" else config["datasets"][dataset]["labels"]


def extraction_flags(wildcards):
    """What decides the content of a shard."""
    settings = resolve_variant(config, wildcards.variant)
    return flags(
        labels=label_source(wildcards.dataset, settings["profile"]),
        shard=int(wildcards.shard),
        shard_size=settings["shard_size"],
        images=images_listed(wildcards),
        model=model_folder(),
        timestep=settings["timestep"],
        cross_blocks=settings["cross_blocks"],
        self_block=settings["self_block"],
        iterations=settings["iterations"],
        noises=settings["noises"],
        profile=settings["profile"],
        no_composed=not settings["query"]["composed"],
        no_synonyms=not settings["query"]["synonyms"],
        no_background_words=not settings["query"]["background_words"],
        cbp=settings["cbp"],
        resize=settings["resize"],
        seed=settings["seed"],
    )


def speed_flags(wildcards):
    """What decides how fast a shard is made, and nothing else."""
    return flags(
        batch_size=resolve_variant(config, wildcards.variant)["batch_size"],
        device=device(),
    )


def refinement_flags(wildcards):
    """What turns attention into masks."""
    settings = config["refinements"][wildcards.refinement]
    return flags(
        source=settings["source"],
        crf=config["crf"] if settings["crf"] else "none",
        background_threshold=settings["background"]["threshold"],
        background_power=settings["background"]["power"],
        confidence=settings["confidence"],
        profile=resolve_variant(config, wildcards.variant)["profile"],
    )


# -- generated images and inverted photos


def prompts_data(wildcards):
    """The data that prompts are built from, as an input."""
    source = config["synthesis"][wildcards.synthesis]["source"]
    if source not in ("coco", "imagenet_s"):
        return []
    if source not in config["datasets"]:
        raise WorkflowError(
            f"synthesis.{wildcards.synthesis} needs datasets.{source}; configure it"
        )
    return f"<resources>/{source}.json"


def prompt_flags(wildcards):
    """What decides prompts."""
    settings = config["synthesis"][wildcards.synthesis]
    root = config["datasets"].get(settings["source"], {}).get("root")
    return flags(
        source=settings["source"],
        count=settings["count"],
        seed=config["seed"],
        captions=(
            f"{root}/annotations/captions_train2014.json"
            if settings["source"] == "coco"
            else None
        ),
        root=root if settings["source"] == "imagenet_s" else None,
        adapted=settings["source"] == "cityscapes" and settings["lora"] is not None,
    )


def adapter(wildcards):
    """The LoRA that images are generated with, as an input."""
    lora = config["synthesis"][wildcards.synthesis]["lora"]
    return [] if lora is None else f"<work>/loras/{lora}.safetensors"


def generation_flags(wildcards):
    """What decides the content of a shard of generated images, prompts and LoRA aside."""
    settings = config["generation"]
    return flags(
        shard=int(wildcards.shard),
        shard_size=settings["shard_size"],
        model=model_folder(),
        steps=settings["steps"],
        attention_step=settings["attention_step"],
        guidance=settings["guidance"],
        cross_blocks=settings["cross_blocks"],
        size=settings["size"],
        image_format=settings["image_format"],
    )


def shard_numbers(images, size):
    """The numbers of the shards of a list, as they stand in file names."""
    return [f"{number:05d}" for number in range(math.ceil(images / size))]


def generated_shards(wildcards):
    """The shards that hold the first images of a set."""
    return expand(
        "<work>/generated/{synthesis}/shard-{shard}.safetensors",
        synthesis=wildcards.synthesis,
        shard=shard_numbers(int(wildcards.number), config["generation"]["shard_size"]),
    )


def labelling_flags(wildcards):
    """What turns stored attention into masks and reliability maps."""
    settings = config["labellings"][wildcards.labelling]
    return flags(
        post=settings["post"],
        normalise=settings["normalise"],
        beta=settings["beta"],
        theta=settings["theta"] if settings["post"] == "threshold" else None,
        reliable=settings["reliable"],
        crf=config["labelling_crf"] if settings["post"] == "crf" else None,
    )


PHOTO_FOLDERS = {
    "voc": "JPEGImages",
    "imagenet_s": "{split}",
    "cityscapes": "leftImg8bit/{split}",
}


def photos_of(dataset, split):
    """The folder below which a split's photos lie."""
    folder = PHOTO_FOLDERS[dataset].format(split=split)
    return f"{config['datasets'][dataset]['root']}/{folder}"


def photo_folder(wildcards):
    """The same of a job's data set and split."""
    return photos_of(wildcards.dataset, wildcards.split)


def lora_photos(wildcards):
    """The data set that a LoRA is trained on, as an input."""
    settings = config["loras"][wildcards.lora]
    return dataset_manifest(settings["dataset"], settings["split"])


def lora_flags(wildcards):
    """What decides a LoRA's weights."""
    settings = config["loras"][wildcards.lora]
    return flags(
        model=model_folder(),
        images=photos_of(settings["dataset"], settings["split"]),
        limit=settings["images"],
        instance_prompt=settings["prompt"],
        rank=settings["rank"],
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"],
        text_encoder=settings["text_encoder"],
        size=settings["size"],
        seed=config["seed"],
    )


def images_inverted(dataset, split, inversion):
    """How many photos of a split are inverted."""
    listed = split_settings(dataset, split)["images"]
    return min(listed, config["inversions"][inversion]["images"].get(split, listed))


def inverted_shards(wildcards):
    """The shards of a split's inverted photos."""
    size = config["inversions"][wildcards.inversion]["shard_size"]
    images = images_inverted(wildcards.dataset, wildcards.split, wildcards.inversion)
    return expand(
        "<work>/inverted/{dataset}/{split}/{inversion}/shard-{shard}.safetensors",
        dataset=wildcards.dataset,
        split=wildcards.split,
        inversion=wildcards.inversion,
        shard=shard_numbers(images, size),
    )


def inversion_flags(wildcards):
    """What decides the content of a shard of inverted photos."""
    settings = config["inversions"][wildcards.inversion]
    return flags(
        labels=label_source(wildcards.dataset, config["profile"]),
        shard=int(wildcards.shard),
        shard_size=settings["shard_size"],
        limit=images_inverted(wildcards.dataset, wildcards.split, wildcards.inversion),
        model=model_folder(),
        steps=settings["steps"],
        inner_iterations=settings["inner_iterations"],
        guidance=settings["guidance"],
        learning_rate=settings["learning_rate"],
        timestep=settings["timestep"],
        cross_blocks=settings["cross_blocks"],
    )


def inversion_speed_flags(wildcards):
    """What decides how fast photos are inverted, and nothing else."""
    batch_size = config["inversions"][wildcards.inversion]["batch_size"]
    return flags(batch_size=batch_size, device=device())


# -- segmentors


def segmentor_settings(name):
    """The settings of a segmentor."""
    return resolve_segmentor(config, name)


def images_used(train):
    """How many generated images a segmentor is trained on."""
    return train["images"] or config["synthesis"][train["synthesis"]]["count"]


def is_inverted(train):
    """Whether a segmentor is trained on masks of inverted photos."""
    variant, *_ = train["masks"].split("/")
    return variant in config["inversions"]


def mask_folder(train):
    """The folder below `masks` of a segmentor's training masks; None for the data set's own."""
    if train["synthesis"] is not None:
        return f"generated/{train['synthesis']}/{train['masks']}/{images_used(train)}"
    at = f"{train['dataset']}/{train['split']}/{train['masks']}"
    if train["masks"] == "truth":
        return None if train["dataset"] in TRUE_MASKS else at
    # the copy in which unsure pixels are ignored
    return at if is_inverted(train) else f"{at}-train"


def training_masks(wildcards):
    """The manifest that says a segmentor's training masks are complete."""
    train = segmentor_settings(wildcards.segmentor)["train"]
    folder = mask_folder(train)
    if folder is None:
        return dataset_manifest(train["dataset"], train["split"])
    return f"<work>/masks/{folder}/manifest.json"


def training_list(wildcards):
    """The list of a segmentor's training images; that of generated ones is their masks'."""
    train = segmentor_settings(wildcards.segmentor)["train"]
    if train["synthesis"] is not None:
        return []
    return dataset_manifest(train["dataset"], train["split"])


def reliability_folder(train, masks):
    """Where the reliability maps of training masks lie; None where there are none."""
    labelled = train["synthesis"] is not None or is_inverted(train)
    return f"{masks}/reliability" if labelled else None


def training_flags(wildcards):
    """What decides a segmentor's weights."""
    settings = segmentor_settings(wildcards.segmentor)
    train = settings.pop("train")
    settings.pop("test")
    root = config["datasets"][train["dataset"]]["root"]
    work, folder = config["paths"]["work"], mask_folder(train)
    if folder is None:
        masks = f"{root}/{TRUE_MASKS[train['dataset']]}"
    else:
        masks = f"{work}/masks/{folder}"
    if train["synthesis"] is not None:
        images = {"train_images": f"{work}/generated/{train['synthesis']}/images"}
    elif is_inverted(train):
        images = {"train_images": photos_of(train["dataset"], train["split"])}
    else:
        images = {"root": root, "train_split": train["split"]}
    settings["seed"] = config["seed"] if settings["seed"] is None else settings["seed"]
    weights = backbone_weights(wildcards)
    settings["pretrained"] = (
        weights.replace("<resources>", config["paths"]["resources"]) or None
    )
    return flags(
        config=settings,
        dataset=train["dataset"],
        **images,
        train_masks=masks,
        reliability=(
            reliability_folder(train, masks) if settings["learner"] == "beco" else None
        ),
    )


def test_flags(wildcards):
    """How a segmentor is evaluated."""
    settings = segmentor_settings(wildcards.segmentor)["test"]
    return flags(
        scales=settings["scales"],
        flip=settings["flip"],
        crf=config["crf"] if settings["crf"] else "none",
    )


def tested_list(wildcards):
    """The list of the images that a segmentor is evaluated on, of the data set it is trained on."""
    dataset = segmentor_settings(wildcards.segmentor)["train"]["dataset"]
    return dataset_manifest(dataset, wildcards.split)


def tested_flags(wildcards):
    """The images that a segmentor is evaluated on."""
    dataset = segmentor_settings(wildcards.segmentor)["train"]["dataset"]
    return flags(
        dataset=dataset,
        dataset_name=dataset_name(dataset),
        root=config["datasets"][dataset]["root"],
        split=wildcards.split,
    )


# -- tables


def measured_in(target):
    """The evaluations of a table that this configuration can make; the rest of its cells say why not."""
    names = []
    for name in evaluations_needed(target):
        kind, *parts = name.split("/")
        if kind == "segmentors" and parts[0] in config["segmentors"]:
            dataset = segmentor_settings(parts[0])["train"]["dataset"]
            if config["datasets"][dataset]["splits"].get(parts[1], {}).get("truth"):
                names.append(name)
        elif kind == "masks" and parts[0] in config["datasets"]:
            known = [*config["variants"], *config["inversions"]]
            splits = config["datasets"][parts[0]]["splits"]
            if parts[1] in splits and parts[2] in known:
                names.append(name)
    return names


def metrics(wildcards):
    """The evaluations of a table, as an input."""
    return [
        f"<work>/evaluation/{name}/metrics.json"
        for name in measured_in(wildcards.target)
    ]


def references(wildcards):
    """Printed beside the tables, in none of them: masks without a model, segmentors of true masks."""
    masks, segmentors = {}, {}
    for target in config["targets"]:
        for name in measured_in(target):
            kind, first, split, *_ = name.split("/")
            if kind == "segmentors":
                settings = segmentor_settings(first)
                first = settings["train"]["dataset"]
                segmentors[split, first, settings["architecture"]] = None
            if first not in TRUE_MASKS:
                continue
            masks.update(
                {
                    f"{first}/{split}/reference/{reference}": None
                    for reference in REFERENCES
                }
            )
    true_masks = [
        f"segmentors/{name}/{split}"
        for name, settings in config["segmentors"].items()
        for split, dataset, architecture in segmentors
        if settings["train"]["masks"] == "truth"
        and settings["train"]["dataset"] == dataset
        and settings["architecture"] == architecture
    ]
    names = [*(f"masks/{name}" for name in masks), *true_masks]
    return [f"<work>/evaluation/{name}/metrics.json" for name in names]


def submissions(wildcards):
    """Archives for an evaluation server, in place of what only it can score in a table."""
    archives = []
    for name in evaluations_needed(wildcards.target):
        kind, segmentor, *split = name.split("/")
        if kind != "segmentors" or segmentor not in config["segmentors"]:
            continue
        dataset = segmentor_settings(segmentor)["train"]["dataset"]
        settings = config["datasets"][dataset]["splits"].get(split[0])
        if settings and not settings["truth"]:
            archives.append(f"<results>/submissions/{segmentor}/{split[0]}.tgz")
    return archives


def evaluation_flags(wildcards, input):
    """The evaluations of a table and their files."""
    names = measured_in(wildcards.target)
    pairs = [f"{name}={file}" for name, file in zip(names, input.metrics)]
    return flags(evaluations=pairs or None)


def provenance_flags(wildcards):
    """What a table's provenance records beside the evaluations."""
    manifests = {}
    for name in measured_in(wildcards.target):
        kind, first, split, *_ = name.split("/")
        masks = kind == "masks"
        dataset = first if masks else segmentor_settings(first)["train"]["dataset"]
        manifest = dataset_manifest(dataset, split)
        manifests[dataset] = manifest.replace(
            "<resources>", config["paths"]["resources"]
        )
    if not manifests:
        return ""
    return flags(
        data=[f"{name}={file}" for name, file in manifests.items()],
        model=[f"{config['model']['path']}={model_folder()}"],
        device=device(),
    )


def benchmark_flags(wildcards):
    """The benchmark files of every job behind a table, as flags."""
    folder = f"{config['paths']['work']}/benchmarks"
    files = {}

    def generated(train):
        synthesis, images = train["synthesis"], images_used(train)
        lora = config["synthesis"][synthesis]["lora"]
        if lora is not None:
            files[f"{folder}/train_dreambooth_lora/{lora}.tsv"] = None
        files[f"{folder}/build_prompts/{synthesis}.tsv"] = None
        for shard in shard_numbers(images, config["generation"]["shard_size"]):
            files[f"{folder}/generate_images/{synthesis}/{shard}.tsv"] = None
        at = f"{synthesis}/{train['masks']}/{images}"
        files[f"{folder}/refine_synthetic/{at}.tsv"] = None

    def inverted(dataset, split, inversion, labelling):
        size = config["inversions"][inversion]["shard_size"]
        at = f"{dataset}/{split}/{inversion}"
        for shard in shard_numbers(images_inverted(dataset, split, inversion), size):
            files[f"{folder}/invert_image/{at}/{shard}.tsv"] = None
        files[f"{folder}/refine_inversion/{at}/{labelling}.tsv"] = None

    def masks(dataset, split, variant, refinement):
        if variant in config["inversions"]:
            return inverted(dataset, split, variant, refinement)
        images = split_settings(dataset, split)["images"]
        count = math.ceil(images / resolve_variant(config, variant)["shard_size"])
        at = f"{dataset}/{split}/{variant}"
        for shard in range(count):
            files[f"{folder}/extract_attention/{at}/{shard:05d}.tsv"] = None
        files[f"{folder}/verify_shards/{at}.tsv"] = None
        files[f"{folder}/refine_masks/{at}/{refinement}.tsv"] = None

    for name in measured_in(wildcards.target):
        kind, *parts = name.split("/")
        if kind == "masks":
            masks(*parts)
            files[f"{folder}/evaluate_masks/{'/'.join(parts)}.tsv"] = None
        else:
            train = segmentor_settings(parts[0])["train"]
            if train["synthesis"] is not None:
                generated(train)
            elif train["masks"] == "truth":
                if mask_folder(train) is not None:
                    at = f"{train['dataset']}/{train['split']}"
                    files[f"{folder}/write_true_masks/{at}.tsv"] = None
            else:
                masks(train["dataset"], train["split"], *train["masks"].split("/"))
            files[f"{folder}/train_segmentor/{parts[0]}.tsv"] = None
            files[f"{folder}/evaluate_segmentor/{'/'.join(parts)}.tsv"] = None
    return flags(benchmark=list(files) or None)


def pictured_masks(wildcards):
    """The pseudo masks that the report shows."""
    shown = config["report"]
    return f"<work>/masks/{shown['dataset']}/{shown['split']}/{shown['masks']}/manifest.json"


def pictured_attention(wildcards):
    """The attention that they are made from."""
    shown = config["report"]
    variant = shown["masks"].split("/")[0]
    return (
        f"<work>/attention/{shown['dataset']}/{shown['split']}/{variant}/manifest.json"
    )


def picture_flags(wildcards):
    """Which images the report shows."""
    shown = config["report"]
    return flags(
        pictures=shown["pictures"],
        dataset=shown["dataset"],
        root=config["datasets"][shown["dataset"]]["root"],
        split=shown["split"],
    )


def paper_of(wildcards):
    """The paper whose table it is."""
    return TABLES[wildcards.target].number.split(",")[0]


def caption_of(wildcards):
    """The text under a table in the report."""
    return (REPOSITORY / "workflow" / "report" / f"{wildcards.target}.rst").read_text()


# tables with at least one value that the workflow can make today
AVAILABLE_TARGETS = [target for target in TABLES if measured_in(target)]
