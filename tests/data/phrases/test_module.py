"""From a recipe to batches: splits, few labels, expressions that cannot be read, bad images.

Items are those of the specification of grounding.
"""

import dataclasses
import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from augment.geometry import invert, map_boxes
from tests.data.phrases.conftest import ref
from vision_train.data.crop_section import Crop
from vision_train.data.kind import SPLITS, KindOfData
from vision_train.data.phrases import PHRASES, Section
from vision_train.data.phrases.build import all_samples
from vision_train.data.phrases.tokens import learn_vocabulary, tokenizer_of
from vision_train.data.sample import digest
from vision_train.errors import UserError
from vision_train.recipe.sections import Augment, EvalAugment, Mixing, TrainAugment


def first_batch(module, split="train"):
    return next(iter(module.split_loader(split)))


def test_a_batch_holds_what_a_grounding_network_needs(place):
    place.many(10)
    batch = next(iter(place.build(shift=True, scales=[64, 32]).train_dataloader()))
    assert sorted(batch) == [
        *(
            "affine",
            "boxes",
            "category",
            "group",
            "id",
            "image",
            "padding_mask",
            "size",
            "text",
            "token_padding",
            "tokens",
        )
    ]
    assert (batch["image"].shape, batch["image"].dtype) == ((4, 3, 64, 64), torch.float32)
    assert (batch["padding_mask"].shape, batch["padding_mask"].dtype) == ((4, 64, 64), torch.bool)
    assert (batch["tokens"].shape, batch["tokens"].dtype) == ((4, 8), torch.int64)
    assert batch["token_padding"].equal(batch["tokens"] == 0)
    assert (batch["affine"].dtype, batch["affine"].shape) == (torch.float64, (4, 3, 3))
    assert batch["size"] == [(48, 64)] * 4
    assert batch["group"] == [name.partition("#")[0] for name in batch["id"]]
    assert batch["category"] == [""] * len(batch["id"])
    assert set(batch["text"]) <= {"red cup", "the left cup"}
    for boxes, affine in zip(batch["boxes"].double().numpy(), batch["affine"].numpy(), strict=True):
        (x, y, width, height), side = boxes, 64
        corners = np.array([[x - width / 2, y - height / 2, x + width / 2, y + height / 2]]) * side
        np.testing.assert_allclose(map_boxes(corners, invert(affine)), [[4, 8, 20, 28]], atol=1e-4)


def test_evaluation_is_centred_and_whole(place):
    place.many(10)
    module = place.build(shift=True, scales=[16], augment=Augment(train=TrainAugment(horizontal_flip=1.0)))
    batch = first_batch(module, "val")
    torch.testing.assert_close(batch["boxes"][0], torch.tensor([12 / 64, (18 + 8) / 64, 16 / 64, 20 / 64]))
    assert (~batch["padding_mask"]).sum(dim=(1, 2)).tolist() == [64 * 48] * 2
    assert batch["text"] == ["red cup", "the left cup"]


def test_a_mirrored_image_has_a_mirrored_expression_and_its_tokens(place):
    place.many(10)
    module = place.build(augment=Augment(train=TrainAugment(horizontal_flip=1.0)))
    batch = next(iter(module.train_dataloader()))
    assert set(batch["text"]) <= {"red cup", "the right cup"}
    expected = module.tokenizer.encode(batch["text"], 8)
    assert batch["tokens"].equal(expected.ids)


def test_mirrored_words_are_known_to_the_tokenizer_of_the_expressions(place):
    place.many(10)  # `left` is said, and `right` is not
    tokenizer = place.build(augment=Augment(train=TrainAugment(horizontal_flip=0.5))).tokenizer
    assert "right" in tokenizer.vocabulary


def test_expressions_of_an_image_stay_together(place):
    place.many(20)
    module = place.build()
    assert module.counts == {"train": 32, "val": 4, "test": 4}
    images = {split: Counter(sample.group for sample in module.samples(split)) for split in module.counts}
    assert all(set(counts.values()) == {2} for counts in images.values())
    assert not images["train"].keys() & (images["val"].keys() | images["test"].keys())
    one, other = module.samples("train")[:2]
    assert one.identity == other.identity
    module.leave_out("train", [one.identity])
    assert module.counts["train"] == 30


def test_parts_of_the_test_are_splits(place):
    names = [f"{name}.png" for name in "abcd"]
    place.pictures(*names)
    splits = ("train", "val", "testA", "testB")
    refs = [ref(number, split, "cup", image=number) for number, split in enumerate(splits, start=1)]
    place.refer(*refs, images=names)
    module = place.build()
    assert module.counts == {"train": 1, "val": 1, "test": 2, "testA": 1, "testB": 1}
    assert PHRASES.splits == (*SPLITS, "testA", "testB")
    assert [sample.id for sample in place.build(only="testA").samples("testA")] == ["c.png#300"]
    assert [sample.id for sample in place.build(only="test").samples("test")] == ["c.png#300", "d.png#400"]


