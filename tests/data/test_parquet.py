"""Folders of Hugging Face `datasets`: columns, names of classes, splits by names of files, and rows read at random."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from augment.pipeline import train_pipeline
from tests.data.numbered_images import pixels, png
from vision_train.data import stored_content, stored_images
from vision_train.data.image_dataset import original_view
from vision_train.data.images import Section
from vision_train.data.images.build import build
from vision_train.data.label_sets import LabelSet
from vision_train.data.sample import ImageSample
from vision_train.data.sources import read_folder, read_samples
from vision_train.data.stored_images import StoredImage
from vision_train.data.stored_tables import Wanted, read_stored
from vision_train.data.unlabelled import list_pool
from vision_train.errors import UserError
from vision_train.recipe import Recipe
from vision_train.run.leakage import check_overlap

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra `parquet`)")
from pyarrow import ipc, parquet  # noqa: E402

NAMES = ["cat", "dog", "bird"]
CLASS_LABEL = {"names": NAMES, "_type": "ClassLabel"}
PER_GROUP = 3


def table(rows: list[tuple[int, Any]], label: Any = CLASS_LABEL, *, said: bool = True, column: str = "label") -> Any:
    """Rows of (number of an image, label); a number below 0 is a row without bytes."""
    images = [{"bytes": png(number) if number >= 0 else None, "path": f"{number}.png"} for number, _ in rows]
    struct = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    made = pyarrow.table({"image": pyarrow.array(images, struct), column: [label for _, label in rows]})
    features = {"image": {"_type": "Image"}, column: label}
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})} if said else None)


def write(file: Path, made: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(made, file, row_group_size=PER_GROUP)
    return file


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A data set as hubs hold it: two files to train on, one to test."""
    rows = [(number, number % 3) for number in range(30)]
    write(tmp_path / "data" / "train-00000-of-00002.parquet", table(rows[:10]))
    write(tmp_path / "data" / "train-00001-of-00002-0a1b2c3d4e5f6789.parquet", table(rows[10:20]))
    write(tmp_path / "data" / "test-00000-of-00001.parquet", table(rows[20:]))
    return tmp_path


def read(root: Path, **wanted: Any) -> list:
    return read_stored(root, "error", Wanted(**wanted)).samples


def test_rows_have_ids_classes_and_splits(hub: Path) -> None:
    samples = read(hub)
    assert len(samples) == 30
    assert {sample.split for sample in samples} == {"train", "test"}
    first, last = samples[0], samples[-1]
    by_id = {sample.id: sample for sample in samples}
    assert by_id["data/train-00000-of-00002.parquet#4"].truth == "dog"
    assert by_id["data/test-00000-of-00001.parquet#0"].split == "test"
    assert first.place.endswith(" row 0")
    assert first.file is None
    assert len({sample.identity for sample in samples}) == 30
    assert last.identity != first.identity


def test_every_row_is_the_image_that_was_written_in_any_order(hub: Path) -> None:
    module = build(Recipe(task="classification", data=section(hub), method=None))
    dataset = module.make_dataset(module.samples("test"), stream=None, alone=True)
    for place in np.random.default_rng(0).permutation(10).tolist():
        expected = torch.from_numpy(pixels(20 + place)).permute(2, 0, 1) / 255
        mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
        assert torch.allclose(dataset[(place, 0)]["image"], (expected - mean) / std, atol=1e-5)


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def section(root: Path, **keys: Any) -> Section:
    values = {"image_size": 8, "workers": 0, "batch_size": 4, "splits": {"val": 0.2}}
    return Section(source="parquet", root=str(root), **{**values, **keys})


def test_workers_read_what_the_process_itself_reads(hub: Path) -> None:
    read_here, read_there = (
        list(build(Recipe(task="classification", data=each, method=None)).split_loader("train"))
        for each in (section(hub), section(hub, workers=1))
    )
    assert len(read_here) == len(read_there) > 1
    for here, there in zip(read_here, read_there, strict=True):
        assert here["id"] == there["id"]
        assert torch.equal(here["image"], there["image"])
        assert torch.equal(here["label"], there["label"])


def test_a_process_keeps_few_row_groups(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_images, "HELD", 1)
    stored_images._parts.cache_clear()
    for sample in read(hub):
        assert isinstance(sample.image, StoredImage)
        assert sample.image.read()
    assert len(stored_images._parts(os.getpid())._kept) == 1
    stored_images._parts.cache_clear()


