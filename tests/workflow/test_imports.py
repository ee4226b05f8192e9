"""Every program finds what it imports in the environments that it runs in.

Read from the sources, without running them: what a program imports, and every module of attnseg that
this leads to, inside functions as well.
"""

import ast
import modulefinder
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from attnseg import _EXPORTS as EXPORTS
from attnseg.app.command import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = REPOSITORY / "scripts"
LOCK = REPOSITORY / "envs" / "requirements.lock"
PROGRAMS = sorted(SCRIPTS.glob("*.py"))
TOOLS = sorted((SCRIPTS / "tools").glob("*.py"))
BENCHMARKS = sorted((REPOSITORY / "benchmarks").glob("*.py"))

# installed after the extra `segmentation`, without their dependencies: pyproject.toml says how
WITHOUT_DEPENDENCIES = {"mmcv-lite", "onedl-mmsegmentation"}
# of the extras `export`, `onnx` and `t5`: no rule of the papers needs them, so the lock goes without; what
# does says so
UNLOCKED = {"datasets", "onnx", "onnxruntime", "protobuf", "sentencepiece"}
# what a command does without, and says so: doctor looks for it
OPTIONAL = {
    "segment": {"pydensecrf"},
    "doctor": {"pydensecrf", "mmseg", "mmengine"},
    "export": {"cv2", "datasets", "onnx", "mmcv", "mmseg", "mmengine"},
    "predict": {"onnxruntime"},
    "serve": {"pydensecrf", "cv2"},
}
# what mmcv-lite and mmseg ask for and do not get: forks and headless builds stand in
REPLACED = {"mmengine", "opencv-python"}


def rules() -> Iterator[tuple[str, Path, Path]]:
    """(rule, its program, its conda environment) of every rule that runs a program."""
    for file in sorted((REPOSITORY / "workflow" / "rules").glob("*.smk")):
        for name, body in re.findall(
            r"^ *rule (\w+):\n(.*?)(?=^ *rule \w+:|\Z)", file.read_text(), re.M | re.S
        ):
            programs = set(re.findall(r"<scripts>/(\w+\.py)", body))
            if not programs:
                assert not re.search(r'"python |\.py\b', body), f"{name}: which program is it?"
                continue
            (program,) = programs
            (environment,) = re.findall(r'conda:\n +"../../(envs/\w+\.yaml)"', body)
            yield name, SCRIPTS / program, REPOSITORY / environment


RULES = list(rules())


# -- what a program imports


def without_types(tree: ast.Module) -> ast.Module:
    """Without what only a type checker imports."""
    tree.body = [
        n for n in tree.body if getattr(getattr(n, "test", None), "id", "") != "TYPE_CHECKING"
    ]
    return tree


@cache
def imported_by(file: Path) -> list[str]:
    """The modules that a file imports, `a` and `a.b` for `from a import b`."""
    names = []
    for node in ast.walk(without_types(ast.parse(file.read_text()))):
        match node:
            case ast.Import():
                names += [alias.name for alias in node.names]
            case ast.ImportFrom():
                assert node.level == 0, f"{file}: a relative import, which is not followed here"
                names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                if node.module == "attnseg":  # what it exports is loaded when asked for
                    names += [EXPORTS[a.name] for a in node.names if a.name in EXPORTS]
            case ast.Call() if file == SCRIPTS / "attnseg" / "__init__.py":
                continue
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module"),
                args=[name, *_],
            ):
                # of f"attnseg.datasets.{name}", whose name is not known: all modules there
                assert isinstance(name, ast.JoinedStr), f"{file}: import_module of what?"
                package = name.values[0].value.rstrip(".")
                folder = SCRIPTS / package.replace(".", "/")
                names += [f"{package}.{path.stem}" for path in sorted(folder.glob("*.py"))]
    return names


def source_of(module: str, program: Path) -> Path | None:
    """The file of a module of this repository; None for any other."""
    for folder in (SCRIPTS, program.parent):
        path = folder / module.replace(".", "/")
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    return None


def closure(program: Path) -> dict[str, str]:
    """What a program imports from outside the repository and the standard library, its top-level
    names -> the way to the import."""
    outside: dict[str, str] = {}
    todo = [(program, program.name)]
    seen = {program}
    for file, way in todo:
        for name in imported_by(file):
            parts = name.split(".")
            if not source_of(parts[0], program) and parts[0] not in sys.stdlib_module_names:
                outside.setdefault(parts[0], way)
            for i in range(len(parts)):  # importing a.b.c runs a and a.b
                module = ".".join(parts[: i + 1])
                found = source_of(module, program)
                if found is not None and found not in seen:
                    seen.add(found)
                    todo.append((found, f"{way} > {module}"))
    return outside


