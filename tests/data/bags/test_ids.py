"""Ids as tables write them."""

import pytest

from vision_train.data.bags.ids import match_ids, match_tables
from vision_train.data.bags.tables import Labels, SlideLabel, SlideSplits


@pytest.mark.parametrize(
    ("listed", "known", "ids"),
    [
        (["S00.h5", "S01"], ["S00", "S01"], {"S00.h5": "S00"}),
        (["S00.PT", "out/S01.pt", "slides\\S02.svs"], ["S00", "S01", "S02"], None),
        (["18.0", "7.00"], ["18", "7"], {"18.0": "18", "7.00": "7"}),
        (["18.0"], ["18", "018"], {}),
        (["18.0"], ["018"], {}),
        (["18.0", "18"], ["18"], {}),
        (["S00.h5", "S00.pt"], ["S00"], {}),
        (["1.5", "S0"], ["1", "S00"], {}),
        (["18.0.h5"], ["18"], {"18.0.h5": "18"}),
    ],
)
def test_an_id_means_a_bag_where_no_other_can_be_meant(listed, known, ids) -> None:
    expected = {"S00.PT": "S00", "out/S01.pt": "S01", "slides\\S02.svs": "S02"} if ids is None else ids
    matched = match_ids(listed, known, "labels.csv")
    assert matched.ids == expected
    assert bool(matched.notes) == bool(expected)


def test_both_tables_are_written_as_the_features_are() -> None:
    labels = Labels({"1.h5": SlideLabel("a"), "2": SlideLabel("b")}, {"3.h5": "no label"})
    labels, splits, notes = match_tables(["1", "2", "3"], labels, SlideSplits({"1.0": "train", "2.0": "test"}))
    assert labels is not None
    assert splits is not None
    assert (set(labels.slides), set(labels.bad), splits.slides) == ({"1", "2"}, {"3"}, {"1": "train", "2": "test"})
    assert [note.split(":")[0] for note in notes] == ["the table of labels", "the file of splits"]
    assert "1.h5 is 1" in notes[0]
    assert "floats: 1.0 is 1" in notes[1]


def test_notes_name_ids_as_the_table_writes_them() -> None:
    written = {"S0": "S0.svs", "C:\\slides\\S1": "C:\\slides\\S1.svs", "gone": "gone.svs"}
    slides = dict.fromkeys([*written, "S2"], SlideLabel("a"))
    labels, _, notes = match_tables(
        ["S0", "S1", "S2"], Labels(slides, {}, written), SlideSplits({"S0": "train"}, {"S0": "S0.tif"})
    )
    assert labels is not None
    assert {"S0", "S1", "S2"} <= labels.slides.keys()
    assert "S0.svs is S0, C:\\slides\\S1.svs is S1 (2 in all)" in notes[0]
    assert "S0.tif is S0" in notes[1]
