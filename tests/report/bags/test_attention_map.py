"""Maps of attention: colours that mean what the bar says, every text in its place."""

import itertools
import time

import matplotlib
import numpy as np
import pytest
from PIL import ImageDraw

from vision_train.report.bags.attention_map import (
    COLOURS,
    MARGIN,
    OPACITY,
    attention_map,
    bare_map,
    branch_maps,
)
from vision_train.report.bags.tile_layout import LARGEST_TILE, Thumbnail, lay_out_tiles

COORDS = np.array([[0, 0], [256, 0], [0, 256], [256, 512]])
ATTENTION = np.array([0.1, 0.2, 0.6, 0.1])
SLIDE = Thumbnail(np.full((256, 128, 3), (220, 150, 190), np.uint8), (512, 1024))
LONG = "TCGA-A2-A0CM-01Z-00-DX1.AC4901DE-4B6D-4185-BB9F-156033839828 " * 5


def colour(share: float) -> np.ndarray:
    return np.array(matplotlib.colormaps[COLOURS](float(share), bytes=True)[:3])


def middles(pixels: np.ndarray) -> np.ndarray:
    return pixels[LARGEST_TILE // 2 :: LARGEST_TILE, LARGEST_TILE // 2 :: LARGEST_TILE]


@pytest.mark.parametrize(
    ("scaling", "shares"), [("rank", (1 / 6, 2 / 3, 1, 1 / 6)), ("minmax", (0, 0.2, 1, 0))], ids=["rank", "minmax"]
)
def test_tiles_have_the_colour_of_their_attention(scaling, shares):
    drawn = middles(bare_map(ATTENTION, lay_out_tiles(4, COORDS, 256), scaling))
    for share, (x, y) in zip(shares, COORDS // 256, strict=True):
        assert np.abs(drawn[y, x].astype(int) - colour(share)).max() <= 4
    empty = drawn[1, 1]
    assert (empty == drawn[2, 0]).all()
    assert empty.min() > 225


def test_the_slide_shines_through_without_its_colours():
    layout = lay_out_tiles(4, COORDS, 256, SLIDE, longest_side=256)
    drawn = bare_map(ATTENTION, layout)
    grey = drawn[-1, -1].astype(int)
    assert grey.min() == grey.max()
    expected = OPACITY * colour(1) + (1 - OPACITY) * grey
    assert np.abs(drawn[96, 32] - expected).max() <= 1
    beside = (attention_map("a", ATTENTION, layout) == SLIDE.pixels[0, 0]).all(axis=2)
    assert beside.sum() >= SLIDE.pixels[..., 0].size, "the slide itself"


def test_the_bar_has_the_colours_that_the_map_has():
    layout = lay_out_tiles(4, COORDS, 256, SLIDE, longest_side=256)
    hottest = bare_map(ATTENTION, layout)[96, 32].astype(int)
    below = attention_map("a", ATTENTION, layout)[-3 * MARGIN :].reshape(-1, 3)
    assert np.abs(below - hottest).max(axis=1).min() <= 1


@pytest.mark.parametrize("scaling", ["rank", "minmax"])
@pytest.mark.parametrize("attention", [np.ones(1), np.full(50, 0.02), np.eye(50)[7]], ids=["one", "equal", "one-hot"])
def test_odd_bags_are_drawn(attention, scaling):
    count = len(attention)
    for coords in (None, np.stack([np.zeros(count, int), 256 * np.arange(count)], axis=1)):
        layout = lay_out_tiles(count, coords)
        drawn = bare_map(attention, layout, scaling)
        assert drawn.dtype == attention_map("a", attention, layout, scaling).dtype == np.uint8
        assert drawn.shape == (*layout.size[::-1], 3)
        assert (branch_maps("a", np.stack([attention] * 2), layout, scaling) != 255).any()


def test_branches_stand_side_by_side_in_their_order(written):
    drawn = branch_maps("a", np.eye(4)[[2, 0, 1]], lay_out_tiles(4, COORDS, 256), "minmax")
    headings = sorted((left, text) for _, left, *_, text in written if text.startswith("branch"))
    assert [text for _, text in headings] == ["branch 0", "branch 1", "branch 2"]
    (first, _), (second, _), _ = headings
    yellow = np.argwhere((drawn == colour(1)).all(axis=2))
    beside = [
        yellow[(yellow[:, 1] >= left) & (yellow[:, 1] < left + second - first)] - (0, left) for left, _ in headings
    ]
    (y0, x0), (y1, x1), (y2, x2) = (np.median(places, axis=0) for places in beside)
    assert (y1, x1) == pytest.approx((y2, x0), abs=2)
    assert y0 - y1 == pytest.approx(x2 - x1, abs=2)
    assert y0 - y1 > 32, "the third tile of the bag lies below the first, the second beside it"


@pytest.fixture
def written(monkeypatch):
    """What is drawn as text: its box within the block it is drawn in, the block's size, and the text."""
    boxes = []
    write = ImageDraw.ImageDraw.text

    def record(self, place, text, *arguments, font, **options):
        boxes.append((self, *self.textbbox(place, text, font=font), self.im.size, text))
        return write(self, place, text, *arguments, font=font, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", record)
    return boxes


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("shape", [(1, 60), (60, 1), (8, 8), (30, 10)], ids=str)
def test_texts_stay_in_the_picture_and_apart(written, count, shape):
    places = np.argwhere(np.ones(shape)) * 700
    layout = lay_out_tiles(len(places), places, 256)
    attention = np.random.default_rng(0).dirichlet(np.full(len(places), 0.1), count)
    attention_map(LONG, attention[0], layout)
    branch_maps(LONG, attention, layout, "minmax")
    for _, left, top, right, bottom, (width, height), text in written:
        assert MARGIN - 1 <= left < right <= width - MARGIN + 1, text
        assert 0 <= top < bottom <= height, text
    for one, other in itertools.combinations(written, 2):
        if one[0] is other[0]:
            apart = one[3] <= other[1] or other[3] <= one[1] or one[4] <= other[2] or other[4] <= one[2]
            assert apart, (one[-1], other[-1])
    shortened = {text for *_, text in written if "…" in text}
    assert all("TCGA" in text for text in shortened), "only the title may be too long"


def test_the_text_says_what_the_reader_must_know(written):
    attention = np.full(20, 0.02)
    attention[3] = 0.62
    attention_map("bag 7", attention, lay_out_tiles(20))
    texts = [text for *_, text in written]
    assert "bag 7" in texts
    assert "20 instances; the 10 hottest hold 80.0 % of the attention" in texts
    assert "colour: share of the bag's other instances that have less attention The bag has no coord" in " ".join(texts)
    assert "places mean nothing" in " ".join(texts)
    written.clear()
    attention_map("bag 7", attention, lay_out_tiles(20), "minmax")
    assert {"0.02", "0.62"} <= {text for *_, text in written}
    written.clear()
    attention_map("bag 7", np.full(20, 0.05), lay_out_tiles(20))
    assert "20 instances; all have the same attention" in [text for *_, text in written]


def test_attention_of_another_bag_is_refused():
    with pytest.raises(ValueError, match="3 instances, places for 4"):
        attention_map("a", ATTENTION[:3], lay_out_tiles(4, COORDS))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1])
def test_what_is_no_attention_is_refused(bad):
    attention = np.array([0.5, bad, 0.5, 0.0])
    with pytest.raises(ValueError, match="attention is"):
        attention_map("a", attention, lay_out_tiles(4, COORDS))
    with pytest.raises(ValueError, match="attention is"):
        branch_maps("a", np.stack([ATTENTION, attention]), lay_out_tiles(4, COORDS))


def test_a_large_bag_takes_no_time():
    coords = np.stack(np.divmod(np.arange(100_000), 300), axis=1) * 256
    attention = np.random.default_rng(0).dirichlet(np.ones(100_000))
    start = time.process_time()
    attention_map("a", attention, lay_out_tiles(100_000, coords, 512))
    assert time.process_time() - start < 2