def test_a_test_that_is_not_named_is_val_again(place):
    place.pictures("a.png", "b.png")
    place.csv(
        ("a.png", "cup", 0, 0, 8, 8, "train"), ("b.png", "cup", 0, 0, 8, 8, "val"), columns="path,text,x,y,w,h,split"
    )
    module = place.build()
    assert module.samples("test") == module.samples("val")
    with pytest.raises(UserError, match="testA"):
        module.samples("testA")
    assert place.build(only="val").counts["val"] == 1
    with pytest.raises(UserError, match="--split"):
        place.build(only="testA")


@pytest.mark.parametrize(("share", "count"), [(1.0, 16), (0.5, 8), (0.3, 4), (0.1, 1), (0.001, 1)])
def test_item_12_a_share_of_the_images_is_rounded_down_and_at_least_one(place, share: float, count: int):
    place.many(20)  # 16 are trained on
    module = place.build(share=share)
    samples = module.samples("train")
    assert len({sample.group for sample in samples}) == count
    assert len(samples) == 2 * count  # all that is said of them
    if share < 1:
        assert len(module.drawn_from["train"]) == 32


def test_item_12_shares_of_one_seed_are_nested_and_do_not_depend_on_the_order(place):
    place.many(20)

    def drawn(share: float, seed: int = 0) -> set[str]:
        return {sample.group for sample in place.build(share=share, seed=seed).samples("train")}

    sets = [drawn(share) for share in (0.1, 0.3, 0.5, 0.9)]
    assert all(small < large for small, large in pairwise(sets))
    assert drawn(0.5, seed=1) != sets[2]
    header, *lines = (place.folder / "phrases.csv").read_text().splitlines()
    place.text("phrases.csv", "\n".join([header, *reversed(lines)]))
    assert drawn(0.5) == sets[2]


def test_of_a_split_that_is_evaluated_alone_nothing_is_drawn(place):
    place.many(20)
    assert place.build(only="train", share=0.1).counts["train"] == 40


def test_words_of_images_that_are_not_drawn_are_learned_and_the_vocabulary_is_kept(place):
    place.many(20)
    module = place.build(share=0.05)
    assert {"red", "left", "cup"} <= {*module.section.vocabulary}
    again = place.build(vocabulary=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "cup", "left", "the"])
    assert len(again.tokenizer.vocabulary) == 8


def test_a_tokenizer_of_a_folder_is_taken(place):
    place.many(10)
    tokenizer_of(learn_vocabulary(["red cup", "the left right cup"])).save(place.folder / "bert")
    module = place.build(tokenizer=str(place.folder / "bert"))
    assert module.section.vocabulary is None
    assert module.tokenizer.unknown("the red cup") == (0, 3)


