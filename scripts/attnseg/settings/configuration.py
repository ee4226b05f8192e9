"""The whole configuration."""

from typing import Literal

from attnseg.settings.attention import Crf, Extraction, Model, ProfileName, Refinement, Variant
from attnseg.settings.base import Count, Name, Natural, Settings, key, part
from attnseg.settings.data import Claims, Dataset, Figures, Method, Picture
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

PictureName = Literal["voc_figure_4", "voc_figure_6", "voc_figure_b7", "coco_figure_b7"]


class Paths(Settings):
    """Where files go, relative to the working directory."""

    results: str = key("results", "Tables, figures and the report.")
    work: str = key(
        "work", "Everything between the data and the results, logs and benchmarks included."
    )
    resources: str = key(
        "resources",
        "Downloads, published weights and the manifests of data sets; where one lies is its `root`.",
    )


class Threads(Settings):
    """CPU threads of the jobs that use several, at most; fewer where the machine has fewer."""

    extract_attention: Count = key(4, "Of a shard's extraction.", speed=True)
    refine_masks: Count = key(16, "Processes of the dense CRF.", speed=True)
    generate_images: Count = key(4, "Of a shard of generated images.", speed=True)
    refine_synthetic: Count = key(
        16, "Processes that label generated images and inverted photos.", speed=True
    )
    train_dreambooth_lora: Count = key(4, "Of a LoRA's training.", speed=True)
    invert_image: Count = key(4, "Of the null-text inversion of a shard of photos.", speed=True)
    train_custom_diffusion: Count = key(
        4, "Of learning subjects, or of generating the images of their class.", speed=True
    )
    segment_instances: Count = key(4, "Of finding subjects in scenes.", speed=True)
    train_segmentor: Count = key(16, "Of a segmentor's training.", speed=True)
    evaluate_segmentor: Count = key(
        16, "Of a segmentor's evaluation, processes of its dense CRF included.", speed=True
    )


class Resources(Settings):
    """What jobs ask of the machine or the cluster."""

    gpu_per_job: Natural = key(
        1, "GPUs of each extraction and each training job; 0 on a machine without.", speed=True
    )
    gpu_per_training: Natural | None = key(
        None,
        "GPUs of a segmentor's training, which share each of its batches; null for gpu_per_job.",
        speed=True,
    )
    threads: Threads = part(Threads)


class Config(Settings):
    """Every key of config/config.yaml. A file given with --configfile overrides single keys of it."""

    paths: Paths = part(Paths)
    targets: Literal["all"] | list[str] = key(
        ["voc_table1", "voc_coco_table2", "voc_table3", "voc_table5", "voc_figure_4"],
        "The tables, figures and pictures that a run without a named target makes, besides the "
        "report that shows them; `all` for every one that this configuration can make.",
    )
    leave_out: dict[Name, str] = key(
        {},
        "Segmentors that tables do without unless `targets` is `all` or their evaluation is there "
        "already, and the command that makes them, which their rows then name.",
    )
    claims: Claims = part(Claims)
    figures: Figures = part(Figures)
    pictures: dict[PictureName, Picture] = key(
        {}, "Figures 4, 6 and B.7, photo, attention, pseudo mask and true mask side by side."
    )
    seed: Natural = key(
        0,
        "Seed of the run. Each sample's own seed is a hash of it and the sample's name.",
        papers="Text2Mask: unknown; 40 to 44 in Table B.8",
    )
    device: Literal["auto", "cpu", "cuda"] = key(
        "auto",
        "Where networks run: cuda, cpu, or auto: CUDA for jobs that are given a GPU "
        "(resources.gpu_per_job), elsewhere whatever there is.",
        speed=True,
    )
    resources: Resources = part(Resources)
    model: Model = part(Model)
    profile: ProfileName = key(
        "paper",
        "The method as the paper describes it, or as its authors' published code runs it.",
    )
    datasets: dict[Name, Dataset] = key(
        ...,
        "The data sets. Those of this package are voc, coco, imagenet_s, cityscapes and mug19; another "
        "has `classes`, or the `layout` of one of these, or a `file`. A pattern of paths is below the "
        "root; {split} and {id} stand for the split's name and the photo's, * for any folder.",
    )
    methods: dict[Name, Method] = key(
        {},
        "Methods that compete with ours in the tables, by name; their evaluations are "
        "`masks/<dataset>/<split>/<name>/given`.",
    )
    extraction: Extraction = part(Extraction)
    variants: dict[Name, Variant | None] = key(
        {"base": Variant()},
        "Named variants of the extraction. Each overrides some of its keys; {} overrides none.",
    )
    crf: Crf = part(Crf)
    refinements: dict[Name, Refinement] = key(
        {"none": Refinement(crf=False), "crf": Refinement()},
        "Named ways from attention maps to masks.",
    )
    personalised: Personalised = part(Personalised)
    generation: Generation = part(Generation)
    synthesis: dict[Name, Synthesis] = key(
        {}, "Named sets of images generated from prompts. Segmentors are trained on their heads."
    )
    loras: dict[Name, Lora] = key(
        {}, "Adapters of the model to the look of a data set (DreamBooth-LoRA), by name."
    )
    inversions: dict[Name, Inversion] = key(
        {},
        "Named null-text inversions of photos; such a name stands in a mask's path where a variant "
        "does, and a labelling after it where a refinement does.",
    )
    labellings: dict[Name, Labelling] = key(
        {"crf": Labelling()},
        "Named ways from the attention of generated images and inverted photos to masks (attn2mask).",
    )
    labelling_crf: SimpleCrf = part(SimpleCrf)
    segmentors: dict[Name, NamedSegmentor] = key(..., "Networks trained on masks, by name.")
