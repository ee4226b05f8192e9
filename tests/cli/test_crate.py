"""`attnseg crate`: an archive that says of a result what was read, written and spent, for others to check."""

import hashlib
import importlib.resources
import io
import json
import zipfile
from pathlib import Path
from urllib.parse import unquote

import pytest

from attnseg.app import command
from attnseg.errors import run

MISSING = "pip install roc-validator rocrate==0.13.0 (the one that holds RO-Crate's vocabulary 1.1)"
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
JOBS = {  # rule: what it reads, what it writes, seconds of its attempts
    "extract_attention": (["resources/VOC 2012", "models/sd"], ["work/attention/a.safetensors"], [3, 40.5]),
    "evaluate_masks": (["work/attention/a.safetensors", "resources/VOC 2012"], ["work/evaluation"], [2]),
    "make_table": (["work/evaluation/metrics.json", "work/benchmarks"], ["results/voc_table1.csv"], [1]),
    "make_report": (["results/voc_table1.csv"], ["results/report.zip"], [1]),
}  # fmt: skip
FILES = {
    "resources/VOC 2012/JPEGImages/a.jpg": "a photo",
    "resources/VOC 2012/JPEGImages/b.jpg": "another",
    "resources/VOC 2012/.record": "hidden",
    "models/sd/README.md": "---\nlicense: creativeml-openrail-m\n---\n",
    "work/attention/a.safetensors": "maps",
    "work/evaluation/metrics.json": '{"mIoU": 50}',
    "results/voc_table1.csv": "method,ours",
    "results/voc_table1.html": "<table>",
    "results/voc_table5.csv": "method,ours",
    "results/report.zip": "pages",
}


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


@pytest.fixture
def ran(tmp_path, monkeypatch) -> Path:
    """What a run of the workflow leaves: files, costs of jobs, provenance."""
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for rule, (read, wrote, seconds) in JOBS.items():
        path = tmp_path / f"work/benchmarks/{rule}/a.json"
        path.parent.mkdir(parents=True)
        attempts = [{"seconds": s, "cpu_seconds": 2 * s, "peak_mib": 100 + s} for s in seconds]
        job = {"command": [f"scripts/{rule}.py", "--words", "a 'dog'"], "attempts": attempts}
        path.write_text(json.dumps({**job, "read": read, "wrote": wrote}))
    about = {
        "evaluations": {
            "masks": [
                {
                    "file": "work/evaluation/metrics.json",
                    "sha256": digest(FILES["work/evaluation/metrics.json"]),
                }
            ]
        },
        "table": "Text2Mask, Table 1",
        "date": "2026-11-26",
        "git": {"revision": "0123abc", "dirty": True},
        "config": {
            "paths": {"work": "work", "results": "results", "resources": "resources"},
            "datasets": {"voc": {"source": "official", "root": "resources/VOC 2012"}},
        },
        "python": "3.11.7",
        "packages": {"torch": "2.13.0+cpu", "snakemake": "9.0.0"},
        "data": {"voc": "0" * 64},
        "models": {"models/sd": "0" * 64},
        "device": {"device": "cpu", "system": "Linux", "processor": "a processor", "cores": 2, "gpus": []},
    }  # fmt: skip
    (tmp_path / "results/voc_table1.provenance.json").write_text(json.dumps(about))
    return tmp_path


def crate(*words: object) -> int:
    return run(lambda: command.main(["crate", *map(str, words)]))


def entities(archive: Path) -> dict[str, dict]:
    with zipfile.ZipFile(archive) as file:
        graph = json.loads(file.read("ro-crate-metadata.json"))["@graph"]
    assert len({entity["@id"] for entity in graph}) == len(graph)
    return {entity["@id"]: entity for entity in graph}


def ids(value: object) -> set[str]:
    """The @ids of one reference, or of several."""
    return {entity["@id"] for entity in (value if isinstance(value, list) else [value])}


