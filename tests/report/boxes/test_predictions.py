"""Pictures of detections: boxes, what was found in words, and pictures of any size."""

import numpy as np
import pytest

from vision_train.previews import BoxesOnImage, Preview, PreviewRow
from vision_train.report.boxes import open_renderer, render_preview
from vision_train.report.boxes import predictions as room
from vision_train.report.boxes.drawing import colour_of
from vision_train.report.boxes.predictions import AREA, ENLARGED, LONGEST, NARROWEST, render_boxes

CLASSES = ("cat", "dog")


def boxes(*corners: tuple[float, ...], labels: list[int] | None = None, classes=CLASSES, **given) -> BoxesOnImage:
    ids = np.array(labels or [0] * len(corners), dtype=np.int64)
    scores = np.linspace(0.9, 0.8, len(corners))
    return BoxesOnImage(np.array(corners, dtype=float).reshape(-1, 4), ids, classes, **{"scores": scores, **given})


def canvas(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 90, dtype=np.uint8)


@pytest.fixture
def written(monkeypatch) -> list[str]:
    """The texts that are written below pictures."""
    texts: list[str] = []
    original = room.shortened
    monkeypatch.setattr(room, "shortened", lambda text, *rest: texts.append(text) or original(text, *rest))
    return texts


def test_the_picture_keeps_the_pixels_of_the_original(written):
    original = np.random.default_rng(0).integers(0, 255, (400, 500, 3), dtype=np.uint8)
    picture = np.asarray(render_boxes(original, "a.png", boxes((100, 100, 300, 250))))
    assert (picture[:80, :500] == original[:80]).all()
    assert (picture[99:260, 95:305] == colour_of(0)).all(axis=-1).any()


def test_numbers_of_boxes_stand_below_with_the_score_that_they_need(written):
    found = boxes((0, 0, 9, 9), (5, 5, 20, 20), (9, 9, 30, 30), labels=[1, 0, 1], least=np.array([0.25, 0.5]))
    render_boxes(canvas(60, 80), "folder/a.png", found)
    assert written == ["dog: 2 of score 0.50 or more", "cat: 1 of score 0.25 or more", "folder/a.png"]


def test_a_picture_without_boxes_says_which_score_none_has(written):
    render_boxes(canvas(60, 80), "a.png", boxes(least=np.array([0.25, 0.5])))
    assert "0.25 to 0.50" in written[0]


def test_many_classes_are_counted(written):
    many = boxes(*[(0, 0, 9, 9)] * 80, labels=[*range(80)], classes=[f"class {number}" for number in range(80)])
    short = render_boxes(canvas(400, 500), "a.png", boxes((0, 0, 9, 9)))
    assert render_boxes(canvas(400, 500), "a.png", many).height < short.height + 120


@pytest.mark.parametrize(
    ("size", "width"),
    [((1, 1000), 1000), ((1000, 1), NARROWEST), ((32, 32), ENLARGED), ((500, 20_000), LONGEST), ((3000, 4000), None)],
)
def test_pictures_of_any_size_can_be_looked_at(size, width):
    picture = render_boxes(canvas(*size), "a.png", boxes((0, 0, size[1], size[0])))
    assert width is None or picture.width == width
    assert picture.width * picture.height < 1.1 * AREA
    assert (np.asarray(picture) == colour_of(0)).all(axis=-1).any()


def test_predictions_become_files_and_names_without_glyphs_are_told(tmp_path):
    found = boxes((0, 0, 9, 9), classes=("\U0001318f", "dog"))
    with open_renderer(tmp_path / "out", originals={"a.png": lambda: canvas(40, 40)}) as renderer:
        renderer.add("a.png", found)
    assert [file.name for file in (tmp_path / "out").glob("*.png")] == ["00000-a.png"]
    assert "\U0001318f" in renderer.remarks()[0]


def test_a_preview_shows_boxes_on_the_original_and_on_the_augmented_image():
    row = PreviewRow(
        "a.png",
        {"augmented": canvas(32, 32)},
        boxes={"original": boxes((10, 10, 50, 50), scores=None), "augmented": boxes((5, 5, 25, 25), labels=[1])},
    )
    sheet = np.asarray(render_preview("recipe", Preview("summary", [row]), {"a.png": canvas(64, 64)}))
    left, right = sheet[:, : sheet.shape[1] // 2], sheet[:, sheet.shape[1] // 2 :]
    assert (left == colour_of(0)).all(axis=-1).any()
    assert not (left == colour_of(1)).all(axis=-1).any()
    assert (right == colour_of(1)).all(axis=-1).any()


def test_a_dashed_line_is_around_the_part_that_was_cropped():
    whole, part = (
        PreviewRow("a.png", {}, boxes={"original": boxes((10, 10, 50, 50), scores=None, part=part)})
        for part in (None, (5, 5, 60, 60))
    )
    bare, framed = (
        np.asarray(render_preview("recipe", Preview("summary", [row]), {"a.png": canvas(64, 64)}))
        for row in (whole, part)
    )
    changed = (bare != framed).any(axis=-1)
    assert changed.any()
    assert (framed[changed] == 255).all(axis=-1).any()
