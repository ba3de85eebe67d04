"""What is predicted on: csv files with texts, and images with texts of the command line."""

import pytest

from vision_train.data.phrases.build import loose, loose_with_texts
from vision_train.data.phrases.tokens import learn_vocabulary
from vision_train.errors import UserError

WORDS = learn_vocabulary(["red cup"])


def test_csv_files_with_texts_are_predicted_on(place):
    place.pictures("a.png")
    vocabulary = learn_vocabulary(["red cup"])
    table = place.text("ask.csv", "path,text\na.png,Red cup\na.png,cup\n")
    loader = loose(place.recipe(vocabulary=vocabulary), [table], learner="network")
    (batch,) = loader
    assert batch["id"] == [f"{place.folder / 'a.png'}#{number}" for number in (1, 2)]
    assert batch["text"] == ["red cup", "cup"]
    assert "boxes" not in batch
    for bad, message in (
        (place.folder / "a.png", "path,text"),
        (place.text("b.csv", "path\na.png\n"), "no column text"),
    ):
        with pytest.raises(UserError, match=message):
            loose(place.recipe(vocabulary=vocabulary), [bad], learner="network")
    with pytest.raises(UserError, match="line 2: the text is empty"):
        loose(place.recipe(vocabulary=vocabulary), [place.text("c.csv", "path,text\na.png,\n")], learner="network")


def test_each_image_is_asked_about_with_each_text(place):
    place.pictures("a.png", "inside/b.png")
    loader = loose_with_texts(place.recipe(vocabulary=WORDS), [place.folder], ["Red  cup", "cup"], learner="network")
    (batch,) = loader
    names = [str(place.folder / name) for name in ("a.png", "inside/b.png")]
    assert batch["id"] == [f"{name}#{number}" for name in names for number in (1, 2)]
    assert batch["text"] == ["red cup", "cup"] * 2
    assert "boxes" not in batch
    assert loader.dataset.notes == []


def test_a_csv_may_name_the_images_but_then_has_no_texts_of_its_own(place):
    place.pictures("a.png")
    recipe = place.recipe(vocabulary=WORDS)
    assert len(loose_with_texts(recipe, [place.text("b.csv", "path\na.png\n")], ["cup"], learner="").dataset) == 1
    with pytest.raises(UserError, match=r"c\.csv.*column text.*leave --text out"):
        loose_with_texts(recipe, [place.text("c.csv", "path,text\na.png,cup\n")], ["cup"], learner="")


def test_what_the_tokenizer_knows_nothing_of_is_refused_and_what_it_knows_in_part_is_said(place):
    place.pictures("a.png")
    recipe = place.recipe(vocabulary=WORDS)
    with pytest.raises(UserError, match="--text 'Ω': the run knows none of its words"):
        loose_with_texts(recipe, [place.folder], ["Ω"], learner="the run")
    loader = loose_with_texts(recipe, [place.folder], ["cup Ω", "cup cup cup cup cup cup cup"], learner="the run")
    unknown, cut = loader.dataset.notes
    assert "does not know all words of `cup Ω`" in unknown
    assert "data.max_tokens=8" in cut
