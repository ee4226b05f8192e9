"""A run as a Provenance Run Crate (https://w3id.org/ro/wfrun/provenance/0.5), as JSON-LD.

Jobs, what they read and wrote and what they cost come from their records (`attnseg.io.costs`), the rest from
the results' <target>.provenance.json. The package rocrate would add little but the writing of JSON.
"""

import json
import mimetypes
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import yaml
from tqdm import tqdm

from attnseg.datasets.completeness import read_registry
from attnseg.errors import UserError
from attnseg.io.costs import Job, jobs_behind, read_jobs
from attnseg.io.files import sha256
from attnseg.io.provenance import digest, git_state

LARGEST = 2**20  # bytes of a file that is in the crate
NAMED = (
    ".safetensors",
    ".npz",
)  # of files that are not, but, as larger ones and folders, named by digest
PROFILES = {
    f"https://w3id.org/ro/wfrun/{kind}/0.5": (f"{kind.capitalize()} Run Crate", "0.5")
    for kind in ("process", "workflow", "provenance")
} | {"https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0")}
TERMS = {
    term: f"https://w3id.org/ro/terms/workflow-run#{term}" for term in ("sha256", "resourceUsage")
}
UNITS = {  # of a job's cost: name, unit, unit in the vocabulary QUDT
    "seconds": ("wall time over all attempts", "s", "SEC"),
    "cpu_seconds": ("CPU time over all attempts", "s", "SEC"),
    "peak_mib": ("peak memory", "MiB", "MebiBYTE"),
}
LICENCE = "https://spdx.org/licenses/{}"
WORKFLOW = ("Snakefile", "CITATION.cff", "LICENSE", "workflow/**/*.smk", "config/*.yaml")


class Graph(dict[str, dict]):
    """Entities by @id."""

    def add(self, key: str, kind: str | list[str], **properties: object) -> str:
        """Add an entity, or properties to one that is there, but empty ones. Return its @id."""
        self.setdefault(key, {"@id": key, "@type": kind}).update(
            (name, value) for name, value in properties.items() if value not in (None, "", [])
        )
        return key


def crate(clone: Path, targets: Sequence[Path], pictures: Sequence[Path]) -> tuple[dict, dict]:
    """The content of ro-crate-metadata.json, and the files of the crate by their @id.

    Names in the jobs' records are relative to the current folder, in which Snakemake ran.

    Args:
        clone: the repository, with the workflow's files.
        targets: each target's <target>.provenance.json.
        pictures: further results.

    Raises:
        UserError: where the jobs that made the results left no record, or a measurement is no longer the
            one in the table.
    """
    made = {path: json.loads(path.read_text()) for path in targets}
    for path, about in made.items():
        check_measurements(path, about)
    newest = max(made.values(), key=lambda about: about["date"])
    records = Path(newest["config"]["paths"]["work"]) / "benchmarks"
    jobs = read_jobs(records)
    written = {place(name) for job in jobs for name in job.wrote}
    results = {path: files_of(path) for path in targets}
    roots = [
        path
        for path in [*(file for files in results.values() for file in files), *pictures]
        if place(path) in written
    ]
    jobs = jobs_behind(roots, jobs)
    if not jobs:
        raise UserError(
            f"{targets[0]}: {records} has no record of the job that made it; keep the run's folder "
            f"{records.parent}, and give the command where Snakemake ran"
        )
    graph, files = Graph(), dict[str, Path]()
    named = [place(name) for job in jobs for name in (*job.read, *job.wrote)]
    named += [place(path) for found in results.values() for path in found]
    paths = {}
    for path in tqdm(dict.fromkeys(named), desc="SHA-256", unit="name", disable=None):
        if path != place(records):  # a table reads it for what its jobs cost
            paths[path] = add_path(graph, path, files)
    add_licences(graph, paths, made.values())
    actions = [add_job(graph, job, records, paths) for job in jobs]
    for found in results.values():  # a program names one of a target's files
        all_of_it = refs(paths[place(path)] for path in found)
        for action in actions:
            if any(entity in graph[action]["result"] for entity in all_of_it):
                graph[action]["result"] = all_of_it
    parts = [
        *(path for pattern in WORKFLOW for path in sorted(clone.glob(pattern))),
        *sorted({clone / program(graph, action) for action in actions}),
    ]
    for path in parts:
        key = quote(path.relative_to(clone).as_posix())
        files[key] = path
        graph.add(key, "File", name=key, sha256=sha256(path), encodingFormat="text/plain")
    citation = yaml.safe_load((clone / "CITATION.cff").read_text())
    papers = [add_paper(graph, paper) for paper in citation["references"]]
    licence = graph.add(
        LICENCE.format(citation["license"]), "CreativeWork", name=citation["license"],
        description="The licence of code, configuration and tables; data and models have their own.",
    )  # fmt: skip
    of_files = git_state(clone)["revision"]
    add_run(
        graph, jobs, actions, roots, paths, [*made.values()], licence, papers, citation, of_files
    )
    add_root(graph, files, made, actions, licence, papers)
    entities = [{k: alone(v) for k, v in entity.items()} for entity in graph.values()]
    return {"@context": ["https://w3id.org/ro/crate/1.1/context", TERMS], "@graph": entities}, files


