"""What is built is what is needed, and constraints.txt pins all of it."""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
UV = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["uv"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINS = [Requirement(line) for line in CONSTRAINTS if not line.startswith("#")]
PYTHONS = ("3.11", "3.12", "3.13")
FOLDERS = ("vision_train", "augment", "models", "recipes")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source archive and, from that archive alone, the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the wheel, which is all that installing a pure Python wheel does to its packages."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_installed(installed: Path, cwd: Path, code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


IMPORTED_AS = {"opencv-python-headless": "cv2", "scikit-learn": "sklearn", "pyyaml": "yaml", "pillow": "PIL"}
"""Name of a distribution -> of what it is imported as, where they differ in more than a dash."""


def test_what_all_brings_is_imported_somewhere():
    extras = PROJECT["optional-dependencies"]
    (whole,) = map(Requirement, extras["all"])
    needed = {Requirement(text).name for extra in whole.extras for text in extras[extra]}
    needed |= {Requirement(text).name for text in PROJECT["dependencies"]}
    sources = [file.read_text(encoding="utf-8") for folder in FOLDERS[:3] for file in (ROOT / folder).rglob("*.py")]
    names = {name: IMPORTED_AS.get(canonicalize_name(name), name.replace("-", "_")) for name in needed}
    imports = re.compile(r"(?:^\s*(?:from|import)\s+|import_module\(\")(\w+)", re.MULTILINE)
    found = {name for text in sources for name in imports.findall(text)}
    assert {name for name, module in names.items() if module not in found} == set()


def test_source_archive_holds_examples_and_documentation(wheel: Path):
    (archive,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        shipped = {name.partition("/")[2] for name in opened.getnames()}
    assert {"examples/mixpro_in_your_loop.py", "examples/acmil_in_your_loop.py", "docs/index.md"} <= shipped


def test_wheel_holds_every_file_and_no_tests(wheel: Path):
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    on_disk = {
        file.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert shipped == on_disk
    assert {"vision_train/py.typed", "augment/py.typed", "models/py.typed", "recipes/quickstart.yaml"} <= shipped


RESOLVE = """
import json
import vision_train
from vision_train.shadowing import check_shadowing
from vision_train.recipe import builtin_recipes, load_recipe
check_shadowing()
names = builtin_recipes()
resolved = [load_recipe(name, runnable=False).name for name in names]
print(json.dumps({"home": vision_train.__file__, "names": names, "resolved": resolved}))
"""
RUN_RECIPES = """
import sys
from importlib.metadata import distribution
(command,) = distribution("vision-train").entry_points
sys.argv = [command.name, "recipes"]
sys.exit(command.load()())
"""


def test_builtin_recipes_resolve_from_anywhere(installed: Path, tmp_path: Path):
    seen = json.loads(run_installed(installed, tmp_path, RESOLVE))
    assert Path(seen["home"]).is_relative_to(installed)
    assert seen["resolved"] == seen["names"]
    files = (file.relative_to(ROOT / "recipes").with_suffix("") for file in (ROOT / "recipes").rglob("*.yaml"))
    assert set(seen["names"]) == {file.as_posix() for file in files if "_parts" not in file.parts}


def test_installed_command_lists_the_recipes(installed: Path, tmp_path: Path):
    assert "quickstart" in run_installed(installed, tmp_path, RUN_RECIPES)


def test_constraints_hold_names_and_versions_alone():
    for pin in PINS:
        assert not pin.url
        assert not pin.extras
        (specifier,) = pin.specifier
        assert (specifier.operator, "*" in specifier.version) == ("==", False), str(pin)
    assert not any(word in line for line in CONSTRAINTS for word in ("://", "--hash", "--index", "--find-links"))


def test_the_compiled_trio_is_fixed():
    assert {str(pin).split(";")[0] for pin in PINS} >= set(UV["constraint-dependencies"])


@pytest.mark.parametrize("python", PYTHONS)
def test_pins_satisfy_what_the_project_asks(python: str):
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    pins = [(pin.name, next(iter(pin.specifier)).version) for pin in PINS if holds(pin, environment)]
    for requirement in direct_requirements({"dev"}):
        if holds(requirement, environment):
            (version,) = [version for name, version in pins if name == canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}"


def test_every_indirect_dependency_is_pinned():
    needed = reachable([requirement for requirement in direct_requirements({"dev"}) if holds(requirement)])
    assert needed - {pin.name for pin in PINS if holds(pin)} == set()


def holds(requirement: Requirement, environment: Mapping[str, str] | None = None) -> bool:
    """Tell whether a requirement applies here, or in the environment described."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": "", **(environment or {})})


def direct_requirements(extras: set[str]) -> list[Requirement]:
    """Return what pyproject.toml asks for, its own extras (`vision-train[all]`) resolved."""
    lines = PROJECT["dependencies"] + [line for name in extras for line in PROJECT["optional-dependencies"][name]]
    found = []
    for requirement in map(Requirement, lines):
        found += direct_requirements(requirement.extras) if requirement.name == PROJECT["name"] else [requirement]
    return found


def reachable(requirements: list[Requirement]) -> set[str]:
    """Return the names of `requirements` and of all that the installed distributions need in turn."""
    waiting, seen = list(requirements), set()
    while waiting:
        asked = waiting.pop()
        key = (canonicalize_name(asked.name), frozenset(asked.extras))
        if key in seen:
            continue
        seen.add(key)
        for needed in map(Requirement, metadata.requires(asked.name) or []):
            if any(holds(needed, {"extra": extra}) for extra in ("", *asked.extras)):
                waiting.append(needed)
    return {name for name, _ in seen}
