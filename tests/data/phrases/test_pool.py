"""Expressions without boxes: where they come from, in which views they are seen, and the boxes they are given.

Items are those of the specification of learning from unlabelled images.
"""

import numpy as np
import pytest
import torch

from augment.geometry import invert, map_boxes
from vision_train.data.dataset import BAD
from vision_train.data.kind import LABELLED, REST
from vision_train.data.module import POOL_SPLIT, PSEUDO_SPLIT
from vision_train.data.phrases.annotations import GivenBox
from vision_train.errors import UserError
from vision_train.recipe.sections import Augment, TrainAugment
from vision_train.semi.box_labels import BoxLabel, LabelledBox
from vision_train.semi.label_file import write_pseudo_labels

MIRRORED = Augment(train=TrainAugment(horizontal_flip=0.5))


def _corners_of(batch):
    """Left, top, right and bottom of the box of each expression, in pixels of squares of 64."""
    x, y, width, height = 64 * batch["boxes"].double().numpy().T
    return np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)


def ids(module, split=POOL_SPLIT):
    return [sample.id for sample in module.samples(split)]


def test_the_rest_is_all_expressions_of_other_training_images_without_their_boxes(place):
    place.many(20)
    module = place.build(share=0.5, unlabelled=REST)
    labelled, rest = ({sample.group for sample in module.samples(split)} for split in ("train", POOL_SPLIT))
    assert len(labelled) == len(rest) == 8
    assert not labelled & rest
    assert all(sample.truth is None and sample.text for sample in module.samples(POOL_SPLIT))
    assert len(ids(module)) == 16


def test_the_labelled_expressions_can_be_the_pool(place):
    place.many(10)
    module = place.build(unlabelled=LABELLED)
    assert set(ids(module)) == set(ids(module, "train"))
    assert all(sample.truth is None for sample in module.samples(POOL_SPLIT))


def test_item_7_a_csv_is_a_pool_of_which_no_box_is_read(place):
    place.many(10)
    place.pictures("pool/a.png", "pool/b.png")
    plain = place.csv(
        ("a.png", "red  cup"), ("a.png", "blue cup"), ("b.png", "cup"), columns="path,text", name="pool/p.csv"
    )
    told = place.csv(
        *(("a.png", "red cup", 1, 1, 9, 9), ("a.png", "blue cup", "none", 0, 0, 0), ("b.png", "cup", -1, 9, 1, 1)),
        name="pool/q.csv",
    )
    first, second = (place.build(unlabelled=str(each)) for each in (plain, told))
    assert [sample.text for sample in first.samples(POOL_SPLIT)] == [s.text for s in second.samples(POOL_SPLIT)]
    assert sorted(sample.text for sample in first.samples(POOL_SPLIT)) == ["blue cup", "cup", "red cup"]
    assert "blue" in first.section.vocabulary, "the words of a pool may be read"


def test_what_is_labelled_is_no_part_of_a_csv(place):
    labelled = place.many(10)
    names = [line.split(",")[0] for line in labelled.read_text().splitlines()[1::2]]
    lines = [(f"../{name}", text) for name in names for text in ("Red Cup", "another cup")]
    pool = place.csv(*lines, columns="path,text", name="pool/p.csv")
    module = place.build(unlabelled=str(pool))
    trained = {sample.group for sample in module.samples("train")}
    pairs = {(sample.group, sample.text) for sample in module.samples(POOL_SPLIT)}
    assert not any(text == "Red Cup" and group in trained for group, text in pairs)
    assert any("labelled ones" in note for note in module.notes)


