"""Everything -> one archive that opens in a browser."""


# drawn by Snakemake itself, from the configuration with all defaults
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
        snakemake=f"{shlex.quote(sys.executable)} -m snakemake",
        snakefile=str(workflow.main_snakefile),
        targets=[
            shlex.quote(real_path(result_of(target), config))
            for target in WANTED_TARGETS
        ],
    shell:
        "{params.snakemake} --rulegraph dot --nolock --snakefile {params.snakefile:q}"
        " --cores 1 --configfile {input.config} -- {params.targets} 2> {log}"
        " | python {input.script} --output {output} >> {log} 2>&1"


rule make_report:
    input:
        tables=targets.reported(),
        figures=[figure for t in targets.wanted for figure in targets.drawing(t)],
        captions=targets.captions(),
        references=of(targets.references),
        # other targets, so that the report comes last and has their costs
        others=targets.others(),
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
        mem_mb=megabytes(4000),
        runtime=minutes(60),
        gpu=0,
    params:
        references=lambda wildcards, input: flags(references=input.references or None),
        # costs of all jobs so far
        benchmarks=targets.benchmarks,
    shell:
        "python {input.script} --tables {input.tables} --figures {input.figures}"
        " --captions {input.captions} {params.references} --dag {input.dag}"
        " --benchmarks {params.benchmarks} --output {output} > {log} 2>&1"