def alone(value: object) -> object:
    """The value of a list of one, as RO-Crate writes it."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def refs(keys: Iterable[str]) -> list[dict[str, str]]:
    return [{"@id": key} for key in dict.fromkeys(keys)]


def place(name: str | os.PathLike) -> Path:
    return Path(os.path.abspath(name))


def files_of(provenance: Path) -> list[Path]:
    """All files of the target of a <target>.provenance.json."""
    target = provenance.name.removesuffix(".provenance.json")
    return sorted(p for p in provenance.parent.iterdir() if p.name.split(".")[0] == target)


def check_measurements(path: Path, about: Mapping) -> None:
    """Raise a UserError if a metrics.json is gone or another than when the result was made."""
    if not (about.get("config") or {}).get("paths"):
        raise UserError(f"{path}: has no configuration; only results of the workflow have a crate")
    for measured in (entry for entries in about["evaluations"].values() for entry in entries):
        file = Path(measured["file"])
        if not file.is_file() or sha256(file) != measured["sha256"]:
            state = "changed since" if file.is_file() else "is not there, but was when"
            raise UserError(f"{file}: {state} {path} was written; make the target again")


def add_path(graph: Graph, path: Path, files: dict[str, Path]) -> str:
    """Add a file or folder with its SHA-256, and to `files` what the crate is to hold: small files."""
    shown = os.path.relpath(path)
    if shown.startswith(".."):
        shown = str(path)
    elif path.is_file() and path.suffix not in NAMED and path.stat().st_size <= LARGEST:
        files[quote(shown)] = path
        return graph.add(
            quote(shown), "File", name=shown, sha256=sha256(path),
            contentSize=str(path.stat().st_size),
            encodingFormat=mimetypes.guess_type(shown)[0] or "application/octet-stream",
        )  # fmt: skip
    if not path.exists():
        about = {"description": "Not in this crate; it was removed after the run."}
    elif path.is_file():
        about = {"description": "A file that is not in this crate.", "sha256": sha256(path)}
    else:
        about = {
            "description": "A folder that is not in this crate. Its SHA-256 is that of the lines "
            "`<SHA-256>  <name>` of the files in it, sorted by name; hidden files are left out.",
            "sha256": digest(path),
        }
    return graph.add(f"#{quote(shown)}", "CreativeWork", name=shown, **about)


def add_licences(graph: Graph, paths: Mapping[Path, str], made: Iterable[Mapping]) -> None:
    """Say of data sets and models where they come from and under which licence."""
    registry = read_registry()
    for about in made:
        for name in about["data"]:
            dataset = about["config"]["datasets"][name]
            key = paths.get(place(dataset["root"]))
            if key is None:
                continue
            if dataset["source"] == "mini_world":
                terms: dict[str, object] = {"license": {"@id": LICENCE.format("Apache-2.0")}}
                terms |= {"abstract": "Drawn by scripts/build_mini_world.py; its sprites: OFL-1.1."}
            elif entry := registry.get(name):
                terms = {"usageInfo": " ".join(entry["licence"].split()), "url": entry["site"]}
                terms |= {"abstract": entry["title"], "version": entry["version"]}
            else:
                terms = {"usageInfo": "a user's own data; no licence is stated"}
            graph.add(key, "CreativeWork", **terms)
        for name in about["models"]:
            card = Path(name) / "README.md"
            found = (
                re.search(r"^licen[sc]e: *(\S+)", card.read_text(), re.M)
                if card.is_file()
                else None
            )
            if place(name) in paths:
                said = found.group(1) if found else "not stated in the model's folder"
                graph.add(paths[place(name)], "CreativeWork", usageInfo=f"licence: {said}")


def add_job(graph: Graph, job: Job, records: Path, paths: Mapping[Path, str]) -> str:
    """Add a job: its action, and the workflow engine's of its step. paths: @ids by name."""
    key = f"#job/{quote(job.path.with_suffix('').as_posix())}"
    record = records / job.path
    command = json.loads(record.read_text())["command"]
    ended = datetime.fromtimestamp(record.stat().st_mtime, UTC).isoformat(timespec="seconds")
    name = f"{job.rule} {' '.join(job.path.with_suffix('').parts[1:])}"
    tool = f"scripts/{quote(Path(command[0]).name)}"
    graph.add(tool, ["File", "SoftwareSourceCode"], programmingLanguage={"@id": "#python"})
    graph.add(
        key, "CreateAction", name=name, description=shlex.join(["python", *command]),
        instrument={"@id": tool},
        object=refs(paths[place(name)] for name in job.read if place(name) in paths),
        result=refs(paths[place(name)] for name in job.wrote),
        resourceUsage=refs(add_costs(graph, key, [job])), endTime=ended,
        actionStatus="http://schema.org/CompletedActionStatus",
    )  # fmt: skip
    step = graph.add(f"#step/{job.rule}", "HowToStep", name=job.rule, workExample={"@id": tool})
    graph.add(
        f"#control/{key[1:]}", "ControlAction", name=f"run of {name}", instrument={"@id": step},
        object={"@id": key},
    )  # fmt: skip
    return key


