"""Previews of training images: any image in, every row alike, no text outside its column."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vision_train.previews import OWN, PARTNER, LabelPanel, Preview, PreviewRow
from vision_train.report import preview_sheet
from vision_train.report.preview_sheet import SIDE, render_preview

LONG_ID, LONG_LABEL = "a/very/long/path/" * 20 + "x.jpg", "a name\nwith très many words " * 20
AUGMENTED, MIXED, WHOSE = "augmented", "as the network sees it", "whose pixels"
PANEL = LabelPanel("MixUp", "cat", "dog/2.jpg", "dog", {"by area": 0.25})
WIDTH = 2 * preview_sheet.MARGIN + 4 * (SIDE + preview_sheet.GAP) + preview_sheet.TEXT_WIDTH


def black(size: tuple[int, int]) -> np.ndarray:
    """A black picture of (width, height)."""
    return np.zeros((*size[::-1], 3), np.uint8)


def row(size=(48, 48), name="cat/1.jpg", panel=PANEL, **pictures) -> PreviewRow:
    """A row of black pictures of (width, height), but for those given."""
    shown = {AUGMENTED: black(size), MIXED: black(size), WHOSE: black(size)} | pictures
    return PreviewRow(name, shown, {AUGMENTED: f"{size[0]} × {size[1]}", WHOSE: "25 % its own"}, panel)


def shared(shares: dict[str, float]) -> LabelPanel:
    return LabelPanel("MixUp", "cat", "dog/2.jpg", "dog", shares)


def drawn(rows, original=(30, 20), title="recipe", summary="summary", notes=()) -> Image.Image:
    """The preview of rows whose originals are black, of (width, height)."""
    originals = {shown.id: black(original) for shown in rows}
    return render_preview(title, Preview(summary, rows, list(notes)), originals)


@pytest.mark.parametrize("original", [(1, 1), (8, 8), (300, 200), (3000, 2), (2, 3000)])
@pytest.mark.parametrize("side", [1, 16, 224, 384])
def test_every_row_is_as_large_whatever_the_images(original, side):
    one = drawn([row((side, side))], original)
    two = drawn([row((side, side))] * 2, original)
    assert one.mode == "RGB"
    assert (one.width, two.width) == (WIDTH, WIDTH)
    assert two.height - one.height == (SIDE + preview_sheet.BELOW)


def test_small_pictures_are_enlarged_with_sharp_pixels():
    cells = np.kron(np.eye(2), np.ones((8, 8)))[..., None]
    mask = np.where(cells, np.array(OWN), np.array(PARTNER)).astype(np.uint8)
    left, top = preview_sheet._left(3), preview_sheet.HEADER + preview_sheet.HEADINGS
    shown = np.asarray(drawn([row((16, 16), **{WHOSE: mask})]))[top : top + SIDE, left : left + SIDE]
    half = SIDE // 2
    assert (shown[:half, :half] == OWN).all()
    assert (shown[half:, half:] == OWN).all()
    assert (shown[:half, half:] == PARTNER).all()
    assert (shown[half:, :half] == PARTNER).all()


def test_rows_without_labels_or_with_fewer_pictures_leave_their_places_empty():
    one = drawn([PreviewRow("a", {AUGMENTED: black((8, 8))})])
    assert one.width == 2 * preview_sheet.MARGIN + 2 * SIDE + preview_sheet.GAP
    both = np.asarray(drawn([row(), PreviewRow("a", {AUGMENTED: black((8, 8))})]))
    assert both.shape[1] == WIDTH
    top, left = preview_sheet.HEADER + preview_sheet.HEADINGS + (SIDE + preview_sheet.BELOW), preview_sheet._left(3)
    assert len(np.unique(both[top : top + SIDE, left : left + SIDE].reshape(-1, 3), axis=0)) == 1
    assert (both[top : top + SIDE, preview_sheet._left(4) :] == 255).all()


def test_bars_are_as_long_as_shares():
    panel = shared({"by area": 0.25, "with attention": 0.5})
    shown = np.asarray(drawn([row(panel=panel)]))[:, preview_sheet._left(4) :]
    lengths = sorted({int(count) for count in (shown == OWN).all(axis=2).sum(axis=1) if count > 20})
    assert lengths == [preview_sheet.TEXT_WIDTH // 4, preview_sheet.TEXT_WIDTH // 2]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_label_may_belong_to_one_image_alone(share):
    shown = np.asarray(drawn([row(panel=shared({"by area": share}))]))[:, preview_sheet._left(4) :]
    longest = {colour: int((shown == colour).all(axis=2).sum(axis=1).max()) for colour in (OWN, PARTNER)}
    assert longest[OWN if share else PARTNER] == preview_sheet.TEXT_WIDTH
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
    long = LabelPanel("MixUp", LONG_LABEL, LONG_ID, LONG_LABEL, shares)
    rows = [row(name=LONG_ID, panel=long), row(panel=LabelPanel("not mixed", "cat"))]
    picture = drawn(rows, (12345, 6), LONG_ID, LONG_ID, [LONG_LABEL, "second note"])
    for left, top, right, bottom, text in boxes:
        assert preview_sheet.MARGIN - 1 <= left < right <= WIDTH - preview_sheet.MARGIN + 1, text
        assert 0 <= top < bottom <= picture.height, text
        assert "\n" not in text
    for (l1, t1, r1, b1, one), (l2, t2, r2, b2, other) in itertools.combinations(boxes, 2):
        assert r1 <= l2 or r2 <= l1 or b1 <= t2 or b2 <= t1, f"{one!r} and {other!r} overlap"
    edges = [preview_sheet._left(column) for column in range(5)]
    for left, top, right, _, text in boxes:
        below_header = top >= preview_sheet.HEADER and text != "second note" and "très" not in text
        if below_header:
            column = max(index for index, edge in enumerate(edges) if left >= edge - 1)
            assert right <= edges[column] + (SIDE if column < 4 else preview_sheet.TEXT_WIDTH) + 1, text


def test_the_text_says_what_was_done(monkeypatch):
    texts = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, place, text, **options: texts.append(text))
    drawn([row((4, 5))], notes=["a note"])
    assert {"recipe", "summary", "a note", "cat/1.jpg", "dog/2.jpg", "cat", "dog", "30 × 20", "MixUp"} <= set(texts)
    assert {"original", AUGMENTED, MIXED, WHOSE, "label"} <= set(texts)
    assert {"by area", "0.25 + 0.75", "25 % its own", "4 × 5"} <= set(texts)


def test_a_white_picture_stands_out_from_the_paper():
    white = np.full((224, 224, 3), 255, np.uint8)
    shown = np.asarray(drawn([row((224, 224), **{AUGMENTED: white})]))
    top, left = preview_sheet.HEADER + preview_sheet.HEADINGS, preview_sheet._left(1)
    assert tuple(shown[top - 1, left + 5]) != (255, 255, 255)
    assert (shown[top : top + SIDE, left : left + SIDE] == 255).all()
