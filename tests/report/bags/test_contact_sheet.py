"""Sheets of tiles: any size of tile, every text within its column."""

import numpy as np
import pytest
from PIL import ImageDraw

from vision_train.report.bags.contact_sheet import GAP, HEADER, MARGIN, SIDE, contact_sheet, instance_captions


def tile(height: int, width: int) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


@pytest.mark.parametrize(("count", "columns"), [(1, 3), (2, 3), (4, 4), (5, 5), (6, 3), (10, 5), (23, 5)])
def test_sheets_are_as_wide_as_their_tiles(count, columns):
    sheet = contact_sheet("bag", [tile(8, 8)] * count, ["rank\nattention"] * count)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] == 2 * MARGIN + columns * (SIDE + GAP) - GAP


def test_small_tiles_have_sharp_pixels():
    small = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    sheet = contact_sheet("bag", [small], ["a"])[HEADER : HEADER + SIDE, MARGIN : MARGIN + SIDE]
    factor = SIDE // 8
    assert (sheet == small.repeat(factor, axis=0).repeat(factor, axis=1)).all()


def test_large_tiles_are_shrunk_without_aliases():
    stripes = tile(1024, 1024)
    stripes[:, ::2] = 255
    sheet = contact_sheet("bag", [stripes], ["a"])[HEADER : HEADER + SIDE, MARGIN : MARGIN + SIDE]
    assert np.abs(sheet.astype(int) - 127).max() < 12


@pytest.mark.parametrize("size", [(1, 1), (8, 64), (3000, 2), (2, 3000), (224, 224)])
def test_every_size_is_drawn(size):
    sheet = contact_sheet("bag", [tile(*size)], ["a"])[HEADER : HEADER + SIDE, MARGIN : MARGIN + SIDE]
    assert (sheet == 0).all(axis=2).any()


def test_texts_stay_in_their_column(monkeypatch):
    boxes = []
    write = ImageDraw.ImageDraw.text

    def record(self, place, text, *arguments, font, **options):
        boxes.append((*self.textbbox(place, text, font=font), text))
        return write(self, place, text, *arguments, font=font, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", record)
    long = "TCGA-A2-A0CM-01Z-00-DX1." * 9
    sheet = contact_sheet(long, [tile(8, 8)] * 7, [f"rank\n{long}\nx 1, y 2"] * 7)
    assert len(boxes) == 1 + 3 * 7
    assert boxes[0][2] <= sheet.shape[1] - MARGIN + 1
    for left, _, right, bottom, text in boxes[1:]:
        assert right <= left + SIDE + 1, text
        assert bottom < sheet.shape[0], text


def test_captions_tell_rank_attention_and_place():
    attention, coords = np.array([0.25, 0.0625, 0.6875]), np.array([[0, 0], [256, 0], [512, -3]])
    assert instance_captions(attention, [2, 0], coords) == [
        "rank 1\nattention 0.6875\nx 512, y -3",
        "rank 2\nattention 0.25\nx 0, y 0",
    ]
    assert instance_captions(attention, [2], None) == ["rank 1\nattention 0.6875"]


@pytest.mark.parametrize(("tiles", "captions"), [([], []), ([tile(8, 8)], [])])
def test_tiles_and_captions_must_match(tiles, captions):
    with pytest.raises(ValueError, match="a caption of each"):
        contact_sheet("bag", tiles, captions)