def test_a_line_of_a_csv_that_says_the_same_of_an_image_again_is_left_out_and_told(place):
    place.many(10)
    place.pictures("pool/a.png", "pool/b.png")
    lines = [("a.png", "cup"), ("b.png", "cup"), ("./a.png", " Cup"), ("a.png", "cup"), ("a.png", "the cup")]
    pool = place.csv(*lines, columns="path,text", name="pool/p.csv")
    module = place.build(unlabelled=str(pool))
    assert sorted((sample.place[-5:], sample.text) for sample in module.samples(POOL_SPLIT)) == [
        *(("a.png", "cup"), ("a.png", "the cup"), ("b.png", "cup")),
    ]
    (told,) = [note for note in module.notes if "says the same" in note]
    assert all(part in told for part in (f"data.unlabelled={pool}", "2 expressions", "`Cup`", "a.png"))


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        ("", ("data.unlabelled", "path,text")),
        ("absent.csv", ("data.unlabelled", "absent.csv", "path,text")),
        ("empty.csv", ("data.unlabelled", "empty.csv", "no lines")),
        ("silent.csv", ("data.unlabelled", "silent.csv", "line 2", "text")),
        ("elsewhere.csv", ("data.unlabelled", "elsewhere.csv", "line 2", "gone.png")),
        ("boxes.csv", ("data.unlabelled", "boxes.csv", "text")),
    ],
)
def test_pools_that_cannot_be_used_are_refused_by_name(place, pool, words):
    place.many(10)
    place.pictures("pool/a.png")
    place.csv(columns="path,text", name="pool/empty.csv")
    place.csv(("a.png", " "), columns="path,text", name="pool/silent.csv")
    place.csv(("gone.png", "cup"), columns="path,text", name="pool/elsewhere.csv")
    place.csv(("a.png", 1), columns="path,x", name="pool/boxes.csv")
    with pytest.raises(UserError) as refused:
        place.build(unlabelled=str(place.folder / "pool" / pool))
    assert all(word in str(refused.value) for word in words)


def test_everything_labelled_leaves_no_rest(place):
    place.many(10)
    with pytest.raises(UserError, match=r"data\.unlabelled=rest.*data\.share"):
        place.build(unlabelled=REST)


class TestViews:
    def test_a_teacher_sees_the_whole_and_a_student_what_training_does_with_their_own_text(self, place):
        place.many(10)
        module = place.build(unlabelled=LABELLED, augment=MIRRORED, scales=[32, 48], shift=True)
        dataset = module.make_dataset(module.samples(POOL_SPLIT), stream=POOL_SPLIT, alone=True)
        batch = dataset.to_batch([dataset[number, epoch] for epoch in range(4) for number in range(len(dataset))])
        for view, whole in (("weak", True), ("strong", False)):
            seen = batch[view]
            assert ((~seen["padding_mask"]).sum(dim=(1, 2)) == 64 * 48).all() == whole
            mirrored = seen["affine"][:, 0, 0] < 0
            assert {True, False} == {*mirrored.tolist()}
            for text, flipped in zip(seen["text"], mirrored.tolist(), strict=True):
                assert text in ("red cup", "the right cup" if flipped else "the left cup")
        assert not torch.equal(batch["weak"]["affine"], batch["strong"]["affine"])
        again = dataset.to_batch([dataset[number, epoch] for epoch in range(4) for number in range(len(dataset))])
        assert all(batch[view]["image"].equal(again[view]["image"]) for view in ("weak", "strong"))

    def test_scores_compare_mirrored_smaller_and_recoloured_views_of_known_affines(self, place):
        place.many(10)
        module = place.build(unlabelled=LABELLED, augment=MIRRORED)
        dataset = module.make_views(module.samples(POOL_SPLIT), 2, alone=True)
        views = dataset.to_batch([dataset[0, 0]])["views"]
        assert len(views) == 5
        whole, mirrored, smaller, *still = views
        assert mirrored["affine"][0, 0, 0] == -whole["affine"][0, 0, 0]
        assert smaller["affine"][0, 0, 0] == 0.75 * whole["affine"][0, 0, 0]
        box = np.array([[4.0, 8.0, 20.0, 28.0]])
        for view in views:
            affine = view["affine"][0].numpy()
            np.testing.assert_allclose(map_boxes(map_boxes(box, affine), invert(affine)), box, atol=1e-6)
        for view in still:
            assert view["affine"].equal(whole["affine"])
            assert not view["image"].equal(whole["image"])

    def test_what_training_does_not_mirror_is_not_mirrored_to_be_compared(self, place):
        place.many(10)
        module = place.build(unlabelled=LABELLED, augment=Augment(train=TrainAugment(horizontal_flip=0)))
        dataset = module.make_views(module.samples(POOL_SPLIT), 2, alone=True)
        views = dataset.to_batch([dataset[number, 0] for number in range(4)])["views"]
        assert all((view["affine"][:, 0, 0] > 0).all() for view in views)


