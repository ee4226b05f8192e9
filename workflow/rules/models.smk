"""Text-to-image models and backbones."""


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
    """Weights of the job's backbone, if any, as an input function."""
    return backbone_weights(wildcards) or []


def backbone_address(wildcards):
    """The address of a file of backbone weights."""
    for settings in config["segmentors"].values():
        if Path(settings["pretrained"] or "").stem == wildcards.backbone:
            return settings["pretrained"]
    raise WorkflowError(
        f"no segmentor is configured with the weights {wildcards.backbone}"
    )


def lora_photos(wildcards):
    """The data set that a LoRA is trained on, as an input."""
    settings = config["loras"][wildcards.lora]
    return dataset_manifest(settings["dataset"], settings["split"])


def lora_flags(wildcards):
    """The model that is adapted, and the photos that it is adapted to."""
    settings = config["loras"][wildcards.lora]
    return flags(
        model=model_folder(),
        images=photos_of(settings["dataset"], settings["split"]),
        limit=settings["images"],
    )


# Runs only when asked for: `make ship-mini` copies it to assets/mini_sd, which the mini scale reads.
rule train_mini_diffusion:
    input:
        script=ancient("<scripts>/train_mini_diffusion.py"),
    output:
        "<work>/mini_sd/model_index.json",
    log:
        "<logs>/train_mini_diffusion/train_mini_diffusion.log",
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
    wildcard_constraints:
        # a folder that the configuration names is nobody's output
        model="(?!)" if config["model"]["revision"] is None else "[^/]+",
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
    wildcard_constraints:
        backbone="[^/]+",
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
        mem_mb=growing(8000),
        runtime=growing(60),
        gpu=gpus,
        device=device(),
    params:
        seed=config["seed"],
    shell:
        "python {input.script} --backbone {wildcards.backbone} --width {wildcards.width}"
        " --seed {params.seed} --processes {threads} --device {resources.device}"
        " --output {output} > {log} 2>&1"


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
    conda:
        "../../envs/diffusion.yaml"
    threads: config["resources"]["threads"]["train_dreambooth_lora"]
    resources:
        mem_mb=growing(16000),
        runtime=growing(240),
        gpu=gpus,
        speed=speed_for(settings_of.lora_job, "lora"),
    params:
        data=lora_flags,
        settings=settings_for(settings_of.lora_job, "lora"),
    shell:
        "python {input.script} {params.data} {params.settings} {resources.speed} --output {output}"
        " > {log} 2>&1"
