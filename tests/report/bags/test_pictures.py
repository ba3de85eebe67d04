"""Pictures of bags as they come: files of their own for each, and one csv of all."""

from pathlib import Path

import numpy as np
import pytest

from models.mil.attention_maps import AttendedBag
from vision_train.errors import BadSampleError, UserError
from vision_train.files import OUTPUT_MARK
from vision_train.report.bags.pictures import open_renderer

COORDS = np.array([[0, 0], [16, 0], [0, 16]])
ATTENTION = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]], np.float32)


def unreadable(path: Path) -> np.ndarray:
    raise BadSampleError("is damaged")


def opened(folder: Path, **options):
    given = {"images": {}, "decode": unreadable, "on_bad": "error", **options}
    return open_renderer(folder, {"a": (32, 32), "a/b": None}, **given)


def add(renderer, bag_id: str, pictures: list[np.ndarray] | None = None) -> None:
    renderer.add(bag_id, AttendedBag(bag_id, "tumour (90 %)", ATTENTION, COORDS, 16, pictures or []))


def test_every_bag_has_its_pictures_and_its_rows(tmp_path: Path):
    pictures = [np.zeros((4, 4, 3), np.uint8)] * 3
    with opened(tmp_path / "heat") as renderer:
        add(renderer, "a", pictures)
        add(renderer, "a/b", pictures)
        assert not (tmp_path / "heat/attention.csv").exists()
    files = {f"{name}{ending}" for name in ("a", "a-b") for ending in (".png", "-branches.png", "-top.png")}
    assert {file.name for file in (tmp_path / "heat").iterdir()} == {"attention.csv", OUTPUT_MARK, *files}
    assert len((tmp_path / "heat/attention.csv").read_text().splitlines()) == 1 + 2 * 3
    assert (renderer.undrawn, renderer.too_small) == ({}, [])


def test_a_bag_that_cannot_be_drawn_stops_or_is_counted(tmp_path: Path):
    images = {"a": Path("a.png")}
    with pytest.raises(UserError, match=r"a: .*a\.png: is damaged.*skip"), opened(tmp_path, images=images) as renderer:
        add(renderer, "a")
    assert [file.name for file in tmp_path.iterdir()] == [OUTPUT_MARK]
    with opened(tmp_path, images=images, on_bad="skip") as renderer:
        add(renderer, "a")
        add(renderer, "a/b")
    assert renderer.undrawn == {"a": "a.png: is damaged"}
    assert {file.name for file in tmp_path.iterdir()} == {OUTPUT_MARK, "attention.csv", "a-b.png", "a-b-branches.png"}


@pytest.mark.parametrize(("side", "too_small"), [(32, []), (16, ["a"])])
def test_tiles_are_shown_where_the_image_is_large_enough(tmp_path: Path, side: int, too_small: list[str]):
    image = np.zeros((side, side, 3), np.uint8)
    with opened(tmp_path, images={"a": Path("a.png")}, decode=lambda path: image) as renderer:
        add(renderer, "a")
    assert renderer.too_small == too_small
    assert (tmp_path / "a-top.png").exists() == (not too_small)
