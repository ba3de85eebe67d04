"""The command line in this process, on a recipe that trains in a tenth of a second."""

import gc
import multiprocessing
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter
from typer.testing import CliRunner, Result

from vision_train.cli import app
from vision_train.data.toy.folder import make_image_folder

TINY = """
description: A ViT of 2,498 parameters.
task: classification
data: {image_size: 16, batch_size: 4, workers: 0}
model: {name: vit, args: {patch_size: 8, embed_dim: 8, depth: 1, num_heads: 1}}
trainer: {max_epochs: 1, accelerator: cpu}
"""

Cli = Callable[..., Result]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh working directory with `tiny.yaml` and `photos/`: two classes of six images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    make_image_folder(tmp_path / "photos", classes=2, per_class=6, size=(24, 20))
    return tmp_path


@pytest.fixture
def cli(place: Path) -> Iterator[Cli]:
    """Call the command line; an exception that would be a traceback is raised here."""

    def call(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    yield call
    # A process that ends takes its loaders along; this one goes on, and collecting them costs seconds.
    if multiprocessing.active_children():
        for loader in [each for each in gc.get_objects() if type(each) is _MultiProcessingDataLoaderIter]:
            loader._shutdown_workers()


@pytest.fixture
def refused(cli: Cli, place: Path) -> Callable[..., str]:
    """Call the command line on what the user can mend: exit 2, one message, every file as before."""

    def call(*arguments: object, says: str) -> str:
        before = files(place)
        result = cli(*arguments)
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("Error") == 1
        assert re.search(says, result.stderr), result.stderr
        assert files(place) == before
        return result.stderr

    return call


def files(folder: Path) -> dict[Path, tuple[int, int]]:
    """Every file below a folder, with its size and the time of its last change."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


@pytest.fixture
def run(cli: Cli) -> Path:
    """A finished run of the tiny recipe on the photos."""
    result = cli("fit", "tiny.yaml", "data.root=photos", "--run-dir", "run")
    assert result.exit_code == 0, result.output
    return Path("run")
