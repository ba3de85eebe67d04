"""From a recipe to batches: splits, few labels, aspect ratios, bad images."""

import dataclasses

import pytest
import torch

from augment.detection import DetectionEvaluation
from vision_train.data.boxes import Section
from vision_train.data.boxes.annotations import Annotated, BoxSample
from vision_train.data.boxes.build import loose
from vision_train.data.boxes.dataset import BoxDataset, Preparation, pad_images
from vision_train.data.crop_section import Crop
from vision_train.data.sample import digest
from vision_train.errors import UserError
from vision_train.recipe.sections import Augment, EvalAugment, TrainAugment

BOX = {"bbox": [8, 4, 16, 20]}
PREPARATION = Preparation(DetectionEvaluation((0.5,) * 3, (0.5,) * 3, 48, 96))
MANY = [f"{number:02d}.png" for number in range(12)]


def many(place, **keys):
    place.pictures(*MANY)
    boxes = [{**BOX, "image_id": number, "category_id": 1 + (number % 2 == 0)} for number in range(1, 11)]
    place.coco(*boxes, images=MANY)
    return place.build(**keys)


def test_a_batch_holds_what_a_detector_needs(place):
    place.pictures("a.png", size=(64, 48))
    place.pictures("b.png", size=(40, 48))
    first = place.coco(BOX, {"bbox": [0, 0, 8, 8], "iscrowd": 1}, images=["a.png"])
    second = place.coco({**BOX, "category_id": 2}, name="b.json", images=["b.png"], size=(40, 48))
    module = place.build(labels={"train": str(first), "val": str(second)}, eval_batch_size=2)
    samples = [*module.samples("train"), *module.samples("val")]
    dataset = module.make_dataset(samples, stream=None, alone=True)
    batch = dataset.to_batch([dataset[0, 0], dataset[1, 0]])
    assert batch["image"].shape == (2, 3, 64, 64)
    assert batch["image"].dtype == torch.float32
    assert batch["padding_mask"].dtype == torch.bool
    assert batch["size"] == [(48, 64), (48, 40)]
    assert batch["padding_mask"].sum(dim=(1, 2)).tolist() == [64 * 64 - 64 * 48, 64 * 64 - 48 * 57]
    torch.testing.assert_close(batch["boxes"][0], torch.tensor([[0.25, 14 / 48, 0.25, 20 / 48]]))
    assert [ids.tolist() for ids in batch["class_ids"]] == [[0], [1]]
    assert [len(each) for each in batch["ignore"]] == [1, 0]
    assert [ids.tolist() for ids in batch["ignore_ids"]] == [[0], []]
    assert [areas.tolist() for areas in batch["areas"]] == [[320], [320]]
    assert batch["affine"].dtype == torch.float64
    assert module.image_ids == {"a.png": 1, "b.png": 1}


def test_images_to_predict_on_have_no_annotations(place):
    place.pictures("a.png")
    recipe = dataclasses.make_dataclass("Recipe", ["data", "augment", "seed"])(
        Section(root=str(place.folder), short_side=32, long_side=64, workers=0), Augment(), 0
    )
    batch = next(iter(loose(recipe, [place.folder], learner="network")))
    assert sorted(batch) == ["affine", "id", "image", "padding_mask", "size"]


def test_a_batch_without_any_box_is_a_batch(place):
    place.pictures("a.png", "b.png")
    samples = [BoxSample(name, str(place.folder / name), Annotated((), (), (), 64, 48)) for name in ("a.png", "b.png")]
    dataset = BoxDataset(samples, ["cat"], PREPARATION, "error")
    batch = dataset.to_batch([dataset[0, 0], dataset[1, 0]])
    assert [each.shape for each in batch["boxes"]] == [(0, 4), (0, 4)]
    assert [each.dtype for each in batch["class_ids"]] == [torch.int64, torch.int64]


def test_splits_are_cut_by_ids_alone_and_groups_stay_together(place):
    module = many(place)
    assert module.counts == {"train": 10, "val": 1, "test": 1}
    assert [each.id for each in many(place, seed=7).samples("val")] == [each.id for each in module.samples("val")]
    copies = [f"{name}_jpg.rf.{copy}.png" for name in "abcdefgh" for copy in "xyz"]
    (place.folder / "boxes.json").unlink()
    place.pictures(*copies)
    place.coco(*({**BOX, "image_id": number} for number in range(1, 25)), images=copies)
    grouped = place.build()
    groups = [{each.group for each in grouped.samples(split)} for split in ("train", "val", "test")]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    assert len(groups[1]) == 1