def test_a_table_s_archive_has_its_jobs_with_what_they_read_wrote_and_cost(ran, capsys):
    assert crate("results/voc_table1.csv", "--output", "table.zip") == 0
    assert "3 jobs" in capsys.readouterr().out
    graph = entities(ran / "table.zip")
    extraction, evaluation, table = (graph[f"#job/{rule}/a"] for rule in list(JOBS)[:3])
    assert not any("make_report" in key or "table5" in key for key in graph)
    photos, maps = "#resources/VOC%202012", "#work/attention/a.safetensors"
    assert ids(extraction["object"]) == {photos, "#models/sd"} and ids(extraction["result"]) == {
        maps
    }
    assert ids(evaluation["object"]) == {photos, maps}
    assert ids(table["object"]) == {"work/evaluation/metrics.json"}
    assert ids(table["result"]) == {
        f"results/voc_table1.{suffix}" for suffix in ("csv", "html", "provenance.json")
    }
    assert (
        extraction["description"]
        == "python scripts/extract_attention.py --words 'a '\"'\"'dog'\"'\"''"
    )
    whole = graph["#run"]
    assert ids(whole["object"]) == {photos, "#models/sd"}
    assert ids(whole["result"]) == {"results/voc_table1.csv"}
    cost = {
        graph[key]["propertyID"]: float(graph[key]["value"]) for key in ids(whole["resourceUsage"])
    }
    assert cost == {"seconds": 46.5, "cpu_seconds": 93, "peak_mib": 140.5}
    # of the folder: the hidden file is left out
    listing = "".join(
        f"{digest(FILES[f'resources/VOC 2012/{name}'])}  {name}\n"
        for name in ("JPEGImages/a.jpg", "JPEGImages/b.jpg")
    )
    assert graph[photos]["sha256"] == digest(listing) and graph[maps]["sha256"] == digest("maps")
    assert "Flickr" in graph[photos]["usageInfo"]
    assert "creativeml-openrail-m" in graph["#models/sd"]["usageInfo"]
    assert graph["Snakefile"]["version"] == "0123abc with changes"
    assert "https://arxiv.org/abs/2309.04109" in ids(graph["./"]["citation"])
    assert graph["pkg:pypi/torch@2.13.0%2Bcpu"]["softwareVersion"] == "2.13.0+cpu"


def test_the_files_of_the_archive_are_those_that_it_names(ran):
    assert crate("results") == 0
    graph = entities(ran / "results/crate.zip")
    with zipfile.ZipFile(ran / "results/crate.zip") as file:
        held = {name: hashlib.sha256(file.read(name)).hexdigest() for name in file.namelist()}
    held.pop("ro-crate-metadata.json")
    told = {unquote(k): e["sha256"] for k, e in graph.items() if "File" in e["@type"]}
    assert told == held and {unquote(key) for key in ids(graph["./"]["hasPart"])} == set(held)
    assert {"Snakefile", "workflow/rules/tables.smk", "scripts/make_report.py"} <= set(held)
    assert "results/report.zip" in held and "work/attention/a.safetensors" not in held
    for entity in graph.values():  # nothing is named that is not described
        for value in entity.values():
            found = value if isinstance(value, list) else [value]
            named = {one["@id"] for one in found if isinstance(one, dict)}
            assert {key for key in named if not key.startswith("https://w3id.org/ro/crate")} <= set(
                graph
            )


def test_what_was_changed_since_or_left_no_record_is_refused_in_one_line(ran, capsys):
    (ran / "work/evaluation/metrics.json").write_text('{"mIoU": 60}')
    assert crate("results/voc_table1.csv", "--output", "table.zip") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "work/evaluation/metrics.json: changed since" in line and "make the target again" in line
    (ran / "work/evaluation/metrics.json").write_text(FILES["work/evaluation/metrics.json"])
    (ran / "work/benchmarks/make_table/a.json").unlink()
    assert crate("results/voc_table1.csv", "--output", "table.zip") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "work/benchmarks has no record" in line
    assert crate("results/voc_table5.csv", "--output", "table.zip") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "not a result of the workflow" in line and not (ran / "table.zip").exists()


@pytest.fixture
def vocabulary(tmp_path) -> Path:
    """A cache in which roc-validator finds RO-Crate's vocabulary, so that it needs no network."""
    pytest.importorskip("rocrate_validator", reason=MISSING)
    rocrate = pytest.importorskip("rocrate", reason=MISSING)
    import requests
    import requests_cache
    import urllib3

    content = importlib.resources.files(rocrate).joinpath("data/ro-crate.jsonld").read_bytes()
    if json.loads(content)["@id"] != CONTEXT:
        pytest.skip(MISSING)

    class Bundled(requests.adapters.HTTPAdapter):
        def send(self, request, **_):
            raw = urllib3.HTTPResponse(
                io.BytesIO(content), status=200, preload_content=False, request_url=request.url,
                headers={"Content-Type": "application/ld+json"},
            )  # fmt: skip
            return self.build_response(request, raw)

    cache = tmp_path / "vocabulary"
    with requests_cache.CachedSession(str(cache), backend="sqlite", expire_after=-1) as session:
        session.mount("https://w3id.org/", Bundled())
        session.get(CONTEXT)
    return cache


def test_roc_validator_finds_no_required_check_of_a_provenance_run_crate_failed(ran, vocabulary):
    from rocrate_validator import models, services

    assert crate("results", "--output", "crate.zip") == 0
    with zipfile.ZipFile("crate.zip") as archive:
        archive.extractall("unpacked")
    found = services.validate(
        services.ValidationSettings(
            rocrate_uri="unpacked", profile_identifier="provenance-run-crate",
            requirement_severity=models.Severity.REQUIRED, offline=True, cache_path=str(vocabulary),
        )
    )  # fmt: skip
    assert [issue.message for issue in found.get_issues()] == []
    assert len(found.executed_checks) > 80