# -- what an environment holds


@cache
def with_dependencies(package: str) -> frozenset[str]:
    """A distribution, by its canonical name, and all that it requires."""
    found, todo = {package}, [package]
    for name in todo:
        for need in map(Requirement, required_by(name)):
            key = canonicalize_name(need.name)
            if key not in found and (need.marker is None or need.marker.evaluate({"extra": ""})):
                found.add(key)
                todo.append(key)
    return frozenset(found)


def required_by(package: str) -> list[str]:
    try:
        return metadata.requires(package) or []
    except metadata.PackageNotFoundError:  # of another platform or build
        return []


def pins(text: str) -> set[str]:
    return {canonicalize_name(name) for name in re.findall(r"([A-Za-z0-9][\w.-]*)==\d", text)}


def installed_after(environment: Path) -> set[str]:
    """What a conda environment gets at last, without dependencies."""
    script = environment.with_suffix(".post-deploy.sh")
    return pins(script.read_text()) if script.exists() else set()


@cache
def conda(environment: Path) -> set[str]:
    """The distributions of a conda environment."""
    entries = yaml.safe_load(environment.read_text())["dependencies"]
    (packages,) = [entry["pip"] for entry in entries if isinstance(entry, dict)]
    listed = pins("\n".join(packages))
    return set().union(*map(with_dependencies, listed)) | installed_after(environment)


PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def asked_for(*extras: str) -> set[str]:
    """What pyproject.toml names, with these extras and those that they name."""
    found = set()
    for need in map(
        Requirement, [*PROJECT["dependencies"], *(n for e in extras for n in EXTRAS[e])]
    ):
        if need.name == "attnseg":
            found |= asked_for(*need.extras)
        else:
            found.add(canonicalize_name(need.name))
    return found


def brought(*extras: str) -> set[str]:
    """The distributions that `pip install '.[extras]'` brings."""
    return set().union(*map(with_dependencies, asked_for(*extras)))


@pytest.fixture(scope="module")
def lacking():
    """(program, distributions) -> what it imports and they do not hold, with the way to it."""
    packages = metadata.packages_distributions()

    def find(program: Path, held: set[str]) -> dict[str, str]:
        return {
            name: way
            for name, way in closure(program).items()
            if held.isdisjoint(map(canonicalize_name, packages.get(name, ())))
        }

    return find


# -- the tests


@pytest.mark.parametrize(("rule", "program", "environment"), RULES, ids=[r[0] for r in RULES])
def test_a_rule_s_conda_environment_holds_what_its_program_imports(
    rule, program, environment, lacking
):
    assert not lacking(program, conda(environment)), environment.name


@pytest.mark.parametrize("program", [*PROGRAMS, *TOOLS], ids=lambda path: path.stem)
def test_the_lock_holds_what_a_program_imports(program, lacking):
    assert not lacking(program, pins(LOCK.read_text()))


@pytest.mark.parametrize("program", BENCHMARKS, ids=lambda path: path.stem)
def test_the_lock_holds_what_a_benchmark_imports(program, lacking):
    peer = {"attention_map_diffusers"} if program.stem == "recording" else set()
    assert set(lacking(program, pins(LOCK.read_text()))) <= peer | UNLOCKED


@pytest.mark.parametrize("name", COMMANDS)
def test_pip_install_brings_what_a_command_imports(name, lacking):
    file = SCRIPTS / "attnseg" / "app" / f"{name.replace('-', '_')}.py"
    assert set(lacking(file, brought())) == OPTIONAL.get(name, set())


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_the_extras_bring_what_a_program_imports(program, lacking):
    assert not lacking(program, brought(*EXTRAS) | WITHOUT_DEPENDENCIES)


def test_each_extra_brings_what_its_part_of_the_package_imports(lacking):
    def lack(file: Path, *extras: str) -> set[str]:
        """What lacks of what a file itself imports."""
        names = {name.partition(".")[0] for name in imported_by(file)}
        return names & set(lacking(file, brought(*extras) | WITHOUT_DEPENDENCIES))

    package = SCRIPTS / "attnseg"
    for file in package.rglob("*.py"):
        room = file.relative_to(package).parts[0]
        without = lack(file)
        assert without <= {"pydensecrf", "matplotlib", "mmengine", "cv2", *UNLOCKED}, file
        inner = without & {"mmengine", "cv2", *UNLOCKED}
        assert not inner or room in ("segmentation", "app"), file
    assert not lack(package / "core" / "crf.py", "crf")
    for file in (package / "segmentation").glob("*.py"):
        lacks = set(lacking(file, brought("segmentation") | WITHOUT_DEPENDENCIES))
        assert lacks <= UNLOCKED, file


