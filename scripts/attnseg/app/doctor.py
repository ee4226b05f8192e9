"""Say what this machine lacks to run the workflow: a line each, `ok`, a `note`, or what `todo`.

    attnseg doctor
    attnseg doctor --configfile config/mini.yaml

Exits with 1 where something that the configuration needs is missing.
"""

import argparse
import base64
import concurrent.futures
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from attnseg.app.config import resolved
from attnseg.app.options import clone
from attnseg.datasets.completeness import read_registry
from attnseg.errors import UserError
from attnseg.results.costs import estimate, is_mini

EMOJI_FONTS = (
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf",
)
HOSTS = (
    "https://huggingface.co", "http://host.robots.ox.ac.uk", "http://images.cocodataset.org",
    "https://download.pytorch.org",
)  # fmt: skip
OK, NOTE, TODO = "ok", "note", "todo"
Line = tuple[str, str]  # verdict, text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--configfile",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="configuration files over config/config.yaml, later ones over earlier ones",
    )
    parser.add_argument("--offline", action="store_true", help="do not try the network")


def main(args: argparse.Namespace) -> int:
    config = resolved(clone("attnseg doctor"), args.configfile)
    checks: dict[str, Callable[[dict], Line | list[Line]]] = {
        "Python": python,
        "packages": packages,
        "PyTorch": pytorch,
        "mmengine": mmengine,
        "CRF": crf,
        "Snakemake": snakemake,
        "fonts": fonts,
        "memory": memory,
        "disk": disk,
        "GPU": gpus,
        "SLURM": slurm,
        "network": network,
        "model": lambda config: model(config, args.offline),
        "data": datasets,
        "cost": lambda config: cost(config, args.configfile),
    }
    if args.offline:
        checks.pop("network")
    worst = OK
    for name, check in checks.items():
        try:
            found = check(config)
        except UserError as error:
            found = (TODO, str(error))
        except Exception as error:  # a broken installation fails in any way: say so, go on
            found = (
                TODO,
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            )
        for verdict, text in found if isinstance(found, list) else [found]:
            print(f"{verdict:<5} {name + ':':<11} {text}", flush=True)
            worst = TODO if TODO in (worst, verdict) else worst
    return int(worst == TODO)


def python(config: dict) -> Line:
    version = f"{platform.python_version()} ({sys.executable})"
    if tuple(map(int, platform.python_version_tuple()[:2])) < (3, 11):
        return TODO, f"{version}: 3.11 or newer is needed; make PYTHON=/path/to/python3.11"
    return OK, version


