"""The whole configuration."""

from typing import Literal

from attnseg.settings.attention import Crf, Extraction, Model, ProfileName, Refinement, Variant
from attnseg.settings.base import Count, Name, Natural, OutputFolder, Settings, key, part
from attnseg.settings.data import Claims, Dataset, Figures, Method, Picture, Prediction
from attnseg.settings.personalised import Personalised
from attnseg.settings.segmentor import NamedSegmentor
from attnseg.settings.synthesis import (
    Generation,
    Inversion,
    Labelling,
    Lora,
    SimpleCrf,
    Synthesis,
)


class Paths(Settings):
    """Output folders, relative to the working directory."""

    results: OutputFolder = key("results", "Tables, figures and the report.")
    work: OutputFolder = key("work", "Intermediate results, logs and benchmarks.")
    resources: OutputFolder = key(
        "resources",
        "Downloads, published weights and the manifests of data sets (their folders are `root`).",
    )


class Threads(Settings):
    """Maximum number of CPU threads of jobs that use several; fewer if the machine has fewer."""

    extract_attention: Count = key(4, "Of a shard's extraction.", speed=True)
    refine_masks: Count = key(16, "Processes of the dense CRF.", speed=True)
    generate_images: Count = key(4, "Of a shard of generated images.", speed=True)
    refine_synthetic: Count = key(
        16, "Processes that label generated images and inverted photos.", speed=True
    )
    train_dreambooth_lora: Count = key(4, "Of a LoRA's training.", speed=True)
    invert_image: Count = key(4, "Of the null-text inversion of a shard of photos.", speed=True)
    train_custom_diffusion: Count = key(
        4, "Of training subjects, or of generating images of their class.", speed=True
    )
    segment_instances: Count = key(4, "Of segmenting subjects in scenes.", speed=True)
    train_segmentor: Count = key(
        6,
        "Of a segmentor's training: its readers (`workers` of a segmentor, 4), the loop that feeds the GPU, "
        "and one to spare. A larger number lets cores and GPUs wait, as no training uses it.",
        speed=True,
    )
    train_segmentors: dict[Name, Count] = key(
        {},
        "Of single segmentors' trainings, by name, in place of `train_segmentor`. On a CPU another number "
        "gives other last bits, and so slightly another segmentor.",
        speed=True,
    )
    predict_segmentor: Count = key(4, "Of a prediction that another job evaluates.", speed=True)
    evaluate_segmentor: Count = key(
        16, "Of a segmentor's evaluation, including processes of its dense CRF.", speed=True
    )


class Most(Settings):
    """What a job asks for at most: requests grow with every attempt."""

    runtime: Count = key(2880, "Minutes; the time limit of the partition.", speed=True)
    mem_mb: Count = key(128000, "Megabytes of memory; those of the largest node.", speed=True)


class Resources(Settings):
    """Resources that jobs request from the machine or cluster."""

    gpu_per_job: Natural = key(
        1, "GPUs per job that runs networks; 0 on a machine without GPUs.", speed=True
    )
    gpu_per_training: Natural | None = key(
        None,
        "GPUs per training of a segmentor, among which each batch is split; null for gpu_per_job.",
        speed=True,
    )
    most: Most = part(Most)
    threads: Threads = part(Threads)


class Config(Settings):
    """All keys of config/config.yaml. A file given with --configfile overrides single keys."""

    paths: Paths = part(Paths)
    targets: Literal["all"] | list[str] = key(
        ["voc_table1", "voc_coco_table2", "voc_table3", "voc_table5", "voc_figure_4"],
        "The tables, figures and pictures to make, with a report, if no target is named; `all` for "
        "all that this configuration can make. Other files of the workflow, such as "
        "`<work>/masks/<dataset>/<split>/base/crf/manifest.json`, can stand beside them.",
    )
    leave_out: dict[Name, str] = key(
        {},
        "Segmentors and variants left out of tables unless `targets` is `all` or their evaluation exists, "
        "with the command that makes them, which is printed in their rows.",
    )
    claims: Claims = part(Claims)
    figures: Figures = part(Figures)
    pictures: dict[Name, Picture] = key(
        {},
        "Pictures of photo, attention, pseudo mask and ground truth side by side, such as Figures 4, 6 "
        "and B.7; those of other names are targets, too.",
    )
    predictions: dict[Name, Prediction] = key(
        {},
        "Predictions of trained segmentors on further photos, such as those of one's own: the masks are in "
        "the folder of that name in `paths.results`, and its picture is a target.",
    )
    seed: Natural = key(
        0,
        "Seed of the run. Each sample's own seed is a hash of it and the sample's name.",
        papers="Text2Mask: unknown; 40 to 44 in Table B.8",
    )
    device: Literal["auto", "cpu", "cuda"] = key(
        "auto",
        "Device of the networks: cuda, cpu, or auto: CUDA for jobs with a GPU "
        "(resources.gpu_per_job), otherwise a GPU if there is one.",
        speed=True,
    )
    resources: Resources = part(Resources)
    model: Model = part(Model)
    backbones: dict[Name, Model] = key(
        {},
        "Further text-to-image models, by the names that variants call them by (`backbone`). Masks of real "
        "images are made of their attention; nothing else is.",
    )
    profile: ProfileName = key(
        "paper",
        "The method as in the paper, or as in the official code.",
    )
    datasets: dict[Name, Dataset] = key(
        ...,
        "The data sets. Those of this package are voc, coco, imagenet_s, cityscapes and mug19; others "
        "need `classes`, the `layout` of one of these, or a `file`. Path patterns are relative to the "
        "root; {split} and {id} stand for the names of split and photo, * for any folder.",
    )
    methods: dict[Name, Method] = key(
        {},
        "Methods that compete with ours in the tables, by name; their evaluations are "
        "`masks/<dataset>/<split>/<name>/given`.",
    )
    extraction: Extraction = part(Extraction)
    variants: dict[Name, Variant | None] = key(
        {"base": Variant()},
        "Named variants of the extraction. Each overrides some of its keys, {} none.",
    )
    crf: Crf = part(Crf)
    refinements: dict[Name, Refinement] = key(
        {"none": Refinement(crf=False), "crf": Refinement()},
        "Named refinements of attention maps to masks.",
    )
    personalised: Personalised = part(Personalised)
    generation: Generation = part(Generation)
    synthesis: dict[Name, Synthesis] = key(
        {}, "Named sets of images generated from prompts. Segmentors use their first images."
    )
    loras: dict[Name, Lora] = key(
        {}, "Adapters of the model to the look of a data set (DreamBooth-LoRA), by name."
    )
    inversions: dict[Name, Inversion] = key(
        {},
        "Named null-text inversions of photos; in the paths of masks the name takes the place of a "
        "variant, and is followed by a labelling in place of a refinement.",
    )
    labellings: dict[Name, Labelling] = key(
        {"crf": Labelling()},
        "Named post-processings of the attention of generated images and inverted photos (attn2mask).",
    )
    labelling_crf: SimpleCrf = part(SimpleCrf)
    segmentors: dict[Name, NamedSegmentor] = key(..., "Networks trained on masks, by name.")
