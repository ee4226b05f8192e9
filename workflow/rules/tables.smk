"""Evaluations -> tables -> the report."""


# with every default, for the provenance of tables
rule record_config:
    output:
        "<work>/config.json",
    log:
        "<logs>/record_config/record_config.log",
    benchmark:
        "<benchmarks>/record_config/record_config.tsv"
    conda:
        "../../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
        gpu=0,
    params:
        config=json.dumps(config, sort_keys=True, indent=1),
    shell:
        "printf '%s\\n' {params.config:q} > {output} 2> {log}"


rule make_table:
    input:
        metrics=metrics,
        submissions=submissions,
        config="<work>/config.json",
        published="<published>/{target}.csv",
        script="<scripts>/make_table.py",
    output:
        table=report(
            "<results>/{target}.csv",
            caption="../report/table.rst",
            category=paper_of,
            labels={"table": "{target}", "scale": config["paths"]["results"]},
        ),
        page="<results>/{target}.html",
        provenance="<results>/{target}.provenance.json",
    log:
        "<logs>/make_table/{target}.log",
    benchmark:
        "<benchmarks>/make_table/{target}.tsv"
    conda:
        "../../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
        gpu=0,
    params:
        evaluations=evaluation_flags,
        provenance=provenance_flags,
        benchmarks=benchmark_flags,
        caption=caption_of,
    shell:
        "python {input.script} {wildcards.target} --published {input.published} {params.evaluations}"
        " {params.provenance} --config {input.config} {params.benchmarks} --output {output.table} > {log} 2>&1"


rule make_report:
    input:
        tables=expand("<results>/{target}.csv", target=config["targets"]),
        captions=expand("<captions>/{target}.rst", target=config["targets"]),
        references=references,
        attention=pictured_attention,
        masks=pictured_masks,
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
    benchmark:
        "<benchmarks>/make_report/make_report.tsv"
    conda:
        "../../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        gpu=0,
    params:
        pictures=picture_flags,
        attention=lambda wildcards, input: Path(input.attention).parent,
        masks=lambda wildcards, input: Path(input.masks).parent,
    shell:
        "python {input.script} --tables {input.tables} --captions {input.captions}"
        " --references {input.references} {params.pictures} --attention {params.attention}"
        " --masks {params.masks} --output {output} > {log} 2>&1"