def packages(config: dict) -> Line:
    """Against envs/requirements.lock."""
    wrong = []
    count = 0
    for name, version in pins():
        count += 1
        try:
            installed = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if installed != version:
            wrong.append(f"{name} is {installed}, locked {version}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return TODO, f"{', '.join(wrong[:3])}{more}; rm -r .venv && make install"
    return OK, f"all {count} as in envs/requirements.lock"


def pins() -> Iterator[tuple[str, str]]:
    for line in (clone("attnseg doctor") / "envs" / "requirements.lock").read_text().splitlines():
        if "==" in line and not line.startswith("#"):
            name, _, version = line.partition("==")
            yield name.strip(), version.strip()


def pytorch(config: dict) -> Line:
    import torch

    if torch.cuda.is_available():
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = "bfloat16" if bf16 else "float16"
        return OK, f"{torch.__version__}, CUDA {torch.version.cuda}, computes in {dtype}"
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
    threads = torch.get_num_threads()
    if nvidia_smi():
        return TODO, (
            f"{torch.__version__} ({build}) sees no GPU though there is one; "
            "install the build for your driver from https://pytorch.org/get-started"
        )
    return OK, f"{torch.__version__}, {build}, {threads} threads, float32"


def mmengine(config: dict) -> Line:
    """Two packages unpack into the same folder: whose files are there?"""
    advice = "pip install --no-deps --force-reinstall onedl-mmengine==" + dict(pins()).get(
        "onedl-mmengine", ""
    )
    try:
        files = metadata.files("onedl-mmengine") or []
    except metadata.PackageNotFoundError:
        return TODO, f"the fork onedl-mmengine is not installed; {advice}"
    for file in files:
        if str(file).startswith("mmengine/") and file.suffix == ".py" and file.hash:
            digest = hashlib.new(file.hash.mode, Path(file.locate()).read_bytes()).digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                return TODO, f"{file} is not the fork's: the original overwrote it; {advice}"
    import mmengine as installed
    import mmseg

    return OK, (
        f"onedl-mmengine {metadata.version('onedl-mmengine')} ({installed.__version__}), "
        f"mmseg {mmseg.__version__}"
    )


def crf(config: dict) -> Line:
    try:
        import numpy as np
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError as error:
        return TODO, f"{error}; needs g++: pip install pydensecrf2=={dict(pins())['pydensecrf2']}"
    field = DenseCRF2D(4, 4, 2)
    field.setUnaryEnergy(np.full((2, 16), 0.7, np.float32))
    field.addPairwiseGaussian(sxy=1, compat=3)
    field.inference(1)
    return OK, f"pydensecrf2 {metadata.version('pydensecrf2')}"


def snakemake(config: dict) -> Line:
    plugins = [name for name in ("snakemake-executor-plugin-slurm",) if _installed(name)]
    return OK, ", ".join(f"{name} {metadata.version(name)}" for name in ("snakemake", *plugins))


def fonts(config: dict) -> Line:
    """Only who draws the sprites anew needs one: the atlas is shipped."""
    atlas = clone("attnseg doctor") / "assets" / "sprites" / "atlas.png"
    found = next((font for font in EMOJI_FONTS if Path(font).is_file()), None)
    if found:
        return OK, f"{found} (only to build the sprites anew)"
    if atlas.is_file():
        return OK, "no emoji font; the sprites are shipped, so none is needed"
    return TODO, "no emoji font and no assets/sprites/atlas.png; apt install fonts-noto-color-emoji"


def memory(config: dict) -> Line:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    needed = 4 if is_mini(config) else 16
    text = f"{total:.0f} GB, {os.cpu_count()} cores"
    return (OK, text) if total >= needed else (NOTE, f"{text}; {needed} GB are better")


def disk(config: dict) -> Line:
    folder = Path(config["paths"]["resources"]).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    entries = read_registry(clone("attnseg doctor") / "config" / "datasets.yaml")
    needed = 1.0
    for name, settings in config["datasets"].items():
        if settings["source"] == "download" and not Path(settings["root"]).exists():
            parts = entries.get(settings["layout"] or name, {}).get("parts", {}).values()
            needed += 2 * sum(part.get("bytes", 0) for part in parts) / 1e9
    if free >= needed:
        return OK, f"{free:.0f} GB free in {folder}"
    return TODO, (
        f"{free:.0f} GB free in {folder}, the downloads need {needed:.0f}; "
        "set paths.resources and datasets.*.root to a larger disk"
    )


def gpus(config: dict) -> Line:
    names = nvidia_smi()
    if names:
        return OK, f"{len(names)}: {', '.join(names)}; snakemake --resources gpu={len(names)}"
    if config["device"] == "cpu":
        return OK, "none, and none is needed (device: cpu)"
    if config["resources"]["gpu_per_job"] == 0:
        return NOTE, "none; everything runs on the CPU (resources.gpu_per_job: 0)"
    return TODO, (
        "none, and the configuration needs one; run on a machine or cluster that has, "
        "or set `device: cpu` and `resources: {gpu_per_job: 0}`"
    )


def nvidia_smi() -> list[str]:
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def slurm(config: dict) -> Line:
    if shutil.which("sbatch") is None:
        return NOTE, "none here (only --profile profiles/slurm needs it)"
    try:
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%P %a %G"], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError) as error:
        return NOTE, f"sbatch is here, sinfo fails ({error})"
    if done.returncode:
        return NOTE, f"sbatch is here, no cluster answers ({done.stderr.strip().splitlines()[0]})"
    if not _installed("snakemake-executor-plugin-slurm"):
        return TODO, "here, without snakemake-executor-plugin-slurm; make install"
    return OK, "; ".join(done.stdout.split("\n")[:4]).strip("; ")


def network(config: dict) -> Line:
    with concurrent.futures.ThreadPoolExecutor(len(HOSTS)) as pool:
        missing = [
            host for host, there in zip(HOSTS, pool.map(_answers, HOSTS), strict=True) if not there
        ]
    if not missing:
        return OK, f"{len(HOSTS)} hosts of data and models answer"
    needed = not is_mini(config)
    return (NOTE if needed else OK), (
        f"no answer from {', '.join(missing)}: "
        + ("what is to be downloaded must be put there by hand" if needed else "none is needed")
    )


def _answers(host: str) -> bool:
    try:
        request = urllib.request.Request(host, method="HEAD", headers={"User-Agent": "attnseg"})
        urllib.request.urlopen(request, timeout=5)
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (OSError, ValueError):
        return False
    return True


def model(config: dict, offline: bool) -> Line:
    """Its files or, where they are yet to be downloaded, whether the hub gives them."""
    from attnseg.backbones.model_files import all_weights, check_access, check_model

    path, revision = config["model"]["path"], config["model"]["revision"]
    fetched = Path(config["paths"]["resources"]) / "models" / path.replace("/", "--")
    folder = Path(path) if revision is None or Path(path).is_dir() else fetched
    if not folder.is_dir():
        if revision is None:
            return TODO, f"no folder {folder}; set model.path"
        asked = not offline and _answers(HOSTS[0]) and check_access(path)
        return NOTE, (
            f"{path} is not here yet; the rule fetch_models downloads it (Stable Diffusion: about 5 GB), "
            "or set model.path to a local folder and model.revision to null"
            + (
                ""
                if asked
                else "; the hub could not be asked whether a licence must be accepted first"
            )
        )
    if config["model"]["file"] is not None:
        return OK, f"{folder}, of the family in {config['model']['file']}"
    check_model(folder)
    size = sum(file.stat().st_size for file in all_weights(folder))
    return OK, f"{folder}, {size / 1e6:,.0f} MB of weights"


def datasets(config: dict) -> list[Line]:
    from attnseg.app.survey import survey

    entries = read_registry(clone("attnseg doctor") / "config" / "datasets.yaml")
    rows, advice = survey(config, entries)
    lines: list[Line] = []
    for name, settings in config["datasets"].items():
        states = {row[1]: row[5] for row in rows if row[0] == name}
        missing = [split for split, state in states.items() if state != "complete"]
        if not missing:
            lines.append((OK, f"{name}: {', '.join(states)} complete"))
            continue
        # what a rule makes or downloads is nothing to be done by hand, nor what no target needs
        entry = entries.get(settings["layout"] or name, {})
        by_hand = settings["source"] == "folder" or entry.get("account")
        targets = entry.get("needed_for", [])
        needed = config["targets"] == "all" or not set(targets).isdisjoint(config["targets"])
        verdict = TODO if by_hand and needed else NOTE
        reason = next(line for line in advice if line.startswith(name))
        lines.append((verdict, reason))
    return lines


def cost(config: dict, files: list[Path]) -> Line:
    """Of what `snakemake` alone makes."""
    found = estimate([], config, files, clone("attnseg doctor"))
    left = f"; still to do: {found.left.text()}" if found.left else ""
    basis = "corrected by jobs that ran here" if found.left else "estimated"
    return OK, (
        f"{found.rows['together'].text()}{left} ({basis}; scripts/tools/estimate_cost.py says it of "
        "each target)"
    )


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
