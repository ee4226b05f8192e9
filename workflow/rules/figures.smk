"""Evaluations and masks -> figures and pictures."""


def figure_masks(target):
    """The masks that a figure or a picture shows, `<dataset>/<split>/<variant>/<refinement>` each."""
    if target in PICTURES:
        shown = config["pictures"].get(target)
        return [] if shown is None else [masks_shown(shown)]
    shown = config["figures"][target]
    at = f"{shown['dataset']}/{shown['split']}"
    if target == "voc_figure_d9":
        return [f"{at}/{shown['masks']}"]
    points = [point for curve in shown["curves"].values() for point in curve]
    return list(dict.fromkeys(f"{at}/{point['masks']}" for point in points))


def masks_shown(shown):
    """The masks of an entry of `pictures`, `<dataset>/<split>/<variant>/<refinement>`."""
    return f"{shown['dataset']}/{shown['split']}/{shown['masks']}"


def curve_metrics(wildcards):
    """The evaluations of the points of Figure B.8, as an input."""
    names = figure_masks("voc_figure_b8")
    return [f"<work>/evaluation/masks/{name}/metrics.json" for name in names]


def curve_flags(wildcards, input):
    """Figure B.8 as configured, and its evaluations."""
    shown = config["figures"]["voc_figure_b8"]
    masks = [
        name.removeprefix(f"{shown['dataset']}/{shown['split']}/")
        for name in figure_masks("voc_figure_b8")
    ]
    pairs = [f"{name}={file}" for name, file in zip(masks, input.metrics)]
    # as text: in the configuration's order
    return flags(curves=json.dumps(shown["curves"]), evaluations=pairs)


def similarity_flags(wildcards):
    """Whose classes are compared, and by which text encoder."""
    return flags(
        labels=label_source(wildcards.dataset, config["profile"]), model=model_folder()
    )


def similarity_of(shown):
    """The file that says how alike the classes of the images of some masks are."""
    return f"<work>/evaluation/similarity/{masks_shown(shown)}/per_image.npz"


def figure_cost_flags():
    """Where the records of jobs are, for a figure's provenance."""
    return flags(benchmarks=f"{config['paths']['work']}/benchmarks", device=device())


def picture_input(wildcards):
    """What a picture shows: of a generated set its labels or shards, else predictions or masks."""
    picture = wildcards.picture
    if picture == "mug19_figure_5":
        return {
            "data": mug19(wildcards),
            "predictions": "<work>/personal/answers/manifest.json",
        }
    if picture == "attn2mask_figure_5":
        (name,) = GENERATED_PICTURES[picture]
        count = config["synthesis"][name]["count"]  # the largest labelled set
        return {"masks": f"<work>/masks/generated/{name}/crf/{count}/manifest.json"}
    if picture == "attn2mask_figure_6":
        size = config["generation"]["shard_size"]
        return {
            name: [
                f"<work>/generated/{name}/shard-{shard}.safetensors"
                for shard in shard_numbers(config["synthesis"][name]["count"], size)
            ]
            for name in GENERATED_PICTURES[picture]
        }
    shown = config["pictures"][picture]
    masks = Evaluation.parse(f"masks/{masks_shown(shown)}")
    at = f"{masks.dataset}/{masks.split}/{masks.method}"
    files = {
        "attention": f"<work>/attention/{at}/manifest.json",
        "masks": f"<work>/masks/{masks.masks}/manifest.json",
    }
    if shown["failures"]:
        files["similarity"] = similarity_of(shown)
    return files


def picture_flags(wildcards, input):
    """The kind of a picture, and where what it shows lies."""
    picture = wildcards.picture
    generated = f"{config['paths']['work']}/generated"
    if picture == "mug19_figure_5":
        kind, shown = "instances", {
            "root": mug19_root(wildcards),
            "predictions": Path(input.predictions).parent,
            "count": config["personalised"]["pictures"],
        }
    elif picture == "attn2mask_figure_5":
        (name,) = GENERATED_PICTURES[picture]
        kind, shown = "generated", {
            "attention": f"{generated}/{name}",
            "images": f"{generated}/{name}/images",
            "masks": Path(input.masks).parent,
        }
    elif picture == "attn2mask_figure_6":
        before, after = GENERATED_PICTURES[picture]
        lora = config["loras"][config["synthesis"][after]["lora"]]
        kind, shown = "adaptation", {
            "target": photos_of(lora["dataset"], lora["split"]),
            "before": f"{generated}/{before}",
            "after": f"{generated}/{after}",
        }
    else:
        entry = config["pictures"][picture]
        kind, shown = "masks", {
            **photos_named(entry["dataset"], entry["split"]),
            "count": entry["count"],
            **{k: Path(file).parent for k, file in input.items() if k != "script"},
        }
    return f"{kind} {flags(**shown)}"


