"""Whether the code that shapes a stage's results is the one that its `version` was decided for.

That code is the rule's program and what it imports of this package, without comments, docstrings and
formatting. code.json holds its digest, that of the defaults, and the version; a test fails where they
part, until somebody decides: the version is raised, or not, and scripts/tools/accept_code.py run. Until
then programs keep nothing that other code has made.

So a release has one identity for each version, whatever was tidied up in it, and finished results stay;
an edit is an identity of its own.
"""

import ast
import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
DECIDED = Path(__file__).with_name("code.json")
# The identity says what settings are; io and app are files, devices and flags.
APART = ("settings", "io", "app", "errors", "config", "evaluations", "jobs")
# Packages whose files are loaded by name: a file that was added to one is no part of a stage's code, nor
# its entry in their lists, until it is accepted, since it changes nothing of the others.
MANY = ("backbones", "datasets")
LISTS = ("FAMILIES", "SHIPPED")

# the stage of each rule: a class of settings, or where there is none the rule itself
STAGES = {
    "build_mini_world": "build_mini_world",
    "build_prompts": "build_prompts",
    "evaluate_instances": "evaluate_instances",
    "evaluate_masks": "evaluate_masks",
    "evaluate_segmentor": "TestJob",
    "extract_attention": "ExtractionJob",
    "generate_images": "Generation",
    "invert_image": "InversionJob",
    "make_reference_masks": "make_reference_masks",
    "measure_similarity": "measure_similarity",
    "refine_masks": "RefinementJob",
    "refine_synthetic": "LabellingJob",
    "segment_instances": "SubjectSegmentationJob",
    "train_custom_diffusion": "SubjectTrainingJob",
    "train_dreambooth_lora": "LoraJob",
    "train_segmentor": "Segmentor",
    "write_true_masks": "write_true_masks",
}


def changed(stage: str) -> str | None:
    """The digest of a stage's code where it is not the decided one.

    Always None in an installed package, which lacks the programs and is a release.
    """
    found = digest(stage)
    return None if found is None or found == decided().get(stage, {}).get("code") else found


@functools.cache
def decided() -> dict[str, dict]:
    """What was decided of each stage, in the form of `current`; `known`, in that of `present`."""
    return json.loads(DECIDED.read_text()) if DECIDED.is_file() else {}


def present() -> dict[str, list[str]]:
    """The names of the files of the packages in MANY."""
    return {name: sorted(path.name for path in (PACKAGE / name).glob("*.py")) for name in MANY}


@functools.cache
def current() -> dict[str, dict]:
    """{code, and for a class of settings its version and the digest of its defaults} of each stage, as
    they are now."""
    from attnseg import settings

    found: dict[str, dict] = {}
    for stage in STAGES.values():
        found[stage] = {"code": digest(stage)}
        if (cls := getattr(settings, stage, None)) is not None:
            profiles = repr(settings.PROFILES) if "profile" in cls.model_fields else None
            found[stage] |= {"version": cls.version, "defaults": _hash([cls.defaults(), profiles])}
    return found


def _hash(parts: list) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def digest(stage: str) -> str | None:
    """The digest of a stage's code as it is now; None without its program."""
    (rule,) = (rule for rule, named in STAGES.items() if named == stage)
    program = PACKAGE.parent / f"{rule}.py"
    if not program.is_file():
        return None
    return _hash(sorted([str(p.relative_to(PACKAGE.parent)), _code(p)] for p in behind(program)))


def behind(program: Path) -> set[Path]:
    """A program, and the files of this package that shape its results."""
    found, waiting = set(), [program]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imports(path)
    return found


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def _imports(path: Path) -> list[Path]:
    """The files that a file imports; of a package from which it takes a name all, as some are loaded by
    name."""
    found: list[Path] = []
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in inside if _place(name) is not None]
            names = modules if len(modules) == len(inside) else [*modules, node.module]
        else:
            continue
        for place in filter(None, map(_place, names)):
            if place.is_dir():
                known = decided().get("known", {}).get(place.name)
                found += [p for p in place.glob("*.py") if known is None or p.name in known]
            else:
                found.append(place)
    return found


def _place(name: str) -> Path | None:
    """The file or folder of a module of this package; None for others, and for what is apart."""
    package, *inside = name.split(".")
    if package != "attnseg" or not inside or inside[0] in APART:
        return None
    place = PACKAGE.joinpath(*inside)
    return next((p for p in (place, place.with_suffix(".py")) if p.exists()), None)


@functools.cache
def _code(path: Path) -> str:
    """A file's code in a form that neither comments, docstrings and formatting change, nor Python's
    version."""
    return "".join(_words(_tree(path)))


def _words(node: object) -> Iterator[str]:
    if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) in LISTS:
        return
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            if name == "body" and isinstance(value, list) and _documented(node):
                value = value[1:]
            if value not in (None, []) and name not in ("ctx", "kind", "type_comment"):
                yield f" {name}="
                yield from _words(value)
        yield ")"
    elif isinstance(node, list):
        for item in node:
            yield from _words(item)
            yield ","
    else:
        yield repr(node)


def _documented(node: ast.AST) -> bool:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None
