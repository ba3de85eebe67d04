"""Matrices: numbers where they can be read, pixels where they cannot, and what is confused most."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from vision_train.artefacts import Matrix
from vision_train.report.heatmap import heat_map, matrix_block, top_confusions


def confusion(values, rows=None, columns=None) -> Matrix:
    rows = rows or [f"class {k}" for k in range(len(values))]
    return Matrix("confusion", "Confusion", "truth", "prediction", rows, columns or rows, values)


def test_top_confusions_are_off_the_diagonal_and_sorted():
    matrix = confusion([[8, 2, 0], [3, 7, 0], [1, 0, 9]], ["a", "b", "c"])
    assert top_confusions(matrix) == [["b", "a", 3, 0.3], ["a", "b", 2, 0.2], ["c", "a", 1, 0.1]]
    assert top_confusions(matrix, limit=1) == [["b", "a", 3, 0.3]]


def test_matrix_of_different_things_has_no_confusions():
    matrix = confusion([[1, 2]], ["a"], ["x", "y"])
    assert top_confusions(matrix) == []
    assert 'class="miss"' not in matrix_block(matrix)


def test_small_matrix_shows_its_numbers():
    drawing = heat_map(confusion([[8, 2], [0, 10]]))
    assert re.findall(r'class="cell[^>]*>(\d+)<', drawing) == ["8", "2", "0", "10"]
    assert "class 0 → class 1: 2 (20.0 %)" in drawing


def test_large_matrix_is_one_pixel_a_cell():
    values = np.zeros((200, 200), dtype=int)
    values[np.arange(200), np.arange(200)] = 9
    values[3, 7] = 1
    drawing = heat_map(confusion(values.tolist()))
    hits, misses = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(code))))
        for code in re.findall(r'href="data:image/png;base64,([^"]*)"', drawing)
    )
    assert hits.shape == misses.shape == (200, 200)
    assert np.count_nonzero(hits) == 200
    assert np.argwhere(misses).tolist() == [[3, 7]]
    assert len(re.findall("<text", drawing)) < 80


@pytest.mark.parametrize("values", [[[0, 0], [0, 0]], [[float("nan"), 1], [2, float("inf")]], [[0.5]]])
def test_odd_values_are_drawn(values):
    assert "<svg" in matrix_block(confusion(values))


def test_empty_matrix_is_left_out():
    assert heat_map(confusion([])) == ""


def test_few_classes_make_a_small_matrix():
    widths = [int(re.search(r"max-width:(\d+)px", heat_map(confusion(np.eye(n).tolist())))[1]) for n in (3, 10, 200)]
    assert widths[0] < 320
    assert 500 < widths[1] <= widths[2] < 640
