"""Images to pre-train on: what counts as one, which of them are validated on, and whose labels a probe reads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vision_train.data import images
from vision_train.data.module import SampleDataModule
from vision_train.data.pool import Section
from vision_train.data.pool.build import PROBE_SPLITS, PoolDataModule, build
from vision_train.errors import UserError
from vision_train.recipe import Recipe


def draw(root: Path, *names: str) -> Path:
    """Small images of random pixels."""
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return root


def module(root: Path | None = None, *, seed: int = 0, only: str | None = None, **changes: Any) -> PoolDataModule:
    keys = {"root": None if root is None else str(root), "image_size": 4, "batch_size": 4, "workers": 0} | changes
    return build(Recipe(task="droppos", seed=seed, data=Section(**keys), method=None), only=only)


def ids(data: SampleDataModule, split: str) -> list[str]:
    return [sample.id for sample in data.samples(split)]


TEN = [f"{index}.png" for index in range(10)]


class TestFolders:
    def test_every_image_counts_whatever_the_folders_are_called(self, tmp_path: Path) -> None:
        names = ["a.png", "photos/b.JPG", "photos/deep/er/c.png", "more/d.jpeg"]
        draw(tmp_path, *names, ".thumbnails/a.png", "photos/.cache/x.png", "photos/._b.jpg")
        (tmp_path / "photos/notes.txt").touch()
        data = module(tmp_path)
        assert sorted(ids(data, "train") + ids(data, "val")) == sorted(names)
        assert data.counts == {"train": 3, "val": 1}
        assert data.classes == []

    def test_class_folders_are_folders_like_others(self, tmp_path: Path) -> None:
        data = module(draw(tmp_path, *(f"{kind}/{name}" for kind in ("cat", "dog") for name in TEN)))
        assert data.counts == {"train": 18, "val": 2}
        assert {sample.truth for split in ("train", "val") for sample in data.samples(split)} == {None}

    def test_named_splits_are_taken_and_test_images_left_alone(self, tmp_path: Path) -> None:
        draw(tmp_path, "train/a.png", "train/cat/b.png", "val/c.png", "test/d.png", "test/cat/e.png")
        data = module(tmp_path)
        assert (ids(data, "train"), ids(data, "val")) == (["train/a.png", "train/cat/b.png"], ["val/c.png"])
        assert set(data.counts) == {"train", "val"}
        with pytest.raises(UserError, match="unknown split `test`; there are train, val"):
            data.evaluation_loaders("test")

    def test_without_val_a_share_of_train_is_cut(self, tmp_path: Path) -> None:
        data = module(draw(tmp_path, *(f"train/{name}" for name in TEN), "test/0.png"), splits={"val": 0.3})
        assert data.counts == {"train": 7, "val": 3}

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ([], r"no images in it .endings read: .*\.png"),
            (["notes.txt"], "no images in it"),
            (["a.png"], "one image is too few; pre-training validates on another"),
            (["train/a.png", "test/b.png"], "one image is too few"),
            (["train/a.png", "other/b.png"], "holds train and also other.*rename or move the rest"),
            (["val/a.png", "test/b.png"], "holds val and test, but no folder train to learn from"),
            (["train/notes.txt", "val/a.png"], "no image to learn from"),
        ],
    )
    def test_folders_that_cannot_be_used(self, tmp_path: Path, files: list[str], message: str) -> None:
        for name in files:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        with pytest.raises(UserError, match=message):
            module(tmp_path)

    def test_a_missing_root(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"data\.root .*nowhere: no such folder"):
            module(tmp_path / "nowhere")
        with pytest.raises(UserError, match=r"no images named; set data\.root=FOLDER"):
            module()

    def test_two_images_suffice_and_fewer_than_a_batch_make_a_smaller_one(self, tmp_path: Path) -> None:
        data = module(draw(tmp_path, "a.png", "b.png"), batch_size=64)
        assert data.counts == {"train": 1, "val": 1}
        (batch,) = data.train_dataloader()
        assert batch["image"].shape == (1, 3, 4, 4)
        assert data.batches_per_epoch(1) == 1


class TestValidationImages:
    def test_are_cut_by_their_ids_alone(self, tmp_path: Path) -> None:
        data = module(draw(tmp_path, *(f"sub/{index:02d}.png" for index in range(40))))
        cut = ids(data, "val")
        assert len(cut) == 4
        assert ids(module(tmp_path, seed=7), "val") == cut
        table = tmp_path / "table.csv"
        everything = sorted(ids(data, "train") + cut, reverse=True)
        table.write_text("\n".join(["path", *everything]))
        assert sorted(ids(module(labels=str(table)), "val")) == cut

    def test_come_in_batches_without_labels(self, tmp_path: Path) -> None:
        data = module(draw(tmp_path, *TEN))
        loaders = [data.train_dataloader(), *data.val_dataloader()]
        assert len(loaders) == 2
        assert all(set(batch) == {"id", "image", "size"} for loader in loaders for batch in loader)

    def test_of_other_data_are_taken_whole(self, tmp_path: Path) -> None:
        draw(tmp_path, *(f"flat/{name}" for name in TEN), "split/val/a.png", "split/test/b.png")
        assert module(tmp_path / "flat", only="val").counts == {"train": 0, "val": 10}
        assert module(tmp_path / "split", only="val").counts == {"train": 0, "val": 1}


class TestCsv:
    def write(self, folder: Path, *rows: str) -> str:
        table = folder / "table.csv"
        table.write_text("\n".join(rows) + "\n")
        return str(table)

    def test_needs_paths_alone(self, tmp_path: Path) -> None:
        draw(tmp_path, *TEN)
        data = module(labels=self.write(tmp_path, "path,note", *(f"{name},x" for name in TEN)))
        assert data.counts == {"train": 9, "val": 1}
        assert data.classes == []

    def test_splits_are_taken_from_it(self, tmp_path: Path) -> None:
        draw(tmp_path, *TEN)
        splits = ["train"] * 6 + ["val"] * 3 + ["test"]
        rows = (f"{name},{split}" for name, split in zip(TEN, splits, strict=True))
        assert module(labels=self.write(tmp_path, "path,split", *rows)).counts == {"train": 6, "val": 3}

    def test_labels_of_some_make_a_probe_of_these(self, tmp_path: Path) -> None:
        draw(tmp_path, *TEN)
        labels = ["cat", "dog", "", "cat", "dog", "", "cat", "dog", "", ""]
        rows = (f"{name},{label}" for name, label in zip(TEN, labels, strict=True))
        data = module(labels=self.write(tmp_path, "path,label", *rows))
        assert data.classes == ["cat", "dog"]
        # Of three images a class one goes to each of the three splits that fine-tuning would make of them.
        assert data.counts == {"train": 9, "val": 1, "probe_train": 2, "probe_val": 2}
        assert {sample.truth for sample in data.samples("train")} == {None}
        val, probe_train, probe_val = data.val_dataloader()
        assert all("label" not in batch for batch in val)
        for loader in (probe_train, probe_val):
            assert sorted(label for batch in loader for label in batch["label"].tolist()) == [0, 1]

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            (["file", "0.png"], "no column path .found: file"),
            (["path"], "no lines below the header"),
            (["path", "0.png", "none.png"], "line 3: no file .*none.png"),
            (["path", "0.png", "./0.png"], "line 3: ./0.png is listed already in line 2"),
            (["path,label", "0.png,cat", ",dog"], "line 3: the path is empty"),
            (["path", "0.png"], "table.csv: one image is too few"),
            (["path,split", "0.png,val", "1.png,test"], "table.csv: no image to learn from"),
            (["path,split", "0.png,test", "1.png,test"], "table.csv: no image to learn from"),
        ],
    )
    def test_that_cannot_be_used(self, tmp_path: Path, rows: list[str], message: str) -> None:
        draw(tmp_path, *TEN)
        with pytest.raises(UserError, match=message):
            module(labels=self.write(tmp_path, *rows))

    @pytest.mark.parametrize(
        ("rows", "note"),
        [
            (["path,label", "0.png,cat", "1.png,", "2.png,"], "no linear probe of the features: class cat: 1 training"),
            (["path,label,split", "0.png,cat,test", "1.png,,train", "2.png,,train"], None),
        ],
    )
    def test_too_few_labels_leave_the_probe_out(self, tmp_path: Path, rows: list[str], note: str | None) -> None:
        draw(tmp_path, *TEN)
        data = module(labels=self.write(tmp_path, *rows))
        assert data.classes == []
        assert data.counts.keys() == {"train", "val"}
        assert [text.startswith(str(note)) for text in data.notes] == ([True] if note else [])


class TestProbe:
    @pytest.fixture
    def pool(self, tmp_path: Path) -> Path:
        return draw(tmp_path / "pool", *TEN)

    @pytest.fixture
    def photos(self, tmp_path: Path) -> Path:
        return draw(tmp_path / "photos", *(f"{kind}/{index}.png" for kind in ("cat", "dog") for index in range(5)))

    def test_is_off_without_labels(self, pool: Path) -> None:
        data = module(pool)
        assert not set(PROBE_SPLITS) & set(data.counts)
        assert len(data.val_dataloader()) == len(data.evaluation_loaders("val")) == 1

    def test_takes_a_folder_or_a_csv(self, pool: Path, photos: Path) -> None:
        table = photos / "table.csv"
        files = sorted(file.relative_to(photos) for file in photos.rglob("*.png"))
        table.write_text("path,label\n" + "".join(f"{file.as_posix()},{file.parts[0]}\n" for file in files))
        folder, listed = (module(pool, probe=str(place)) for place in (photos, table))
        for data in (folder, listed):
            assert data.classes == ["cat", "dog"]
            assert data.counts == {"train": 9, "val": 1, "probe_train": 6, "probe_val": 2}
            assert [len(batch["label"]) for batch in data.val_dataloader()[1]] == [4, 2]
        assert [ids(folder, split) for split in PROBE_SPLITS] == [ids(listed, split) for split in PROBE_SPLITS]

    def test_leaves_out_the_images_that_fine_tuning_is_tested_on(self, pool: Path, photos: Path) -> None:
        fine_tuning = Recipe(task="classification", data=images.Section(root=str(photos)), method=None)
        data, fine = module(pool, probe=str(photos)), images.IMAGES.load().build(fine_tuning)
        assert ids(data, "probe_train") == ids(fine, "train")
        assert ids(data, "probe_val") == ids(fine, "val")

    def test_goes_with_val_alone(self, pool: Path, photos: Path) -> None:
        data = module(pool, probe=str(photos))
        assert [len(data.evaluation_loaders(split)) for split in ("val", "train")] == [3, 1]

    def test_learns_from_so_many_labels_while_pretraining_takes_all_images(self) -> None:
        whole, few = (module(source="digits", labels_per_class=count) for count in (None, 5))
        assert whole.counts == {"train": 1297, "val": 200, "probe_train": 1297, "probe_val": 200}
        assert few.counts == {"train": 1297, "val": 200, "probe_train": 50, "probe_val": 200}
        other = module(source="digits", labels_per_class=5, seed=1)
        assert ids(other, "probe_train") != ids(few, "probe_train")
        assert ids(other, "probe_val") == ids(few, "probe_val")

    @pytest.mark.parametrize(
        ("probe", "message"),
        [
            ("nowhere", r"data\.probe .*nowhere: no such folder or csv file; name labelled images, or leave it null"),
            ("pool", "pool: no class folders"),
            ("pool/0.png", "0.png: is a binary file"),
        ],
    )
    def test_that_cannot_be_read(self, tmp_path: Path, pool: Path, probe: str, message: str) -> None:
        with pytest.raises(UserError, match=message):
            module(pool, probe=str(tmp_path / probe))


class TestLeavingOut:
    def test_goes_by_the_file_whatever_names_it(self, tmp_path: Path) -> None:
        data = module(draw(tmp_path / "pool", *TEN))
        (tmp_path / "link").symlink_to(tmp_path / "pool")
        linked = module(tmp_path / "link")
        held_out = {sample.identity for sample in linked.samples("train")[:3]}
        data.leave_out("train", held_out)
        assert data.counts == {"train": 6, "val": 1}
        assert [sample.id for sample in data.left_out] == ids(linked, "train")[:3]
        assert not held_out & {sample.identity for sample in data.samples("train")}

    @pytest.mark.parametrize("named_by", ["root", "labels"])
    def test_of_every_image_is_refused(self, tmp_path: Path, named_by: str) -> None:
        draw(tmp_path, *TEN)
        (tmp_path / "table.csv").write_text("\n".join(["path", *TEN]))
        place = str(tmp_path if named_by == "root" else tmp_path / "table.csv")
        data = module(**{named_by: place})
        with pytest.raises(UserError, match=rf"^data\.{named_by}={place}: all images of its train split"):
            data.leave_out("train", {sample.identity for sample in data.samples("train")})


def test_workers_change_nothing(tmp_path: Path) -> None:
    draw(tmp_path, *TEN)
    first, second = (list(module(tmp_path, workers=workers).train_dataloader()) for workers in (0, 1))
    assert [batch["id"] for batch in first] == [batch["id"] for batch in second]
    assert all(torch.equal(one["image"], other["image"]) for one, other in zip(first, second, strict=True))


def test_images_beside_the_folders_of_splits_are_not_passed_over(tmp_path: Path) -> None:
    draw(tmp_path, "train/0.png", "train/1.png", "2.png")
    with pytest.raises(UserError, match=r"2\.png: lies beside the folders train; move it"):
        module(tmp_path)
