"""``vision-train doctor``: whether this machine can train, and what to do if it cannot."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
import platform
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from vision_train import __version__
from vision_train.cli.console import busy
from vision_train.errors import UserError
from vision_train.shadowing import check_shadowing
from vision_train.threads import processors, use_threads, waiting

OURS = ("vision_train", "augment", "models", "recipes")
COMPILED = ("torch", "torchvision", "xformers")
BROKEN = (ImportError, OSError, RuntimeError, AttributeError)
"""What a package raises whose compiled part was made for another one."""
BF16_SINCE = (8, 0)
"""CUDA compute capability from which bfloat16 is computed by the hardware (Ampere)."""
GIB = 1024**3
LEAST_DISK = 1 * GIB
LEAST_SHARED_MEMORY = 256 * 1024**2
"""Containers often come with 64 MiB, which a few batches of large images fill."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
REINSTALL = "reinstall torch, torchvision and xformers together: pip install -e '.[all]' -c constraints.txt"


@dataclass(frozen=True)
class Advice:
    """Something wrong, and what to do about it."""

    what: str
    remedy: str


@dataclass
class Findings:
    """What one check saw. Problems keep one from working; warnings do not."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[Advice] = field(default_factory=list)
    warnings: list[Advice] = field(default_factory=list)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check packages, devices, disk and memory; end with `ready`, or with every problem and its remedy.

    Exits with 2 if something is broken.
    """
    with busy("doctor: checking packages and devices"):
        findings = {name: check() for name, check in CHECKS.items()}
    problems = [advice for found in findings.values() for advice in found.problems]
    cautions = [advice for found in findings.values() for advice in found.warnings]
    if as_json:
        report = {
            "ready": not problems,
            "problems": [asdict(advice) for advice in problems],
            "warnings": [asdict(advice) for advice in cautions],
            "sections": {name: found.facts for name, found in findings.items()},
        }
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _print_findings(findings)
        for advice in cautions:
            _print_advice("warning", typer.colors.YELLOW, advice)
        for advice in problems:
            _print_advice("problem", typer.colors.RED, advice)
        verdict = "not ready: " + (f"{len(problems)} problems" if len(problems) > 1 else "1 problem")
        typer.secho(
            verdict if problems else "ready", bold=True, fg=typer.colors.RED if problems else typer.colors.GREEN
        )
    if problems:
        raise typer.Exit(2)


def check_packages() -> Findings:
    """Versions of Python and of each package we ask for by name, against what we ask."""
    from packaging.requirements import Requirement

    found = Findings({"python": platform.python_version(), "vision-train": __version__})
    try:
        asked = [Requirement(line) for line in metadata.requires("vision-train") or []]
    except metadata.PackageNotFoundError:
        found.problems.append(
            Advice("vision-train is not installed, only its folder was found", "pip install -e '.[all]'")
        )
        return found
    own = [requirement for requirement in asked if requirement.marker is None or requirement.marker.evaluate()]
    names = {requirement.name for requirement in own}
    extras = [requirement for requirement in asked if requirement.name not in names and _in_extra(requirement, "all")]
    for requirement in [*own, *extras]:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            if requirement in own:
                found.problems.append(Advice(f"{requirement.name} is missing", f"pip install '{_plain(requirement)}'"))
            found.facts[requirement.name] = None
            continue
        found.facts[requirement.name] = version
        if not requirement.specifier.contains(version, prereleases=True):
            what = f"{requirement.name} {version} is installed, {requirement.specifier} is needed"
            found.problems.append(Advice(what, f"pip install '{_plain(requirement)}' -c constraints.txt"))
    return found


def check_compiled() -> Findings:
    """Whether torch, torchvision and xformers were made for one another, by a tiny operation of each."""
    found = Findings()
    operations: dict[str, Callable[[], None]] = {"torch": _try_torch, "torchvision": _try_torchvision}
    if importlib.util.find_spec("xformers") is None:
        found.facts["xformers"] = "not installed; attention runs through torch"
    else:
        operations["xformers"] = _try_xformers
    for name, operation in operations.items():
        try:
            operation()
        except BROKEN as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            found.facts[name] = "broken"
            found.problems.append(Advice(f"{name} does not work: {reason}", REINSTALL))
        else:
            found.facts[name] = "works"
    return found


def _try_torch() -> None:
    import torch

    torch.ones(2, 2) @ torch.ones(2, 2)


def _try_torchvision() -> None:
    import torch
    from torchvision.ops import nms

    nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)


def _try_xformers() -> None:
    logging.getLogger("xformers").setLevel(logging.CRITICAL)  # says at length what is reported here in a line
    library = importlib.import_module("xformers._cpp_lib")
    importlib.import_module("xformers.ops").memory_efficient_attention  # noqa: B018
    if failure := library._cpp_library_load_exception:
        raise RuntimeError(str(failure))


def check_devices() -> Findings:
    """Processors, GPUs, and the precision that suits them."""
    granted = processors()
    found = Findings({"processors": os.cpu_count(), "processors_usable": granted.count})
    found.facts["processors_by"] = granted.because
    try:
        import torch
    except BROKEN:
        found.facts["accelerators"] = "unknown: torch cannot be imported"
        return found
    threads = use_threads()
    found.facts |= {"threads": threads.count, "threads_by": threads.because, "waiting_threads": waiting()}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if said and not count:
        what = "CUDA cannot be used: " + " ".join(str(said[0].message).split())
        found.warnings.append(Advice(what, "update the NVIDIA driver, or train on the CPU"))
    for index in range(count):
        _check_gpu(index, found)
    if torch.backends.mps.is_available():
        found.facts["mps"] = True
    found.facts |= _precision("cuda" if count else "mps" if "mps" in found.facts else "cpu")
    return found


