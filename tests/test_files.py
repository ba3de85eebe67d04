"""Names that suit every file system, names that no encoding holds, and the mark of what we wrote."""

import json

import pytest

from vision_train.files import (
    OUTPUT_MARK,
    as_file_name,
    escape_name,
    is_output,
    mark_output,
    names_apart,
    printable,
    unescape_name,
    write_json,
    write_text,
    written_names,
)


def test_names_suit_every_file_system():
    assert as_file_name('../a/b:c?"d.tar') == "..-a-b-c-d.tar"
    assert len(as_file_name("ü" * 400 + "/1").encode()) <= 200


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (["007", "slide.1", "slide.2"], ["007", "slide.1", "slide.2"]),
        (["a/b", "a:b", "a-b"], ["a-b", "a-b (2)", "a-b (3)"]),
        (["a", "A"], ["a", "A (2)"]),
        (["a", "a-top"], ["a", "a-top (2)"]),
        (["a-top", "a"], ["a-top", "a (2)"]),
    ],
)
def test_no_file_of_one_id_is_anothers(ids, names):
    assert names_apart(ids, (".png", "-top.png")) == dict(zip(ids, names, strict=True))


def test_long_ids_are_told_apart():
    names = names_apart(["1" + "x" * 300, "2" + "x" * 300], (".png",)).values()
    assert len(set(names)) == 2
    assert max(map(len, names)) < 210


NAMES = [
    "a b.png",
    "caf\udce9",
    "a\\b",
    "\\udce9",
    "\\udc5c",
    "\\\udce9",
    "x\ny",
    "x\r",
    "\\udc0d",
    "猫🐱",
    "\\\\udcff",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_every_name_is_escaped_and_comes_back(name, tmp_path):
    escaped = escape_name(name)
    assert unescape_name(escaped.encode().decode()) == name
    assert "\r" not in escaped
    assert len(printable(name).splitlines()) == 1
    assert as_file_name(name).encode()
    write_json(tmp_path / "names.json", [name])
    assert json.loads((tmp_path / "names.json").read_text(encoding="utf-8")) == [name]


def test_an_ordinary_name_stays_as_it_is():
    assert escape_name("photos\\猫 é/x,y.png") == "photos\\猫 é/x,y.png"
    assert escape_name("caf\udce9.png") == r"caf\udce9.png"


def test_a_file_of_the_longest_name_is_written(tmp_path):
    path = tmp_path / ("é" * 125 + ".json")
    write_text(path, "whole")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(path.name, "whole")]


def test_what_we_wrote_is_known_by_its_mark(tmp_path):
    mixed, whole = tmp_path / "mixed", tmp_path / "whole"
    mixed.mkdir()
    whole.mkdir()
    mark_output(whole)
    mark_output(mixed, "a.png")
    mark_output(mixed, "caf\udce9.png")
    mark_output(whole, "b.png")
    assert (is_output(whole), is_output(mixed)) == (True, False)
    assert written_names(mixed) == {"a.png", "caf\udce9.png"}
    (mixed / OUTPUT_MARK).write_text("damaged")
    assert is_output(mixed)


@pytest.mark.parametrize("names", [("recipe.yaml", "environment.json", "classes.json"), ("study.json", "recipes")])
def test_runs_and_studies_of_earlier_versions_are_known_without(tmp_path, names):
    for name in names[1:]:
        (tmp_path / name).touch()
    assert not is_output(tmp_path)
    (tmp_path / names[0]).touch()
    assert is_output(tmp_path)
