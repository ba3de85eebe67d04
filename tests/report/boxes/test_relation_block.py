"""The learned relation as charts."""

import pytest

from models.detr.relation_bias import RelationBias
from vision_train.artefacts import Table, read_artefact, write_artefact
from vision_train.report import boxes


def relation(*largest: float) -> RelationBias:
    heads = [[[0.0, most / 2, most], [0.0, 0.0, most / 4]] for most in largest]
    return RelationBias("test_relation", "Relation", [0.1, 1.0, 3.0], [0.5, 1.0], heads, "What it is.")


def test_each_head_has_a_chart_and_all_have_one_scale():
    markup = str(boxes.block(relation(0.4, 1.9)))
    assert markup.count("<svg") == 2
    assert markup.count(">2</text>") >= 2  # the top of both axes
    assert "What it is." in markup


@pytest.mark.parametrize(
    ("largest", "said", "charts"),
    [
        ((1.0, 0.0), "Head 2 adds nothing", 1),
        ((0.0, 1.0, 0.0), "Heads 1, 3 add nothing", 1),
        ((0.0, 0.0), "No head adds anything", 0),
    ],
)
def test_heads_that_add_nothing_are_named(largest, said, charts):
    markup = str(boxes.block(relation(*largest)))
    assert said in markup
    assert markup.count("<svg") == charts


def test_what_is_written_is_read_again(tmp_path):
    write_artefact(tmp_path, relation(0.4, 1.9), boxes.CODECS)
    assert read_artefact(tmp_path / "test_relation.json", boxes.CODECS) == relation(0.4, 1.9)


def test_other_artefacts_are_left_to_others():
    assert boxes.block(Table("a", "b", [], [])) is None
