import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from augment.geometry import View
from augment.pipeline import eval_pipeline
from vision_train.data.dataset import SampleLoader
from vision_train.data.decode import decode
from vision_train.data.image_dataset import ImageDataModule
from vision_train.data.images import Section, build
from vision_train.data.toy.folder import make_image_folder
from vision_train.errors import UserError
from vision_train.recipe import Recipe
from vision_train.recipe.preprocessing import resized_size
from vision_train.recipe.sections import Augment, EvalAugment, TrainAugment

AUGMENT = Augment(
    train=TrainAugment(
        crop_scale=(0.2, 1.0), horizontal_flip=0.5, rand_augment="rand-m9-mstd0.5-inc1", color_jitter=0.3, erasing=0.5
    ),
    eval=EvalAugment(crop_share=0.875),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of ten images, 30 x 20: 16 to train on, 2 each for val and test."""
    folder = tmp_path_factory.mktemp("images")
    make_image_folder(folder, classes=2, per_class=10, size=(30, 20))
    return folder


def module(
    root: Path,
    *,
    augment: Augment = AUGMENT,
    seed: int = 0,
    classes: list[str] | None = None,
    only: str | None = None,
    **changes: Any,
) -> ImageDataModule:
    section = replace(Section(root=str(root), image_size=16, batch_size=4, workers=0), **changes)
    recipe = Recipe(task="classification", seed=seed, data=section, augment=augment, method=None)
    return build.build(recipe, classes, only)


def loose(*paths: str | Path, **keys: Any) -> SampleLoader:
    recipe = Recipe(task="classification", data=Section(**{"workers": 0} | keys), augment=AUGMENT, method=None)
    return build.loose(recipe, [Path(path) for path in paths], learner="the network")


def epoch_of(data: ImageDataModule, epoch: int) -> list[dict[str, Any]]:
    loader = data.train_dataloader()
    set_epoch(loader, epoch)
    return list(loader)


def set_epoch(loader: Any, epoch: int) -> None:
    loader.batch_sampler.set_epoch(epoch)


def assert_equal_batches(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert (one["id"], one["size"]) == (other["id"], other["size"])
        assert torch.equal(one["label"], other["label"])
        assert torch.equal(one["image"], other["image"])


def test_batches_hold_the_contract_and_nothing_else(root: Path) -> None:
    data = module(root)
    assert data.classes == ["class_0", "class_1"]
    assert data.counts == {"train": 16, "val": 2, "test": 2}
    for loader in (
        data.train_dataloader(),
        *data.val_dataloader(),
        data.split_loader("test"),
        data.split_loader("train"),
    ):
        for batch in loader:
            assert set(batch) == {"id", "image", "label", "size"}
            assert batch["image"].shape == (len(batch["id"]), 3, 16, 16)
            assert batch["image"].dtype == torch.float32
            assert batch["image"].is_contiguous()
            assert batch["label"].dtype == torch.int64
            assert [data.classes[label] for label in batch["label"]] == [name.split("/")[0] for name in batch["id"]]
            assert batch["size"] == [(20, 30)] * len(batch["id"])
    with pytest.raises(UserError, match="unknown split `dev`"):
        data.split_loader("dev")


def test_workers_change_nothing_over_two_epochs(root: Path) -> None:
    alone, helped = module(root), module(root, workers=2)
    loaders = alone.train_dataloader(), helped.train_dataloader()
    for epoch in (0, 1):  # the workers persist, so the new epoch must reach them
        for loader in loaders:
            set_epoch(loader, epoch)
        assert_equal_batches(list(loaders[0]), list(loaders[1]))


def test_augmentation_depends_on_the_epoch_and_the_seed_but_not_on_the_rank(root: Path) -> None:
    def images(batches: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {name: image for batch in batches for name, image in zip(batch["id"], batch["image"], strict=True)}

    data = module(root)
    first, second = images(epoch_of(data, 0)), images(epoch_of(data, 1))
    assert first.keys() == second.keys()
    assert not any(torch.equal(first[name], second[name]) for name in first)
    data.trainer = type("Trainer", (), {"global_rank": 1, "world_size": 2})()  # type: ignore[assignment]
    share = images(epoch_of(data, 0))
    assert len(share) == 8
    assert all(torch.equal(image, first[name]) for name, image in share.items())


def test_the_global_generators_are_left_alone(root: Path) -> None:
    data = module(root)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[union-attr]
    epoch_of(data, 0)
    list(data.val_dataloader()[0])
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[union-attr]
    assert torch.equal(torch.get_rng_state(), before[2])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_state_counts_batches_handed_out_and_continues_there(root: Path, workers: int) -> None:
    data = module(root, workers=workers)
    whole = epoch_of(data, 3)
    loader = data.train_dataloader()
    set_epoch(loader, 3)
    batches = iter(loader)
    next(batches), next(batches)
    state = data.state_dict()
    assert state == {"streams": {"train": {"seed": 0, "epoch": 3, "cursor": 2}}}

    resumed = module(root)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert_equal_batches(epoch_of(resumed, 3), whole[2:])


def test_a_data_set_smaller_than_a_batch_gives_one_smaller_batch(root: Path) -> None:
    data = module(root, batch_size=64)
    assert [len(batch["id"]) for batch in data.train_dataloader()] == [16]
    assert data.batches_per_epoch(1) == len(data.train_dataloader()) == 1
    assert module(root, batch_size=5).batches_per_epoch(1) == 3
    assert module(root, batch_size=1).batches_per_epoch(2) == 8


def test_more_processes_than_images(root: Path) -> None:
    assert module(root).smallest_batch(16) == 1
    with pytest.raises(UserError, match="17 processes for 16 training images"):
        module(root).smallest_batch(17)


def test_labels_per_class_touches_training_alone(root: Path) -> None:
    assert module(root, labels_per_class=3).counts == {"train": 6, "val": 2, "test": 2}


def test_classes_that_differ_in_case_alone_are_warned_of(root: Path) -> None:
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*") if path.is_file())
    table = root.parent / "case.csv"
    table.write_text("path,label\n" + "".join(f"{name},{('Cat', 'cat')[row % 2]}\n" for row, name in enumerate(files)))
    data = module(root, labels=str(table))
    (doubt,) = data.class_doubts()
    assert "Cat, cat" in doubt
    assert "data.classes=[Cat,cat]" in doubt


def test_images_that_would_come_out_black_are_warned_of(tmp_path: Path) -> None:
    make_image_folder(tmp_path, classes=2, per_class=3, size=(8, 8))
    for path in tmp_path.rglob("*.png"):
        Image.fromarray(np.full((8, 8), 4095, dtype=np.uint16)).save(path)
    assert "4,095" in module(tmp_path).warnings[0]


def split_ids(data: ImageDataModule) -> dict[str, set[str]]:
    return {
        split: {name for batch in data.split_loader(split) for name in batch["id"]}
        for split in ("train", "val", "test")
    }


def test_every_seed_and_a_csv_of_the_same_files_give_the_same_splits(root: Path, tmp_path: Path) -> None:
    files = sorted((path.relative_to(root) for path in root.rglob("*.*") if path.is_file()), reverse=True)
    table = tmp_path / "labels.csv"
    table.write_text("path,label\n" + "".join(f"{file.as_posix()},{file.parts[0]}\n" for file in files))
    assert split_ids(module(root)) == split_ids(module(root, seed=1)) == split_ids(module(root, labels=str(table)))


def test_evaluating_one_split_takes_all_images_of_an_unsplit_folder(root: Path) -> None:
    data = module(root, only="test", classes=["class_0", "class_1"], labels_per_class=3)
    assert data.counts == {"train": 0, "val": 0, "test": 20}


@pytest.mark.parametrize("image_size", [16, 224])
def test_the_crop_keeps_its_share_at_every_image_size(root: Path, image_size: int) -> None:
    (path,) = (str(path) for path in root.rglob("0000.*") if path.parent.name == "class_0")
    (batch,) = loose(path, image_size=image_size)
    expected = eval_pipeline(
        image_size, AUGMENT.preprocessing.mean, AUGMENT.preprocessing.std, resize={16: 18, 224: 256}[image_size]
    )
    assert torch.equal(batch["image"][0], expected(View.whole(decode(path))).image)


def test_no_more_workers_than_processors(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    assert module(root, workers=64).val_dataloader()[0].num_workers == 2
    assert module(root, workers=1).val_dataloader()[0].num_workers == 1


def test_a_fixed_label_map_keeps_its_order(root: Path) -> None:
    data = module(root, classes=["class_1", "other", "class_0"])
    batch = next(iter(data.val_dataloader()[0]))
    assert batch["label"].tolist() == [2, 0]


def test_a_wrong_augmentation_names_its_key(root: Path) -> None:
    with pytest.raises(UserError, match=r"augment\.train: rand_augment `random`"):
        module(root, augment=Augment(train=TrainAugment(rand_augment="random")))


def test_loose_images_keep_their_paths_and_have_no_label(root: Path, tmp_path: Path) -> None:
    paths = [str(path) for path in sorted(root.rglob("*.png"))]
    batches = list(loose(*paths, paths[0], image_size=8))
    assert [name for batch in batches for name in batch["id"]] == paths
    assert all(set(batch) == {"id", "image", "size"} for batch in batches)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="no images there"):
        loose(empty)


@pytest.fixture
def damaged(root: Path, tmp_path: Path) -> Path:
    """The images, two of them damaged."""
    folder = tmp_path / "damaged"
    shutil.copytree(root, folder)
    content = (folder / "class_0/0000.jpg").read_bytes()
    (folder / "class_0/0000.jpg").write_bytes(content[: len(content) // 2])
    (folder / "class_1/0003.png").write_bytes(b"")
    return folder


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_stops_with_one_message_that_names_it(damaged: Path, workers: int) -> None:
    loader = loose(damaged / "class_1/0003.png", image_size=16, workers=workers)
    with pytest.raises(UserError, match=r"class_1/0003.png: the file is empty.*data\.on_bad=skip") as caught:
        list(loader)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_images_are_replaced_by_the_next_and_counted_once(damaged: Path, workers: int) -> None:
    data = module(damaged, workers=workers, on_bad="skip")
    for epoch in (0, 1):
        for batch in epoch_of(data, epoch):
            assert set(batch) == {"id", "image", "label", "size"}
            assert len(batch["id"]) == 4
    for split in ("train", "val", "test"):
        list(data.split_loader(split))
    assert len(data.skipped) == 2
    assert any("0000.jpg" in path and "truncated" in reason.lower() for path, reason in data.skipped.items())
    assert data.skipped[str(damaged / "class_1/0003.png")] == "the file is empty (0 bytes)"


def test_skipped_loose_images_are_replaced_by_the_next(damaged: Path) -> None:
    paths = [str(damaged / name) for name in ("class_0/0000.jpg", "class_0/0001.png", "class_1/0003.png")]
    loader = loose(*paths, image_size=16, on_bad="skip")
    assert [name for batch in loader for name in batch["id"]] == [paths[1]] * 3
    assert set(loader.dataset.skipped) == {paths[0], paths[2]}


def test_nothing_readable_is_left(damaged: Path) -> None:
    with pytest.raises(UserError, match="none of the 1 images can be read"):
        list(loose(damaged / "class_1/0003.png", image_size=16, on_bad="skip"))


def test_a_share_that_weights_say_gives_their_own_size() -> None:
    shares = ((crop, side) for crop in range(16, 1025, 7) for side in range(crop, 1025))
    published = ((384, 450), (384, 462), (384, 472), (378, 462), (378, 470), (448, 491), (448, 495))
    assert all(resized_size((crop, 16), crop / side)[0] == side for crop, side in (*shares, *published))
    assert resized_size((224, 96), 0.9) == (248, 106)
    assert resized_size((224, 96), "whole") is None


def test_reduced_decoding_is_for_training_alone_and_is_said(tmp_path: Path) -> None:
    make_image_folder(tmp_path, classes=2, per_class=10, size=(300, 200))
    exact, reduced = (module(tmp_path, decode=decode) for decode in ("exact", "reduced"))
    assert [note for note in reduced.notes if "data.decode=reduced" in note]
    assert not [note for note in exact.notes if "data.decode" in note]
    assert_equal_batches(*(list(data.val_dataloader()[0]) for data in (exact, reduced)))
    differing = set()
    for one, other in zip(epoch_of(exact, 0), epoch_of(reduced, 0), strict=True):
        assert (one["id"], one["size"]) == (other["id"], other["size"])
        differing |= {
            Path(name).suffix
            for name, a, b in zip(one["id"], one["image"], other["image"], strict=True)
            if not torch.equal(a, b)
        }
    assert differing == {".jpg"}  # the others are PNGs
