"""Names that suit every file system."""

import pytest

from vision_train.files import as_file_name, names_apart


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