def test_names_of_classes_stand_in_a_readme_too(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", table([(0, 0), (1, 2)], said=False))
    names = {str(number): name for number, name in enumerate(NAMES)}
    features = [{"name": "image", "dtype": "image"}, {"name": "label", "dtype": {"class_label": {"names": names}}}]
    front = yaml.safe_dump({"license": "mit", "dataset_info": {"features": features}})
    (tmp_path / "README.md").write_text(f"---\n{front}---\n# Animals\n")
    assert [sample.truth for sample in read(tmp_path)] == ["cat", "bird"]


def test_text_and_numbers_without_names_are_classes_themselves(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", table([(0, "cat"), (1, "dog")], said=False))
    assert [(sample.truth, sample.split) for sample in read(tmp_path)] == [("cat", None), ("dog", None)]
    assert [sample.truth for sample in read(tmp_path / "a.parquet")] == ["cat", "dog"]
    write(tmp_path / "a.parquet", table([(0, 7), (1, 3)], said=False))
    assert [sample.truth for sample in read(tmp_path)] == ["7", "3"]


def test_another_column_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", table([(0, 0), (1, 1)], column="fine_label"))
    assert [sample.truth for sample in read(tmp_path)] == ["cat", "dog"], "the only one with names of classes"
    write(tmp_path / "a.parquet", table([(0, "x")], said=False, column="breed"))
    with pytest.raises(UserError, match=r"no column of labels \(found: image, breed\).*data\.label_column"):
        read(tmp_path)
    assert [sample.truth for sample in read(tmp_path, label_column="breed")] == ["x"]
    with pytest.raises(UserError, match=r"data\.label_column=race: .*no such column"):
        read(tmp_path, label_column="race")


def test_lists_of_classes_are_several_labels(tmp_path: Path) -> None:
    lists = {"feature": CLASS_LABEL, "_type": "Sequence"}
    write(tmp_path / "a.parquet", table([(0, [2, 0]), (1, [])], lists))
    assert [sample.truth for sample in read(tmp_path, several=True)] == [LabelSet(("bird", "cat")), LabelSet(())]
    with pytest.raises(UserError, match=r"row 0: label holds several values; set data\.multi_label=true"):
        read(tmp_path)
    write(tmp_path / "a.parquet", table([(0, 1)]))
    with pytest.raises(UserError, match=r"row 0: label is one label; set data\.multi_label=false"):
        read(tmp_path, several=True)


def test_rows_without_a_label_are_named_or_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", table([(0, 0), (1, -1), (2, None)]))
    with pytest.raises(UserError, match=r"no label of 2 images.*a.parquet#1.*data\.on_bad=skip"):
        read(tmp_path)
    found = read_stored(tmp_path, "skip", Wanted())
    assert len(found.samples) == 1
    assert "left out 2 images" in found.notes[0]


def test_a_split_whose_labels_are_withheld_is_left_out(hub: Path) -> None:
    write(hub / "data" / "test-00000-of-00001.parquet", table([(0, -1), (1, -1)]))
    found = read_stored(hub, "error", Wanted())
    assert {sample.split for sample in found.samples} == {"train"}
    assert "test has no labels and is left out (2 images)" in found.notes[0]


def test_a_row_without_bytes_is_refused_by_file_and_row_or_skipped(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", table([(number if number != 4 else -1, number % 2) for number in range(12)]))
    for on_bad in ("error", "skip"):
        module = build(Recipe(task="classification", data=section(tmp_path, on_bad=on_bad), method=None))
        (held,) = [split for split in module.counts if any(each.id.endswith("#4") for each in module.samples(split))]
        loader = module.split_loader(held)
        if on_bad == "error":
            with pytest.raises(UserError, match=r"train.parquet row 4: the row holds no bytes.*data\.on_bad=skip"):
                list(loader)
        else:
            list(loader)
            assert [*loader.dataset.skipped] == [f"{tmp_path}/train.parquet row 4"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "data" / "train-00000-of-00002.parquet").unlink(), "number 00000 is missing"),
        (
            lambda root: write(root / "other" / "train.parquet", table([(0, 0)])),
            "several folders, data, other.*data.root",
        ),
        (lambda root: (root / "data" / "test-00000-of-00001.parquet").write_bytes(b"PAR1"), "test-00000.*damaged"),
        (lambda root: write(root / "data" / "test-00000-of-00001.parquet", table([(0, 3)])), "row 0: label is 3"),
    ],
)
def test_what_is_refused(hub: Path, change, message: str) -> None:
    change(hub)
    with pytest.raises(UserError, match=message):
        read(hub)


