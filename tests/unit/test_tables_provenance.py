"""What a provenance file records."""

import hashlib
import json
import subprocess
import sys

import pytest

from attnseg import provenance
from attnseg.errors import UserError


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


def test_benchmarks_add_the_times_and_take_the_largest_memory(tmp_path):
    head = "s\th:m:s\tmax_rss\tmax_vms\n"
    (tmp_path / "a.tsv").write_text(head + "10.5\t0:00:10\t200.0\t1\n2.0\t0:00:02\t300.25\t1\n")
    (tmp_path / "b.tsv").write_text(head + "0.1\t0:00:00\tNA\t-\n")
    files = [tmp_path / "a.tsv", tmp_path / "b.tsv"]
    assert provenance.benchmarks([*files, tmp_path / "gone.tsv"]) == {
        "jobs": 3,
        "not_timed": 1,
        "wall_time_s": 12.6,
        "peak_memory_mib": 300.2,
    }
    (tmp_path / "c.tsv").write_text(head)
    assert provenance.benchmarks([tmp_path / "c.tsv"])["wall_time_s"] is None


def test_the_programs_own_memory_is_that_of_this_process():
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    peak = int(status["VmHWM"].split()[0]) / 1024
    assert provenance.own_peak_memory_mib() == pytest.approx(peak, rel=0.2)


def test_a_record_is_json_and_complete():
    record = provenance.record(wall_time_s=1.26, config={"seed": 0}, device_name="cpu", target="t")
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert set(record) == {
        *("target", "git", "config", "python", "packages", "data", "models", "device"),
        *("jobs", "not_timed", "wall_time_s", "peak_memory_mib"),
    }
    assert record["wall_time_s"] == 1.3 and record["device"]["device"] == "cpu"
