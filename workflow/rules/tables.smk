"""Evaluations -> tables -> the report."""


# with every default, for the provenance of tables
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
        config=json.dumps(config, sort_keys=True, indent=1),
    shell:
        "printf '%s\\n' {params.config:q} > {output} 2> {log}"


# the log has what went wrong; the table itself goes to the terminal
rule make_table:
    input:
        metrics=of(targets.metrics, "target"),
        submissions=of(targets.submissions, "target"),
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
        mem_mb=growing(2000),
        runtime=growing(30),
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
        mem_mb=growing(8000),
        runtime=growing(60),
        gpu=0,
    params:
        flags=of(targets.claims_flags),
    shell:
        "python {input.script} {params.flags} --config {input.config} --output {output.table}"
        " > {log} 2>&1"
