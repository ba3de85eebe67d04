import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from vision_train.data import content
from vision_train.data.bags.bag import BagEntry
from vision_train.data.bags.samples import BagSample
from vision_train.data.content import CHUNK, SAMPLED, STORE, Contents
from vision_train.data.sample import ImageSample


def write(path: Path, text: bytes) -> ImageSample:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)
    return ImageSample(path.name, str(path))


def ids(groups: list) -> list[dict[str, list[str]]]:
    return [{name: [sample.id for sample in samples] for name, samples in group.items()} for group in groups]


def test_copies_are_found_whatever_they_are_called(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.png", b"one"), write(tmp_path / "b.png", b"two")
    copy, other = write(tmp_path / "test/x y.jpg", b"two"), write(tmp_path / "test/c.png", b"six")
    again = write(tmp_path / "val/d.png", b"two")
    lists = {"train": [first, second], "val": [again], "test": [copy, other]}
    assert ids(Contents().shared(lists)) == [{"train": ["b.png"], "val": ["d.png"], "test": ["x y.jpg"]}]


def test_what_one_list_holds_twice_is_shared_with_no_other(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a.png", b"one"), write(tmp_path / "b.png", b"one")
    assert Contents().shared({"train": [one, two], "test": []}) == []


def test_files_that_agree_in_size_and_beginning_are_told_apart(tmp_path: Path) -> None:
    head = bytes(SAMPLED)
    # The place where they differ lies between those that are read at first.
    files = {
        name: write(tmp_path / name, head + other + 3 * head) for name, other in (("a", b"x"), ("b", b"y"), ("c", b"x"))
    }
    lists = {"train": [files["a"]], "test": [files["b"], files["c"]]}
    assert ids(Contents().shared(lists)) == [{"train": ["a"], "test": ["c"]}]


def test_marks_are_shared_by_copies_alone(tmp_path: Path) -> None:
    margin = bytes(SAMPLED)
    train = [write(tmp_path / "a", margin + b"one" + margin), write(tmp_path / "b", margin + b"two" + margin)]
    others = [
        write(tmp_path / "c", margin + b"two" + margin),
        write(tmp_path / "d", b"two"),
        write(tmp_path / "e", b""),
    ]
    a, b, c, d, *unknown = Contents().marks(
        [*train, *others, ImageSample("gone", str(tmp_path / "gone")), ImageSample("m", np.zeros((2, 2, 3), np.uint8))]
    )
    assert a
    assert b == c
    assert len({a, b, d}) == 3
    assert unknown == [None] * 3


@pytest.mark.parametrize("make", [os.link, os.symlink], ids=["hard link", "symbolic link"])
def test_links_lead_to_one_file(tmp_path: Path, make) -> None:
    original = write(tmp_path / "a.png", b"one")
    make(tmp_path / "a.png", tmp_path / "link.png")
    copy = write(tmp_path / "c.png", b"one")
    lists = {"train": [original], "val": [ImageSample("link.png", str(tmp_path / "link.png"))], "test": [copy]}
    assert ids(Contents().shared(lists)) == [{"train": ["a.png"], "val": ["link.png"], "test": ["c.png"]}]


def test_what_is_in_memory_is_known_by_its_id(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    lists = {"train": [ImageSample("a", pixels), ImageSample("b", pixels)], "test": [ImageSample("a", pixels)]}
    assert ids(Contents().shared(lists)) == [{"train": ["a"], "test": ["a"]}]


def test_empty_and_absent_files_are_no_copies(tmp_path: Path) -> None:
    lists = {
        "train": [write(tmp_path / "a.png", b""), ImageSample("gone", str(tmp_path / "gone"))],
        "test": [write(tmp_path / "b.png", b""), ImageSample("away", str(tmp_path / "away"))],
    }
    assert Contents().shared(lists) == []


def test_a_bag_that_has_a_file_of_its_own_is_known_by_its_bytes(tmp_path: Path) -> None:
    def bag(name: str, group: str = "") -> BagSample:
        return BagSample(name, BagEntry(name, tmp_path / name, group, instances=2, width=3, dtype="float32"))

    for name in ("a.h5", "b.h5"):
        (tmp_path / name).write_bytes(b"features")
    assert ids(Contents().shared({"train": [bag("a.h5")], "test": [bag("b.h5")]})) == [
        {"train": ["a.h5"], "test": ["b.h5"]}
    ]
    several = {"train": [bag("a.h5", "s1")], "val": [bag("a.h5", "s2")], "test": [bag("a.h5", "s1")]}
    assert ids(Contents().shared(several)) == [{"train": ["a.h5"], "test": ["a.h5"]}]


def test_only_files_that_agree_in_size_with_another_list_are_read(tmp_path: Path, monkeypatch) -> None:
    read: list[str] = []
    digest = content._digest
    monkeypatch.setattr(
        content, "_digest", lambda file, length: read.append(Path(file.path).name) or digest(file, length)
    )
    lists = {
        "train": [write(tmp_path / "a", b"long"), write(tmp_path / "b", b"like"), write(tmp_path / "c", b"short")],
        "test": [write(tmp_path / "d", b"other"), write(tmp_path / "e", b"the longest")],
    }
    assert Contents().shared(lists) == []
    assert sorted(read) == ["c", "d"]


def test_digests_are_kept_until_a_file_changes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(content, "WORTH_KEEPING", 2)
    lists = {"train": [write(tmp_path / "a\udcff\n.png", b"one")], "test": [write(tmp_path / "b.png", b"one")]}
    (tmp_path / "runs").mkdir()
    first = Contents()
    assert len(first.shared(lists)) == 1
    first.keep(tmp_path / "runs")

    second = Contents()
    second.recall(tmp_path / "runs")
    with monkeypatch.context() as patch:
        patch.setattr(content, "_digest", lambda *_: pytest.fail("a file is read again"))
        assert len(second.shared(lists)) == 1
    (tmp_path / "b.png").write_bytes(b"two")
    os.utime(tmp_path / "b.png", ns=(1, 1))
    assert second.shared(lists) == []


def test_few_digests_are_not_worth_a_file_and_a_damaged_one_is_made_anew(tmp_path: Path) -> None:
    lists = {"train": [write(tmp_path / "a", b"one")], "test": [write(tmp_path / "b", b"one")]}
    contents = Contents()
    contents.shared(lists)
    contents.keep(tmp_path)
    assert not (tmp_path / STORE).exists()
    for damaged in ("{", "[1]", json.dumps({"a": [1]}), json.dumps({"a": 5})):
        (tmp_path / STORE).write_text(damaged)
        contents = Contents()
        contents.recall(tmp_path)
        assert len(contents.shared(lists)) == 1


def test_many_files_are_read_in_threads(tmp_path: Path) -> None:
    count = 3 * CHUNK
    train = [write(tmp_path / f"train/{i}", i.to_bytes(2)) for i in range(count)]
    shutil.copy(tmp_path / "train/7", tmp_path / "copy")
    test = [write(tmp_path / f"test/{i}", (i + count).to_bytes(2)) for i in range(count)]
    found = Contents().shared({"train": train, "test": [*test, ImageSample("copy", str(tmp_path / "copy"))]})
    assert ids(found) == [{"train": ["7"], "test": ["copy"]}]
