"""The workflow inside another one, and in the catalogue of workflows."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from attnseg.config.resolved import merge

REPOSITORY = Path(__file__).resolve().parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")

SNAKEFILE = """
configfile: "own.yaml"

module attnseg:
    snakefile: {snakefile!r}
    config: config["attnseg"]

use rule * from attnseg as attnseg_*

rule count_rows:
    default_target: True
    input: "out/results/voc_table3.csv"
    output: "rows.txt"
    shell: "wc -l {{input}} > {{output}}"
"""


def test_another_workflow_uses_it_as_a_module(tmp_path):
    """From a folder of its own: only its configuration says where files go."""
    config: dict = {}
    for name in ("config.yaml", "mini.yaml"):
        config = merge(config, yaml.safe_load((REPOSITORY / "config" / name).read_text()))
    config["paths"] = {name: f"out/{name}" for name in config["paths"]}
    config["model"]["path"] = str(REPOSITORY / "assets" / "mini_sd")
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"attnseg": config, "mine": 1}))
    snakefile = str(REPOSITORY / "Snakefile")
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(snakefile=snakefile))
    done = subprocess.run(
        [SNAKEMAKE, "-n", "-p", "--cores", "1"], cwd=tmp_path, capture_output=True, text=True
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    jobs = set(re.findall(r"^(\w+) +\d+$", output.split("Job stats:", 1)[1], re.M))
    assert jobs >= {"count_rows", "attnseg_extract_attention", "attnseg_make_table"}
    assert "--output out/work/segmentors/deeplabv2_voc/weights.safetensors" in output
    for script in set(re.findall(r"python (\S+\.py)", output)):
        assert (tmp_path / script).resolve().parent == REPOSITORY / "scripts"


def test_the_catalogue_finds_what_it_asks_for():
    usage = yaml.safe_load((REPOSITORY / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert usage["mandatory-flags"]["desc"] and usage["mandatory-flags"]["flags"]
    stack = usage["software-stack-deployment"]
    assert stack == {"conda": True, "apptainer": False, "apptainer+conda": False}
    assert (
        usage["report"] is True
        and "report(" in (REPOSITORY / "workflow/rules/tables.smk").read_text()
    )
    for name in ("Snakefile", "README.md", "LICENSE", "config/README.md", "config/config.yaml"):
        assert (REPOSITORY / name).is_file(), name