def test_val_is_test_again_where_no_test_is_named(place):
    place.pictures()
    first = place.coco(BOX, images=["a.png", "c.png"])
    second = place.coco(BOX, name="v.json", images=["b.png"])
    module = place.build(labels={"train": str(first), "val": str(second)})
    assert module.counts == {"train": 2, "val": 1, "test": 1}
    assert any("test is val again" in note for note in module.notes)


def test_few_images_are_drawn_of_each_class_and_more_contain_fewer(place):
    drawn = [{each.id for each in many(place, labels_per_class=count).samples("train")} for count in (1, 2)]
    assert drawn[0] < drawn[1]
    assert [len(each) for each in drawn] == [2, 4]
    with pytest.raises(UserError, match=r"labels_per_class.*dog"):
        many(place, labels_per_class=6)
    shares = [{each.id for each in many(place, share=share).samples("train")} for share in (0.3, 0.6, 1.0)]
    assert [len(each) for each in shares] == [3, 6, 10]
    assert shares[0] < shares[1] < shares[2]


def test_images_without_boxes_are_background_unless_dropped(place):
    assert sum(many(place).counts.values()) == 12
    dropped = many(place, background="drop")
    assert all(each.truth.boxes for each in dropped.samples("train"))


def test_training_without_a_box_is_refused(place):
    place.pictures()
    place.coco()
    with pytest.raises(UserError, match=r"data\.root.*no training image has a box"):
        place.build()


def test_a_class_that_train_lacks_is_told(place):
    place.pictures()
    first = place.coco(BOX, images=["a.png"])
    second = place.coco({**BOX, "category_id": 2}, name="v.json", images=["b.png"])
    module = place.build(labels={"train": str(first), "val": str(second)})
    assert any("dog" in each and "nothing can be learned" in each for each in module.warnings)
    assert module.class_counts == {"cat": {"train": 1, "val": 0, "test": 0}, "dog": {"train": 0, "val": 1, "test": 1}}


def test_other_data_are_evaluated_with_the_classes_of_the_run(place):
    place.pictures()
    place.coco({**BOX, "category_id": 2}, categories=[{"id": 2, "name": "dog"}])
    module = place.build(classes=["cat", "dog"], only="test", category_ids=[5, 6])
    assert module.category_ids == [5, 2]
    assert module.counts == {"train": 0, "val": 0, "test": 3}
    with pytest.raises(UserError, match=r"dog.*cat"):
        place.build(classes=["cat"], only="test")


def test_one_class_and_very_many_boxes(place):
    place.pictures()
    boxes = [{"bbox": [number % 50, number % 40, 4, 4], "image_id": 1 + number % 3} for number in range(4500)]
    place.coco(*boxes, categories=[{"id": 1, "name": "cat"}])
    batch = next(iter(place.build().train_dataloader()))
    assert [len(each) for each in batch["boxes"]] == [1500]


@pytest.mark.parametrize("size", [(32, 32), (20_000, 40), (3, 2000), (1, 1)])
def test_any_size_of_image_trains(place, size):
    place.pictures("a.png", "b.png", "c.png", size=size)
    place.coco(*({"bbox": [0, 0, *size], "image_id": number} for number in (1, 2, 3)), size=size)
    module = place.build(scales=[32, 48], crop=Crop(short_sides=[40], sides=(24, 40), probability=0.5))
    for epoch in range(4):
        module.train_dataloader()
        order = module._orders["train"]
        order.set_epoch(epoch)
        (batch,) = module.stream_loader("train")
        assert max(batch["image"].shape[2:]) <= 96
        assert all(len(each) == 1 for each in batch["boxes"])
    assert max(next(iter(module.val_dataloader()[0]))["image"].shape[2:]) <= 96


def test_batches_are_of_images_of_like_aspect_ratio(place):
    sizes = {"wide": (96, 32), "tall": (32, 96), "square": (48, 48)}
    listed = []
    for name, size in sizes.items():
        names = [f"{name}/{number}.png" for number in range(20)]
        place.pictures(*names, size=size)
        boxes = [{**BOX, "image_id": number} for number in range(1, 21)]
        place.coco(*boxes, name=f"{name}.json", images=names, size=size)
        listed.append(place.build(labels=str(place.folder / f"{name}.json")))
    module = listed[0]
    module._samples["train"] = [each for one in listed for each in one.samples("train")]
    shapes = [batch["image"].shape[2:] for batch in module.train_dataloader()]
    assert len(shapes) == 24
    assert set(shapes) == {(32, 96), (96, 32), (64, 64)}


