"""Attention, masks and generated images -> pictures."""


def pictured_labels(wildcards):
    """The largest labelled set of generated VOC images, as an input."""
    (name,) = GENERATED_PICTURES["attn2mask_figure_5"]
    count = config["synthesis"][name]["count"]
    return f"<work>/masks/generated/{name}/crf/{count}/manifest.json"


def pictured_shards(wildcards):
    """All shards of the images without and with the LoRA, as an input."""
    return [
        shard
        for name in GENERATED_PICTURES["attn2mask_figure_6"]
        for shard in jobs.synthesis.shards(name)
    ]


def adaptation_flags(wildcards):
    """The domain's photos, and the folders of what was generated without and with the LoRA."""
    before, after = GENERATED_PICTURES["attn2mask_figure_6"]
    lora = config["loras"][config["synthesis"][after]["lora"]]
    generated = f"{config['paths']['work']}/generated"
    return flags(
        target=jobs.data.photos(lora["dataset"], lora["split"]),
        before=f"{generated}/{before}",
        after=f"{generated}/{after}",
    )


def picture_input(wildcards):
    """Attention, masks and, for failures, the similarity of classes, that a picture shows."""
    shown = config["pictures"][wildcards.picture]
    masks = masks_of(shown)
    at = f"{masks.dataset}/{masks.split}/{masks.method}"
    files = {
        "attention": f"<work>/attention/{at}/manifest.json",
        "masks": f"<work>/masks/{masks.masks}/manifest.json",
    }
    if shown["failures"]:
        files["similarity"] = targets.similarity(wildcards.picture)
    return files


def picture_flags(wildcards, input):
    """What a picture shows."""
    shown = config["pictures"][wildcards.picture]
    folders = {key: Path(file).parent for key, file in input.items() if key != "script"}
    return flags(
        **jobs.data.photos_flags(shown["dataset"], shown["split"]),
        count=shown["count"],
        **folders,
    )


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
        mem_mb=growing(16000),
        runtime=growing(60),
        gpu=gpus,
        speed=flags(device=device(config)),
    params:
        data=attention_flags,
        settings=settings_for(attention_job),
    shell:
        "python {input.script} {params.data} {params.settings} {resources.speed} --output {output} > {log} 2>&1"


rule draw_masks:
    input:
        unpack(picture_input),
        script="<scripts>/draw_masks.py",
    output:
        report(
            "<results>/{picture}.png",
            caption="../report/picture.rst",
            category="Text2Mask",
            labels={"table": "{picture}", "scale": config["paths"]["results"]},
        ),
    log:
        "<logs>/draw_masks/{picture}.log",
    conda:
        "../../envs/diffusion.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        gpu=0,
    params:
        flags=picture_flags,
    shell:
        "python {input.script} {params.flags} --output {output} > {log} 2>&1"


rule draw_generated:
    input:
        masks=pictured_labels,
        script="<scripts>/draw_generated.py",
    output:
        report(
            "<results>/attn2mask_figure_5.png",
            caption="../report/attn2mask_figure_5.rst",
            category="attn2mask",
            labels={
                "table": "attn2mask_figure_5",
                "scale": config["paths"]["results"],
            },
        ),
    log:
        "<logs>/draw_generated/draw_generated.log",
    conda:
        "../../envs/diffusion.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        gpu=0,
    params:
        masks=lambda wildcards, input: Path(input.masks).parent,
        attention="{}/generated/{}".format(
            config["paths"]["work"], *GENERATED_PICTURES["attn2mask_figure_5"]
        ),
    shell:
        "python {input.script} --attention {params.attention} --images {params.attention}/images"
        " --masks {params.masks} --output {output} > {log} 2>&1"


rule draw_adaptation:
    input:
        pictured_shards,
        script="<scripts>/draw_adaptation.py",
    output:
        report(
            "<results>/attn2mask_figure_6.png",
            caption="../report/attn2mask_figure_6.rst",
            category="attn2mask",
            labels={
                "table": "attn2mask_figure_6",
                "scale": config["paths"]["results"],
            },
        ),
    log:
        "<logs>/draw_adaptation/draw_adaptation.log",
    conda:
        "../../envs/diffusion.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        gpu=0,
    params:
        flags=adaptation_flags,
    shell:
        "python {input.script} {params.flags} --output {output} > {log} 2>&1"
