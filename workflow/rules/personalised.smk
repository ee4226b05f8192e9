"""Photos of subjects -> a word for each -> where it is among its like (Mug19)."""

mug19 = of(jobs.subjects.manifest)


# Neither these images nor the subjects' weights below are declared as outputs, so that an interrupted
# job resumes with those that are missing.
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
        mem_mb=megabytes(16000),
        runtime=minutes(120),
        gpu=gpus,
        speed=speed_for(settings_of.class_images_job),
    params:
        data=of(jobs.subjects.flags),
        settings=settings_for(settings_of.class_images_job),
        folder=lambda wildcards, output: Path(output[0]).with_name("subjects"),
    shell:
        "python {input.script} {params.data} {params.settings} --only-regularisation"
        " --threads {threads} {resources.speed} --output {params.folder} --summary {output} > {log} 2>&1"


rule train_custom_diffusion:
    input:
        mug19,
        of(jobs.subjects.class_images),
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
        mem_mb=megabytes(16000),
        runtime=minutes(240),
        gpu=gpus,
        speed=speed_for(settings_of.subject_training_job),
    params:
        data=of(jobs.subjects.flags),
        token=config["personalised"]["token"],
        settings=settings_for(settings_of.subject_training_job),
        jobs=config["personalised"]["jobs"],
        folder=lambda wildcards, output: Path(output[0]).with_name("subjects"),
    shell:
        "python {input.script} {params.data} {params.settings} --token {params.token:q}"
        " --part {wildcards.number}/{params.jobs} --threads {threads} {resources.speed}"
        " --output {params.folder} --summary {output}"
        " > {log} 2>&1"


# needs the segmentors' environment, since `features` are those of a segmentor
rule segment_instances:
    input:
        mug19,
        of(jobs.subjects.learnt),
        script=ancient("<scripts>/segment_instances.py"),
        model=model_files,
        features=of(jobs.subjects.features),
    output:
        "<work>/personal/answers/manifest.json",
    log:
        "<logs>/segment_instances/segment_instances.log",
    conda:
        "../../envs/segmentation.yaml"
    threads: config["resources"]["threads"]["segment_instances"]
    resources:
        mem_mb=megabytes(32000),
        runtime=minutes(480),
        gpu=gpus,
        speed=speed_for(settings_of.subject_segmentation_job),
    params:
        data=of(jobs.subjects.segmentation_flags),
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
        jobs.subjects.metrics(),
    log:
        "<logs>/evaluate_instances/evaluate_instances.log",
    conda:
        "../../envs/diffusion.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(120),
        gpu=0,
    params:
        root=lambda wildcards: shlex.quote(jobs.subjects.root()),
        name=lambda wildcards: shlex.quote(jobs.subjects.title()),
        answers=lambda wildcards, input: Path(input.answers).parent,
        folder=lambda wildcards, output: Path(output[0]).parents[2],
    shell:
        "python {input.script} --root {params.root} --dataset-name {params.name}"
        " --predictions {params.answers} --output {params.folder} > {log} 2>&1"
