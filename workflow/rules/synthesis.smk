"""Text -> images and their attention -> masks and reliability; and the same of inverted photos."""


def prompts_data(wildcards):
    """The data that prompts are built from, as an input."""
    source = config["synthesis"][wildcards.synthesis]["source"]
    if source == "mini_world":
        return []
    if source not in config["datasets"]:
        raise WorkflowError(
            f"synthesis.{wildcards.synthesis} needs datasets.{source}; configure it"
        )
    dataset = DATASETS[source]
    if not (dataset.captions or dataset.names_below_root):
        return []
    return f"<resources>/{source}.json"


def prompt_flags(wildcards):
    """What decides prompts."""
    settings = config["synthesis"][wildcards.synthesis]
    source, more = settings["source"], {}
    if source in config["datasets"]:
        dataset, root = DATASETS[source], config["datasets"][source]["root"]
        if dataset.captions:
            more = {
                "captions": f"{root}/{dataset.captions}",
                "dataset": dataset_argument(settings["dataset"]),
                "person_words": settings["person_words"],
            }
        else:
            more = {
                "root": root if dataset.names_below_root else None,
                "adapted": bool(settings["lora"] and dataset.adapted_prompt),
            }
        source = dataset_argument(source)
    return flags(source=source, count=settings["count"], seed=config["seed"], **more)


def adapter(wildcards):
    """The LoRA that images are generated with, as an input."""
    lora = config["synthesis"][wildcards.synthesis]["lora"]
    return [] if lora is None else f"<work>/loras/{lora}.safetensors"


def generated_shards(wildcards):
    """The shards that hold the first images of a set."""
    return expand(
        "<work>/generated/{synthesis}/shard-{shard}.safetensors",
        synthesis=wildcards.synthesis,
        shard=shard_numbers(int(wildcards.number), config["generation"]["shard_size"]),
    )


def photo_folder(wildcards):
    """The same of a job's data set and split."""
    return photos_of(wildcards.dataset, wildcards.split)


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
    """The model, and the photos of a shard and where their labels are."""
    return flags(
        labels=label_source(wildcards.dataset, config["profile"]),
        shard=int(wildcards.shard),
        limit=images_inverted(wildcards.dataset, wildcards.split, wildcards.inversion),
        model=model_folder(),
    )


rule build_prompts:
    input:
        prompts_data,
        script=ancient("<scripts>/build_prompts.py"),
    output:
        "<work>/generated/{synthesis}/prompts.jsonl",
    log:
        "<logs>/build_prompts/{synthesis}.log",
    conda:
        "../../envs/diffusion.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        gpu=0,
    params:
        flags=prompt_flags,
    shell:
        "python {input.script} {params.flags} --output {output} > {log} 2>&1"


# The images are no outputs: an interrupted shard goes on after its last batch.
rule generate_images:
    input:
        lora=adapter,
        prompts="<work>/generated/{synthesis}/prompts.jsonl",
        script=ancient("<scripts>/generate_images.py"),
        model=model_files,
    output:
        maps="<work>/generated/{synthesis}/shard-{shard}.safetensors",
        manifest="<work>/generated/{synthesis}/shard-{shard}.json",
    log:
        "<logs>/generate_images/{synthesis}/{shard}.log",
    conda:
        "../../envs/diffusion.yaml"
    threads: config["resources"]["threads"]["generate_images"]
    resources:
        mem_mb=growing(16000),
        runtime=growing(240),
        gpu=gpus,
        speed=speed_for(settings_of.generation_job),
    params:
        shard=lambda wildcards: flags(shard=int(wildcards.shard), **model_flags()),
        settings=settings_for(settings_of.generation_job),
        lora=lambda wildcards, input: flags(lora=input.get("lora") or None),
        images=lambda wildcards, output: Path(output.maps).with_name("images"),
    shell:
        "python {input.script} --prompts {input.prompts} {params.shard} {params.settings}"
        " {params.lora} {resources.speed} --images {params.images} --output {output.maps} > {log} 2>&1"


# A manifest is written last and stands for its folder, as with pseudo masks.
rule refine_synthetic:
    input:
        shards=generated_shards,
        script=ancient("<scripts>/refine_synthetic.py"),
    output:
        "<work>/masks/generated/{synthesis}/{labelling}/{number}/manifest.json",
    log:
        "<logs>/refine_synthetic/{synthesis}/{labelling}/{number}.log",
    conda:
        "../../envs/crf.yaml"
    threads: config["resources"]["threads"]["refine_synthetic"]
    resources:
        mem_mb=growing(8000),
        runtime=growing(480),
        gpu=0,
    params:
        settings=settings_for(settings_of.labelling_job, "labelling"),
        dataset=lambda wildcards: flags(
            dataset=dataset_argument(
                config["synthesis"][wildcards.synthesis]["dataset"]
            )
        ),
        attention=lambda wildcards, input: Path(input.shards[0]).parent,
        images=lambda wildcards, input: Path(input.shards[0]).with_name("images"),
        masks=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python {input.script} {params.dataset} --attention {params.attention}"
        " --images {params.images} --limit {wildcards.number} {params.settings}"
        " --processes {threads} --output {params.masks} > {log} 2>&1"


rule invert_image:
    input:
        split_manifest,
        script=ancient("<scripts>/invert_image.py"),
        model=model_files,
    output:
        maps="<work>/inverted/{dataset}/{split}/{inversion}/shard-{shard}.safetensors",
        manifest="<work>/inverted/{dataset}/{split}/{inversion}/shard-{shard}.json",
    log:
        "<logs>/invert_image/{dataset}/{split}/{inversion}/{shard}.log",
    conda:
        "../../envs/diffusion.yaml"
    threads: config["resources"]["threads"]["invert_image"]
    resources:
        mem_mb=growing(16000),
        runtime=growing(240),
        gpu=gpus,
        speed=speed_for(settings_of.inversion_job, "inversion"),
    params:
        data=dataset_flags,
        shard=inversion_flags,
        settings=settings_for(settings_of.inversion_job, "inversion"),
    shell:
        "python {input.script} {params.data} {params.shard} {params.settings}"
        " {resources.speed} --output {output.maps} > {log} 2>&1"


# Skipped photos get a mask of background: of an evaluated split, each counts.
rule refine_inversion:
    input:
        shards=inverted_shards,
        script=ancient("<scripts>/refine_synthetic.py"),
    output:
        "<work>/masks/{dataset}/{split}/{inversion}/{labelling}/manifest.json",
    log:
        "<logs>/refine_inversion/{dataset}/{split}/{inversion}/{labelling}.log",
    conda:
        "../../envs/crf.yaml"
    threads: config["resources"]["threads"]["refine_synthetic"]
    resources:
        mem_mb=growing(8000),
        runtime=growing(480),
        gpu=0,
    params:
        settings=settings_for(settings_of.labelling_job, "labelling"),
        dataset=lambda wildcards: flags(dataset=dataset_argument(wildcards.dataset)),
        attention=lambda wildcards, input: Path(input.shards[0]).parent,
        images=photo_folder,
        limit=lambda wildcards: images_inverted(
            wildcards.dataset, wildcards.split, wildcards.inversion
        ),
        masks=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python {input.script} {params.dataset} --attention {params.attention}"
        " --images {params.images} --limit {params.limit} --keep-skipped {params.settings}"
        " --processes {threads} --output {params.masks} > {log} 2>&1"
