"""Evaluations -> tables, figures of curves, claims."""


# the configuration with all defaults, for the provenance of tables
rule record_config:
    output:
        "<work>/config.json",
    log:
        "<logs>/record_config/record_config.log",
    conda:
        "../../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
        gpu=0,
    params:
        # a function, so that Snakemake does not take braces in it for wildcards
        config=lambda wildcards: json.dumps(config, sort_keys=True, indent=1),
    shell:
        "printf '%s\\n' {params.config:q} > {output} 2> {log}"


# errors go to the log, the table itself to the terminal
rule make_table:
    input:
        metrics=of(targets.metrics, "target"),
        submissions=of(targets.submission_records, "target"),
        config="<work>/config.json",
        published="<published>/{target}.csv",
        script="<scripts>/make_table.py",
    output:
        table=report(
            "<results>/{target}.csv",
            caption="../report/table.rst",
            category=of(targets.paper, "target"),
            labels={"table": "{target}", "scale": config["paths"]["results"]},
        ),
        page="<results>/{target}.html",
        provenance="<results>/{target}.provenance.json",
    log:
        "<logs>/make_table/{target}.log",
    conda:
        "../../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(30),
        gpu=0,
    params:
        evaluations=lambda wildcards, input: flags(
            **targets.evaluations_flags(wildcards.target)
        ),
        provenance=of(targets.provenance_flags, "target"),
        caption=lambda wildcards: (CAPTIONS / f"{wildcards.target}.rst").read_text(),
    shell:
        "python {input.script} {wildcards.target} --published {input.published} {params.evaluations}"
        " {params.provenance} --config {input.config} --output {output.table}"
        " --show 2> {log}"


rule make_figure_b8:
    input:
        metrics=targets.curve_metrics("voc_figure_b8"),
        config="<work>/config.json",
        script="<scripts>/make_figure_b8.py",
    output:
        table="<results>/voc_figure_b8.csv",
        figure=report(
            "<results>/voc_figure_b8.svg",
            caption="../report/voc_figure_b8.rst",
            category="Text2Mask",
            labels={"table": "voc_figure_b8", "scale": config["paths"]["results"]},
        ),
        page="<results>/voc_figure_b8.html",
        provenance="<results>/voc_figure_b8.provenance.json",
    log:
        "<logs>/make_figure_b8/make_figure_b8.log",
    conda:
        "../../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(30),
        gpu=0,
    params:
        points=lambda wildcards, input: flags(**targets.curves_flags("voc_figure_b8")),
        run=flags(**targets.cost_flags()),
    shell:
        "python {input.script} {params.points} --config {input.config} {params.run}"
        " --output {output.table} > {log} 2>&1"


rule make_figure_d9:
    input:
        similarity=targets.similarity("voc_figure_d9"),
        config="<work>/config.json",
        published="<published>/voc_figure_d9.csv",
        script="<scripts>/make_figure_d9.py",
    output:
        table="<results>/voc_figure_d9.csv",
        figure=report(
            "<results>/voc_figure_d9.svg",
            caption="../report/voc_figure_d9.rst",
            category="Text2Mask",
            labels={"table": "voc_figure_d9", "scale": config["paths"]["results"]},
        ),
        page="<results>/voc_figure_d9.html",
        provenance="<results>/voc_figure_d9.provenance.json",
    log:
        "<logs>/make_figure_d9/make_figure_d9.log",
    conda:
        "../../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(30),
        gpu=0,
    params:
        folder=lambda wildcards, input: Path(input.similarity).parent,
        run=flags(**targets.cost_flags()),
    shell:
        "python {input.script} --similarity {params.folder} --published {input.published}"
        " --config {input.config} {params.run} --output {output.table} > {log} 2>&1"


# not of `all` unless all of its models are there
rule make_backbones:
    input:
        metrics=of(targets.backbone_metrics),
        config="<work>/config.json",
        script="<scripts>/make_backbones.py",
    output:
        table="<results>/backbones.csv",
        figure=report(
            "<results>/backbones.svg",
            caption="../report/backbones.rst",
            category="Backbones",
            labels={"table": "backbones", "scale": config["paths"]["results"]},
        ),
        page="<results>/backbones.html",
        provenance="<results>/backbones.provenance.json",
    log:
        "<logs>/make_backbones/make_backbones.log",
    conda:
        "../../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(30),
        gpu=0,
    params:
        rows=lambda wildcards: flags(rows=json.dumps(targets.backbone_rows())),
        run=flags(**targets.cost_flags()),
    shell:
        "python {input.script} {params.rows} --config {input.config} {params.run}"
        " --output {output.table} > {log} 2>&1"


rule make_claims:
    input:
        metrics=of(targets.claimed_metrics),
        config="<work>/config.json",
        published=expand("<published>/{target}.csv", target=TABLES),
        script="<scripts>/make_claims.py",
    output:
        table=report(
            "<results>/claims.csv",
            caption="../report/claims.rst",
            category="Claims",
            labels={"table": "claims", "scale": config["paths"]["results"]},
        ),
        provenance="<results>/claims.provenance.json",
    log:
        "<logs>/make_claims/make_claims.log",
    conda:
        "../../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(60),
        gpu=0,
    params:
        flags=of(targets.claims_flags),
    shell:
        "python {input.script} {params.flags} --config {input.config} --output {output.table}"
        " > {log} 2>&1"
