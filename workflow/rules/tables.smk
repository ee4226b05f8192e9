"""Evaluations -> tables -> the report."""


def can_be_made(name):
    """Whether this configuration can make an evaluation."""
    kind, *parts = name.split("/")
    if kind == "segmentors" and parts[0] in config["segmentors"]:
        dataset = segmentor_settings(parts[0])["train"]["dataset"]
        split = config["datasets"][dataset]["splits"].get(parts[1], {})
        return bool(split.get("truth"))
    if kind == "masks" and parts[0] in config["datasets"]:
        dataset, split, variant, refinement = parts
        ways = "labellings" if variant in config["inversions"] else "refinements"
        known = variant in config["variants"] or variant in config["inversions"]
        known = known and split in config["datasets"][dataset]["splits"]
        return known and refinement in config[ways]
    if kind == "mug19" and "mug19" in config["datasets"]:
        return parts[1] in personal_methods()
    return False


def is_made(name):
    """Whether an evaluation is there already."""
    folder = Path(config["paths"]["work"]) / "evaluation" / name
    return (folder / "metrics.json").is_file()


def command_for(name):
    """The command that makes an evaluation which this run leaves out; None for one it makes."""
    kind, first, *_ = name.split("/")
    if kind != "segmentors" or config["targets"] == "all":
        return None
    return config["leave_out"].get(first)


def measured_in(target):
    """The evaluations in a table: those that this run makes, and others that are there already."""
    return [
        name
        for name in evaluations_needed(target)
        if can_be_made(name) and (is_made(name) or command_for(name) is None)
    ]


def left_out(target):
    """Evaluations that this run leaves out -> the command that makes them."""
    needed = [name for name in evaluations_needed(target) if can_be_made(name)]
    return {
        name: command_for(name) for name in needed if name not in measured_in(target)
    }


def metrics(wildcards):
    """The evaluations of a table, as an input."""
    return [
        f"<work>/evaluation/{name}/metrics.json"
        for name in measured_in(wildcards.target)
    ]


def submissions(wildcards):
    """Archives for an evaluation server, in place of what only it can score in a table."""
    archives = []
    for name in evaluations_needed(wildcards.target):
        kind, segmentor, *split = name.split("/")
        if kind != "segmentors" or segmentor not in config["segmentors"]:
            continue
        dataset = segmentor_settings(segmentor)["train"]["dataset"]
        settings = config["datasets"][dataset]["splits"].get(split[0])
        if settings and not settings["truth"]:
            archives.append(f"<results>/submissions/{segmentor}/{split[0]}.tgz")
    return archives


def evaluation_flags(wildcards, input):
    """The evaluations of a table and their files."""
    names = measured_in(wildcards.target)
    pairs = [f"{name}={file}" for name, file in zip(names, input.metrics)]
    absent = [f"{name}={how}" for name, how in left_out(wildcards.target).items()]
    return flags(evaluations=pairs or None, left_out=absent or None)


def provenance_flags(wildcards):
    """What a table's provenance records beside the evaluations."""
    manifests = {}
    for name in measured_in(wildcards.target):
        kind, first, split, *_ = name.split("/")
        if kind == "mug19":
            dataset, split = "mug19", first
        elif kind == "masks":
            dataset = first
        else:
            dataset = segmentor_settings(first)["train"]["dataset"]
        manifest = dataset_manifest(dataset, split)
        manifests[dataset] = manifest.replace(
            "<resources>", config["paths"]["resources"]
        )
    if not manifests:
        return ""
    return flags(
        data=[f"{name}={file}" for name, file in manifests.items()],
        model=[f"{config['model']['path']}={model_folder()}"],
        device=device(),
    )


