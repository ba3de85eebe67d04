"""Weights that have seen the images of validation and test are named; so are images of several splits."""

from pathlib import Path

import pytest
import torch

from tests.data.phrases.conftest import Place, ref
from vision_train.checkpoints import Weights
from vision_train.data.phrases.build import check_start
from vision_train.data.phrases.module import PhraseDataModule
from vision_train.errors import UserError
from vision_train.run.leakage import check_overlap

DETR = ("backbone.0.body.conv1.weight", "transformer.encoder.layers.0.norm1.weight", "class_embed.weight")
TRANSVG = ("visumodel.transformer.encoder.layers.0.norm1.weight", "reg_token.weight")
BACKBONE = ("conv1.weight", "fc.weight")


def weights(*names: str, recipe: dict | None = None) -> Weights:
    state = {name: torch.zeros(1) for name in names}
    return Weights(state, Path("w.pth"), file_format="torch", container="", recipe=recipe)


def divided(place: Place, *names: str) -> PhraseDataModule:
    """A picture for each of train, val and testA."""
    place.pictures(*names)
    splits = ("train", "val", "testA")
    place.refer(*(ref(at, split, "cup", image=at) for at, split in enumerate(splits, 1)), images=names)
    return place.build()


def doubts(data: PhraseDataModule, start: Weights) -> list[str]:
    return check_start(None, start, "w.pth", data)  # type: ignore[arg-type]  # the recipe says nothing of it


OF_COCO = [f"COCO_train2014_{number:012d}.jpg" for number in range(3)]


class TestWeightsThatHaveSeenTheImages:
    def test_a_detr_of_others_is_doubted_for_images_of_coco(self, place):
        (doubt,) = doubts(divided(place, *OF_COCO), weights(*DETR))
        assert doubt.startswith("w.pth: holds the encoder of a DETR")
        assert f"2 of 2 expressions of val, test, testA are about such images ({OF_COCO[1]})" in doubt
        assert "without the validation and test images of RefCOCO" in doubt

    def test_names_of_2017_are_known_by_their_folder(self, place):
        names = [f"train2017/{number:012d}.jpg" for number in range(3)]
        assert doubts(divided(place, *names), weights(*DETR))

    @pytest.mark.parametrize(
        "start", [weights(*TRANSVG), weights(*BACKBONE), weights(*DETR, recipe={"task": "grounding"})]
    )
    def test_other_weights_and_our_own_are_not(self, place, start: Weights):
        assert doubts(divided(place, *OF_COCO), start) == []

    def test_other_images_are_not(self, place):
        assert doubts(divided(place, "a.png", "val2017/000000000001.jpg", "2.jpg"), weights(*DETR)) == []


class TestImagesOfSeveralSplits:
    """RefCOCOg as Google split it: expressions of one image are in train and val, and nothing is a test."""

    REFS = (ref(1, "train", "cup"), ref(2, "val", "red cup", "a cup"), ref(3, "val", "cup", image=2))

    def test_they_are_counted_and_refused_as_test(self, place):
        place.pictures("a.png", "b.png")
        place.refer(*self.REFS, name="refs(google).p")
        told = (
            r"2 of 3 test expressions are about images of train expressions \(1 files\): a\.png#200.*allow_overlap=true"
        )
        with pytest.raises(UserError, match=told):
            check_overlap(place.build())

    def test_they_are_told_where_they_are_allowed(self, place):
        place.pictures("a.png", "b.png")
        place.refer(*self.REFS, name="refs(google).p")
        data = place.build(allow_overlap=True)
        check_overlap(data)
        shown = [note for note in data.notes if "are about images of train" in note]
        assert ["2 of 3 val" in shown[0], "2 of 3 test" in shown[1], len(shown)] == [True, True, 2]
