"""Copies of the workflow whose mini data sets have few scenes, and what their runs say."""

import re
import shutil
import sys
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
SCENES = 60  # of train


def command(*targets: str) -> list[str]:
    """As the README has it."""
    return [str(SNAKEMAKE), *targets, "--cores", "all", "--configfile", "config/mini.yaml"]


def few_scenes(folder: Path, others: int = 1, slow: bool = True) -> Path:
    """A copy of the workflow: mini VOC and Cityscapes have few scenes. `others`: of splits that are not
    train's. `slow`: programs take a second to end."""
    for name in ("workflow", "config", "scripts", "profiles"):
        shutil.copytree(REPOSITORY / name, folder / name)
    for name in ("Snakefile", "envs", "assets"):
        (folder / name).symlink_to(REPOSITORY / name)
    world, config = folder / "scripts/attnseg/mini/world", folder / "config/mini.yaml"
    settings = yaml.safe_load(config.read_text())
    for dataset, file in (("voc", "splits.py"), ("cityscapes", "cityscapes_layout.py"), ("imagenet_s", "imagenet_s_layout.py")):  # fmt: skip
        source = (world / file).read_text()
        for name in settings["datasets"][dataset]["splits"]:
            count = SCENES if dataset == "voc" and name.startswith("train") else others
            source, changed = re.subn(rf'("{name}": \(\d+), \d+', rf"\1, {count}", source)
            assert changed == 1
            settings["datasets"][dataset]["splits"][name]["images"] = count
        (world / file).write_text(source)
    settings["extraction"]["batch_size"] = 4
    if slow:
        errors = folder / "scripts/attnseg/errors.py"
        source = errors.read_text()
        assert "        return main()\n" in source
        end = (
            "        status = main()\n        __import__('time').sleep(1)\n        return status\n"
        )
        errors.write_text(source.replace("        return main()\n", end))
    config.write_text(yaml.safe_dump(settings))
    return folder


def finished_and_started(log: str) -> tuple[set[str], set[str]]:
    """The first outputs of the jobs that a log of Snakemake says are finished, and are started."""
    outputs = {}
    for block in re.findall(r"^(?:local)?rule \w+:\n((?: +.*\n)+)", log, re.M):
        number = re.search(r"^ +jobid: (\d+)", block, re.M)[1]
        outputs[number] = re.search(r"^ +output: ([^\s,]+)", block, re.M)[1]
    done = re.findall(r"^Finished jobid: (\d+)", log, re.M)
    return {outputs[number] for number in done}, set(outputs.values())