def _precision(kind: str) -> dict[str, str]:
    """What ``trainer.precision=auto`` takes on the devices that training takes by itself, and why."""
    from vision_train.run.precision import precision_on

    try:
        chosen = precision_on(kind)
    except RuntimeError as error:  # a GPU that refuses work, which is told by itself
        return {"precision": f"unknown: {str(error).splitlines()[0]}"}
    return {"precision": chosen.name, "precision_by": chosen.because}


def _check_gpu(index: int, found: Findings) -> None:
    import torch

    properties = torch.cuda.get_device_properties(index)
    found.facts[f"cuda:{index}"] = {
        "name": properties.name,
        "memory_gib": round(properties.total_memory / GIB, 1),
        "bf16": (properties.major, properties.minor) >= BF16_SINCE,
    }
    try:
        torch.ones(2, 2, device=f"cuda:{index}").sum().item()
    except RuntimeError as error:
        what = f"cuda:{index} ({properties.name}) refuses work: {str(error).splitlines()[0]}"
        remedy = (
            "free the device, or install a build of torch for its generation; trainer.accelerator=cpu works meanwhile"
        )
        found.problems.append(Advice(what, remedy))


def check_attention() -> Findings:
    """Which backend `model.attention=auto` trains with on each device, and why not a faster one."""
    found = Findings()
    try:
        import torch

        from models.attention import AttentionCall, choose_backend, cuda_facts
    except BROKEN:
        found.facts["auto"] = "unknown: torch cannot be imported"
        return found
    training: dict[str, Any] = {"head_dim": 64, "value_dim": 64, "inputs_need_gradient": True}
    for device in (torch.device("cpu"), *(torch.device("cuda", index) for index in range(torch.cuda.device_count()))):
        capability, problem = cuda_facts(device.type, device.index)
        answers = {}
        for dtype in ("float32", "bfloat16", "float16"):
            for case, bias in {dtype: False, f"{dtype}, learned bias": True}.items():
                facts = {"capability": capability, "has_bias": bias, "bias_needs_gradient": bias, **training}
                call = AttentionCall(device.type, getattr(torch, dtype), **facts, xformers_problem=problem)
                choice = choose_backend(call)
                reasons = "".join(f" (not {backend}: {reason})" for backend, reason in choice.refused.items())
                answers[f"{device} {case}"] = choice.backend + reasons
        alike = len(set(answers.values())) == 1
        found.facts |= {str(device): answers.popitem()[1]} if alike else answers
    return found


def check_places() -> Findings:
    """Room and permission to write where runs go, and the memory that loader processes share."""
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    runs = here / "runs"
    found = Findings({"working_directory": str(here), "free_disk_gib": round(free / GIB, 1)})
    if free < LEAST_DISK:
        found.problems.append(
            Advice(f"{here} has {free / GIB:.2f} GiB left", "free some space, or work on another disk")
        )
    try:
        with tempfile.TemporaryFile(dir=runs if runs.is_dir() else here):
            found.facts["runs_writable"] = True
    except OSError as error:
        found.facts["runs_writable"] = False
        what = f"{runs} cannot be written: {error.strerror}"
        found.problems.append(Advice(what, "work in a folder of your own, or name one with --run-dir"))
    if SHARED_MEMORY.is_dir():
        shared = shutil.disk_usage(SHARED_MEMORY).total
        found.facts["shared_memory_gib"] = round(shared / GIB, 2)
        if shared < LEAST_SHARED_MEMORY:
            what = f"{SHARED_MEMORY} holds {shared / 1024**2:.0f} MiB; loader processes pass batches through it"
            found.warnings.append(Advice(what, "start the container with --shm-size=2g, or set data.workers=0"))
    return found


def check_origins() -> Findings:
    """Where `import` finds our packages, whose names are common."""
    found = Findings()
    home = Path(__file__).resolve().parents[2]
    for name in OURS:
        spec = importlib.util.find_spec(name)
        places = list(spec.submodule_search_locations or []) if spec else []
        found.facts[name] = places[0] if places else None
    if not (home / "recipes").is_dir():
        found.problems.append(Advice(f"the built-in recipes are missing from {home}", "install vision-train again"))
    try:
        check_shadowing()
    except UserError as error:
        found.problems.append(Advice(str(error), "run doctor again afterwards"))
    return found


CHECKS: dict[str, Callable[[], Findings]] = {
    "packages": check_packages,
    "compiled": check_compiled,
    "devices": check_devices,
    "attention": check_attention,
    "places": check_places,
    "origins": check_origins,
}


def _in_extra(requirement: Any, extra: str) -> bool:
    return requirement.marker is not None and requirement.marker.evaluate({"extra": extra})


def _plain(requirement: Any) -> str:
    return f"{requirement.name}{requirement.specifier}"


def _print_findings(findings: dict[str, Findings]) -> None:
    width = max(len(name) for found in findings.values() for name in found.facts) + 2
    for section, found in findings.items():
        typer.secho(section, bold=True)
        for name, value in found.facts.items():
            typer.echo(f"  {name:<{width}}{_text(value)}")
        typer.echo()


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not installed" if value is None else str(value)


def _print_advice(kind: str, colour: str, advice: Advice) -> None:
    typer.secho(f"{kind}: ", fg=colour, bold=True, nl=False)
    typer.echo(f"{advice.what}\n  {advice.remedy}")