def picture_paper(wildcards):
    """The paper whose picture it is."""
    return PICTURES[wildcards.picture][0].split(",")[0]


def picture_caption(wildcards):
    """The text under a picture in the report."""
    return (REPOSITORY / "workflow" / "report" / f"{wildcards.picture}.rst").read_text()


def attention_job(config):
    """The extraction that Figure 2 shows."""
    return settings_of.extraction_job(
        config, config["figures"]["voc_figure_2"]["variant"]
    )


def attention_flags(wildcards):
    """The photos of Figure 2 and the model."""
    shown = config["figures"]["voc_figure_2"]
    settings, dataset = resolve_variant(config, shown["variant"]), shown["dataset"]
    return flags(
        dataset=dataset_argument(dataset),
        root=config["datasets"][dataset]["root"],
        split=shown["split"],
        labels=label_source(dataset, settings["profile"]),
        vocabulary=vocabulary(dataset),
        count=shown["count"],
        **model_flags(),
    )


# images with two or more classes: how alike these are to the text encoder, and how good their mask is
rule measure_similarity:
    input:
        split_manifest,
        metrics="<work>/evaluation/masks/{dataset}/{split}/{variant}/{refinement}/metrics.json",
        script=ancient("<scripts>/measure_similarity.py"),
        model=model_files,
    output:
        metrics="<work>/evaluation/similarity/{dataset}/{split}/{variant}/{refinement}/metrics.json",
        images="<work>/evaluation/similarity/{dataset}/{split}/{variant}/{refinement}/per_image.npz",
    log:
        "<logs>/measure_similarity/{dataset}/{split}/{variant}/{refinement}.log",
    conda:
        "../../envs/diffusion.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
        gpu=0,
    params:
        data=dataset_flags,
        method=similarity_flags,
        evaluation=lambda wildcards, input: Path(input.metrics).parent,
        folder=lambda wildcards, output: Path(output.metrics).parent,
    shell:
        "python {input.script} {params.data} {params.method} --evaluation {params.evaluation}"
        " --output {params.folder} > {log} 2>&1"


rule make_figure_b8:
    input:
        metrics=curve_metrics,
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
        mem_mb=growing(2000),
        runtime=growing(30),
        gpu=0,
    params:
        points=curve_flags,
        run=figure_cost_flags(),
    shell:
        "python {input.script} {params.points} --config {input.config} {params.run}"
        " --output {output.table} > {log} 2>&1"


rule make_figure_d9:
    input:
        similarity=similarity_of(config["figures"]["voc_figure_d9"]),
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
        mem_mb=growing(2000),
        runtime=growing(30),
        gpu=0,
    params:
        folder=lambda wildcards, input: Path(input.similarity).parent,
        run=figure_cost_flags(),
    shell:
        "python {input.script} --similarity {params.folder} --published {input.published}"
        " --config {input.config} {params.run} --output {output.table} > {log} 2>&1"


rule draw_attention:
    input:
        dataset_manifest(
            config["figures"]["voc_figure_2"]["dataset"],
            config["figures"]["voc_figure_2"]["split"],
        ),
        script="<scripts>/draw_attention.py",
        model=model_files,
    output:
        report(
            "<results>/voc_figure_2.png",
            caption="../report/voc_figure_2.rst",
            category="Text2Mask",
            labels={"table": "voc_figure_2", "scale": config["paths"]["results"]},
        ),
    log:
        "<logs>/draw_attention/draw_attention.log",
    conda:
        "../../envs/diffusion.yaml"
    threads: 1
    resources:
        mem_mb=growing(16000),
        runtime=growing(60),
        gpu=gpus,
        speed=flags(device=device()),
    params:
        data=attention_flags,
        settings=settings_for(attention_job),
    shell:
        "python {input.script} {params.data} {params.settings} {resources.speed} --output {output} > {log} 2>&1"


rule draw_picture:
    input:
        unpack(picture_input),
        script="<scripts>/draw_picture.py",
    output:
        report(
            "<results>/{picture}.png",
            caption="../report/picture.rst",
            category=picture_paper,
            labels={"table": "{picture}", "scale": config["paths"]["results"]},
        ),
    log:
        "<logs>/draw_picture/{picture}.log",
    wildcard_constraints:
        picture=one_of([*config["pictures"], "mug19_figure_5", *GENERATED_PICTURES]),
    conda:
        "../../envs/diffusion.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: attempt
        * (8000 if wildcards.picture == "mug19_figure_5" else 4000),
        runtime=growing(60),
        gpu=0,
    params:
        flags=picture_flags,
        caption=picture_caption,
    shell:
        "python {input.script} {params.flags} --output {output} > {log} 2>&1"
