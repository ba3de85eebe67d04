import hashlib
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from vision_train.cli.data import data as data_command
from vision_train.data.decode import decode
from vision_train.data.images import Section
from vision_train.data.images.build import build
from vision_train.data.toy.digits import digits_samples, make_digits
from vision_train.errors import UserError
from vision_train.recipe import Recipe


def test_the_split_never_changes() -> None:
    samples = digits_samples()
    ids = {split: [sample.id for sample in samples if sample.split == split] for split in ("train", "val", "test")}
    assert {split: len(members) for split, members in ids.items()} == {"train": 1297, "val": 200, "test": 300}
    assert len({sample.id for sample in samples}) == 1797
    fingerprints = {
        split: hashlib.sha256(" ".join(members).encode()).hexdigest()[:12] for split, members in ids.items()
    }
    assert fingerprints == {"train": "98407f46498f", "val": "40cbdc25fc9d", "test": "b7ea4803fbb3"}


def test_the_split_is_stratified() -> None:
    samples = digits_samples()
    for split, fewest, most in (("val", 19, 21), ("test", 29, 31)):
        counts = np.unique([sample.truth for sample in samples if sample.split == split], return_counts=True)[1]
        assert fewest <= counts.min()
        assert counts.max() <= most


def test_pixels_are_grey_scans() -> None:
    pixels = np.stack([np.asarray(sample.image) for sample in digits_samples()])
    assert pixels.shape == (1797, 8, 8, 3)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert (pixels == pixels[..., :1]).all()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parent") / "digits"
    result = CliRunner().invoke(data_command, ["make", "digits", str(folder)])
    assert result.exit_code == 0, result.output
    assert "1797 images" in result.output
    assert "vision-train fit quickstart data.source=images" in result.output
    return folder


def test_the_written_folder_holds_the_same_images_in_the_same_splits(written: Path) -> None:
    for sample in digits_samples()[::50]:
        path = written / str(sample.split) / str(sample.truth) / f"{sample.id.removeprefix('digits/')}.png"
        np.testing.assert_array_equal(decode(path), sample.image)
    section = Section(root=str(written), image_size=16, workers=0)
    module = build(Recipe(task="classification", data=section, method=None))
    assert module.counts == {"train": 1297, "val": 200, "test": 300}
    assert module.classes == [str(digit) for digit in range(10)]


def test_a_folder_in_use_is_refused(written: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not an empty folder"):
        make_digits(written)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="not an empty folder"):
        make_digits(tmp_path / "file")
    with pytest.raises(UserError, match="cannot write"):
        make_digits(tmp_path / "file" / "below")