def test_every_dependency_and_extra_is_pinned_in_the_lock():
    wanted = asked_for(*EXTRAS) | WITHOUT_DEPENDENCIES
    assert wanted - pins(LOCK.read_text()) == UNLOCKED


def test_what_segmentation_adds_by_hand_is_said_and_finds_what_it_needs():
    line = (
        f"pip install --no-deps -c envs/requirements.lock {' '.join(sorted(WITHOUT_DEPENDENCIES))}"
    )
    for name in ("README.md", "pyproject.toml"):
        assert line in (REPOSITORY / name).read_text()
    needs = {
        canonicalize_name(need.name)
        for package in WITHOUT_DEPENDENCIES
        for need in map(Requirement, required_by(package))
        if need.marker is None or need.marker.evaluate({"extra": ""})
    }
    assert needs - brought("segmentation") <= REPLACED


def test_what_is_installed_without_its_dependencies_finds_them(lacking):
    environment = REPOSITORY / "envs" / "segmentation.yaml"
    needs = set().union(*map(with_dependencies, installed_after(environment)))
    assert needs - conda(environment) <= REPLACED


ARRAYS = {"numpy", "torch", "PIL", "scipy", "sklearn", "skimage", "pydensecrf"}


def test_core_is_arrays_alone():
    core = sorted((SCRIPTS / "attnseg" / "core").glob("*.py"))
    assert len(core) > 1
    for file in core:
        names = {name for name in imported_by(file) if name.startswith("attnseg")}
        assert all(re.match(r"attnseg\.(core|errors)\b", name) for name in names), file
        assert set(closure(file)) <= ARRAYS, file


def by_bytecode(program: Path, by_name: bool = True) -> set[str]:
    """The same names, found by the standard library in compiled code. With `by_name` every file of a
    package counts as imported where one of them is imported by a name."""
    finder = modulefinder.ModuleFinder([str(SCRIPTS), str(program.parent)])
    finder.run_script(str(program))
    for loader, package in (("datasets.dataset", "datasets"), ("backbones", "backbones")):
        if by_name and f"attnseg.{loader}" in finder.modules:
            for file in (SCRIPTS / "attnseg" / package).glob("[!_]*.py"):
                finder.import_hook(f"attnseg.{package}.{file.stem}")
    names = {name.partition(".")[0] for name in finder.badmodules}  # not found in its folders
    return names - sys.stdlib_module_names - {"attnseg", "__main__"}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_what_is_read_in_sources_is_in_the_bytecode(program):
    assert set(closure(program)) == by_bytecode(program)


def test_imports_in_functions_and_by_name_are_followed(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("def f():\n    from attnseg.datasets import coco\n    import torch.nn\n")
    found = closure(program)
    datasets = {"numpy", "PIL", "pycocotools", "scipy", "tqdm", "yaml"}
    assert set(found) == by_bytecode(program) == {"torch", *datasets}
    assert found["torch"] == "program.py"
    assert (
        found["pycocotools"] == "program.py > attnseg.datasets.coco > attnseg.datasets.coco_masks"
    )
    for name, way in found.items():  # each step is an import that is written there
        first, *modules = way.split(" > ")
        assert first == program.name
        text = program.read_text()
        for module in modules:
            package, _, last = module.rpartition(".")
            plain = rf"^ *(from|import) {module}\b|^ *from {package} import [\w, ]*\b{last}\b"
            loaded = rf'import_module\(f"{package}\.\{{'
            written = rf"{plain}|{loaded}"
            assert re.search(written, text, re.M), (way, module)
            text = source_of(module, program).read_text()
        assert re.search(rf"^ *(from|import) {name}\b", text, re.M), (way, name)
    by_name = tmp_path / "by_name.py"
    by_name.write_text("from attnseg.datasets import load\n")
    through = "by_name.py > attnseg.datasets > attnseg.datasets.dataset > attnseg.datasets."
    assert closure(by_name)["scipy"].startswith(through)
    assert "scipy" not in by_bytecode(by_name, by_name=False)  # it is written nowhere on the way
