"""The pool of unlabelled images: what it holds, in which order, and how its stream runs beside that of the labels.

Items are those of the specification of learning from unlabelled images.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_train.data.module import SampleDataModule
from vision_train.data.sampler import TrainingBatches
from vision_train.errors import UserError
from vision_train.recipe import load_recipe

SIZES = (1, 7, 8, 9, 7 * 8 + 3)


def draw(root: Path, *names: str, first: int = 0) -> Path:
    """Small images of random pixels, which are the same for the same name."""
    for number, name in enumerate(names, first):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = sum(map(ord, path.name)) + 1000 * number
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(path)
    return root


def build(tmp_path: Path, unlabelled: str, *overrides: str) -> SampleDataModule:
    labelled = tmp_path / "labelled"
    if not labelled.exists():
        for split, count in (("train", 4), ("val", 1), ("test", 1)):
            for number in range(count):
                name = f"{split}{number}.png"
                draw(labelled, f"{split}/cat/cat_{name}", f"{split}/dog/dog_{name}", first=number + len(split))
    keys = [f"data.root={labelled}", "data.source=images", f"data.unlabelled={unlabelled}", "data.batch_size=4"]
    recipe = load_recipe("semi/digits", [*keys, "data.labels_per_class=null", *overrides])
    return recipe.kind.load().build(recipe)


def test_a_class_that_is_missing_since_its_folder_is_the_pool_is_said_to_be(tmp_path):
    build(tmp_path, "labelled")
    with pytest.raises(UserError, match=r"train split has nothing of class dog.*data.unlabelled names it: train/dog"):
        build(tmp_path, str(tmp_path / "labelled" / "train" / "dog"))


def pool_ids(data: SampleDataModule) -> list[str]:
    return [Path(sample.id).name for sample in data.samples("unlabelled")]


@pytest.mark.parametrize("length", SIZES)
def test_item_5_every_sample_of_a_stream_is_drawn_equally_often_at_any_step(length):
    order, drawn = TrainingBatches(length, 8, 0, batches=5), Counter()
    for epoch in range(6):
        order.set_epoch(epoch)
        for batch in order:
            assert len(batch) == 8
            drawn.update(index for index, _ in batch)
            counts = [drawn[index] for index in range(length)]
            assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("length", SIZES)
def test_item_5_a_stream_goes_on_where_it_was_stopped(length):
    whole = TrainingBatches(length, 8, 0, batches=5)
    batches = []
    for epoch in range(4):
        whole.set_epoch(epoch)
        batches += list(whole)
    for step in range(20):
        epoch, cursor = divmod(step, 5)
        order = TrainingBatches(length, 8, 1, batches=5)
        order.load_state_dict({"seed": 0, "epoch": epoch, "cursor": cursor})
        assert next(iter(order)) == batches[step]


@pytest.mark.parametrize("key", ["seed", "epoch", "cursor"])
def test_item_5_every_saved_item_of_a_stream_that_is_missing_is_noticed(key):
    saved = TrainingBatches(9, 8, seed=3, batches=5).state_dict()
    with pytest.raises(KeyError, match=key):
        TrainingBatches(9, 8, seed=3, batches=5).load_state_dict({n: v for n, v in saved.items() if n != key})


def test_two_streams_of_a_step_and_the_epoch_is_a_pass_over_the_pool(tmp_path):
    pool = draw(tmp_path / "pool", *(f"{number}.png" for number in range(10)))
    data = build(tmp_path, str(pool), "semi.ratio=0.75")
    assert data.batches_per_epoch(1) == 4  # 10 in batches of 3
    assert data.step_sizes(1) == {"labelled": 4, "unlabelled": 3}
    batch = next(iter(data.train_dataloader()))[0]
    assert batch["labelled"].keys() == {"id", "image", "size", "label"}
    assert batch["unlabelled"].keys() == {"id", "weak", "strong"}  # no label key at all
    assert batch["unlabelled"]["weak"]["image"].shape == batch["unlabelled"]["strong"]["image"].shape == (3, 3, 16, 16)


def test_labelled_images_alone_have_epochs_as_long(tmp_path):
    pool = draw(tmp_path / "pool", *(f"{number}.png" for number in range(10)))
    data = build(tmp_path, str(pool), "semi.method=none")
    assert data.batches_per_epoch(1) == 3
    assert data.step_sizes(1) == {"train": 4}
    assert next(iter(data.train_dataloader()))["image"].shape == (4, 3, 16, 16)


def test_an_epoch_has_the_batches_that_the_recipe_says(tmp_path):
    pool = draw(tmp_path / "pool", *(f"{number}.png" for number in range(10)))
    assert build(tmp_path, str(pool), "data.epoch_batches=7").batches_per_epoch(1) == 7


def test_the_order_of_a_pool_does_not_depend_on_its_folders(tmp_path):
    names = [f"{number}.png" for number in range(12)]
    plain = draw(tmp_path / "plain", *names)
    sorted_by_class = tmp_path / "sorted"
    for number, name in enumerate(names):
        target = sorted_by_class / f"class{number % 3}" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((plain / name).read_bytes())
    assert pool_ids(build(tmp_path, str(plain))) == pool_ids(build(tmp_path, str(sorted_by_class)))


def test_images_of_one_name_are_told_apart_by_their_content(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    contents = []
    for root, folders in ((first, ("a", "b")), (second, ("b", "a"))):
        for number, folder in enumerate(folders):
            draw(root, f"{folder}/same.png", first=number)
        data = build(tmp_path, str(root))
        contents.append([Path(sample.place).read_bytes() for sample in data.samples("unlabelled")])
    assert contents[0] == contents[1]


def test_a_pool_is_a_folder_a_list_the_rest_or_the_labelled_images(tmp_path):
    pool = draw(tmp_path / "pool", "deep/er/1.png", "2.png")
    (pool / "list.csv").write_text("path,label\n2.png,cat\n")
    (pool / "list.txt").write_text("# chosen by hand\n\n2.png\n")
    assert sorted(pool_ids(build(tmp_path, str(pool)))) == ["1.png", "2.png"]
    assert pool_ids(build(tmp_path, str(pool / "list.csv"))) == ["2.png"]
    assert pool_ids(build(tmp_path, str(pool / "list.txt"))) == ["2.png"]
    rest = build(tmp_path, "rest", "data.labels_per_class=1")
    assert (len(rest.samples("train")), len(rest.samples("unlabelled"))) == (2, 6)
    labelled = build(tmp_path, "labelled", "data.labels_per_class=1")
    assert {sample.id for sample in labelled.samples("unlabelled")} == {
        sample.id for sample in labelled.samples("train")
    }
    assert all(sample.truth is None for data in (rest, labelled) for sample in data.samples("unlabelled"))


def test_a_pool_that_cannot_be_used_is_named(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "list.txt").write_text("absent.png\n")
    (tmp_path / "notes.md").write_text("nothing")
    for named, message in (
        (str(empty), r"data\.unlabelled=.*empty: no images in it; name a folder"),
        (str(tmp_path / "absent"), r"data\.unlabelled=.*absent: no such folder or list; name"),
        (str(tmp_path / "list.txt"), r"list\.txt: lists absent\.png, and there is no such file"),
        (str(tmp_path / "notes.md"), r"notes\.md: is neither a folder nor a list; a list ends in \.csv or \.txt"),
        ("rest", r"data\.unlabelled=rest: no training images are left.*data\.labels_per_class"),
    ):
        with pytest.raises(UserError, match=message):
            build(tmp_path, named)
