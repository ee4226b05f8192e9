"""Text-to-image models and backbones."""


# Runs only when asked for: `make ship-mini` copies it to assets/mini_sd, which the mini scale reads.
rule train_mini_diffusion:
    input:
        script=ancient("<scripts>/train_mini_diffusion.py"),
    output:
        "<work>/mini_sd/model_index.json",
    log:
        "<logs>/train_mini_diffusion/train_mini_diffusion.log",
    benchmark:
        "<benchmarks>/train_mini_diffusion/train_mini_diffusion.tsv"
    conda:
        "../../envs/diffusion.yaml"
    threads: 16
    resources:
        mem_mb=growing(16000),
        runtime=growing(1440),
        gpu=gpus,
    params:
        folder=lambda wildcards, output: Path(output[0]).parent,
        # undeclared, so that an interrupted training goes on from its checkpoint
        workdir=lambda wildcards, output: Path(output[0]).parent.with_name(
            "mini_sd_training"
        ),
        flags=flags(seed=config["seed"]),
        device="cpu" if device() == "auto" else device(),
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
    benchmark:
        "<benchmarks>/fetch_models/{model}.tsv"
    conda:
        "../../envs/diffusion.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
        gpu=0,
    params:
        flags=flags(id=config["model"]["path"], revision=config["model"]["revision"]),
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
    benchmark:
        "<benchmarks>/fetch_backbone/{backbone}.tsv"
    conda:
        "../../envs/segmentation.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        gpu=0,
    params:
        address=backbone_address,
    shell:
        "python {input.script} {params.address} --output {output} > {log} 2>&1"


# an adapter of the text-to-image model to the look of a data set
rule train_dreambooth_lora:
    input:
        lora_photos,
        script=ancient("<scripts>/train_dreambooth_lora.py"),
        model=model_files,
    output:
        "<work>/loras/{lora}.safetensors",
    log:
        "<logs>/train_dreambooth_lora/{lora}.log",
    benchmark:
        "<benchmarks>/train_dreambooth_lora/{lora}.tsv"
    conda:
        "../../envs/diffusion.yaml"
    threads: config["resources"]["threads"]["train_dreambooth_lora"]
    resources:
        mem_mb=growing(16000),
        runtime=growing(240),
        gpu=gpus,
        device=device(),
    params:
        flags=lora_flags,
    shell:
        "python {input.script} {params.flags} --device {resources.device} --output {output}"
        " > {log} 2>&1"
