"""Trained segmentors -> their quality; masks -> how it depends on the likeness of classes."""


def gpus_of_evaluation(wildcards):
    """None where the scores are there already."""
    refined = jobs.segmentors.scores(wildcards.segmentor, wildcards.split)
    return 0 if refined else gpus(wildcards)


# of many photos with the dense CRF, which is left to the CPU of another job
rule predict_segmentor:
    input:
        weights=of(jobs.segmentors.weights, "segmentor"),
        images=of(jobs.segmentors.tested_list, "segmentor", "split"),
        script=ancient("<scripts>/predict_segmentor.py"),
    output:
        "<work>/predictions/{segmentor}/{split}/manifest.json",
    log:
        "<logs>/predict_segmentor/{segmentor}/{split}.log",
    conda:
        "../../envs/segmentation.yaml"
    threads: config["resources"]["threads"]["predict_segmentor"]
    resources:
        mem_mb=megabytes(16000),
        runtime=minutes(240),
        gpu=gpus,
        device=device(config),
    params:
        flags=of(jobs.segmentors.predicted_flags, "segmentor", "split"),
        settings=settings_for(settings_of.prediction_job, "segmentor"),
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python {input.script} --weights {input.weights} {params.flags} {params.settings}"
        " --device {resources.device} --output {params.folder} > {log} 2>&1"


rule evaluate_segmentor:
    input:
        weights=of(jobs.segmentors.weights, "segmentor"),
        images=of(jobs.segmentors.tested_list, "segmentor", "split"),
        scores=of(jobs.segmentors.predicted, "segmentor", "split"),
        script="<scripts>/evaluate_segmentor.py",
    output:
        metrics="<work>/evaluation/segmentors/{segmentor}/{split}/metrics.json",
        images="<work>/evaluation/segmentors/{segmentor}/{split}/per_image.npz",
    log:
        "<logs>/evaluate_segmentor/{segmentor}/{split}.log",
    conda:
        "../../envs/segmentation.yaml"
    threads: config["resources"]["threads"]["evaluate_segmentor"]
    resources:
        mem_mb=megabytes(16000),
        runtime=minutes(240),
        gpu=gpus_of_evaluation,
        device=device(config),
    params:
        flags=of(jobs.segmentors.tested_flags, "segmentor", "split"),
        settings=settings_for(settings_of.test_job, "segmentor"),
        folder=lambda wildcards, output: Path(output.metrics).parent,
    shell:
        "python {input.script} --weights {input.weights} {params.flags} {params.settings}"
        " --processes {threads} --device {resources.device} --output {params.folder} > {log} 2>&1"


# for splits whose true masks only an evaluation server has; the archive lies beside its record, which
# says why there is none where the photos are absent: no table waits for them
rule make_submission:
    input:
        weights=of(jobs.segmentors.weights, "segmentor"),
        images=of(jobs.segmentors.tested_list, "segmentor", "split"),
        scores=of(jobs.segmentors.predicted, "segmentor", "split"),
        script="<scripts>/evaluate_segmentor.py",
    output:
        "<results>/submissions/{segmentor}/{split}.json",
    log:
        "<logs>/make_submission/{segmentor}/{split}.log",
    conda:
        "../../envs/segmentation.yaml"
    threads: config["resources"]["threads"]["evaluate_segmentor"]
    resources:
        mem_mb=megabytes(16000),
        runtime=minutes(240),
        gpu=gpus_of_evaluation,
        device=device(config),
    params:
        flags=of(jobs.segmentors.tested_flags, "segmentor", "split"),
        settings=settings_for(settings_of.test_job, "segmentor"),
        archive=lambda wildcards, output: Path(output[0]).with_suffix(".tgz"),
    shell:
        "python {input.script} --weights {input.weights} {params.flags} {params.settings}"
        " --processes {threads} --device {resources.device} --submission {params.archive}"
        " --record {output} > {log} 2>&1"


def segmentor_of(prediction):
    """The segmentor that predicts further photos."""
    return config["predictions"][prediction]["segmentor"]


# the masks beside the picture are not declared as outputs, so that an interrupted job resumes
rule predict_photos:
    input:
        weights=of(
            lambda name: jobs.segmentors.weights(segmentor_of(name)), "prediction"
        ),
        photo=of(jobs.segmentors.newest_photo, "prediction"),
        script=ancient("<scripts>/predict_photos.py"),
    output:
        report(
            "<results>/{prediction}.png",
            caption="../report/predictions.rst",
            category="Your own",
            labels={"table": "{prediction}", "scale": config["paths"]["results"]},
        ),
    log:
        "<logs>/predict_photos/{prediction}.log",
    wildcard_constraints:
        prediction=one_of(config["predictions"]),
    conda:
        "../../envs/segmentation.yaml"
    threads: config["resources"]["threads"]["predict_segmentor"]
    resources:
        mem_mb=megabytes(16000),
        runtime=minutes(240),
        gpu=gpus,
        device=device(config),
    params:
        flags=of(jobs.segmentors.prediction_flags, "prediction"),
        settings=settings_for(
            lambda config, name: settings_of.test_job(config, segmentor_of(name)),
            "prediction",
        ),
    shell:
        "python {input.script} --weights {input.weights} {params.flags} {params.settings}"
        " --device {resources.device} --output {output} > {log} 2>&1"


# for images with two or more classes: the similarity of the class embeddings, and the mIoU of the mask
rule measure_similarity:
    input:
        split_manifest,
        metrics="<work>/evaluation/masks/{dataset}/{split}/{variant}/{refinement}/metrics.json",
        script=ancient("<scripts>/measure_similarity.py"),
        model=model_files,
    output:
        metrics="<work>/evaluation/similarity/{dataset}/{split}/{variant}/{refinement}/metrics.json",
        images="<work>/evaluation/similarity/{dataset}/{split}/{variant}/{refinement}/per_image.npz",
    log:
        "<logs>/measure_similarity/{dataset}/{split}/{variant}/{refinement}.log",
    conda:
        "../../envs/diffusion.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(60),
        gpu=0,
    params:
        data=dataset_flags,
        method=of(jobs.masks.similarity_flags, "dataset"),
        evaluation=lambda wildcards, input: Path(input.metrics).parent,
        folder=lambda wildcards, output: Path(output.metrics).parent,
    shell:
        "python {input.script} {params.data} {params.method} --evaluation {params.evaluation}"
        " --output {params.folder} > {log} 2>&1"