def test_folders_may_say_the_split(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write(tmp_path / split / "0000.parquet", table([(0, 0)]))
    assert {sample.split for sample in read(tmp_path)} == {"train", "val"}


def test_what_save_to_disk_writes_is_read(tmp_path: Path) -> None:
    for split, numbers in (("train", range(7)), ("test", range(7, 10))):
        folder = tmp_path / split
        folder.mkdir()
        made = table([(number, number % 3) for number in numbers], said=False)
        with ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), made.schema) as stream:
            stream.write_table(made, max_chunksize=2)
        (folder / "cache-1234.arrow").write_bytes(b"not read")
        features = {"image": {"_type": "Image"}, "label": CLASS_LABEL}
        (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    samples = read(tmp_path)
    assert [sample.truth for sample in samples if sample.split == "test"] == ["dog", "bird", "cat"]
    for number, sample in enumerate(sorted(samples, key=lambda each: (each.split != "train", each.image.row))):
        assert sample.image.read() == png(number)


def test_a_pool_needs_no_labels(hub: Path) -> None:
    samples, _ = list_pool(str(hub))
    assert len(samples) == 30
    assert {sample.truth for sample in samples} == {None}


def test_keys_that_do_not_go_together() -> None:
    assert dict(Section(source="parquet").unset()).keys() == {"root"}
    assert "labels" in dict(Section(source="parquet", root="x", labels="a.csv").problems())
    assert "label_column" in dict(Section(root="x", label_column="breed").problems())


def test_the_source_is_named_to_who_left_it_out(hub: Path) -> None:
    for read_other in (lambda: read_folder(hub), lambda: read_samples(Section(root=str(hub / "data")))):
        with pytest.raises(UserError, match=r"data\.source=parquet"):
            read_other()


def test_photographs_in_rows_are_reduced_as_those_in_files_are(tmp_path: Path) -> None:
    photograph = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    photograph.resize((600, 450)).save(tmp_path / "a.jpg")
    row = {"bytes": (tmp_path / "a.jpg").read_bytes(), "path": "a.jpg"}
    parquet.write_table(pyarrow.table({"image": [row]}), tmp_path / "train.parquet")
    (inside,) = read(tmp_path, labelled=False)
    apart = ImageSample("file", str(tmp_path / "a.jpg"))
    pipeline = train_pipeline(32, (0.0,) * 3, (1.0,) * 3)
    stored, filed = (original_view(sample, [(pipeline, 0)], reduced=True) for sample in (inside, apart))
    assert stored.original_size == (450, 600)
    assert stored.image.shape[0] < 450
    np.testing.assert_array_equal(stored.image, filed.image)


def test_common_words_of_names_do_not_hide_the_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write(tmp_path / f"flowers-{split}.parquet", table([(0, 0), (1, 1)]))
    assert {sample.split for sample in read(tmp_path)} == {"train", "test"}


@pytest.mark.parametrize("names", [["train", "test_private"], ["flowers_train_1"], ["train", "more"]])
def test_files_of_which_the_split_is_not_clear_are_refused(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        write(tmp_path / f"{name}.parquet", table([(0, 0), (1, 1)]))
    with pytest.raises(UserError, match=rf"{names[-1]}.*begin the names"):
        read(tmp_path)
    assert len(read(tmp_path, labelled=False)) == 2 * len(names), "a pool has no splits"


def test_a_copy_of_a_training_row_among_those_of_the_test_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "train.parquet", table([(number, number % 3) for number in range(9)]))
    write(tmp_path / "test.parquet", table([(number, number % 3) for number in range(7, 13)]))
    values = {"source": "parquet", "root": str(tmp_path), "image_size": 8, "workers": 0}
    recipe = Recipe(task="classification", data=Section(**values), method=None)
    with pytest.raises(UserError, match=r"2 of 6 test images are copies.*test\.parquet#0.*allow_overlap"):
        check_overlap(build(recipe))
    monkeypatch.setattr(stored_content, "MOST_BYTES", 10)
    data = build(recipe)
    check_overlap(data)
    assert any("not looked for" in note for note in data.notes)


@pytest.mark.parametrize("features", ["{image: image}", "[image]"])
def test_what_a_readme_says_in_another_way_is_not_read(tmp_path: Path, features: str) -> None:
    write(tmp_path / "train.parquet", table([(0, "cat"), (1, "dog")], said=False))
    (tmp_path / "README.md").write_text(f"---\ndataset_info: {{features: {features}}}\n---\n")
    assert [sample.truth for sample in read(tmp_path)] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (
            "dataset_info: {features: [{name: label, dtype: {class_label: {names: {'0': a, '5': b}}}}]}",
            "keys 0, 5.*to 1",
        ),
        ("dataset_info: {", r"README\.md.*YAML.*mend"),
    ],
)
def test_names_of_classes_that_cannot_be_read_are_refused(tmp_path: Path, head: str, message: str) -> None:
    write(tmp_path / "train.parquet", table([(0, 0), (1, 1)], said=False))
    (tmp_path / "README.md").write_text(f"---\n{head}\n---\n")
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    made = table([(0, 0), (1, 1)], said=False)
    write(tmp_path / "train.parquet", made.append_column("label", made.column("label")))
    with pytest.raises(UserError, match=r"train\.parquet: two columns are called label"):
        read(tmp_path)
