"""Masks -> a trained segmentor."""


rule train_segmentor:
    input:
        masks=training_masks,
        images=training_list,
        backbone=backbone_input,
        script=ancient("<scripts>/train_segmentor.py"),
    output:
        "<work>/segmentors/{segmentor}/weights.safetensors",
    log:
        "<logs>/train_segmentor/{segmentor}.log",
    benchmark:
        "<benchmarks>/train_segmentor/{segmentor}.tsv"
    conda:
        "../../envs/segmentation.yaml"
    threads: config["resources"]["threads"]["train_segmentor"]
    resources:
        mem_mb=growing(32000),
        runtime=growing(1440),
        gpu=gpus,
        device=device(),
    params:
        flags=training_flags,
    shell:
        "python {input.script} {params.flags} --device {resources.device} --output {output} > {log} 2>&1"