BAD = {
    "outside": (("a.png", "cup", 70, 0, 8, 8), r"lie outside of their image.*phrases\.csv line 22"),
    "empty box": (("a.png", "cup", 4, 4, 0, 8), r"zero or negative size.*line 22"),
    "no words": (("a.png", " ", 4, 4, 8, 8), r"without a word.*line 22"),
    "no image": (("gone.png", "cup", 4, 4, 8, 8), r"not below.*gone\.png"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_named_once_or_left_out_and_counted(place, name: str):
    line, message = BAD[name]
    table = place.many(10)
    place.pictures("a.png")
    table.write_text(table.read_text() + ",".join(map(str, line)) + "\n")
    with pytest.raises(UserError, match=rf"(?s){message}.*data\.on_bad=skip.*expressions and images"):
        place.build()
    module = place.build(on_bad="skip")
    assert sum(module.counts.values()) == 20
    assert any("left out" in note for note in module.notes)


def test_boxes_that_reach_beyond_their_image_are_clipped(place):
    table = place.many(10)
    table.write_text(table.read_text() + "00.png,edge,50,40,40,4\n")
    module = place.build()
    (edge,) = (sample for split in module.counts for sample in module.samples(split) if sample.text == "edge")
    assert edge.truth.box == (50, 40, 64, 44)
    assert any("clipped" in note for note in module.notes)


def test_sentences_that_stand_there_twice_are_kept_and_told(place):
    table = place.many(10)
    table.write_text(table.read_text() + "00.png,red cup,4,8,16,20\n01.png,red cup,30,8,16,20\n")
    module = place.build()
    assert sum(module.counts.values()) == 22
    told = " ".join(module.notes)
    assert "the same expression of the same box" in told
    assert "the same expression of several boxes" in told


def test_images_that_are_all_elsewhere_are_named_with_the_key(place):
    place.csv(("a.png", "cup", 0, 0, 8, 8))
    with pytest.raises(UserError, match=r"none of its 1 images.*a\.png.*data\.images"):
        place.build()


def test_an_image_that_cannot_be_read_stops_or_is_skipped(place):
    names = ["a.png", "b.png", "c.png"]
    place.pictures(*names)
    splits = ["train", "train", "val"]
    place.refer(*(ref(number, splits[number - 1], "cup", image=number) for number in (1, 2, 3)), images=names)
    (place.folder / "a.png").write_bytes(b"no image, though its annotations say its size")
    with pytest.raises(UserError, match=r"a\.png.*data\.on_bad=skip"):
        [*place.build().split_loader("train")]
    loader = place.build(on_bad="skip").split_loader("train")
    assert [batch["id"] for batch in loader] == [["b.png#200", "b.png#200"]]  # the next one takes its place
    assert [name.endswith("a.png") for name in loader.dataset.skipped] == [True]


def test_an_image_of_another_size_than_annotated_is_bad(place):
    place.pictures("a.png", "b.png", "c.png", "d.png")
    refs = [ref(number, "train", "cup", image=number) for number in range(1, 5)]
    place.refer(*refs, images=["a.png", "b.png", "c.png", "d.png"])
    instances = (place.folder / "instances.json").read_text().replace('"width": 64', '"width": 65')
    place.text("instances.json", instances)
    with pytest.raises(UserError, match="65 x 48 pixels, but it has 64 x 48"):
        first_batch(place.build())


def test_where_no_image_is_left_to_train_on_what_was_left_out_is_said(place):
    place.pictures("a.png", "b.png")
    place.refer(ref(1, "val", "cup"), ref(2, "train", "cup", image=2, box=999))
    with pytest.raises(UserError, match=r"no image to train on.*What could not be used: .*box.*ref 2"):
        place.build()


class TestTexts:
    def test_long_ones_are_cut_and_told(self, place):
        table = place.many(10)
        table.write_text(table.read_text() + f"00.png,{'red ' * 500},0,0,8,8\n")
        module = place.build()
        assert any("data.max_tokens=8" in warning and "(1 in all)" not in warning for warning in module.warnings)
        every = [batch for split in module.counts for batch in module.split_loader(split)]
        assert {batch["tokens"].shape[1] for batch in every} == {8}

    def test_of_long_ones_messages_show_the_beginning(self, place):
        table = place.many(10)
        table.write_text(table.read_text() + f"00.png,{'犬 ' * 500}cup,0,0,8,8\n", encoding="utf-8")
        mirrored = Augment(train=TrainAugment(horizontal_flip=0.5))
        warnings = place.build(augment=mirrored, vocabulary=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cup"]).warnings
        assert sum("犬 犬" in warning for warning in warnings) == 3  # unknown, cut, wrongly mirrored
        assert all(len(warning) < 400 for warning in warnings)

    def test_what_the_tokenizer_knows_nothing_of_is_refused_or_left_out(self, place):
        table = place.many(10)
        table.write_text(table.read_text() + "00.png,左边的杯子,0,0,8,8\n", encoding="utf-8")
        vocabulary = learn_vocabulary(["red cup", "the left right cup"])
        with pytest.raises(UserError, match=r"(?s)knows nothing of.*左边的杯子.*data\.on_bad=skip"):
            place.build(vocabulary=vocabulary)
        assert sum(place.build(vocabulary=vocabulary, on_bad="skip").counts.values()) == 20

    def test_one_of_a_part_of_the_test_is_counted_once(self, place):
        place.pictures("a.png", "b.png")
        place.refer(ref(1, "train", "cup"), ref(2, "testA", "犬", image=2), ref(3, "val", "cup"))
        module = place.build(on_bad="skip")
        assert module.counts == {"train": 1, "val": 1, "test": 0, "testA": 0}
        assert any("knows nothing of" in note and "in all" not in note for note in module.notes)

    def test_a_tokenizer_that_knows_nothing_at_all_is_refused(self, place):
        place.many(10)
        with pytest.raises(UserError, match=r"data\.root.*not one expression is left.*knows nothing of"):
            place.build(vocabulary=learn_vocabulary(["犬"]), on_bad="skip")

    def test_words_that_are_partly_unknown_are_told(self, place):
        place.many(10)
        module = place.build(vocabulary=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cup", "red"])
        assert any("does not know all words of `the left cup`" in warning for warning in module.warnings)

    @pytest.mark.parametrize("text", ["הכוס משמאל", "左边的杯子", "الكأس على اليسار"])
    def test_other_scripts_are_learned_and_a_flip_is_warned_of(self, place, text: str):
        names = [f"{number}.png" for number in range(6)]
        place.pictures(*names)
        place.csv(*((name, text, 0, 0, 8, 8) for name in names))
        module = place.build(augment=Augment(train=TrainAugment(horizontal_flip=0.5)))
        assert module.tokenizer.unknown(text)[0] == 0
        assert any("augment.train.horizontal_flip" in warning for warning in module.warnings)
        assert not place.build().warnings

    def test_the_warning_of_a_flip_needs_another_script(self, place):
        place.many(10)
        module = place.build(augment=Augment(train=TrainAugment(horizontal_flip=0.5)))
        assert not any("horizontal_flip" in warning for warning in module.warnings)


def test_an_edited_expression_or_box_is_another_data_set(place):
    table = place.many(10)
    content, digests = table.read_text(), set()
    for edited in (content, content.replace("red cup", "red mug", 1), content.replace("16,20", "16,21", 1)):
        table.write_text(edited)
        digests.add(digest(all_samples(place.recipe())))
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("augment", "key"),
    [
        (Augment(train=TrainAugment(rand_augment="rand-m9")), r"augment\.train\.rand_augment.*data\.crop"),
        (Augment(train=TrainAugment(crop_scale=(0.5, 1))), r"augment\.train\.crop_scale"),
        (Augment(train=TrainAugment(erasing=0.5)), r"augment\.train\.erasing"),
        (Augment(mixing=Mixing(cutmix=1.0)), r"augment\.mixing"),
        (Augment(eval=EvalAugment(crop_share=0.9)), r"augment\.eval"),
    ],
)
def test_augmentation_without_effect_is_refused(place, augment: Augment, key: str):
    place.many(10)
    with pytest.raises(UserError, match=key):
        place.build(augment=augment)


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"source": "referring", "root": "x"}, "root"),
        ({"image_size": 0}, "image_size"),
        ({"scales": []}, "scales"),
        ({"scales": [0]}, "scales"),
        ({"scales": [641]}, "scales"),
        ({"max_tokens": 2}, "max_tokens"),
        ({"share": 0.0}, "share"),
        ({"share": 1.5}, "share"),
        ({"splits": {"train": 0.5}}, "splits.train"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_values_outside_their_range_are_problems(keys, key: str):
    assert key in [name for name, _ in Section(**keys).problems()]


def test_the_section_says_what_is_missing_and_what_it_names():
    assert [key for key, _ in Section().unset()] == ["root"]
    assert not [*Section(source="referring").unset(), *Section(labels="a.csv").unset(), *Section(root="x").problems()]
    assert (Section(labels="a.csv").named(), Section(root="x").named()) == ("data.labels=a.csv", "data.root=x")
    assert Section(root="a").differing(Section(root="b")) == ["root"]
    assert not Section(share=0.5).differing(Section())
    assert Section(root="a", labels="b", images="c", tokenizer="d").paths() == ["a", "b", "c"]


def test_the_kind_keeps_its_contract(place):
    assert isinstance(PHRASES, KindOfData)
    implementation = PHRASES.load()
    for name in ("build", "all_samples", "loose", "loose_with_texts", "picture_sources", "check_start"):
        assert callable(getattr(implementation, name))
    place.many(10)
    samples = implementation.all_samples(place.recipe())
    sources, notes = implementation.picture_sources(samples, Section(), None)
    assert sources["originals"][samples[0].id]().shape == (48, 64, 3)
    assert notes == []
    assert {field.name for field in dataclasses.fields(Section)} >= {"source", "root", "batch_size", "on_bad"}


def test_a_crop_keeps_the_box(place):
    place.many(10)
    module = place.build(crop=Crop(probability=1.0, short_sides=[48], sides=(24, 40)))
    for batch in module.train_dataloader():
        assert (batch["boxes"][:, 2:] > 0).all()
        sizes = (~batch["padding_mask"]).flatten(1).sum(1)
        assert (sizes[["left" in text for text in batch["text"]]] == 64 * 48).all()


def test_item_12_a_share_can_be_drawn_as_refteacher_does_from_images_in_the_order_of_their_first_expressions(place):
    place.many(30)
    listed = list(dict.fromkeys(sample.group for sample in place.build().samples("train")))
    for share in (0.25, 0.5):
        drawn = [place.build(share=share, drawn_as="refteacher", seed=seed).samples("train") for seed in (0, 5)]
        random.seed(0)
        assert {sample.group for sample in drawn[0]} == {*random.sample(listed, int(share * len(listed)))}
        assert [sample.id for sample in drawn[0]] == [sample.id for sample in drawn[1]]
