"""Pictures with boxes as a part of the page, and in files."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from vision_train.artefacts import BoxPicture, BoxPictures, MarkedBox, read_artefact, write_artefact
from vision_train.report import boxes
from vision_train.report.boxes.truth_block import OPEN, kind_colours


def content(count: int = 1) -> BoxPictures:
    panels = {
        "truth": [MarkedBox((10.0, 10.0, 60.0, 60.0), "cat & dog", "right")],
        "found": [MarkedBox((20.0, 10.0, 70.0, 60.0), "cat 0.5", "double"), MarkedBox((0, 0, 5, 5), "", "ignored")],
    }
    pictures = [
        BoxPicture(f"<{number}>.png", "1 of 1 found", np.full((100, 120, 3), 128, np.uint8), panels)
        for number in range(count)
    ]
    kinds = {"right": "found", "double": "twice", "ignored": "neither"}
    return BoxPictures("test_mistakes", "Most errors", pictures, kinds, "From 0.5 on.")


def test_a_picture_is_shown_once_for_each_set_of_boxes():
    markup = str(boxes.block(content()))
    sources = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', markup)
    truth, found = (np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))).astype(int) for each in sources)
    assert truth.shape == found.shape == (400, 480, 3)
    green, other = (np.array(kind_colours(content())[name]) for name in ("right", "double"))
    # The left side of each box, below its caption, in the pixels of the enlarged picture.
    assert np.abs(truth[200, 40:44] - green).sum(1).min() < 60
    assert np.abs(found[200, 80:84] - other).sum(1).min() < 60
    assert np.abs(truth[200, 80:84] - other).sum(1).min() > 60


def test_names_are_escaped_and_every_colour_is_explained():
    markup = str(boxes.block(content()))
    assert "&lt;0&gt;.png" in markup
    assert "<0>.png" not in markup
    for name, colour in kind_colours(content()).items():
        assert name in markup
        assert "#{:02x}{:02x}{:02x}".format(*colour) in markup
    assert "From 0.5 on." in markup


def test_kinds_have_colours_of_their_own():
    kinds = {f"kind {number}": "" for number in range(9)}
    colours = kind_colours(BoxPictures("a", "b", [], kinds))
    assert len(colours) == 9
    assert len(set(list(colours.values())[:7])) == 7


@pytest.mark.parametrize(("count", "folded"), [(OPEN, False), (OPEN + 3, True)])
def test_many_pictures_are_folded_away(count, folded):
    markup = str(boxes.block(content(count)))
    assert ("<details>" in markup) == folded
    assert ("3 more" in markup) == folded
    assert markup.count("<article") == count


def test_no_pictures_are_no_block():
    assert not boxes.block(content(0))


def test_what_is_written_is_read_again(tmp_path):
    before = content(2)
    write_artefact(tmp_path, before, boxes.CODECS)
    after = read_artefact(tmp_path / "test_mistakes.json", boxes.CODECS)
    assert isinstance(after, BoxPictures)
    assert after.kinds == before.kinds
    for one, other in zip(after.pictures, before.pictures, strict=True):
        assert (one.id, one.caption, one.panels) == (other.id, other.caption, other.panels)
        np.testing.assert_array_equal(one.pixels, other.pixels)