class TestGivenBoxes:
    def write(self, place, *labels):
        file = place.folder / "run" / "given.csv"
        file.parent.mkdir()
        write_pseudo_labels(file, labels)
        return str(file)

    def test_boxes_of_a_file_follow_the_pixels_and_weigh(self, place):
        place.many(20)
        pool = place.build(share=0.5, unlabelled=REST).samples(POOL_SPLIT)
        box = (4.0, 8.0, 20.0, 28.0)
        labels = [
            BoxLabel(each.id, "", place < 6, boxes=(LabelledBox(each.text, box, weight=0.5),))
            for place, each in enumerate(pool)
        ]
        module = place.build(share=0.5, unlabelled=REST, pseudo_labels=self.write(place, *labels), augment=MIRRORED)
        given = module.samples(PSEUDO_SPLIT)
        assert [sample.truth for sample in given] == [GivenBox(box, 0.5)] * 6
        dataset = module.make_dataset(given, stream=PSEUDO_SPLIT, alone=True)
        batch = dataset.to_batch([dataset[number, 0] for number in range(6)])
        assert batch["weight"].tolist() == [0.5] * 6
        for corners, affine in zip(_corners_of(batch), batch["affine"].numpy(), strict=True):
            np.testing.assert_allclose(map_boxes(corners[None], invert(affine)), [box], atol=1e-4)

    @pytest.mark.parametrize("text", ["another thing", "red cup", "the left cup"])
    def test_a_box_belongs_to_its_own_expression(self, place, text):
        place.many(20)
        first = place.build(share=0.5, unlabelled=REST).samples(POOL_SPLIT)[0]
        file = self.write(place, BoxLabel(first.id, "", boxes=(LabelledBox(text.upper(), (1.0, 1.0, 5.0, 5.0)),)))
        if text == first.text:
            place.build(share=0.5, unlabelled=REST, pseudo_labels=file)
            return
        with pytest.raises(UserError) as refused:
            place.build(share=0.5, unlabelled=REST, pseudo_labels=file)
        assert all(word in str(refused.value) for word in ("data.pseudo_labels", first.id, text.upper(), "remove it"))

    @pytest.mark.parametrize("left", [-500.0, 5000.0])
    def test_a_box_beyond_its_image_is_bad_and_of_one_that_reaches_beyond_the_rest_is_learnt(self, place, left):
        place.many(20)
        pool = place.build(share=0.5, unlabelled=REST).samples(POOL_SPLIT)
        boxes = [(left, 8.0, left + 4, 28.0), (-20.0, 8.0, 20.0, 2800.0)]
        labels = [
            BoxLabel(each.id, "", boxes=(LabelledBox(each.text, box),)) for each, box in zip(pool, boxes, strict=False)
        ]
        file = self.write(place, *labels)
        module = place.build(share=0.5, unlabelled=REST, pseudo_labels=file, on_bad="skip")
        dataset = module.make_dataset(module.samples(PSEUDO_SPLIT), stream=PSEUDO_SPLIT, alone=True)
        batch = dataset.to_batch([dataset[number, 0] for number in range(2)])
        assert batch["id"] == [pool[1].id] * 2
        assert "data.pseudo_labels lies outside of its 64 x 48 pixels" in batch[BAD][pool[0].place]
        corners = map_boxes(_corners_of(batch), invert(batch["affine"][0].numpy()))
        np.testing.assert_allclose(corners[0], [0, 8, 20, 48], atol=1e-4)

    @pytest.mark.parametrize("count", [0, 2])
    def test_an_expression_means_one_box(self, place, count):
        place.many(20)
        first = place.build(share=0.5, unlabelled=REST).samples(POOL_SPLIT)[0]
        boxes = tuple(LabelledBox(first.text, (1.0, 1.0, 5.0, 5.0 + number)) for number in range(count))
        file = self.write(place, BoxLabel(first.id, "", boxes=boxes))
        with pytest.raises(UserError, match=r"data\.pseudo_labels.*means one"):
            place.build(share=0.5, unlabelled=REST, pseudo_labels=file)
