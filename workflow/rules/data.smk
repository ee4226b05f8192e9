"""Data sets, in their official layouts."""

if jobs.data.composed:

    rule build_mini_world:
        input:
            script=ancient("<scripts>/build_mini_world.py"),
            sprites=["<assets>/sprites/atlas.json", "<assets>/sprites/atlas.png"],
        output:
            "<resources>/{dataset}.json",
        log:
            "<logs>/build_mini_world/{dataset}.log",
        wildcard_constraints:
            dataset=one_of(jobs.data.composed),
        conda:
            "../../envs/workflow.yaml"
        threads: 1
        resources:
            mem_mb=megabytes(2000),
            runtime=minutes(30),
            gpu=0,
        params:
            flags=flags(seed=config["seed"]),
            folder=lambda wildcards, output: Path(output[0]).parent,
        shell:
            "python {input.script} --output {params.folder} {params.flags}"
            " --layouts {wildcards.dataset} > {log} 2>&1"


# The data itself is not declared as an output: Snakemake deletes outputs before it runs a job, and
# users may have put the data set there themselves.
rule download_dataset:
    input:
        lambda wildcards: config["datasets"][wildcards.dataset]["file"] or [],
        labels=of(jobs.data.listed_labels, "dataset"),
        script=ancient("<scripts>/download_dataset.py"),
    output:
        "<resources>/{dataset}.json",
    log:
        "<logs>/download_dataset/{dataset}.log",
    wildcard_constraints:
        dataset=one_of(set(config["datasets"]) - set(jobs.data.composed)),
    conda:
        "../../envs/workflow.yaml"
    threads: 8
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(720),
        gpu=0,
    params:
        flags=of(jobs.data.download_flags, "dataset"),
    shell:
        "python {input.script} {params.flags} --processes {threads} --output {output}"
        " > {log} 2>&1"


# for data sets whose mask files do not hold the class numbers that segmentors are trained with
rule write_true_masks:
    input:
        split_manifest,
        script=ancient("<scripts>/write_true_masks.py"),
    output:
        "<work>/masks/{dataset}/{split}/truth/manifest.json",
    log:
        "<logs>/write_true_masks/{dataset}/{split}.log",
    conda:
        "../../envs/crf.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(60),
        gpu=0,
    params:
        data=dataset_flags,
        masks=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python {input.script} {params.data} --output {params.masks} > {log} 2>&1"
