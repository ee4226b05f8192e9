"""Real images and their labels -> attention -> pseudo masks -> their quality."""


def mask_labels(wildcards):
    """What tables print beside a number: which data set, which model, which seed."""
    if wildcards.variant in config["methods"]:
        return flags(
            dataset_name=dataset_name(wildcards.dataset),
            model=config["methods"][wildcards.variant]["label"],
            given=True,
        )
    reference = wildcards.variant == "reference"
    of_run = reference or wildcards.variant in config["inversions"]
    return flags(
        dataset_name=dataset_name(wildcards.dataset),
        model=wildcards.refinement if reference else config["model"]["path"],
        seed=(config if of_run else resolve_variant(config, wildcards.variant))["seed"],
    )


def given_masks(evaluation):
    """The folder of a competing method's masks."""
    method = read_settings(Method, config["methods"][evaluation.method])
    folder = method.folder(evaluation.dataset, evaluation.split)
    if not Path(folder).is_dir():
        raise WorkflowError(
            f"methods.{evaluation.method}.masks: {folder}: no such folder; it must hold <id>.png of "
            f"every image of {evaluation.dataset} {evaluation.split}"
        )
    return folder


def scored_masks(wildcards):
    """The masks that are scored, as an input: their manifest, or the folder of a competing method's."""
    if wildcards.variant in config["methods"]:
        return given_masks(
            Evaluation(
                "masks", wildcards.split, wildcards.variant, wildcards.dataset, GIVEN
            )
        )
    return "<work>/masks/{dataset}/{split}/{variant}/{refinement}/manifest.json"


def newest_mask(wildcards):
    """Of a competing method's masks the newest, as an input: a folder is no newer when a file in it is
    replaced."""
    if wildcards.variant not in config["methods"]:
        return []
    files = [file for file in os.scandir(scored_masks(wildcards)) if file.is_file()]
    newest = max(files, key=lambda file: file.stat().st_mtime, default=None)
    return newest.path if newest else []


def scored_folder(wildcards, input):
    """The folder of the masks that are scored."""
    given = wildcards.variant in config["methods"]
    return input.masks if given else Path(input.masks).parent


def scored_images(wildcards):
    """How many images of a split have masks, where not all."""
    if wildcards.variant not in config["inversions"]:
        return ""
    return flags(
        limit=config["inversions"][wildcards.variant]["images"].get(wildcards.split)
    )


def timed_attention(wildcards):
    """The manifest of the attention behind masks, which says how long it took."""
    if wildcards.variant not in config["variants"]:
        return []
    return "<work>/attention/{dataset}/{split}/{variant}/manifest.json"


def reference_flags(wildcards):
    """How reference masks are made."""
    labels = label_source(wildcards.dataset, config["profile"])
    return flags(kind=wildcards.refinement, labels=labels, seed=config["seed"])


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


def shard_flags(wildcards):
    """The model, and the photos of a shard and what the data set says of them."""
    settings = resolve_variant(config, wildcards.variant)
    return flags(
        labels=label_source(wildcards.dataset, settings["profile"]),
        shard=int(wildcards.shard),
        images=images_listed(wildcards),
        **model_flags(),
        vocabulary=vocabulary(wildcards.dataset),
    )


rule extract_attention:
    input:
        split_manifest,
        script=ancient("<scripts>/extract_attention.py"),
        model=model_files,
    output:
        maps="<work>/attention/{dataset}/{split}/{variant}/shard-{shard}.safetensors",
        manifest="<work>/attention/{dataset}/{split}/{variant}/shard-{shard}.json",
    log:
        "<logs>/extract_attention/{dataset}/{split}/{variant}/{shard}.log",
    conda:
        "../../envs/diffusion.yaml"
    threads: config["resources"]["threads"]["extract_attention"]
    resources:
        mem_mb=growing(16000),
        runtime=growing(120),
        gpu=gpus,
        speed=speed_for(settings_of.extraction_job, "variant"),
    params:
        data=dataset_flags,
        shard=shard_flags,
        settings=settings_for(settings_of.extraction_job, "variant"),
    shell:
        "python {input.script} {params.data} {params.shard} {params.settings}"
        " {resources.speed} --output {output.maps} > {log} 2>&1"