def test_an_image_that_cannot_be_read_follows_the_policy(place):
    place.pictures()
    place.coco(BOX, {**BOX, "image_id": 2})
    (place.folder / "c.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"c\.png.*data\.on_bad=skip"):
        [*place.build(only="test").split_loader("test")]
    assert len([*place.build(only="test", on_bad="skip").split_loader("test")]) == 3


def test_the_identity_of_a_data_set_changes_with_a_box(place):
    place.pictures()
    place.coco(BOX)
    first = digest(place.read().samples)
    assert digest(place.read().samples) == first
    place.coco({"bbox": [8, 4, 16, 21]})
    assert digest(place.read().samples) != first


def test_other_files_of_annotations_are_other_data():
    one, other = (Section(labels={"train": name}) for name in ("/a.json", "/b.json"))
    assert one.differing(other) == ["labels"]
    assert one.paths() == ["/a.json"]


@pytest.mark.parametrize(
    "augment",
    [Augment(train=TrainAugment(crop_scale=(0.5, 1.0))), Augment(eval=EvalAugment(crop_share=0.9))],
)
def test_augmentation_that_boxes_cannot_follow_is_refused(place, augment):
    with pytest.raises(UserError, match="augment"):
        many(place, augment=augment)


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"source": "shapes", "root": "/x"}, "root"),
        ({"labels": {"training": "/a.json"}}, "labels.training"),
        ({"labels": {}}, "labels"),
        ({"short_side": 100, "long_side": 50}, "long_side"),
        ({"scales": []}, "scales"),
        ({"share": 0.0}, "share"),
        ({"min_side": -1.0}, "min_side"),
        ({"eval_batch_size": 0}, "eval_batch_size"),
        ({"labels_per_class": 0}, "labels_per_class"),
    ],
)
def test_values_outside_their_range_are_named(keys, key):
    assert key in [named for named, _ in Section(**keys).problems()]
    assert [*Crop(probability=2, short_sides=[], sides=(9, 3)).problems()]


def test_nothing_named_is_told():
    assert [key for key, _ in Section().unset()] == ["root"]
    assert not [*Section(source="shapes").unset()]


@pytest.mark.parametrize("name", ["labels.csv", "nothing.json"])
def test_annotations_of_no_known_format_are_named(place, name):
    place.text("labels.csv", "path,label")
    with pytest.raises(UserError, match=rf"data\.labels.*{name}.*COCO"):
        place.read(labels=str(place.folder / name))
    with pytest.raises(UserError, match=r"data\.root.*COCO"):
        place.read()


def test_padding_is_at_the_right_and_bottom():
    image, mask = pad_images([torch.ones(3, 33, 20), torch.ones(3, 10, 40)])
    assert image.shape == (2, 3, 64, 64)
    assert torch.equal(image[:, 0] == 0, mask)
    assert not mask[0, :33, :20].any()


def test_evaluation_takes_batches_of_its_own_size(place):
    module = many(place, batch_size=4, eval_batch_size=3)
    module._samples["val"] = [*module.samples("train")]
    assert [len(batch["id"]) for batch in module.split_loader("val")] == [3, 3, 3, 1]
    assert module.evaluation_batches("val", processes=1) == 4
    assert [len(batch["id"]) for batch in module.train_dataloader()] == [4, 4, 4]


def test_an_epoch_that_was_cut_short_goes_on_with_the_same_batches(place):
    module, again = many(place), many(place)
    batches = [batch["id"] for batch in module.train_dataloader()]
    loader = iter(again.train_dataloader())
    taken = [next(loader)["id"] for _ in range(2)]
    resumed = many(place)
    resumed.load_state_dict(again.state_dict())
    assert taken + [batch["id"] for batch in resumed.train_dataloader()] == batches


def test_batches_that_are_padded_in_evaluation_are_told(place):
    def notes(count):
        return [note for note in many(place, eval_batch_size=count).notes if "data.eval_batch_size" in note]

    assert not notes(1)
    assert not notes(2), "images of one size need no padding"
    place.coco(BOX, name="v.json", images=["wide.png"], size=(96, 48))
    place.pictures("wide.png", size=(96, 48))
    labels = {"train": str(place.folder / "boxes.json"), "val": str(place.folder / "v.json")}
    assert not [note for note in place.build(labels=labels).notes if "eval_batch_size" in note]
    place.coco({**BOX, "image_id": 1}, name="t.json", images=["00.png"])
    several = place.build(labels={**labels, "test": str(place.folder / "t.json")}, eval_batch_size=2)
    assert any("data.eval_batch_size=1" in note for note in several.notes)
