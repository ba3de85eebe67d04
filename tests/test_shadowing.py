"""The start-up check sees packages that take the place of ours, and imports none of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import models
from vision_train.errors import UserError
from vision_train.shadowing import check_shadowing

CHECK = """
from vision_train.errors import UserError
from vision_train.shadowing import check_shadowing
try:
    check_shadowing()
except UserError as error:
    print(error)
"""
STRANGER = "raise SystemExit('imported')"


def check_beside(folder: Path) -> str:
    """Run the check with `folder` first on the path; return what it printed."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{Path(models.__file__).resolve().parents[1]}"}
    done = subprocess.run([sys.executable, "-c", CHECK], env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ours_are_found():
    check_shadowing()


@pytest.mark.parametrize(("file", "found"), [("models/__init__.py", "models"), ("augment.py", "augment.py")])
def test_stranger_is_named_with_both_places(tmp_path: Path, file: str, found: str):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(STRANGER)
    message = check_beside(tmp_path)
    assert str(tmp_path.resolve() / found) in message
    assert str(Path(models.__file__).resolve().parents[1] / Path(found).stem) in message
    assert "PYTHONPATH" in message
    assert message.count("\n") == 1


def test_folder_without_code_is_no_stranger(tmp_path: Path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "vit.pth").touch()
    assert check_beside(tmp_path) == ""


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vision_train.shadowing.COMMON_NAMES", ("no_such_package",))
    with pytest.raises(UserError, match=r"no_such_package.*install vision-train again"):
        check_shadowing()