rule verify_shards:
    input:
        shards=shards,
        script=ancient("<scripts>/verify_shards.py"),
    output:
        "<work>/attention/{dataset}/{split}/{variant}/manifest.json",
    log:
        "<logs>/verify_shards/{dataset}/{split}/{variant}.log",
    conda:
        "../../envs/diffusion.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
        gpu=0,
    params:
        images=images_listed,
    shell:
        "python {input.script} {input.shards} --images {params.images} --output {output} > {log} 2>&1"


# A manifest is written last and stands for its folder; the masks beside it are no outputs, so that
# an interrupted job goes on with those that are missing.
rule refine_masks:
    input:
        split_manifest,
        attention="<work>/attention/{dataset}/{split}/{variant}/manifest.json",
        script=ancient("<scripts>/refine_masks.py"),
    output:
        masks="<work>/masks/{dataset}/{split}/{variant}/{refinement}/manifest.json",
        # the copy in which pixels are ignored that are not confident
        training="<work>/masks/{dataset}/{split}/{variant}/{refinement}-train/manifest.json",
    log:
        "<logs>/refine_masks/{dataset}/{split}/{variant}/{refinement}.log",
    wildcard_constraints:
        variant="|".join(config["variants"]),
    conda:
        "../../envs/crf.yaml"
    threads: config["resources"]["threads"]["refine_masks"]
    resources:
        mem_mb=growing(8000),
        runtime=growing(480),
        gpu=0,
    params:
        data=lambda wildcards: flags(**photos_named(wildcards.dataset, wildcards.split)),
        settings=settings_for(settings_of.refinement_job, "variant", "refinement"),
        attention=lambda wildcards, input: Path(input.attention).parent,
        masks=lambda wildcards, output: Path(output.masks).parent,
        training=lambda wildcards, output: Path(output.training).parent,
    shell:
        "python {input.script} {params.data} --attention {params.attention} {params.settings}"
        " --processes {threads} --output {params.masks} --train-output {params.training}"
        " > {log} 2>&1"


rule make_reference_masks:
    input:
        split_manifest,
        script=ancient("<scripts>/make_reference_masks.py"),
    output:
        "<work>/masks/{dataset}/{split}/reference/{refinement}/manifest.json",
    log:
        "<logs>/make_reference_masks/{dataset}/{split}/{refinement}.log",
    wildcard_constraints:
        refinement="|".join(REFERENCES),
    conda:
        "../../envs/crf.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
        gpu=0,
    params:
        data=dataset_flags,
        method=reference_flags,
        masks=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python {input.script} {params.data} {params.method} --output {params.masks} > {log} 2>&1"


rule evaluate_masks:
    input:
        split_manifest,
        attention=timed_attention,
        masks=scored_masks,
        newest=newest_mask,
        script="<scripts>/evaluate_masks.py",
    output:
        metrics="<work>/evaluation/masks/{dataset}/{split}/{variant}/{refinement}/metrics.json",
        images="<work>/evaluation/masks/{dataset}/{split}/{variant}/{refinement}/per_image.npz",
    log:
        "<logs>/evaluate_masks/{dataset}/{split}/{variant}/{refinement}.log",
    conda:
        "../../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
        gpu=0,
    params:
        data=dataset_flags,
        labels=mask_labels,
        attention=lambda wildcards, input: flags(attention=input.attention or None),
        limit=scored_images,
        masks=scored_folder,
        folder=lambda wildcards, output: Path(output.metrics).parent,
    shell:
        "python {input.script} {params.data} {params.labels} {params.limit} {params.attention}"
        " --masks {params.masks} --output {params.folder} > {log} 2>&1"
