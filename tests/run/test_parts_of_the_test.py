"""A test that has parts, such as testA and testB: nothing of them counts as learned, and they are no copies of it."""

import shutil
from pathlib import Path

import pytest

from tests.data.phrases.conftest import Place, ref
from vision_train.data.phrases.module import PhraseDataModule
from vision_train.errors import UserError
from vision_train.run.leakage import check_overlap
from vision_train.run.sample_lists import learnt_of, list_samples

SPLITS = {"a.png": "train", "b.png": "val", "c.png": "testA", "d.png": "testB"}


def data_of(folder: Path, *, copied: str | None = None) -> PhraseDataModule:
    """Four pictures, each with two expressions; one of the test may be a copy of that which is trained on."""
    place = Place(folder)
    place.pictures(*SPLITS)
    if copied:
        shutil.copy(folder / "a.png", folder / copied)
    refs = [ref(at, split, "cup", "the cup", image=at) for at, split in enumerate(SPLITS.values(), start=1)]
    place.refer(*refs, images=[*SPLITS])
    return place.build()


def test_parts_are_no_copies_of_the_test(tmp_path: Path):
    data = data_of(tmp_path)
    check_overlap(data)
    assert not [note for note in data.notes if "copies" in note]


@pytest.mark.parametrize("name", ["c.png", "d.png"])
def test_a_copy_in_a_part_is_refused(tmp_path: Path, name: str):
    with pytest.raises(UserError, match=rf"2 of 4 test expressions are about images of train.*{name}"):
        check_overlap(data_of(tmp_path, copied=name))


def test_only_what_is_trained_on_or_chooses_an_epoch_is_learnt(tmp_path: Path):
    learnt = learnt_of(list_samples(data_of(tmp_path)))
    assert {sample.id.partition("#")[0] for sample in learnt} == {"a.png", "b.png"}
