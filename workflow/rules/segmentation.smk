"""Masks -> a trained segmentor."""


rule train_segmentor:
    input:
        masks=of(jobs.segmentors.training_masks, "segmentor"),
        images=of(jobs.segmentors.training_list, "segmentor"),
        backbone=of(jobs.segmentors.backbone, "segmentor"),
        script=ancient("<scripts>/train_segmentor.py"),
    output:
        "<work>/segmentors/{segmentor}/weights.safetensors",
    log:
        "<logs>/train_segmentor/{segmentor}.log",
    conda:
        "../../envs/segmentation.yaml"
    threads: of(jobs.segmentors.threads, "segmentor")
    resources:
        mem_mb=megabytes(32000),
        runtime=minutes(1440),
        gpu=granted(jobs.segmentors.gpus),
        speed=speed_for(
            settings_of.segmentor_job, "segmentor", gpus=jobs.segmentors.gpus_flag
        ),
    params:
        flags=of(jobs.segmentors.training_flags, "segmentor"),
    shell:
        "python {input.script} {params.flags} {resources.speed} --output {output} > {log} 2>&1"
