"""Photos of subjects -> a word for each -> where it is among its like (Mug19)."""

from attnseg.evaluations import MUG19_METHODS, MUG19_SPLITS


def personal_methods():
    """The methods that this configuration can run."""
    settings = config["personalised"]
    pictures = [key for key in ("dino", "features") if settings[key] is not None]
    needs = {"dino_vit": pictures, "mask_rcnn": "features" in pictures}
    return [name for name in MUG19_METHODS.values() if needs.get(name, True)]


def mug19(wildcards):
    """The manifest that says Mug19 is there."""
    return dataset_manifest("mug19", "all")


def mug19_root(wildcards):
    """Its folder."""
    return config["datasets"]["mug19"]["root"]


def subject_flags(wildcards):
    """The subjects and the model that learns them."""
    return flags(mug19=mug19_root(wildcards), model=model_folder())


def class_images(wildcards):
    """The images of the class that preserve what its word means, as an input."""
    wanted = config["personalised"]["training"]["regularisation_images"] > 0
    return "<work>/personal/regularisation.json" if wanted else []


def learnt_subjects(wildcards):
    """All subjects, learnt, as an input."""
    numbers = range(config["personalised"]["jobs"])
    return [f"<work>/personal/part-{number}.json" for number in numbers]


def compared_features(wildcards):
    """The segmentor whose backbone two baselines compare, as an input."""
    name = config["personalised"]["features"]
    return [] if name is None else f"<work>/segmentors/{name}/weights.safetensors"


def instance_flags(wildcards):
    """The scenes, the models and the methods that are compared."""
    return flags(
        root=mug19_root(wildcards),
        model=model_folder(),
        methods=personal_methods(),
        clip=config["personalised"]["clip"],
        dino=config["personalised"]["dino"],
    )


def instance_metrics():
    """The scores of every method in every split."""
    return expand(
        "<work>/evaluation/mug19/{split}/{method}/metrics.json",
        split=[*MUG19_SPLITS.values(), "variant"],
        method=personal_methods(),
    )


# The images are no outputs, so that an interrupted job goes on with those that are missing; nor are
# the weights of subjects below.
rule generate_class_images:
    input:
        mug19,
        script=ancient("<scripts>/train_custom_diffusion.py"),
        model=model_files,
    output:
        "<work>/personal/regularisation.json",
    log:
        "<logs>/generate_class_images/generate_class_images.log",
    conda:
        "../../envs/diffusion.yaml"
    threads: config["resources"]["threads"]["train_custom_diffusion"]
    resources:
        mem_mb=growing(16000),
        runtime=growing(120),
        gpu=gpus,
        speed=speed_for(settings_of.class_images_job),
    params:
        data=subject_flags,
        settings=settings_for(settings_of.class_images_job),
        folder=lambda wildcards, output: Path(output[0]).with_name("subjects"),
    shell:
        "python {input.script} {params.data} {params.settings} --only-regularisation"
        " --threads {threads} {resources.speed} --output {params.folder} --summary {output} > {log} 2>&1"


rule train_custom_diffusion:
    input:
        mug19,
        class_images,
        script=ancient("<scripts>/train_custom_diffusion.py"),
        model=model_files,
    output:
        "<work>/personal/part-{number}.json",
    log:
        "<logs>/train_custom_diffusion/{number}.log",
    conda:
        "../../envs/diffusion.yaml"
    threads: config["resources"]["threads"]["train_custom_diffusion"]
    resources:
        mem_mb=growing(16000),
        runtime=growing(240),
        gpu=gpus,
        speed=speed_for(settings_of.subject_training_job),
    params:
        data=subject_flags,
        token=config["personalised"]["token"],
        settings=settings_for(settings_of.subject_training_job),
        jobs=config["personalised"]["jobs"],
        folder=lambda wildcards, output: Path(output[0]).with_name("subjects"),
    shell:
        "python {input.script} {params.data} {params.settings} --token {params.token:q}"
        " --part {wildcards.number}/{params.jobs} --threads {threads} {resources.speed}"
        " --output {params.folder} --summary {output}"
        " > {log} 2>&1"


# in the environment of segmentors, as `features` is one
rule segment_instances:
    input:
        mug19,
        learnt_subjects,
        script=ancient("<scripts>/segment_instances.py"),
        model=model_files,
        features=compared_features,
    output:
        "<work>/personal/answers/manifest.json",
    log:
        "<logs>/segment_instances/segment_instances.log",
    conda:
        "../../envs/segmentation.yaml"
    threads: config["resources"]["threads"]["segment_instances"]
    resources:
        mem_mb=growing(32000),
        runtime=growing(480),
        gpu=gpus,
        speed=speed_for(settings_of.subject_segmentation_job),
    params:
        data=instance_flags,
        settings=settings_for(settings_of.subject_segmentation_job),
        features=lambda wildcards, input: flags(features=input.get("features") or None),
        personal=lambda wildcards, output: Path(output[0]).parents[1] / "subjects",
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python {input.script} {params.data} {params.settings} {params.features}"
        " {resources.speed}"
        " --personal {params.personal} --output {params.folder} > {log} 2>&1"


rule evaluate_instances:
    input:
        mug19,
        answers="<work>/personal/answers/manifest.json",
        script="<scripts>/evaluate_instances.py",
    output:
        instance_metrics(),
    log:
        "<logs>/evaluate_instances/evaluate_instances.log",
    conda:
        "../../envs/diffusion.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
        gpu=0,
    params:
        root=mug19_root,
        name=lambda wildcards: dataset_name("mug19"),
        answers=lambda wildcards, input: Path(input.answers).parent,
        folder=lambda wildcards, output: Path(output[0]).parents[2],
    shell:
        "python {input.script} --root {params.root} --dataset-name {params.name}"
        " --predictions {params.answers} --output {params.folder} > {log} 2>&1"
