"""The samples that rank first, whatever order they come in."""

import itertools

import pytest

from vision_train.tasks.gallery import Gallery

RANKS = {"a": 3.0, "b": 1.0, "c": 2.0, "d": 1.0}


@pytest.mark.parametrize("order", list(itertools.permutations(RANKS)), ids="".join)
def test_the_first_are_kept_whatever_order_they_come_in(order):
    gallery: Gallery[str] = Gallery(2)
    for name in order:
        if gallery.wants(name, RANKS[name]):
            gallery.add(name, RANKS[name], name.upper())
    assert list(gallery.gather().items()) == [("b", "B"), ("d", "D")]


def test_nothing_is_drawn_in_vain():
    gallery: Gallery[str] = Gallery(2)
    for name, rank in (("a", 1.0), ("b", 2.0)):
        assert gallery.wants(name, rank)
        gallery.add(name, rank, "")
    assert not gallery.wants("c", 3.0)
    assert not gallery.wants("a", 0.0), "it is kept already"
    assert gallery.wants("c", 1.5)


def test_equal_ranks_are_told_apart_by_the_id():
    gallery: Gallery[str] = Gallery(1)
    gallery.add("b", 1.0, "")
    assert gallery.wants("a", 1.0)
    assert not gallery.wants("c", 1.0)


def test_an_empty_gallery_shows_nothing():
    assert Gallery[str](3).gather() == {}