def program(graph: Graph, action: str) -> str:
    """Path of an action's program below the clone."""
    return graph[action]["instrument"]["@id"]


def add_costs(graph: Graph, key: str, jobs: Sequence[Job]) -> list[str]:
    """Add what jobs cost together."""
    totals = {field: [getattr(job, field) for job in jobs] for field in UNITS}
    return [
        graph.add(
            f"{key}/{field}", "PropertyValue", name=name, propertyID=field, unitText=unit,
            unitCode=f"https://qudt.org/vocab/unit/{code}",
            value=str(round(max(totals[field]) if field == "peak_mib" else sum(totals[field]), 2)),
        )
        for field, (name, unit, code) in UNITS.items()
    ]  # fmt: skip


def add_paper(graph: Graph, paper: Mapping) -> str:
    """Add a reference of CITATION.cff."""
    doi = f"https://doi.org/{paper['doi']}" if "doi" in paper else None
    authors = [" ".join((a["given-names"], a["family-names"])) for a in paper["authors"]]
    return graph.add(
        paper["url"], "ScholarlyArticle", name=paper["title"], author=", ".join(authors),
        datePublished=str(paper["year"]), identifier=doi, url=paper["url"],
    )  # fmt: skip


def add_run(
    graph: Graph,
    jobs: Sequence[Job],
    actions: Sequence[str],
    roots: Sequence[Path],
    paths: Mapping[Path, str],
    made: Sequence[Mapping],
    licence: str,
    papers: Sequence[str],
    citation: Mapping,
    of_files: object,
) -> None:
    """Add the workflow, its packages, and its run as a whole. of_files: the revision of the clone."""
    packages = {name: version for about in made for name, version in about["packages"].items()}
    software = [
        graph.add(
            f"pkg:pypi/{quote(name)}@{quote(version)}",
            "SoftwareApplication",
            name=name,
            softwareVersion=version,
        )  # fmt: skip
        for name, version in packages.items()
    ]
    pythons = sorted({about["python"] for about in made})
    graph.add("#python", "ComputerLanguage", name="Python", version=", ".join(pythons))
    graph.add(
        "#snakemake", ["SoftwareApplication", "ComputerLanguage"], name="Snakemake",
        url="https://snakemake.readthedocs.io", softwareVersion=packages.get("snakemake", "unknown"),
    )  # fmt: skip
    graph.add("#authors", "Organization", name=citation["authors"][0]["name"])
    revisions = {
        f"{about['git']['revision']}{' with changes' if about['git']['dirty'] else ''}"
        for about in made
    }
    version = ", ".join(sorted(revisions))
    tools = [program(graph, action) for action in actions]
    for tool in tools:
        graph.add(tool, [], version=version)
    graph["Snakefile"]["@type"] = ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"]
    graph.add(
        "Snakefile", [], name=f"{citation['title']}: {' '.join(citation['abstract'].split())}",
        version=version, license={"@id": licence},
        description=f"Results were made by revision {version}; the files here are of {of_files}.",
        creator={"@id": "#authors"}, programmingLanguage={"@id": "#snakemake"},
        hasPart=refs(tools),
        step=refs(key for key in graph if key.startswith("#step/")),
        softwareRequirements=refs(software), citation=refs(papers),
    )  # fmt: skip
    places = sorted(
        {
            f"{about['device']['processor']}, {about['device']['cores']} cores, "
            f"{', '.join(about['device']['gpus']) or 'no GPU'}, {about['device']['system']}"
            for about in made
        }
    )
    wrote = {place(name) for job in jobs for name in job.wrote}
    inside = wrote | {folder for path in wrote for folder in path.parents}
    read = [place(name) for job in jobs for name in job.read]
    graph.add(
        "#run", "CreateAction", name="the run of the workflow", instrument={"@id": "Snakefile"},
        description=f"{len(jobs)} jobs. Tables were made on: {'; '.join(places)}",
        object=refs(
            paths[p] for p in read if p in paths and p not in inside and not wrote & {*p.parents}
        ),
        result=refs(paths[place(path)] for path in roots),
        endTime=max(graph[action]["endTime"] for action in actions),
        resourceUsage=refs(add_costs(graph, "#run", jobs)),
        actionStatus="http://schema.org/CompletedActionStatus",
    )  # fmt: skip
    graph.add(
        "#engine", "OrganizeAction", name="Snakemake", instrument={"@id": "#snakemake"},
        object=refs(f"#control/{action[1:]}" for action in actions), result={"@id": "#run"},
    )  # fmt: skip


