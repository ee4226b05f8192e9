"""Masks -> a trained segmentor."""


def segmentor_settings(name):
    """The settings of a segmentor; those of `<name>@2` are `<name>`'s with another seed."""
    name, _, run = name.partition("@")
    settings = resolve_segmentor(config, name)
    if run:
        first = config["seed"] if settings["seed"] is None else settings["seed"]
        settings["seed"] = first + int(run) - 1
    return settings


def images_used(train):
    """How many generated images a segmentor is trained on."""
    return train["images"] or config["synthesis"][train["synthesis"]]["count"]


def is_inverted(train):
    """Whether a segmentor is trained on masks of inverted photos."""
    variant, *_ = train["masks"].split("/")
    return variant in config["inversions"]


def own_masks(train):
    """The folder of true masks that a segmentor learns from as they are; None to write them anew."""
    return DATASETS[train["dataset"]].training_masks(train["split"])


def mask_folder(train):
    """The folder below `masks` of a segmentor's training masks; None for the data set's own."""
    if train["synthesis"] is not None:
        return f"generated/{train['synthesis']}/{train['masks']}/{images_used(train)}"
    at = f"{train['dataset']}/{train['split']}/{train['masks']}"
    if train["masks"] == "truth":
        return at if own_masks(train) is None else None
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
    train = settings["train"]
    root = config["datasets"][train["dataset"]]["root"]
    work, folder = config["paths"]["work"], mask_folder(train)
    if folder is None:
        masks = f"{root}/{own_masks(train)}"
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
    for folder in ("resources", "work"):
        weights = weights.replace(f"<{folder}>", config["paths"][folder])
    settings["pretrained"] = weights or None
    segmentor = read_segmentor(settings, f"segmentors.{wildcards.segmentor}")
    return flags(
        settings=segmentor.identity(),
        dataset=dataset_argument(train["dataset"]),
        **images,
        train_masks=masks,
        reliability=(
            reliability_folder(train, masks) if settings["learner"] == "beco" else None
        ),
    )


def tested_list(wildcards):
    """The list of the images that a segmentor is evaluated on, of the data set it is trained on."""
    dataset = segmentor_settings(wildcards.segmentor)["train"]["dataset"]
    return dataset_manifest(dataset, wildcards.split)


def tested_flags(wildcards):
    """The images that a segmentor is evaluated on."""
    dataset = segmentor_settings(wildcards.segmentor)["train"]["dataset"]
    return flags(
        dataset=dataset_argument(dataset),
        dataset_name=dataset_name(dataset),
        root=config["datasets"][dataset]["root"],
        split=wildcards.split,
    )


def training_gpus(wildcards):
    """GPUs that share the batches of a segmentor's training."""
    settings = config["resources"]
    if settings["gpu_per_training"] is None:
        return granted_gpus(settings["gpu_per_job"])
    return granted_gpus(settings["gpu_per_training"])


def sharing_flags(wildcards):
    """How fast and where a segmentor is trained, the number of GPUs included: no reason to rerun."""
    count = training_gpus(wildcards)
    job = lambda config: read_segmentor(segmentor_settings(wildcards.segmentor))
    gpus = flags(gpus=count if count > 1 else None)
    return f"{speed_for(job)(wildcards)} {gpus}".rstrip()


rule train_segmentor:
    input:
        masks=training_masks,
        images=training_list,
        backbone=backbone_input,
        script=ancient("<scripts>/train_segmentor.py"),
    output:
        "<work>/segmentors/{segmentor}/weights.safetensors",
    log:
        "<logs>/train_segmentor/{segmentor}.log",
    conda:
        "../../envs/segmentation.yaml"
    threads: config["resources"]["threads"]["train_segmentor"]
    resources:
        mem_mb=growing(32000),
        runtime=growing(1440),
        gpu=training_gpus,
        speed=sharing_flags,
    params:
        flags=training_flags,
    shell:
        "python {input.script} {params.flags} {resources.speed} --output {output} > {log} 2>&1"
