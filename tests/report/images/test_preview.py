"""Pictures of augmentation and mixing: any image in, every row alike, no text outside its column."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vision_train.report.images import preview
from vision_train.report.images.preview import OWN, PARTNER, SIDE, WIDTH, LabelledImage, PreviewRow, render_preview

CAT, DOG = LabelledImage("cat/1.jpg", "cat"), LabelledImage("dog/2.jpg", "dog")
LONG = LabelledImage("a/very/long/path/" * 20 + "x.jpg", "a name\nwith très many words " * 20)


def row(size=(48, 48), original=(30, 20), image=CAT, partner=DOG, own=None, shares=None) -> PreviewRow:
    """A row of black pictures of (width, height)."""
    width, height = size
    black = np.zeros((height, width, 3), np.uint8)
    if own is None:
        own = np.full((height, width), 0.25, np.float32)
    first = np.zeros((*original[::-1], 3), np.uint8)
    return PreviewRow(
        image, partner, "MixUp", first, black, black, own, {"by area": 0.25} if shares is None else shares
    )


def pixels(rows, notes=()) -> np.ndarray:
    return np.asarray(render_preview("recipe", "subtitle", rows, notes))


@pytest.mark.parametrize("original", [(1, 1), (8, 8), (300, 200), (3000, 2), (2, 3000)])
@pytest.mark.parametrize("side", [1, 16, 224, 384])
def test_every_row_is_as_large_whatever_the_images(original, side):
    one = render_preview("recipe", "", [row((side, side), original)])
    two = render_preview("recipe", "", [row((side, side), original)] * 2)
    assert one.mode == "RGB"
    assert (one.width, two.width) == (WIDTH, WIDTH)
    assert two.height - one.height == preview.ROW


def test_a_mask_has_the_sharp_cells_that_were_drawn():
    own = np.kron(np.eye(2), np.ones((8, 8))).astype(np.float32)
    left, top = preview._left(3), preview.HEADER + preview.HEADINGS
    mask = pixels([row((16, 16), own=own)])[top : top + SIDE, left : left + SIDE]
    half = SIDE // 2
    assert (mask[:half, :half] == OWN).all()
    assert (mask[half:, half:] == OWN).all()
    assert (mask[:half, half:] == PARTNER).all()


def test_a_blend_has_the_colour_between():
    shown = pixels([row()])[preview.HEADER + preview.HEADINGS + SIDE // 2, preview._left(3) + SIDE // 2]
    assert shown == pytest.approx(0.25 * np.array(OWN) + 0.75 * np.array(PARTNER), abs=1)


def test_bars_are_as_long_as_shares():
    drawn = pixels([row(shares={"by area": 0.25, "with attention": 0.5})])[:, preview._left(4) :]
    lengths = sorted({int(count) for count in (drawn == OWN).all(axis=2).sum(axis=1) if count > 20})
    assert lengths == [preview.TEXT_WIDTH // 4, preview.TEXT_WIDTH // 2]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_label_may_belong_to_one_image_alone(share):
    drawn = pixels([row(shares={"by area": share})])[:, preview._left(4) :]
    longest = {colour: int((drawn == colour).all(axis=2).sum(axis=1).max()) for colour in (OWN, PARTNER)}
    assert longest[OWN if share else PARTNER] == preview.TEXT_WIDTH
    assert longest[PARTNER if share else OWN] < 20


def test_texts_stay_in_their_place_and_apart(monkeypatch):
    """Also where names are long, and nothing is written twice in one spot."""
    boxes = []
    write = ImageDraw.ImageDraw.text

    def record(self, place, text, *arguments, font, anchor="la", **options):
        boxes.append((*self.textbbox(place, text, font=font, anchor=anchor), text))
        return write(self, place, text, *arguments, font=font, anchor=anchor, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", record)
    shares = {"by area": 0.62, "with attention": 0.7}
    rows = [row(image=LONG, partner=LONG, shares=shares, original=(12345, 6)), row(partner=None, shares={})]
    picture = render_preview(LONG.name, LONG.name, rows, [LONG.label, "second note"])
    for left, top, right, bottom, text in boxes:
        assert preview.MARGIN - 1 <= left < right <= WIDTH - preview.MARGIN + 1, text
        assert 0 <= top < bottom <= picture.height, text
        assert "\n" not in text
    for (l1, t1, r1, b1, one), (l2, t2, r2, b2, other) in itertools.combinations(boxes, 2):
        assert r1 <= l2 or r2 <= l1 or b1 <= t2 or b2 <= t1, f"{one!r} and {other!r} overlap"
    edges = [preview._left(column) for column in range(5)]
    for left, top, right, _, text in boxes:
        below_header = top >= preview.HEADER and text != "second note" and "très" not in text
        if below_header:
            column = max(index for index, edge in enumerate(edges) if left >= edge - 1)
            assert right <= edges[column] + (SIDE if column < 4 else preview.TEXT_WIDTH) + 1, text


def test_the_text_says_what_was_done(monkeypatch):
    texts = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, place, text, **options: texts.append(text))
    own = np.zeros((4, 4), np.float32)
    own[0] = 1
    render_preview("recipe", "subtitle", [row((4, 4), own=own), row((4, 4))], ["a note"])
    assert {"recipe", "subtitle", "a note", "cat/1.jpg", "dog/2.jpg", "cat", "dog", "30 × 20", "MixUp"} <= set(texts)
    assert {"by area", "0.25 + 0.75", "25 % its own", "each pixel 25 % its own"} <= set(texts)


def test_a_white_picture_stands_out_from_the_paper():
    white = np.full((224, 224, 3), 255, np.uint8)
    base = row((224, 224))
    drawn = pixels([PreviewRow(CAT, DOG, "MixUp", white, white, white, base.own, base.shares)])
    top, left = preview.HEADER + preview.HEADINGS, preview._left(1)
    assert Image.fromarray(drawn).getpixel((left + 5, top - 1)) != (255, 255, 255)
    assert (drawn[top : top + SIDE, left : left + SIDE] == 255).all()