def add_root(
    graph: Graph,
    files: Iterable[str],
    made: Mapping,
    actions: Sequence[str],
    licence: str,
    papers: Sequence[str],
) -> None:
    """Add the crate itself."""
    for profile, (name, version) in PROFILES.items():
        graph.add(profile, "CreativeWork", name=name, version=version)
    titles = [
        str(about.get("table") or about.get("target") or path.stem) for path, about in made.items()
    ]
    graph.add(
        "./", "Dataset", name=f"attnseg: {', '.join(titles)}",
        description="Results of the workflow attnseg, how they were made, from what, and at what cost. "
        "Photos, models and masks are not here, but named with their SHA-256. Pictures show photos of the "
        "data sets, under these data sets' terms.",
        datePublished=max(about["date"] for about in made.values()), license={"@id": licence},
        conformsTo=refs(PROFILES), mainEntity={"@id": "Snakefile"}, hasPart=refs(files),
        mentions=refs(["#run", "#engine", *actions]), citation=refs(papers),
    )  # fmt: skip
    graph.add(
        "ro-crate-metadata.json", "CreativeWork", about={"@id": "./"},
        conformsTo=refs(["https://w3id.org/ro/crate/1.1", "https://w3id.org/workflowhub/workflow-ro-crate/1.0"]),
    )  # fmt: skip
