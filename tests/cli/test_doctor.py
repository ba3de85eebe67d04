"""``vision-train doctor``: what it reports of a sound machine, and what it advises for broken ones."""

import json
import subprocess
import sys
import types
import warnings
from collections import namedtuple
from importlib import metadata
from types import SimpleNamespace

import pytest
import torch
import typer
from pytorch_lightning.accelerators import CPUAccelerator
from typer.testing import CliRunner

from vision_train.cli.doctor import (
    check_attention,
    check_compiled,
    check_devices,
    check_origins,
    check_packages,
    check_places,
    doctor,
)
from vision_train.errors import UserError
from vision_train.run.precision import precision_of

module = sys.modules["vision_train.cli.doctor"]
app = typer.Typer()
app.command()(doctor)
Usage = namedtuple("Usage", "total used free")


def run(*arguments):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


@pytest.fixture
def checks(monkeypatch):
    """Replace all checks by one, so that the verdict depends on it alone."""

    def replace(check):
        monkeypatch.setattr(module, "CHECKS", {"places": check})

    return replace


def test_sound_machine_is_ready(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert set(report) == {"ready", "problems", "warnings", "sections"}
    assert report["ready"] is True
    assert report["problems"] == []
    sections = report["sections"]
    assert set(sections) == {"packages", "compiled", "devices", "attention", "places", "origins"}
    assert sections["packages"]["torch"] == metadata.version("torch")
    assert {"python", "vision-train", "torchvision", "timm", "albumentations"} <= set(sections["packages"])
    assert sections["compiled"]["torchvision"] == "works"
    assert {"processors", "threads", "precision"} <= set(sections["devices"])
    assert sections["places"]["runs_writable"] is True
    assert sections["places"]["free_disk_gib"] > 0
    assert list(sections["origins"]) == ["vision_train", "augment", "models", "recipes"]
    assert list(tmp_path.iterdir()) == []


def test_plain_text_when_piped(checks):
    checks(lambda: module.Findings({"processors": 1, "runs_writable": True, "gone": None, "cuda:0": {"bf16": False}}))
    result = run()
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    words = [line.split() for line in result.stdout.splitlines()]
    assert words[1:4] == [["processors", "1"], ["runs_writable", "yes"], ["gone", "not", "installed"]]
    assert words[4] == ["cuda:0", "bf16", "no"]
    assert result.stdout.splitlines()[-1] == "ready"


def test_problems_come_last_with_their_remedies(checks):
    bad = module.Advice("the disk is full", "free some space")
    checks(
        lambda: module.Findings(
            {"threads": 2}, problems=[bad], warnings=[module.Advice("little shared memory", "add some")]
        )
    )
    result = run()
    assert result.exit_code == 2
    expected = ["warning: little shared memory", "  add some", "problem: the disk is full", "  free some space"]
    assert result.stdout.splitlines()[-5:] == [*expected, "not ready: 1 problem"]
    report = json.loads(run("--json").stdout)
    assert report["ready"] is False
    assert report["problems"] == [{"what": "the disk is full", "remedy": "free some space"}]


def test_warnings_alone_leave_it_ready(checks):
    checks(lambda: module.Findings({"threads": 2}, warnings=[module.Advice("little shared memory", "add some")]))
    result = run()
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "ready"


def test_old_and_missing_packages(monkeypatch):
    asked = ["torch>=99", "no-such-package-here>=1", "absent-extra>=1; extra == 'all'", "elsewhere>=1; extra == 'dev'"]
    monkeypatch.setattr(metadata, "requires", lambda name: asked)
    found = check_packages()
    installed = metadata.version("torch")
    assert [advice.what for advice in found.problems] == [
        f"torch {installed} is installed, >=99 is needed",
        "no-such-package-here is missing",
    ]
    assert found.problems[1].remedy == "pip install 'no-such-package-here>=1'"
    assert found.facts["absent-extra"] is None
    assert "elsewhere" not in found.facts


def test_package_that_was_never_installed(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    (advice,) = check_packages().problems
    assert "not installed" in advice.what


@pytest.mark.parametrize(
    "error", [RuntimeError("operator torchvision::nms\ndoes not exist"), OSError(), ImportError("x")]
)
def test_parts_that_do_not_agree_are_a_message(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr(module, "_try_torchvision", fail)
    monkeypatch.setattr(module, "_try_xformers", lambda: None)
    found = check_compiled()
    assert found.facts == {"torch": "works", "torchvision": "broken", "xformers": "works"}
    (advice,) = found.problems
    assert advice.what.startswith("torchvision does not work: ")
    assert advice.what.rstrip()[-1] != ":"
    assert "\n" not in advice.what
    assert "constraints.txt" in advice.remedy


def test_xformers_built_for_another_torch(monkeypatch):
    library = types.ModuleType("xformers._cpp_lib")
    library._cpp_library_load_exception = RuntimeError("xFormers was built for: PyTorch 2.4")
    operators = types.ModuleType("xformers.ops")
    operators.memory_efficient_attention = None
    for name, stand_in in (("xformers._cpp_lib", library), ("xformers.ops", operators)):
        monkeypatch.setitem(sys.modules, name, stand_in)
    monkeypatch.setitem(sys.modules, "xformers", types.ModuleType("xformers"))
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    (advice,) = check_compiled().problems
    assert advice.what == "xformers does not work: xFormers was built for: PyTorch 2.4"


def test_xformers_may_be_absent(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    found = check_compiled()
    assert found.problems == []
    assert found.facts["xformers"].startswith("not installed")


def show_gpu(monkeypatch, major: int):
    properties = SimpleNamespace(name="A GPU", total_memory=24 * 1024**3, major=major, minor=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: properties.name)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: major >= 8)


def test_attention_is_told_for_each_device(monkeypatch):
    assert list(check_attention().facts) == ["cpu"]
    assert check_attention().facts["cpu"].startswith("sdpa (not xformers: it has kernels for CUDA devices only")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    volta = {"cuda": ((7, 0), None), "cpu": (None, None)}
    monkeypatch.setattr("models.attention.cuda_facts", lambda kind, index: volta[kind])
    facts = check_attention().facts
    assert facts["cuda:0 float32"] == "xformers"
    assert facts["cuda:0 bfloat16"].startswith("sdpa (not xformers: ")
    assert facts["cuda:0 float16, learned bias"] == "xformers"


@pytest.mark.parametrize(("major", "bf16", "precision"), [(9, True, "bf16-mixed"), (7, False, "32-true")])
def test_gpus_are_described(monkeypatch, major, bf16, precision):
    show_gpu(monkeypatch, major)
    monkeypatch.setattr(torch, "ones", lambda *shape, device: torch.zeros(shape))
    found = check_devices()
    assert found.facts["cuda:0"] == {"name": "A GPU", "memory_gib": 24.0, "bf16": bf16}
    assert found.facts["precision"] == precision
    assert found.problems == []


@pytest.mark.parametrize(
    ("amx", "avx512", "precision", "why"),
    [(True, True, "bf16-mixed", "AMX"), (False, True, "bf16-mixed", "AVX-512"), (False, False, "32-true", "does not")],
)
def test_the_precision_is_that_of_training_on_this_processor(monkeypatch, amx, avx512, precision, why):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    facts = check_devices().facts
    assert facts["precision"] == precision
    assert why in facts["precision_by"]
    assert precision == precision_of(CPUAccelerator()).name


def test_the_precision_is_found_without_lightning():
    code = "import sys; from vision_train.run.precision import precision_on; precision_on('cpu'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" in done.stdout.split()
    assert "pytorch_lightning" not in done.stdout.split()


def test_gpu_that_refuses_work(monkeypatch):
    def refuse(*shape, device):
        raise RuntimeError("CUDA error: no kernel image is available\nmore")

    show_gpu(monkeypatch, 12)
    monkeypatch.setattr(torch, "ones", refuse)
    (advice,) = check_devices().problems
    assert advice.what == "cuda:0 (A GPU) refuses work: CUDA error: no kernel image is available"


def test_driver_too_old_is_a_warning(monkeypatch):
    def unavailable():
        warnings.warn("The NVIDIA driver on your system is too old", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", unavailable)
    found = check_devices()
    assert "driver on your system is too old" in found.warnings[0].what
    assert found.problems == []


def test_full_disk_and_small_shared_memory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: Usage(64 * 1024**2, 0, 1024**2))
    found = check_places()
    assert "GiB left" in found.problems[0].what
    assert "64 MiB" in found.warnings[0].what
    assert "data.workers=0" in found.warnings[0].remedy


def test_folder_that_cannot_be_written(monkeypatch, tmp_path):
    def refuse(dir):
        assert dir == tmp_path / "runs"
        raise PermissionError(13, "Permission denied")

    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module.tempfile, "TemporaryFile", refuse)
    found = check_places()
    assert found.facts["runs_writable"] is False
    assert found.problems[0].what == f"{tmp_path / 'runs'} cannot be written: Permission denied"


def test_namesake_is_a_problem(monkeypatch):
    def stop():
        raise UserError("`import models` finds elsewhere")

    monkeypatch.setattr(module, "check_shadowing", stop)
    (advice,) = check_origins().problems
    assert "finds elsewhere" in advice.what
