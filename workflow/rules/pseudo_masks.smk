"""Real images and their labels -> attention -> pseudo masks -> their quality."""


rule extract_attention:
    input:
        split_manifest,
        script=ancient("<scripts>/extract_attention.py"),
        model=of(jobs.models.files, "variant"),
    output:
        maps="<work>/attention/{dataset}/{split}/{variant}/shard-{shard}.safetensors",
        manifest="<work>/attention/{dataset}/{split}/{variant}/shard-{shard}.json",
    log:
        "<logs>/extract_attention/{dataset}/{split}/{variant}/{shard}.log",
    conda:
        "../../envs/diffusion.yaml"
    threads: config["resources"]["threads"]["extract_attention"]
    resources:
        mem_mb=megabytes(16000),
        runtime=minutes(120),
        gpu=gpus,
        speed=speed_for(settings_of.extraction_job, "variant"),
    params:
        data=dataset_flags,
        shard=of(jobs.masks.shard_flags, "dataset", "split", "variant", "shard"),
        settings=settings_for(settings_of.extraction_job, "variant"),
    shell:
        "python {input.script} {params.data} {params.shard} {params.settings}"
        " {resources.speed} --output {output.maps} > {log} 2>&1"


rule verify_shards:
    input:
        shards=of(jobs.masks.shards, "dataset", "split", "variant"),
        script=ancient("<scripts>/verify_shards.py"),
    output:
        "<work>/attention/{dataset}/{split}/{variant}/manifest.json",
    log:
        "<logs>/verify_shards/{dataset}/{split}/{variant}.log",
    conda:
        "../../envs/diffusion.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(60),
        gpu=0,
    params:
        images=of(jobs.data.images, "dataset", "split"),
    shell:
        "python {input.script} {input.shards} --images {params.images} --output {output} > {log} 2>&1"


# The manifest is written last and stands for its folder. The masks beside it are not declared as
# outputs, so that an interrupted job resumes with those that are missing.
rule refine_masks:
    input:
        split_manifest,
        attention="<work>/attention/{dataset}/{split}/{variant}/manifest.json",
        script=ancient("<scripts>/refine_masks.py"),
    output:
        masks="<work>/masks/{dataset}/{split}/{variant}/{refinement}/manifest.json",
        # the copy for training, in which unconfident pixels are ignored
        training="<work>/masks/{dataset}/{split}/{variant}/{refinement}-train/manifest.json",
    log:
        "<logs>/refine_masks/{dataset}/{split}/{variant}/{refinement}.log",
    wildcard_constraints:
        variant="|".join(config["variants"]),
    conda:
        "../../envs/crf.yaml"
    threads: config["resources"]["threads"]["refine_masks"]
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(480),
        gpu=0,
    params:
        data=of(jobs.data.photos_flags, "dataset", "split"),
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
        mem_mb=megabytes(2000),
        runtime=minutes(60),
        gpu=0,
    params:
        data=dataset_flags,
        method=of(jobs.masks.reference_flags, "dataset", "refinement"),
        masks=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python {input.script} {params.data} {params.method} --output {params.masks} > {log} 2>&1"


rule evaluate_masks:
    input:
        split_manifest,
        attention=of(jobs.masks.timed_attention, "dataset", "split", "variant"),
        masks=of(jobs.masks.scored, "dataset", "split", "variant", "refinement"),
        newest=of(jobs.masks.newest_given, "dataset", "split", "variant"),
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
        mem_mb=megabytes(4000),
        runtime=minutes(120),
        gpu=0,
    params:
        data=dataset_flags,
        labels=of(jobs.masks.labels_flags, "dataset", "variant", "refinement"),
        attention=lambda wildcards, input: flags(attention=input.attention or None),
        limit=of(jobs.masks.limit_flags, "split", "variant"),
        masks=lambda wildcards, input: shlex.quote(
            str(input.masks).removesuffix("manifest.json")
        ),
        folder=lambda wildcards, output: Path(output.metrics).parent,
    shell:
        "python {input.script} {params.data} {params.labels} {params.limit} {params.attention}"
        " --masks {params.masks} --output {params.folder} > {log} 2>&1"
