"""Pictures of predictions: any image in, one width out."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vision_train.report.images.predictions import FULL, TALLEST, WIDTH, render_prediction

BARS = [("three", 0.9), ("five", 0.06), ("eight", 0.0)]


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (300, 200), (2500, 2000), (2000, 2), (2, 2000)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK", "LA"])
def test_any_size_and_mode(size, mode):
    rendered = render_prediction(Image.new(mode, size), "picture.png", BARS)
    assert rendered.mode == "RGB"
    assert rendered.width == WIDTH
    assert 100 < rendered.height < TALLEST + 250


def test_small_pictures_keep_sharp_pixels():
    checks = Image.fromarray((np.indices((8, 8)).sum(axis=0) % 2 * 255).astype(np.uint8))
    pixels = np.asarray(render_prediction(checks, "", []))[:256, 52:308]
    assert set(np.unique(pixels)) == {0, 255}
    assert (pixels[:32, :32] == 0).all()
    assert (pixels[:32, 32:64] == 255).all()


def test_transparency_is_laid_over_white():
    clear = Image.new("RGBA", (100, 100), (255, 0, 0, 0))
    assert render_prediction(clear, "", []).getpixel((WIDTH // 2, 50)) == (255, 255, 255)


def test_bars_are_as_long_as_probabilities():
    blue = tuple(int(FULL[k : k + 2], 16) for k in (1, 3, 5))
    pixels = np.asarray(render_prediction(Image.new("RGB", (8, 8)), "", [("a", 1.0), ("b", 0.5), ("c", 0.0)]))
    longest = (pixels == blue).all(axis=2).sum(axis=1)
    filled = sorted({int(n) for n in longest if n > 20}, reverse=True)
    assert filled[0] == pytest.approx(WIDTH - 28, abs=2)
    assert any(n == pytest.approx((WIDTH - 28) / 2, abs=2) for n in filled)


def test_long_and_odd_texts_stay_inside(monkeypatch):
    drawn = []
    write = ImageDraw.ImageDraw.text

    def record(self, place, text, *arguments, font, **options):
        drawn.append((text, font.getlength(text)))
        return write(self, place, text, *arguments, font=font, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", record)
    render_prediction(Image.new("RGB", (8, 8)), "a/very/long/path/" * 40, [("line\nbreak très " * 50, 0.5)])
    assert all(length <= WIDTH - 28 for _, length in drawn)
    assert drawn[0][0].startswith("…")
    assert drawn[0][0].endswith("very/long/path/")
    assert "\n" not in drawn[1][0]


def test_the_picture_given_is_left_as_it_was():
    image = Image.new("RGB", (500, 500), "red")
    render_prediction(image, "", BARS)
    assert image.size == (500, 500)
    assert image.getcolors() == [(250000, (255, 0, 0))]
