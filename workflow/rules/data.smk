"""Data sets, in their official layouts."""


def download_flags(wildcards):
    """What a data set must hold, and where."""
    settings = config["datasets"][wildcards.dataset]
    return flags(
        dataset=dataset_argument(wildcards.dataset),
        root=settings["root"],
        source=settings["source"],
        splits=[
            f"{name}={split['images']}" for name, split in settings["splits"].items()
        ],
        without_masks=[
            name for name, split in settings["splits"].items() if not split["truth"]
        ]
        or None,
    )


COMPOSED = [
    name
    for name, settings in config["datasets"].items()
    if settings["source"] == "mini_world"
]


if COMPOSED:

    rule build_mini_world:
        input:
            script=ancient("<scripts>/build_mini_world.py"),
            sprites=["<assets>/sprites/atlas.json", "<assets>/sprites/atlas.png"],
        output:
            "<resources>/{dataset}.json",
        log:
            "<logs>/build_mini_world/{dataset}.log",
        wildcard_constraints:
            dataset="|".join(COMPOSED),
        conda:
            "../../envs/workflow.yaml"
        threads: 1
        resources:
            mem_mb=growing(2000),
            runtime=growing(30),
            gpu=0,
        params:
            flags=flags(seed=config["seed"]),
            folder=lambda wildcards, output: Path(output[0]).parent,
        shell:
            "python {input.script} --output {params.folder} {params.flags}"
            " --layouts {wildcards.dataset} > {log} 2>&1"


# The data itself is no output: Snakemake deletes outputs before it runs a job, and a data set may
# have been put there by hand.
rule download_dataset:
    input:
        lambda wildcards: config["datasets"][wildcards.dataset]["file"] or [],
        script=ancient("<scripts>/download_dataset.py"),
    output:
        "<resources>/{dataset}.json",
    log:
        "<logs>/download_dataset/{dataset}.log",
    wildcard_constraints:
        dataset="|".join(set(config["datasets"]) - set(COMPOSED)) or "(?!)",
    conda:
        "../../envs/workflow.yaml"
    threads: 8
    resources:
        mem_mb=growing(2000),
        runtime=growing(720),
        gpu=0,
    params:
        flags=download_flags,
    shell:
        "python {input.script} {params.flags} --processes {threads} --output {output}"
        " > {log} 2>&1"


# of data sets whose own masks are no numbers of a segmentor's classes
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
        mem_mb=growing(2000),
        runtime=growing(60),
        gpu=0,
    params:
        data=dataset_flags,
        masks=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python {input.script} {params.data} --output {params.masks} > {log} 2>&1"
