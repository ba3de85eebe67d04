"""Rows of Parquet and Arrow files: the images that stand in them, and what becomes of files that are replaced."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from augment.pipeline import eval_pipeline
from tests.data.numbered_images import pixels, png
from vision_train.data import pictures, stored_images
from vision_train.data.dataset import sample_loader
from vision_train.data.image_dataset import ImageDataset
from vision_train.data.pictures import describe, pictures_of
from vision_train.data.sample import ImageSample
from vision_train.data.stored_content import row_digests
from vision_train.data.unlabelled import list_pool
from vision_train.errors import UserError

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra `parquet`)")
from pyarrow import ipc, parquet  # noqa: E402

PER_GROUP = 2
Write = Callable[[Sequence[int]], Path]


@pytest.fixture(params=["parquet", "arrow"])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Write:
    """Writes images by their numbers into one file, over what is there; a number below 0 is a row without bytes."""
    folder = tmp_path / "pool"
    folder.mkdir()

    def written(numbers: Sequence[int]) -> Path:
        rows = [{"bytes": png(number) if number >= 0 else None, "path": f"{number}.png"} for number in numbers]
        made = pyarrow.table({"image": pyarrow.array(rows)})
        file = folder / f"pool.{request.param}"
        age = file.stat().st_mtime_ns if file.exists() else 0
        if request.param == "parquet":
            parquet.write_table(made, file, row_group_size=PER_GROUP)
        else:
            with ipc.new_file(file, made.schema) as out:
                out.write_table(made, max_chunksize=PER_GROUP)
        if age:
            os.utime(file, ns=(age + 10**9, age + 10**9))  # clocks of file systems may stand still between two writes
        return file

    return written


def listed(file: Path) -> list[ImageSample]:
    return list_pool(str(file.parent))[0]


def test_the_picture_of_a_row_is_decoded_once_until_its_file_changes(write: Write, monkeypatch: pytest.MonkeyPatch):
    file = write([0, 1, 2, 1, -1])
    decoded: list[bytes] = []
    decode = pictures.decode
    monkeypatch.setattr(pictures, "decode", lambda content: decoded.append(content) or decode(content))
    samples = listed(file)
    first = pictures_of(samples)
    assert pictures_of(samples[::-1]) == first
    assert [first[sample.identity] for sample in samples[:4]] == [describe(pixels(number)) for number in (0, 1, 2, 1)]
    assert samples[4].identity not in first, "a row without bytes"
    assert decoded == [png(number) for number in (0, 1, 2, 1)]
    (changed, *_) = listed(write([5, 1, 2, 1, -1]))
    assert pictures_of([changed]) == {changed.identity: describe(pixels(5))}


@pytest.mark.parametrize("others", [[3, 2, 1, 0], [7, 8, 9, 10, 11, 12]])
def test_rows_of_a_file_that_was_replaced_are_not_taken_for_those_that_were_listed(write: Write, others: list[int]):
    file = write([0, 1, 2, 3])
    samples = listed(file)
    assert samples[0].image.read() == png(0)
    write(others)
    with pytest.raises(UserError, match=rf"{file.name}: was changed after its rows were listed; start again"):
        samples[3].image.read()
    assert [sample.image.read() for sample in listed(file)] == [png(number) for number in others]


@pytest.mark.parametrize("replaced", [[3, 2, 1, 0], [5, 4, 3, 2, 1]])
def test_a_file_of_the_same_time_is_told_by_its_size(write: Write, replaced: list[int]):
    file = write([0, 1, 2, 3, 4, 5])
    time = file.stat().st_mtime_ns
    samples = listed(file)
    assert samples[0].image.read() == png(0)
    write(replaced)
    os.utime(file, ns=(time, time))
    assert [sample.image.read() for sample in listed(file)] == [png(number) for number in replaced]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_a_replaced_file_ends_a_run_whatever_is_done_with_bad_images(write: Write, on_bad: str, workers: int):
    file = write([0, 1, 2, 3])
    dataset = ImageDataset(listed(file), eval_pipeline(8, (0.0,) * 3, (1.0,) * 3), 0, on_bad)
    write([3, 2, 1, 0])
    loader = sample_loader(dataset, [(index, 0) for index in range(4)], 2, workers)
    with pytest.raises(UserError, match=r"start again$"):
        next(iter(loader))


def test_a_row_that_could_not_be_read_is_read_again(write: Write, monkeypatch: pytest.MonkeyPatch):
    samples = listed(write([0, 1, 2, 3]))

    def fail(*_: Any) -> None:
        raise OSError("a disk of another machine does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(stored_images._Parts, "_read", fail)
        stored_images._parts.cache_clear()
        assert (pictures_of(samples), row_digests(samples)) == ({}, {})
    assert len(pictures_of(samples)) == len(row_digests(samples)) == 4