def benchmark_files(names):
    """The benchmark files of every job behind some evaluations."""
    folder = f"{config['paths']['work']}/benchmarks"
    files = {}

    def generated(train):
        synthesis, images = train["synthesis"], images_used(train)
        lora = config["synthesis"][synthesis]["lora"]
        if lora is not None:
            files[f"{folder}/train_dreambooth_lora/{lora}.tsv"] = None
        files[f"{folder}/build_prompts/{synthesis}.tsv"] = None
        for shard in shard_numbers(images, config["generation"]["shard_size"]):
            files[f"{folder}/generate_images/{synthesis}/{shard}.tsv"] = None
        at = f"{synthesis}/{train['masks']}/{images}"
        files[f"{folder}/refine_synthetic/{at}.tsv"] = None

    def inverted(dataset, split, inversion, labelling):
        size = config["inversions"][inversion]["shard_size"]
        at = f"{dataset}/{split}/{inversion}"
        for shard in shard_numbers(images_inverted(dataset, split, inversion), size):
            files[f"{folder}/invert_image/{at}/{shard}.tsv"] = None
        files[f"{folder}/refine_inversion/{at}/{labelling}.tsv"] = None

    def masks(dataset, split, variant, refinement):
        if variant in config["inversions"]:
            return inverted(dataset, split, variant, refinement)
        images = split_settings(dataset, split)["images"]
        count = math.ceil(images / resolve_variant(config, variant)["shard_size"])
        at = f"{dataset}/{split}/{variant}"
        for shard in range(count):
            files[f"{folder}/extract_attention/{at}/{shard:05d}.tsv"] = None
        files[f"{folder}/verify_shards/{at}.tsv"] = None
        files[f"{folder}/refine_masks/{at}/{refinement}.tsv"] = None

    for name in names:
        kind, *parts = name.split("/")
        if kind == "masks":
            masks(*parts)
            files[f"{folder}/evaluate_masks/{'/'.join(parts)}.tsv"] = None
        elif kind == "mug19":
            for step in (
                "generate_class_images",
                "segment_instances",
                "evaluate_instances",
            ):
                files[f"{folder}/{step}/{step}.tsv"] = None
            for number in range(config["personalised"]["jobs"]):
                files[f"{folder}/train_custom_diffusion/{number}.tsv"] = None
        elif kind == "similarity":
            files[f"{folder}/measure_similarity/{'/'.join(parts)}.tsv"] = None
        else:
            train = segmentor_settings(parts[0])["train"]
            if train["synthesis"] is not None:
                generated(train)
            elif train["masks"] == "truth":
                if mask_folder(train) is not None:
                    at = f"{train['dataset']}/{train['split']}"
                    files[f"{folder}/write_true_masks/{at}.tsv"] = None
            else:
                masks(train["dataset"], train["split"], *train["masks"].split("/"))
            files[f"{folder}/train_segmentor/{parts[0]}.tsv"] = None
            files[f"{folder}/evaluate_segmentor/{'/'.join(parts)}.tsv"] = None
    return list(files)


def benchmark_flags(wildcards):
    """The benchmark files of every job behind a table, as flags."""
    return flags(benchmark=benchmark_files(measured_in(wildcards.target)) or None)


def claimed_runs():
    """(an evaluation behind the claims, the name of one of its runs) for each that can be made."""
    runs = []
    for name in ledger.evaluations_needed():
        made = name
        if name == ledger.SIMILARITY:
            if is_available(name):
                runs.append((name, f"similarity/{figure_masks(name)[0]}"))
            continue
        if name.startswith(ledger.FIGURE):
            shown = config["figures"]["voc_figure_b8"]
            masks = name.removeprefix(ledger.FIGURE)
            made = f"masks/{shown['dataset']}/{shown['split']}/{masks}"
        if not can_be_made(made):
            continue
        runs.append((name, made))
        if name.startswith("segmentors/"):
            kind, segmentor, split = name.split("/")
            for run in range(2, 1 + config["claims"]["training_runs"]):
                runs.append((name, f"{kind}/{segmentor}@{run}/{split}"))
    return runs


def claimed_metrics(wildcards):
    """The evaluations behind the claims, as an input."""
    made = dict.fromkeys(made for _, made in claimed_runs())
    return [f"<work>/evaluation/{name}/metrics.json" for name in made]


def claim_flags(wildcards):
    """The same as flags, and what the ledger's provenance records."""
    work = config["paths"]["work"]
    return flags(
        evaluations=[
            f"{name}={work}/evaluation/{made}/metrics.json"
            for name, made in claimed_runs()
        ],
        resamples=config["claims"]["resamples"],
        device=device(),
        benchmark=benchmark_files([made for _, made in claimed_runs()]),
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
    return bool(masks) and all(can_be_made(f"masks/{name}") for name in masks)


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
        " {params.provenance} --config {input.config} {params.benchmarks} --output {output.table}"
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
    benchmark:
        "<benchmarks>/make_claims/make_claims.tsv"
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
