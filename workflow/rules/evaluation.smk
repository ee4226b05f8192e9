"""A trained segmentor -> its quality."""


rule evaluate_segmentor:
    input:
        weights="<work>/segmentors/{segmentor}/weights.safetensors",
        images=of(jobs.segmentors.tested_list, "segmentor", "split"),
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
        mem_mb=growing(16000),
        runtime=growing(240),
        gpu=gpus,
        device=device(config),
    params:
        flags=of(jobs.segmentors.tested_flags, "segmentor", "split"),
        settings=settings_for(settings_of.test_job, "segmentor"),
        folder=lambda wildcards, output: Path(output.metrics).parent,
    shell:
        "python {input.script} --weights {input.weights} {params.flags} {params.settings}"
        " --processes {threads} --device {resources.device} --output {params.folder} > {log} 2>&1"


# for splits whose true masks only an evaluation server has
rule make_submission:
    input:
        weights="<work>/segmentors/{segmentor}/weights.safetensors",
        images=of(jobs.segmentors.tested_list, "segmentor", "split"),
        script="<scripts>/evaluate_segmentor.py",
    output:
        "<results>/submissions/{segmentor}/{split}.tgz",
    log:
        "<logs>/make_submission/{segmentor}/{split}.log",
    conda:
        "../../envs/segmentation.yaml"
    threads: config["resources"]["threads"]["evaluate_segmentor"]
    resources:
        mem_mb=growing(16000),
        runtime=growing(240),
        gpu=gpus,
        device=device(config),
    params:
        flags=of(jobs.segmentors.tested_flags, "segmentor", "split"),
        settings=settings_for(settings_of.test_job, "segmentor"),
    shell:
        "python {input.script} --weights {input.weights} {params.flags} {params.settings}"
        " --processes {threads} --device {resources.device} --submission {output} > {log} 2>&1"
