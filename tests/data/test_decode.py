import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from vision_train.data.decode import BadImageError, decode
from vision_train.data.dim_images import dim_images
from vision_train.data.toy.folder import natural_image

SIZE = (37, 23)  # width, height
ORIENTATION = 0x112


@pytest.fixture
def picture() -> Image.Image:
    return natural_image(SIZE, np.random.default_rng(0))


def test_a_png_is_decoded_exactly(picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.PNG")
    pixels = decode(tmp_path / "a.PNG")
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, np.asarray(picture))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_jpeg_is_decoded_as_pillow_does(
    picture: Image.Image, tmp_path: Path, mode: str, progressive: bool, subsampling: str
) -> None:
    path = tmp_path / "a.jpg"
    picture.convert(mode).save(path, progressive=progressive, subsampling=subsampling)
    np.testing.assert_array_equal(decode(path), np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(picture: Image.Image, tmp_path: Path, ending: str, orientation: int) -> None:
    path = tmp_path / f"a.{ending}"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    picture.save(path, exif=exif)
    with Image.open(path) as file:
        np.testing.assert_array_equal(decode(path), np.asarray(ImageOps.exif_transpose(file).convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["tif", "avif"])
def test_orientation_of_formats_that_pillow_turns_itself(
    picture: Image.Image, tmp_path: Path, ending: str, orientation: int
) -> None:
    path = tmp_path / f"a.{ending}"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    picture.save(path, exif=exif)
    with Image.open(path) as file:
        np.testing.assert_array_equal(decode(path), np.asarray(ImageOps.exif_transpose(file).convert("RGB")))


def with_xmp(jpeg: bytes, orientation: int) -> bytes:
    """A JPEG file with an orientation in XMP alone, as photo editors write it."""
    packet = f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()
    segment = b"http://ns.adobe.com/xap/1.0/\0" + packet
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8, 9])
def test_orientation_in_xmp_is_applied_as_pillow_does(
    picture: Image.Image, tmp_path: Path, mode: str, orientation: int
) -> None:
    path = tmp_path / "a.jpg"
    picture.convert(mode).save(path)
    path.write_bytes(with_xmp(path.read_bytes(), orientation))
    with Image.open(path) as file:
        np.testing.assert_array_equal(decode(path), np.asarray(ImageOps.exif_transpose(file).convert("RGB")))


DAMAGED_EXIF = {
    "no TIFF header": b"\xaf\xbfj\xae\xa59LZ" * 3,
    "cut off": b"MM\0*",
    "a directory beyond its end": b"II*\0\xff\xff\xff\xff",
    "a value beyond its end": b"II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\xff\xff\0\0\xff\xff\xff\0\0\0\0\0",
    "an orientation that is none": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0",
}


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
@pytest.mark.parametrize("damage", DAMAGED_EXIF)
@pytest.mark.parametrize("name", ["a.jpg", "cmyk.jpg", "grey.jpg", "a.png", "palette.png", "a.webp", "a.avif"])
def test_damaged_exif_does_not_stop_an_image(picture: Image.Image, tmp_path: Path, name: str, damage: str) -> None:
    modes = {"cmyk.jpg": "CMYK", "grey.jpg": "L", "palette.png": "P"}
    image, exif = picture.convert(modes.get(name, "RGB")), DAMAGED_EXIF[damage]
    plain, damaged = tmp_path / f"plain_{name}", tmp_path / name
    image.save(plain)
    if name.endswith("avif"):
        # Pillow writes no damaged EXIF into this format; of the same length, it is put into a finished file.
        sound = Image.Exif()
        sound[0x010F] = "x" * 200
        image.save(damaged, exif=sound)
        content, place = damaged.read_bytes(), sound.tobytes()[6:]
        damaged.write_bytes(content.replace(place, exif.ljust(len(place), b"\0")))
    else:
        image.save(damaged, exif=exif if name.endswith("webp") else b"Exif\0\0" + exif)
    np.testing.assert_array_equal(decode(damaged), decode(plain))


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
def test_a_damaged_directory_of_exif_does_not_stop_a_tiff(picture: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif.get_ifd(0x8769)[0x9286] = b"a comment"
    picture.save(path, exif=exif.tobytes())
    upright, content = decode(path), path.read_bytes()
    entry = content.index(struct.pack("<HHL", 0x8769, 4, 1))
    path.write_bytes(content[: entry + 8] + b"\xff\xff\xff\x7f" + content[entry + 12 :])
    np.testing.assert_array_equal(decode(path), upright)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, ending: str) -> None:
    values = np.array([[0, 128, 129], [257, 32768, 65535]], dtype=np.uint16)
    path = tmp_path / f"a.{ending}"
    Image.fromarray(values).save(path)
    pixels = decode(path)
    np.testing.assert_array_equal(pixels[..., 0], [[0, 0, 1], [1, 128, 255]])
    assert (pixels == pixels[..., :1]).all()


