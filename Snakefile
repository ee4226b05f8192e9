"""Segmentation from the attention of text-to-image diffusion models.

snakemake --cores all --resources gpu=2                    paper scale
snakemake --cores all --configfile config/mini.yaml        mini scale
"""

from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/pseudo_masks.smk"
include: "workflow/rules/synthesis.smk"
include: "workflow/rules/segmentation.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/personalised.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/report.smk"


onerror:
    print(*failures(log), sep="\n", file=sys.stderr)


rule all:
    default_target: True
    input:
        [result_of(target) for target in WANTED_TARGETS],
        "<results>/report.zip",


rule all_tables:
    input:
        [result_of(target) for target in targets.available],
        "<results>/report.zip",


rule all_text2mask:
    input:
        targets.group("text2mask"),


rule all_attn2mask:
    input:
        targets.group("attn2mask"),


rule all_mug19:
    input:
        targets.group("mug19"),


rule all_claims:
    input:
        "<results>/claims.csv",
