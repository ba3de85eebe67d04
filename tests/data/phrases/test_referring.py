"""The drawn scenes with expressions: frozen, understood by a second reader, written as REFER's folders are."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from augment.geometry import mirrored_text
from vision_train.data.findings import Findings
from vision_train.data.phrases import Section
from vision_train.data.phrases.build import build
from vision_train.data.phrases.read import read_phrases
from vision_train.data.phrases.refer import PlainUnpickler
from vision_train.data.phrases.verbs import add_verbs
from vision_train.data.toy.refer_folder import write_refer
from vision_train.data.toy.referring import COUNTS, SIDE, draw_things, referring
from vision_train.data.toy.resolver import resolve
from vision_train.data.toy.things import COLOURS, SHAPES, SIZES, Thing
from vision_train.errors import UserError
from vision_train.recipe.sections import Augment


def thing(colour: str = "red", shape: str = "circle", size: str = "small", left: float = 0, top: float = 0) -> Thing:
    return Thing(colour, shape, size, (left, top, left + 10, top + 10))


def digest() -> str:
    whole = hashlib.sha256()
    for each in referring():
        said = [(one.number, one.text, one.thing) for one in each.expressions]
        boxes = [(one.colour, one.shape, one.size, one.box) for one in each.things]
        whole.update(json.dumps([each.scene.name, each.scene.split, said, boxes]).encode())
        whole.update(each.scene.pixels.tobytes())
    return whole.hexdigest()[:16]


def test_the_scenes_are_frozen():
    assert digest() == "a650072c5bf6cf9f"


def test_the_second_reader_finds_what_every_expression_means():
    for each in referring():
        for expression in each.expressions:
            assert resolve(expression.text, each.things) == [expression.thing]


def test_a_mirrored_expression_means_the_mirrored_thing():
    for each in referring()[:300]:
        mirrored = [
            Thing(one.colour, one.shape, one.size, (SIDE - one.box[2], one.box[1], SIDE - one.box[0], one.box[3]))
            for one in each.things
        ]
        for expression in each.expressions:
            assert resolve(mirrored_text(expression.text), mirrored) == [expression.thing]


def test_the_setting_is_that_of_the_specification():
    scenes = referring()
    assert Counter(each.scene.split for each in scenes) == COUNTS
    assert {each.scene.pixels.shape for each in scenes} == {(48, 48, 3)}
    assert {len(each.things) for each in scenes} == {3, 4}
    assert {len(each.expressions) for each in scenes} == {2}
    assert {len(one.text.split()) for each in scenes for one in each.expressions} == {1, 2, 3, 4}
    assert {len({one.thing for one in each.expressions}) for each in scenes} == {2}
    seen = [one for each in scenes for one in each.things]
    assert {(one.colour, one.shape, one.size) for one in seen} == {
        (colour, shape, size) for colour in COLOURS for shape in SHAPES for size in SIZES
    }
    # The square of a triangle has a row or two more than what is drawn of it.
    sides = {size: {one.box[2] - one.box[0] for one in seen if one.size == size} for size in SIZES}
    assert sides == {"small": {8, 9, 10, 11}, "large": {14, 15, 16, 17, 18, 19}}


def test_the_parts_of_the_test_hold_one_kind_of_expression_each():
    said = {split: [] for split in COUNTS}
    for each in referring():
        said[each.scene.split] += [expression.text for expression in each.expressions]
    assert not any("most" in text for text in said["testA"])
    assert all("most" in text for text in said["testB"])
    assert 0.4 < np.mean(["most" in text for text in said["train"]]) < 0.6
    assert 0.4 < np.mean(["leftmost" in text for text in said["testB"]]) < 0.6
    assert {word for texts in said.values() for text in texts for word in text.split()} == {
        *("the", "leftmost", "rightmost"),
        *(*COLOURS, *SHAPES, *SIZES),
    }


def test_things_lie_apart_and_boxes_are_tight():
    for each in referring()[:200]:
        boxes = np.array([one.box for one in each.things])
        for place, (x1, y1, x2, y2) in enumerate(boxes):
            for other in boxes[place + 1 :]:
                assert max(x1 - other[2], other[0] - x2, y1 - other[3], other[1] - y2) >= 2
            inside = each.scene.pixels[int(y1) : int(y2), int(x1) : int(x2)].astype(int)
            coloured = np.ptp(inside, axis=2) > 40  # the background is grey
            assert coloured.any(axis=0).all()
            assert coloured.any(axis=1).all()
        coloured = np.ptp(each.scene.pixels.astype(int), axis=2) > 40
        for x1, y1, x2, y2 in boxes.astype(int):
            coloured[y1:y2, x1:x2] = False
        assert not coloured.any()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("red circle", [0]),
        ("the small red circle", [0]),
        ("circle", [0, 1]),
        ("leftmost circle", [0]),
        ("rightmost circle", [1]),
        ("leftmost small square", [2, 3]),  # nobody can tell which
        ("green triangle", []),
        ("circle left", []),
        ("the big circle", []),
        ("", []),
    ],
)
def test_the_second_reader_knows_what_is_unclear(text: str, found: list[int]):
    things = [thing(), thing("blue", left=20), thing(shape="square", left=5), thing(shape="square", left=8, top=20)]
    assert resolve(text, things) == found


def test_the_same_seed_draws_the_same_things():
    one, two = (draw_things(np.random.RandomState(5)) for _ in range(2))
    assert np.array_equal(one[0], two[0])
    assert one[1] == two[1]


def test_a_written_folder_is_read_as_it_is_in_memory(tmp_path: Path):
    described = referring()
    few = [each for each in described if each.scene.name.endswith(("_0000", "_0001"))]
    counts = write_refer(few, tmp_path / "one")
    assert counts == {"train": 4, "val": 4, "testA": 4, "testB": 4}
    write_refer(few, tmp_path / "two")
    for name in ("instances.json", "refs(toy).p", "images/val_0001.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    findings = Findings()
    read = read_phrases(Section(root=str(tmp_path / "one")), findings).samples
    in_memory = {
        sample.id.removeprefix("referring/").replace("#", ".png#"): sample
        for sample in read_phrases(Section(source="referring"), findings).samples
    }
    assert (findings.wrong, findings.handled) == ({}, {})
    assert len(read) == 16
    for sample in read:
        drawn = in_memory[sample.id.removeprefix("images/")]
        assert (sample.truth, sample.split, sample.letters) == (drawn.truth, drawn.split, drawn.letters)
        assert np.array_equal(np.asarray(Image.open(sample.image)), drawn.image)


def test_the_annotations_are_those_of_refer(tmp_path: Path):
    write_refer(referring()[:3], tmp_path / "toy")
    with (tmp_path / "toy" / "refs(toy).p").open("rb") as file:
        refs = PlainUnpickler(file, encoding="latin-1").load()
    instances = json.loads((tmp_path / "toy" / "instances.json").read_text())
    assert set(refs[0]) == {
        *("ref_id", "ann_id", "image_id", "category_id", "file_name", "split", "sent_ids", "sentences")
    }
    assert set(refs[0]["sentences"][0]) == {"sent_id", "sent", "raw", "tokens"}
    boxes = {each["id"]: each for each in instances["annotations"]}
    assert all(boxes[ref["ann_id"]]["image_id"] == ref["image_id"] for ref in refs)
    assert all(boxes[ref["ann_id"]]["category_id"] == ref["category_id"] for ref in refs)


def test_the_bundled_source_is_a_data_set():
    recipe = SimpleNamespace(
        data=Section(source="referring", image_size=48, batch_size=8, workers=0, share=0.1),
        augment=Augment(),
        seed=0,
    )
    module = build(recipe)
    assert module.counts == {"train": 300, "val": 500, "test": 1000, "testA": 500, "testB": 500}
    assert "3,000" not in module.described()
    assert "900 images" in module.described()  # 150 + 250 + 500
    batch = next(iter(module.train_dataloader()))
    assert batch["image"].shape == (8, 3, 48, 48)
    assert len(module.drawn_from["train"]) == 3000


def test_the_command_writes_a_data_set(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("vision_train.data.toy.referring.referring", lambda drawn=referring: drawn()[:2])
    app, make = typer.Typer(), typer.Typer()
    add_verbs(app, make)
    app.add_typer(make, name="make")
    app.command()(lambda: None)
    result = CliRunner().invoke(make, [str(tmp_path / "toy")])
    assert result.exit_code == 0, result.output
    assert "2 images" in result.output
    assert "4 expressions" in result.output
    assert f"data.root={tmp_path / 'toy'}" in result.output
    again = CliRunner().invoke(make, [str(tmp_path / "toy")])
    assert isinstance(again.exception, UserError)
