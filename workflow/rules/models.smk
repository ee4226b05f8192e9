"""Text-to-image models and backbones."""


# Runs only when asked for: `make ship-mini` copies it to assets/mini_sd, which the mini scale reads, and
# with FAMILY=mmdit to assets/mini_mmdit.
rule train_mini_diffusion:
    input:
        script=ancient("<scripts>/train_mini_diffusion.py"),
    output:
        "<work>/mini_{family}/model_index.json",
    log:
        "<logs>/train_mini_diffusion/{family}.log",
    wildcard_constraints:
        family="sd|mmdit",
    conda:
        "../../envs/diffusion.yaml"
    threads: 16
    resources:
        mem_mb=megabytes(16000),
        runtime=minutes(1440),
        gpu=gpus,
    params:
        folder=lambda wildcards, output: Path(output[0]).parent,
        # not declared as an output, so that an interrupted training resumes from its checkpoint
        workdir=lambda wildcards, output: f"{Path(output[0]).parent}_training",
        flags=lambda wildcards: flags(
            seed=config["seed"],
            **jobs.models.family_of(wildcards.family),
        ),
        device="cpu" if device(config) == "auto" else device(config),
    shell:
        "python {input.script} --output {params.folder} --workdir {params.workdir} {params.flags}"
        " --device {params.device} --threads {threads} > {log} 2>&1"


rule fetch_models:
    input:
        script=ancient("<scripts>/fetch_models.py"),
    output:
        "<resources>/models/{model}/model_index.json",
    log:
        "<logs>/fetch_models/{model}.log",
    wildcard_constraints:
        # a folder named by the configuration is not an output of any rule
        model=one_of(jobs.models.fetched),
    conda:
        "../../envs/diffusion.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(240),
        gpu=0,
    params:
        flags=of(jobs.models.fetch_flags, "model"),
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python {input.script} {params.flags} --output {params.folder} > {log} 2>&1"


rule fetch_backbone:
    input:
        script=ancient("<scripts>/fetch_backbone.py"),
    output:
        "<resources>/models/{backbone}.safetensors",
    log:
        "<logs>/fetch_backbone/{backbone}.log",
    wildcard_constraints:
        backbone="[^/]+",
    conda:
        "../../envs/segmentation.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(60),
        gpu=0,
    params:
        address=of(jobs.models.backbone_address, "backbone"),
    shell:
        "python {input.script} {params.address} --output {output} > {log} 2>&1"


# the mini scale's stand-in for ImageNet-pretrained weights
rule train_backbone:
    input:
        script=ancient("<scripts>/train_backbone.py"),
    output:
        "<work>/backbones/{backbone}_{width}.safetensors",
    log:
        "<logs>/train_backbone/{backbone}_{width}.log",
    conda:
        "../../envs/segmentation.yaml"
    threads: config["resources"]["threads"]["train_segmentor"]
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(60),
        gpu=gpus,
        device=device(config),
    params:
        seed=config["seed"],
    shell:
        "python {input.script} --backbone {wildcards.backbone} --width {wildcards.width}"
        " --seed {params.seed} --processes {threads} --device {resources.device}"
        " --output {output} > {log} 2>&1"


# an adapter of the text-to-image model to the look of a data set
# The images of the class are no outputs: an interrupted job goes on with those that are missing.
rule train_dreambooth_lora:
    input:
        of(jobs.models.lora_photos, "lora"),
        script=ancient("<scripts>/train_dreambooth_lora.py"),
        model=model_files,
    output:
        "<work>/loras/{lora}.safetensors",
    log:
        "<logs>/train_dreambooth_lora/{lora}.log",
    conda:
        "../../envs/diffusion.yaml"
    threads: config["resources"]["threads"]["train_dreambooth_lora"]
    resources:
        mem_mb=megabytes(16000),
        runtime=minutes(240),
        gpu=gpus,
        speed=speed_for(settings_of.lora_job, "lora"),
    params:
        data=of(jobs.models.lora_flags, "lora"),
        settings=settings_for(settings_of.lora_job, "lora"),
    shell:
        "python {input.script} {params.data} {params.settings} {resources.speed} --output {output}"
        " > {log} 2>&1"
