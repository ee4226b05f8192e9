"""What a provenance file records."""

import argparse
import hashlib
import json
import subprocess

import pytest

from attnseg.errors import UserError
from attnseg.io import provenance


def git(folder, *arguments):
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_git_state_is_that_of_the_folder(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-q", "-m", "one", "--no-verify")
    revision = git(tmp_path, "rev-parse", "HEAD")
    assert provenance.git_state(tmp_path) == {"revision": revision, "dirty": False}
    (tmp_path / "a").write_text("2")
    assert provenance.git_state(tmp_path) == {"revision": revision, "dirty": True}


def test_without_git_or_outside_of_a_repository_the_state_is_null(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_state(tmp_path) == {"revision": None, "dirty": None}
    monkeypatch.setenv("PATH", "")
    assert provenance.git_state() == {"revision": None, "dirty": None}
    assert provenance.device()["gpus"] == []


def test_versions_are_those_the_packages_report():
    numpy = pytest.importorskip("numpy")
    versions = provenance.package_versions()
    assert versions["numpy"] == numpy.__version__
    assert list(versions) == sorted(versions, key=str.lower)


def test_a_digest_is_the_files_sha256_and_a_folders_depends_on_names_and_contents(tmp_path):
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "x").write_bytes(b"1")
    (tmp_path / "d" / "e" / "y").write_bytes(b"2")
    assert provenance.digest(tmp_path / "d" / "x") == hashlib.sha256(b"1").hexdigest()
    listing = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in (("e/y", b"2"), ("x", b"1"))
    )
    assert provenance.digest(tmp_path / "d") == hashlib.sha256(listing.encode()).hexdigest()
    with pytest.raises(UserError, match="no such file"):
        provenance.digest(tmp_path / "z")


def test_hashes_are_kept_and_paths_replaced(tmp_path):
    (tmp_path / "x").write_bytes(b"1")
    known = "ab" * 32
    expected = hashlib.sha256(b"1").hexdigest()
    assert provenance.hashes({"a": known, "b": str(tmp_path / "x")}) == {"a": known, "b": expected}


def record_of_a_job(folder, name, wrote, seconds, memory):
    attempts = [{"seconds": s, "cpu_seconds": s, "peak_mib": memory} for s in seconds]
    record = {"command": [], "attempts": attempts, "read": [], "wrote": [str(wrote)]}
    path = folder / "make" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


def test_a_cost_adds_the_times_of_all_attempts_and_takes_the_largest_memory(tmp_path):
    records = tmp_path / "benchmarks"
    record_of_a_job(records, "a", tmp_path / "a", [10.5, 2.0], 200.0)
    record_of_a_job(records, "b", tmp_path / "b", [0.1], 300.25)
    record_of_a_job(records, "other", tmp_path / "other", [50], 900)
    assert provenance.cost([tmp_path / "a", tmp_path / "b"], records) == {
        "jobs": 2,
        "wall_time_s": 12.6,
        "peak_memory_mib": 300.2,
    }
    assert provenance.cost([tmp_path / "c"], records)["wall_time_s"] is None


def test_a_record_is_json_and_complete(tmp_path):
    parser = argparse.ArgumentParser()
    provenance.add_flags(parser)
    (tmp_path / "config.json").write_text('{"seed": 0}')
    (tmp_path / "metrics.json").write_text("{}")
    args = parser.parse_args(["--config", str(tmp_path / "config.json"), "--device", "cpu"])
    record = provenance.record(args, {"masks/a": [tmp_path / "metrics.json"]}, target="t")
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert set(record) == {
        *("target", "git", "config", "python", "packages", "data", "models", "device"),
        *("date", "evaluations", "jobs", "wall_time_s", "peak_memory_mib"),
    }
    assert record["config"] == {"seed": 0} and record["device"]["device"] == "cpu"
    (run,) = record["evaluations"]["masks/a"]
    assert run["sha256"] == hashlib.sha256(b"{}").hexdigest()
