"""Text -> images and their attention -> masks and reliability; and the same of inverted photos."""


rule build_prompts:
    input:
        of(jobs.synthesis.prompts_data, "synthesis"),
        script=ancient("<scripts>/build_prompts.py"),
    output:
        "<work>/generated/{synthesis}/prompts.jsonl",
    log:
        "<logs>/build_prompts/{synthesis}.log",
    wildcard_constraints:
        synthesis=one_of(set(config["synthesis"]) - set(jobs.synthesis.composed)),
    conda:
        "../../envs/diffusion.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(60),
        gpu=0,
    params:
        flags=of(jobs.synthesis.prompt_flags, "synthesis"),
    shell:
        "python {input.script} {params.flags} --output {output} > {log} 2>&1"


rule build_mini_prompts:
    input:
        script=ancient("<scripts>/build_mini_prompts.py"),
    output:
        "<work>/generated/{synthesis}/prompts.jsonl",
    log:
        "<logs>/build_mini_prompts/{synthesis}.log",
    wildcard_constraints:
        synthesis=one_of(jobs.synthesis.composed),
    conda:
        "../../envs/diffusion.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(60),
        gpu=0,
    params:
        flags=of(jobs.synthesis.prompt_flags, "synthesis"),
    shell:
        "python {input.script} {params.flags} --output {output} > {log} 2>&1"


# The images are not declared as outputs: an interrupted shard resumes after its last batch.
rule generate_images:
    input:
        lora=of(jobs.synthesis.adapter, "synthesis"),
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
        mem_mb=megabytes(16000),
        runtime=minutes(240),
        gpu=gpus,
        speed=speed_for(settings_of.generation_job),
    params:
        shard=of(jobs.synthesis.shard_flags, "shard"),
        settings=settings_for(settings_of.generation_job),
        lora=lambda wildcards, input: flags(lora=input.get("lora") or None),
        images=lambda wildcards, output: Path(output.maps).with_name("images"),
    shell:
        "python {input.script} --prompts {input.prompts} {params.shard} {params.settings}"
        " {params.lora} {resources.speed} --images {params.images} --output {output.maps} > {log} 2>&1"


# The manifest is written last and stands for its folder, as for pseudo masks.
rule refine_synthetic:
    input:
        shards=of(jobs.synthesis.shards, "synthesis", "number"),
        script=ancient("<scripts>/refine_synthetic.py"),
    output:
        "<work>/masks/generated/{synthesis}/{labelling}/{number}/manifest.json",
    log:
        "<logs>/refine_synthetic/{synthesis}/{labelling}/{number}.log",
    conda:
        "../../envs/crf.yaml"
    threads: config["resources"]["threads"]["refine_synthetic"]
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(480),
        gpu=0,
    params:
        settings=settings_for(settings_of.labelling_job, "labelling"),
        dataset=of(jobs.synthesis.classes_flags, "synthesis"),
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
        mem_mb=megabytes(16000),
        runtime=minutes(240),
        gpu=gpus,
        speed=speed_for(settings_of.inversion_job, "inversion"),
    params:
        data=dataset_flags,
        shard=of(jobs.masks.inversion_flags, "dataset", "split", "inversion", "shard"),
        settings=settings_for(settings_of.inversion_job, "inversion"),
    shell:
        "python {input.script} {params.data} {params.shard} {params.settings}"
        " {resources.speed} --output {output.maps} > {log} 2>&1"


# Skipped photos get a mask of background, since every photo of an evaluated split counts.
rule refine_inversion:
    input:
        shards=of(jobs.masks.inverted_shards, "dataset", "split", "inversion"),
        script=ancient("<scripts>/refine_synthetic.py"),
    output:
        "<work>/masks/{dataset}/{split}/{inversion}/{labelling}/manifest.json",
    log:
        "<logs>/refine_inversion/{dataset}/{split}/{inversion}/{labelling}.log",
    conda:
        "../../envs/crf.yaml"
    threads: config["resources"]["threads"]["refine_synthetic"]
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(480),
        gpu=0,
    params:
        settings=settings_for(settings_of.labelling_job, "labelling"),
        dataset=of(jobs.data.classes_flags, "dataset"),
        attention=lambda wildcards, input: Path(input.shards[0]).parent,
        images=of(
            lambda *split: shlex.quote(jobs.data.photos(*split)), "dataset", "split"
        ),
        limit=of(jobs.masks.inverted_images, "dataset", "split", "inversion"),
        masks=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python {input.script} {params.dataset} --attention {params.attention}"
        " --images {params.images} --limit {params.limit} --keep-skipped {params.settings}"
        " --processes {threads} --output {params.masks} > {log} 2>&1"
