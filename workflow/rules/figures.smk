"""Attention, masks and generated images -> pictures."""


def picture_input(wildcards):
    """What a picture shows: of a generated set its labels or shards, else predictions or masks."""
    picture = wildcards.picture
    if picture == "mug19_figure_5":
        return {
            "data": jobs.subjects.manifest(),
            "predictions": "<work>/personal/answers/manifest.json",
        }
    if picture == "attn2mask_figure_5":
        (name,) = GENERATED_PICTURES[picture]
        count = config["synthesis"][name]["count"]  # the largest labelled set
        return {"masks": f"<work>/masks/generated/{name}/crf/{count}/manifest.json"}
    if picture == "attn2mask_figure_6":
        return {
            name: jobs.synthesis.shards(name) for name in GENERATED_PICTURES[picture]
        }
    if picture == "backbones_picture":
        return targets.readings_files()
    shown = config["pictures"][picture]
    masks = masks_of(shown)
    at = f"{masks.dataset}/{masks.split}/{masks.method}"
    files = {
        "attention": f"<work>/attention/{at}/manifest.json",
        "masks": f"<work>/masks/{masks.masks}/manifest.json",
    }
    if shown["failures"]:
        files["similarity"] = targets.similarity(picture)
    return files


def picture_flags(wildcards, input):
    """The kind of a picture, and where what it shows lies."""
    picture = wildcards.picture
    generated = f"{config['paths']['work']}/generated"
    if picture == "mug19_figure_5":
        kind, shown = "instances", {
            "root": jobs.subjects.root(),
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
            "target": jobs.data.photos(lora["dataset"], lora["split"]),
            "before": f"{generated}/{before}",
            "after": f"{generated}/{after}",
        }
    elif picture == "backbones_picture":
        entry = config["figures"]["backbones"]
        kind, shown = "readings", {
            **jobs.data.photos_flags(entry["dataset"], entry["split"]),
            "attention": Path(input.attention).parent,
            # as text: in the configuration's order
            "readings": json.dumps(targets.readings_folders()),
            "count": entry["count"],
        }
    else:
        entry = config["pictures"][picture]
        kind, shown = "masks", {
            **jobs.data.photos_flags(entry["dataset"], entry["split"]),
            "no_truth": not jobs.data.has_truth(entry["dataset"], entry["split"]),
            "count": entry["count"],
            "stored": picture not in PICTURES,  # of one's own, not of a paper
            **{k: Path(file).parent for k, file in input.items() if k != "script"},
        }
    return f"{kind} {flags(**shown)}"


def picture_paper(wildcards):
    """The paper whose picture it is."""
    return PICTURES.get(wildcards.picture, ("Your own",))[0].split(",")[0]


def picture_caption(wildcards):
    """The text under a picture in the report."""
    own = CAPTIONS / "own_picture.rst"
    path = CAPTIONS / f"{wildcards.picture}.rst"
    return (path if path.is_file() else own).read_text()


def attention_job(config):
    """The extraction that Figure 2 shows."""
    return settings_of.extraction_job(
        config, config["figures"]["voc_figure_2"]["variant"]
    )


def attention_flags(wildcards):
    """The photos of Figure 2 and the model."""
    shown = config["figures"]["voc_figure_2"]
    dataset = shown["dataset"]
    return flags(
        **jobs.data.split_flags(dataset, shown["split"]),
        labels=jobs.data.label_source(dataset, attention_job(config).profile),
        vocabulary=jobs.data.vocabulary(dataset),
        count=shown["count"],
        **jobs.models.family_flags(),
    )


rule draw_attention:
    input:
        jobs.data.manifest(
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
        mem_mb=megabytes(16000),
        runtime=minutes(60),
        gpu=gpus,
        speed=flags(device=device(config)),
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
        picture=one_of(
            [
                *config["pictures"],
                "mug19_figure_5",
                "backbones_picture",
                *GENERATED_PICTURES,
            ]
        ),
    conda:
        "../../envs/diffusion.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: attempt
        * (8000 if wildcards.picture == "mug19_figure_5" else 4000),
        runtime=minutes(60),
        gpu=0,
    params:
        flags=picture_flags,
        caption=picture_caption,
    shell:
        "python {input.script} {params.flags} --output {output} > {log} 2>&1"