def test_palette_and_one_bit_images_have_three_channels(picture: Image.Image, tmp_path: Path) -> None:
    palette, bits = picture.quantize(16), picture.convert("1")
    palette.save(tmp_path / "palette.png")
    bits.save(tmp_path / "bits.tiff")
    np.testing.assert_array_equal(decode(tmp_path / "palette.png"), np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(decode(tmp_path / "bits.tiff"), np.asarray(bits.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_composed_onto_white(tmp_path: Path, mode: str) -> None:
    clear_black, solid_black = (0, 0, 0, 0), (0, 0, 0, 255)
    image = Image.new("RGBA", (2, 1), clear_black)
    image.putpixel((1, 0), solid_black)
    image.convert(mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), [[[255, 255, 255], [0, 0, 0]]])


def test_a_transparent_palette_colour_becomes_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.gif", transparency=0)
    np.testing.assert_array_equal(decode(tmp_path / "a.gif"), [[[255, 255, 255], [40, 50, 60]]])


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (3, 3), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (decode(tmp_path / "a.gif") == (255, 0, 0)).all()


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "bmp", "webp", "tif"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.95])
def test_truncated_files_are_bad_images(picture: Image.Image, tmp_path: Path, ending: str, kept: float) -> None:
    path = tmp_path / f"a.{ending}"
    picture.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(BadImageError):
        decode(path)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty"), (b"\xff\xd8 not really", "known format"), (b"hello", "known format")]
)
def test_the_reason_is_said(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(BadImageError, match=reason):
        decode(path)


def test_a_missing_file_a_folder_and_floating_point_are_bad_images(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match="No such file"):
        decode(tmp_path / "absent.png")
    with pytest.raises(BadImageError, match="directory"):
        decode(tmp_path)
    Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(BadImageError, match="floating-point"):
        decode(tmp_path / "a.tif")


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
def test_randomly_damaged_files_are_decoded_or_bad_but_nothing_else(picture: Image.Image, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for ending in ("jpg", "png", "gif", "tif", "webp", "bmp"):
        path = tmp_path / f"a.{ending}"
        picture.save(path)
        content = np.fromfile(path, dtype=np.uint8)
        for _ in range(30):
            damaged = content.copy()
            places = generator.integers(0, min(len(damaged), 200), 5)
            damaged[places] = generator.integers(0, 256, 5)
            damaged.tofile(path)
            with suppress(BadImageError):
                assert decode(path).shape[2] == 3


def test_values_beyond_sixteen_bits_are_refused(tmp_path: Path) -> None:
    for values, said in (([0, 70_000], "70,000"), ([-5, 9], "-5")):
        Image.fromarray(np.array([values], dtype=np.int32)).save(tmp_path / "a.tif")
        with pytest.raises(BadImageError, match=f"{said}.*save the image with 8 or 16 bits"):
            decode(tmp_path / "a.tif")


def test_images_that_use_few_of_their_bits_are_told(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.png") for number in range(40)]
    for path in paths:
        Image.fromarray(np.array([[0, 4095]], dtype=np.uint16)).save(path)
    (told,) = dim_images(paths)
    for said in ("0.png", "4,095", "65,535", "8 bits"):
        assert said in told
    Image.fromarray(np.array([[0, 40_000]], dtype=np.uint16)).save(paths[0])
    assert dim_images(paths) == []
    Image.fromarray(np.array([[0, 9]], dtype=np.uint8)).save(paths[0])
    assert dim_images([paths[0], str(tmp_path / "absent.png"), "a.jpg", ""]) == []
