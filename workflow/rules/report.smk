"""Everything -> one archive that opens in a browser."""


def references(wildcards):
    """Printed beside the tables, in none of them: masks without a model, segmentors of true masks."""
    masks, segmentors = {}, {}
    for target in filter(TABLES.get, WANTED_TARGETS):
        for evaluation in measured_in(target):
            dataset, split = evaluation.data(config), evaluation.split
            if evaluation.trained:
                architecture = segmentor_settings(evaluation.method)["architecture"]
                segmentors[split, dataset, architecture] = None
            if DATASETS[dataset].background and DATASETS[dataset].label_sources:
                for reference in REFERENCES:
                    name = f"masks/{dataset}/{split}/reference/{reference}"
                    masks[Evaluation.parse(name)] = None
    true_masks = [
        Evaluation("segmentors", split, name)
        for name, settings in config["segmentors"].items()
        for split, dataset, architecture in segmentors
        if settings["train"]["masks"] == "truth"
        and settings["train"]["dataset"] == dataset
        and settings["architecture"] == architecture
    ]
    wanted = [e for e in true_masks if is_made(e) or command_for(e) is None]
    return [evaluation.path for evaluation in [*masks, *wanted]]


def figures_of(target):
    """The drawings that a target brings along."""
    if target in FIGURES:
        return [f"<results>/{target}.svg"]
    return [result_of(target)] if target in PICTURES else []


# by Snakemake itself, of the configuration with every default
rule draw_dag:
    input:
        config="<work>/config.json",
        script="<scripts>/draw_dag.py",
    output:
        "<work>/dag.svg",
    log:
        "<logs>/draw_dag/draw_dag.log",
    conda:
        "../../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
        gpu=0,
    params:
        snakemake=f"{sys.executable} -m snakemake",
        snakefile=str(workflow.main_snakefile),
        targets=[
            result_of(target).replace("<results>", config["paths"]["results"])
            for target in WANTED_TARGETS
        ],
    shell:
        "{params.snakemake} --rulegraph dot --nolock --snakefile {params.snakefile:q}"
        " --cores 1 --configfile {input.config} -- {params.targets} 2> {log}"
        " | python {input.script} --output {output} >> {log} 2>&1"


rule make_report:
    input:
        tables=[result_of(t) for t in WANTED_TARGETS if t not in PICTURES],
        figures=[figure for t in WANTED_TARGETS for figure in figures_of(t)],
        captions=expand("<captions>/{target}.rst", target=WANTED_TARGETS),
        references=references,
        dag="<work>/dag.svg",
        script="<scripts>/make_report.py",
    output:
        report(
            "<results>/report.zip",
            caption="../report/report.rst",
            category="Report",
            labels={"table": "all", "scale": config["paths"]["results"]},
        ),
    log:
        "<logs>/make_report/make_report.log",
    conda:
        "../../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        gpu=0,
    params:
        references=lambda wildcards, input: flags(references=input.references or None),
        # of all jobs so far
        benchmarks=f"{config['paths']['work']}/benchmarks",
    shell:
        "python {input.script} --tables {input.tables} --figures {input.figures}"
        " --captions {input.captions} {params.references} --dag {input.dag}"
        " --benchmarks {params.benchmarks} --output {output} > {log} 2>&1"
