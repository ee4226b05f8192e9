"""Evaluations -> tables -> the report."""


def can_be_made(evaluation):
    """Whether this configuration can make an evaluation."""
    if evaluation.kind == "mug19":
        return "mug19" in config["datasets"] and evaluation.method in personal_methods()
    return evaluation.can_be_made(config)


def is_made(evaluation):
    """Whether an evaluation is there already."""
    return Path(evaluation.path.replace("<work>", config["paths"]["work"])).is_file()


def command_for(evaluation):
    """The command that makes an evaluation which this run leaves out; None for one it makes."""
    if not evaluation.trained or config["targets"] == "all":
        return None
    return config["leave_out"].get(evaluation.method)


def configured_in(target):
    """The evaluations of a table that this configuration can make; other cells say why not."""
    named = map(Evaluation.parse, evaluations_needed(TABLES[target]))
    return [evaluation for evaluation in named if can_be_made(evaluation)]


def measured_in(target):
    """The evaluations in a table: those that this run makes, and others that are there already."""
    return [e for e in configured_in(target) if is_made(e) or command_for(e) is None]


def metrics(wildcards):
    """The evaluations of a table, as an input."""
    return [evaluation.path for evaluation in measured_in(wildcards.target)]


def submissions(wildcards):
    """Archives for an evaluation server, in place of what only it can score in a table."""
    named = map(Evaluation.parse, evaluations_needed(TABLES[wildcards.target]))
    return [
        f"<results>/submissions/{evaluation.method}/{evaluation.split}.tgz"
        for evaluation in named
        if evaluation.needs_server(config)
    ]


def evaluation_flags(wildcards, input):
    """The evaluations of a table and their files, and those that are left out with their commands."""
    measured = measured_in(wildcards.target)
    left_out = [e for e in configured_in(wildcards.target) if e not in measured]
    return flags(
        evaluations=[f"{e}={file}" for e, file in zip(measured, input.metrics)] or None,
        left_out=[f"{e}={command_for(e)}" for e in left_out] or None,
        methods=competitors.argument(TABLES[wildcards.target]) or None,
    )


def provenance_flags(wildcards):
    """What a table's provenance records beside the evaluations."""
    manifests = {}
    for evaluation in measured_in(wildcards.target):
        dataset = evaluation.data(config)
        manifest = f"{config['paths']['resources']}/{dataset}.json"
        manifests[dataset] = f"{dataset}={manifest}"
        if evaluation.postprocessing == GIVEN:
            manifests[evaluation] = f"{evaluation}={given_masks(evaluation)}"
    if not manifests:
        return ""
    return flags(
        data=list(manifests.values()),
        model=[f"{config['model']['path']}={model_folder()}"],
        device=device(),
        benchmarks=f"{config['paths']['work']}/benchmarks",
    )


def claimed_runs():
    """(the name of an evaluation in the claims, one of its runs) for each that can be made."""
    runs = []
    for name in ledger.evaluations_needed():
        if name == ledger.SIMILARITY:
            if is_available(name):
                masks = f"similarity/{figure_masks(name)[0]}"
                runs.append((name, Evaluation.parse(masks)))
            continue
        if name.startswith(ledger.FIGURE):
            shown = config["figures"]["voc_figure_b8"]
            masks = name.removeprefix(ledger.FIGURE)
            made = f"masks/{shown['dataset']}/{shown['split']}/{masks}"
        else:
            made = name
        evaluation = Evaluation.parse(made)
        if not can_be_made(evaluation):
            continue
        trainings = config["claims"]["training_runs"] if evaluation.trained else 1
        runs += [(name, evaluation.again(run)) for run in range(1, 1 + trainings)]
    return runs


def claimed_metrics(wildcards):
    """The evaluations behind the claims, as an input."""
    return list(dict.fromkeys(evaluation.path for _, evaluation in claimed_runs()))


def claim_flags(wildcards):
    """The same as flags, and what the ledger's provenance records."""
    work = config["paths"]["work"]
    return flags(
        evaluations=[
            f"{name}={evaluation.path.replace('<work>', work)}"
            for name, evaluation in claimed_runs()
        ],
        resamples=config["claims"]["resamples"],
        device=device(),
        benchmarks=f"{work}/benchmarks",
    )


def paper_of(wildcards):
    """The paper whose table it is."""
    return TABLES[wildcards.target].number.split(",")[0]


def caption_of(wildcards):
    """The text under a table in the report."""
    return (REPOSITORY / "workflow" / "report" / f"{wildcards.target}.rst").read_text()


def is_available(target):
    """Whether this configuration can make a target: a table with at least one value of ours."""
    if target in TABLES:
        return bool(measured_in(target))
    if target == "claims":
        return True
    if target in GENERATED_PICTURES:
        return set(GENERATED_PICTURES[target]) <= set(config["synthesis"])
    if target == "voc_figure_2":
        return True
    if target == "mug19_figure_5":
        return "mug19" in config["datasets"]
    masks = figure_masks(target)
    return bool(masks) and all(
        can_be_made(Evaluation.parse(f"masks/{name}")) for name in masks
    )


def result_of(target):
    """The file that a target is."""
    return f"<results>/{target}.{'png' if target in PICTURES else 'csv'}"


def available_of(group):
    """The available targets of a group; the ledger, of both papers, is in none."""

    def group_of(target):
        first = target.split("_")[0]
        return first if first in ("attn2mask", "mug19", "claims") else "text2mask"

    return [target for target in AVAILABLE_TARGETS if group_of(target) == group]


AVAILABLE_TARGETS = [target for target in TARGETS if is_available(target)]
WANTED_TARGETS = AVAILABLE_TARGETS if config["targets"] == "all" else config["targets"]


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
        # a function, as braces in it are no wildcards
        config=lambda wildcards: json.dumps(config, sort_keys=True, indent=1),
    shell:
        "printf '%s\\n' {params.config:q} > {output} 2> {log}"


# the log has what went wrong; the table itself goes to the terminal
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
        caption=caption_of,
    shell:
        "python {input.script} {wildcards.target} --published {input.published} {params.evaluations}"
        " {params.provenance} --config {input.config} --output {output.table}"
        " --show 2> {log}"


rule make_claims:
    input:
        metrics=claimed_metrics,
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
        flags=claim_flags,
    shell:
        "python {input.script} {params.flags} --config {input.config} --output {output.table}"
        " > {log} 2>&1"
