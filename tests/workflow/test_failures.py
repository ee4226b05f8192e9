"""A run in which jobs fail: what goes on, what is tried again, and what is said at the end."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
PROFILE = REPOSITORY / "profiles" / "default"
DOWNLOADS = "work/logs/download_dataset"


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    command = [SNAKEMAKE, *arguments, "--directory", folder, "--workflow-profile", PROFILE]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(REPOSITORY / "scripts")},
    )  # fmt: skip


def last_words(done: subprocess.CompletedProcess) -> list[str]:
    """The list at the end of a run, after the logs of failed jobs."""
    end = done.stderr.partition("Exiting because")[2]
    return re.findall(r"^(?:failed|error): .*", end, re.M)


@pytest.fixture
def two_data_sets(tmp_path) -> Path:
    """A configuration of two data sets, of which one is not there."""
    for kind, pixels in (
        ("images", Image.new("RGB", (8, 8))),
        ("masks", Image.new("L", (8, 8), 1)),
    ):
        (tmp_path / "there" / kind / "val").mkdir(parents=True)
        pixels.save(tmp_path / "there" / kind / "val" / "a.png")
    (tmp_path / "there/labels.csv").write_text("id,classes\na,crop\n")
    entry = {"source": "folder", "classes": ["crop"], "splits": {"val": {"images": 1}}}
    config = {
        "device": "cpu",
        "resources": {"gpu_per_job": 0, "most": {"runtime": 1000, "mem_mb": 3000}},
        "datasets": {"absent": entry | {"root": "nowhere"}, "here": entry | {"root": "there"}},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def test_a_data_set_that_is_absent_blocks_what_needs_it_and_is_listed_at_the_end(two_data_sets):
    wanted = "work/evaluation/masks/{}/val/reference/all_background/metrics.json"
    done = run(
        two_data_sets, wanted.format("absent"), wanted.format("here"), "--snakefile",
        REPOSITORY / "Snakefile", "--configfile", REPOSITORY / "config/config.yaml",
        two_data_sets / "own.yaml", "--cores", 1, "--retries", 2,
        "--prioritize", "resources/absent.json",  # so the other one begins after the failure
    )  # fmt: skip
    assert done.returncode == 1
    assert (two_data_sets / wanted.format("here")).is_file()
    assert not (two_data_sets / wanted.format("absent")).exists()
    failed, count = last_words(done)
    assert failed.startswith(f"failed: download_dataset: {DOWNLOADS}/absent.log: error: nowhere/")
    assert count.startswith("error: 1 job failed")
    # requests grow, to what the configuration says
    block = r"rule download_dataset:\n(?: +.*\n)*? +wildcards: dataset=absent\n(?: +.*\n)*? +resources: (.*)"
    asked = [
        (int(re.search(r"runtime=(\d+)", text)[1]), int(re.search(r"mem_mb=(\d+)", text)[1]))
        for text in re.findall(block, done.stderr)
    ]
    assert asked == [(720, 2000), (1000, 3000), (1000, 3000)]
    # but the work is not done again: nothing has changed
    record = two_data_sets / "work/benchmarks/download_dataset/absent.json"
    assert len(json.loads(record.read_text())["attempts"]) == 1


TOY = f"""
import sys
sys.path.insert(0, {str(REPOSITORY / "scripts")!r})
from attnseg.io.runs import failures, guard
guard(workflow, "work")

onerror:
    print(*failures(log), sep="\\n", file=sys.stderr)

rule all:
    input: expand("work/{{kind}}", kind=["UserError", "TemporaryError", "OSError"])

rule attempt:
    output: "work/{{kind}}"
    log: "work/logs/attempt/{{kind}}.log"
    shell: "python program.py {{wildcards.kind}} {{output}} > {{log}} 2>&1"

rule killed:
    output: "work/killed"
    log: "work/logs/killed/killed.log"
    shell: "echo 12 of 40 photos > {{log}}; kill -9 $$"
"""
PROGRAM = """
import builtins, sys
from pathlib import Path
from attnseg import errors

def main():
    kind, output = sys.argv[1:]
    with open(f"tries_{kind}", "a") as file:
        file.write("x")
    if Path("mended").exists() or len(Path(f"tries_{kind}").read_text()) == 3:
        Path(output).write_text("made")
        return 0
    raise (getattr(errors, kind, None) or getattr(builtins, kind))(f"{kind} of try")

sys.exit(errors.run(main))
"""


@pytest.fixture
def toy(tmp_path) -> Path:
    (tmp_path / "Snakefile").write_text(TOY)
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def tries(folder: Path, kind: str) -> int:
    return len((folder / f"tries_{kind}").read_text())


def test_a_user_s_error_is_not_tried_again_and_others_are(toy):
    done = run(toy, "--cores", 1, "--retries", 2)
    assert [tries(toy, kind) for kind in ("UserError", "TemporaryError", "OSError")] == [1, 3, 3]
    log = "work/logs/attempt/UserError.log"
    # what a later attempt has made is not listed
    assert last_words(done) == [
        f"failed: attempt: {log}: error: UserError of try",
        "error: 1 job failed; the same command tries again, and makes what needs them",
    ]
    assert (toy / log).read_text() == "error: UserError of try\n"
    # the next run tries it, and so does a person who repeats the job's command
    again = run(toy, "work/UserError", "--cores", 1, "--retries", 2)
    assert again.returncode == 1 and tries(toy, "UserError") == 2
    (toy / "mended").touch()
    done = run(toy, "--cores", 1, "--retries", 2)
    assert done.returncode == 0 and tries(toy, "UserError") == 3, done.stderr
    assert not (toy / log).with_suffix(".error").exists()


def test_a_killed_job_is_listed_with_the_last_line_that_it_wrote(toy):
    done = run(toy, "work/killed", "--cores", 1)
    assert last_words(done)[0] == "failed: killed: work/logs/killed/killed.log: 12 of 40 photos"
