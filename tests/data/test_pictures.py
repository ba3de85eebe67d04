"""Copies by pixels and by look, whatever the files are.

Items are those of the specification of learning from unlabelled images.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_train.data import content, pictures
from vision_train.data.content import STORE, Contents
from vision_train.data.pictures import Picture, look_alike, pictures_of, same_pixels, too_many
from vision_train.data.sample import ImageSample


def picture(seed: int, side: int = 48) -> Image.Image:
    """A picture of coarse patches."""
    patches = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((side, side), Image.Resampling.BICUBIC)


def saved(image: Image.Image, path: Path, **options) -> ImageSample:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return ImageSample(path.name, str(path))


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Contents:
    contents = Contents()
    monkeypatch.setattr(pictures, "CONTENTS", contents)
    return contents


def shared(lists: dict[str, list[ImageSample]]) -> list[dict[str, list[str]]]:
    found = same_pixels(lists, pictures_of([sample for samples in lists.values() for sample in samples]))
    return [{name: [sample.id for sample in samples] for name, samples in group.items()} for group in found]


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.bmp", {}), ("a.tiff", {}), ("a.webp", {"lossless": True}), ("a.png", {"compress_level": 1})],
)
def test_item_7_a_picture_saved_anew_with_the_same_pixels_is_a_copy(tmp_path: Path, name: str, options: dict):
    lists = {
        "unlabelled": [saved(picture(1), tmp_path / "pool" / name, **options), saved(picture(2), tmp_path / "b.png")],
        "test": [saved(picture(1), tmp_path / "t.png")],
    }
    assert Contents().shared(lists) == []
    assert shared(lists) == [{"unlabelled": [name], "test": ["t.png"]}]


def test_mode_and_orientation_do_not_hide_a_copy(tmp_path: Path):
    turned = Image.Exif()
    turned[0x0112] = 6  # turned by a quarter to be seen upright
    grey = picture(1).convert("L")
    lists = {
        "unlabelled": [
            saved(picture(2).transpose(Image.Transpose.ROTATE_90), tmp_path / "turned.png", exif=turned),
            saved(grey.convert("RGB"), tmp_path / "rgb.png"),
        ],
        "val": [saved(picture(2), tmp_path / "upright.bmp"), saved(grey, tmp_path / "grey.png")],
    }
    assert shared(lists) == [
        {"unlabelled": ["turned.png"], "val": ["upright.bmp"]},
        {"unlabelled": ["rgb.png"], "val": ["grey.png"]},
    ]


def test_images_in_memory_are_compared_by_their_arrays():
    pixels = [np.asarray(picture(seed)) for seed in range(3)]
    lists = {
        "unlabelled": [ImageSample("a", pixels[0]), ImageSample("b", pixels[1])],
        "test": [ImageSample("c", pixels[1].copy()), ImageSample("d", pixels[2])],
    }
    assert shared(lists) == [{"unlabelled": ["b"], "test": ["c"]}]


def test_the_same_values_in_another_shape_are_no_copy():
    values = np.arange(2 * 6 * 3, dtype=np.uint8)
    lists = {
        "unlabelled": [ImageSample("a", values.reshape(2, 6, 3))],
        "test": [ImageSample("b", values.reshape(3, 4, 3))],
    }
    assert shared(lists) == []


def test_what_cannot_be_decoded_is_no_copy_of_anything(tmp_path: Path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no picture")
    samples = [ImageSample(name, str(tmp_path / name)) for name in ("a.png", "b.png", "gone.png")]
    assert pictures_of(samples) == {}
    assert shared({"unlabelled": samples[:1], "test": samples[1:]}) == []


def resemblances(pool: list[ImageSample], others: list[ImageSample]) -> list[tuple[str, str]]:
    return [(a.id, b.id) for a, b in look_alike(pool, others, pictures_of([*pool, *others]))]


def test_item_7_smaller_and_compressed_copies_look_alike(tmp_path: Path):
    others = [saved(picture(seed, 96), tmp_path / f"{seed}.png") for seed in range(5)]
    pool = [
        saved(picture(3, 96).resize((64, 48)), tmp_path / "smaller.png"),
        saved(picture(1, 96), tmp_path / "compressed.jpg", quality=40),
        saved(picture(9, 96), tmp_path / "another.png"),
    ]
    assert resemblances(pool, others) == [("smaller.png", "3.png"), ("compressed.jpg", "1.png")]


@pytest.mark.parametrize(("bits", "alike"), [(0, True), (4, True), (5, False)])
def test_item_7_images_look_alike_whose_outlines_differ_in_up_to_4_bits(bits: int, alike: bool):
    outline = 0x0F0F_3C3C_00FF_AA55
    pixels = np.zeros((40, 40, 3), np.uint8)
    one, other = ImageSample("a", pixels), ImageSample("b", pixels + 1)
    known = {one.identity: Picture("a", outline), other.identity: Picture("b", outline ^ (2**bits - 1))}
    assert look_alike([one], [other], known) == ([(one, other)] if alike else [])


def test_of_images_that_are_tiny_or_blank_nothing_is_said():
    blank = np.full((48, 48, 3), 200, dtype=np.uint8)
    tiny = np.asarray(picture(1, 16))
    assert resemblances([ImageSample("a", blank)], [ImageSample("b", blank.copy())]) == []
    assert resemblances([ImageSample("a", tiny)], [ImageSample("b", tiny.copy())]) == []


def test_above_a_bound_nothing_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    samples = [saved(picture(seed), tmp_path / f"{seed}.png") for seed in range(3)]
    assert too_many(samples) == ""
    monkeypatch.setattr(pictures, "MOST_IMAGES", 2)
    assert "3 images" in too_many(samples)
    monkeypatch.setattr(pictures, "MOST_IMAGES", 3)
    monkeypatch.setattr(pictures, "MOST_BYTES", 100)
    assert "3 images of" in too_many(samples)
    assert too_many([ImageSample("in memory", np.zeros((2, 2, 3), np.uint8))] * 4) == ""


def test_what_was_decoded_once_is_kept_until_the_file_changes(tmp_path: Path, monkeypatch, fresh: Contents):
    monkeypatch.setattr(content, "WORTH_KEEPING", 20)
    decoded: list[str] = []
    decode = pictures.decode
    monkeypatch.setattr(pictures, "decode", lambda path: decoded.append(Path(path).name) or decode(path))
    samples = [saved(picture(seed), tmp_path / f"{seed}.png") for seed in range(2)]
    first = pictures_of(samples)
    fresh.keep(tmp_path)
    later = Contents()
    later.recall(tmp_path)
    monkeypatch.setattr(pictures, "CONTENTS", later)
    assert pictures_of(samples) == first
    assert sorted(decoded) == ["0.png", "1.png"]
    saved(picture(7), tmp_path / "1.png")
    assert pictures_of(samples)[samples[1].identity] != first[samples[1].identity]
    assert sorted(decoded) == ["0.png", "1.png", "1.png"]


def test_a_store_of_an_earlier_version_is_still_read(tmp_path: Path, fresh: Contents):
    sample = saved(picture(1), tmp_path / "a.png")
    stat = Path(sample.place).stat()
    row = [stat.st_size, stat.st_mtime_ns, "some", "all"]
    (tmp_path / STORE).write_text(json.dumps({str(Path(sample.place).absolute()): row}))
    fresh.recall(tmp_path)
    assert fresh.marks([sample]) == [f"{stat.st_size}:some"]
    assert len(pictures_of([sample])) == 1
