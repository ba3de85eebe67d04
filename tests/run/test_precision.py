"""``trainer.precision=auto``: which format each device gets, and where it is kept."""

import json
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.accelerators import CPUAccelerator, CUDAAccelerator, MPSAccelerator
from rich.console import Console

from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.fit import fit
from vision_train.run.precision import FULL, MIXED, precision_of
from vision_train.run.trainer import build_trainer, settle_precision


def processor(monkeypatch: pytest.MonkeyPatch, *, amx: bool = False, avx512: bool = False) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)


CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(not CPUINFO.exists() or platform.machine() != "x86_64", reason="reads what Linux says of an x86")
def test_torch_says_what_this_processor_has() -> None:
    """Private functions of torch are asked; what they say is what the system says, whatever the machine has."""
    (flags, *_) = (line.split(":")[1].split() for line in CPUINFO.read_text().splitlines() if line.startswith("flags"))
    assert torch.cpu._is_amx_tile_supported() == ("amx_tile" in flags)
    assert torch.cpu._is_avx512_bf16_supported() == ("avx512_bf16" in flags)
    chosen = precision_of(CPUAccelerator())
    assert chosen.name == (MIXED if {"amx_tile", "avx512_bf16"} & {*flags} else FULL)


@pytest.mark.parametrize(
    ("units", "name", "said"),
    [({"amx": True}, MIXED, "AMX"), ({"avx512": True}, MIXED, "AVX-512"), ({}, FULL, "does not")],
)
def test_a_processor_gets_what_it_multiplies_itself(
    monkeypatch: pytest.MonkeyPatch, units: dict[str, bool], name: str, said: str
) -> None:
    processor(monkeypatch, **units)
    chosen = precision_of(CPUAccelerator())
    assert chosen.name == name
    assert said in chosen.because


@pytest.mark.parametrize(("native", "name"), [(True, MIXED), (False, FULL)])
def test_a_gpu_that_emulates_gets_all_bits(monkeypatch: pytest.MonkeyPatch, native: bool, name: str) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "the GPU")
    chosen = precision_of(CUDAAccelerator())
    assert chosen.name == name
    assert "the GPU" in chosen.because
    assert precision_of(MPSAccelerator()).name == FULL


def test_what_was_asked_for_stays() -> None:
    recipe = load_recipe("quickstart", ["trainer.precision=16-mixed"])
    assert settle_precision(recipe)[0] is recipe
    assert settle_precision(load_recipe("quickstart"))[1].name == FULL


def test_lightning_never_sees_the_word(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, amx=True)
    assert build_trainer(load_recipe("quickstart", ["trainer.precision=auto"]), []).precision == MIXED


def test_a_run_says_and_keeps_what_was_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    processor(monkeypatch, avx512=True)
    recipe = load_recipe("quickstart")
    smoke: dict[str, Any] = {"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1, "accelerator": "cpu"}
    recipe = replace(recipe, trainer={**smoke, "limit_test_batches": 1, "precision": "auto"})
    directory = fit(recipe, run_dir=tmp_path / "run", command=[], console=Console())
    assert f"trainer.precision={MIXED}" in capsys.readouterr().out
    assert load_recipe(directory.recipe, runnable=False).trainer["precision"] == MIXED
    record = json.loads(directory.environment.read_text())
    assert record["precision"] == MIXED
    assert "AVX-512" in record["precision_by"]
    # On another machine it goes on as it was begun.
    processor(monkeypatch)
    stored = load_recipe(directory.recipe, runnable=False)
    assert settle_precision(stored)[0].trainer["precision"] == MIXED


def _fit_on(rank: int, run_dir: Path, amx: tuple[bool, bool]) -> None:
    """Train as on two machines, of which each has AMX or not."""
    short = ("trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1")
    two = ("trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu", "trainer.limit_test_batches=1")
    recipe = load_recipe("quickstart", [*short, *two, "trainer.precision=auto"])
    with pytest.MonkeyPatch.context() as patch:
        processor(patch, amx=amx[rank])
        if amx[0] == amx[1]:
            fit(recipe, run_dir=run_dir, command=[], console=Console(quiet=True))
            return
        message = rf"trainer\.precision=auto.*{FULL} on .* and {MIXED} on "
        with pytest.raises(UserError, match=message) as caught:
            fit(recipe, run_dir=run_dir, command=[], console=Console(quiet=True))
        assert caught.value.shared


@pytest.mark.parametrize("amx", [(True, False), (False, True), (True, True)])
def test_machines_of_two_kinds_do_not_train_together_in_two_formats(
    tmp_path: Path, two_processes: Callable[..., None], amx: tuple[bool, bool]
) -> None:
    two_processes(_fit_on, tmp_path / "run", amx)
    assert (tmp_path / "run").exists() == (amx[0] == amx[1]), "what was refused leaves nothing behind"
