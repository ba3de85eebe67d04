"""Fonts of the system draw what the bundled one lacks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from vision_train.report import fonts
from vision_train.report.drawing import ends, shortened


@pytest.fixture
def cat_font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The only font of the system, with a square as its one Chinese character."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 800), (800, 800), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "cat"])
    builder.setupCharacterMap({ord("猫"): "cat"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "cat": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "cat": (1000, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Test Cat Sans", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path = tmp_path / "cat.ttf"
    builder.save(path)
    monkeypatch.setattr(fonts, "system_fonts", lambda: (path,))
    yield path
    fonts.characters.cache_clear()


def test_a_font_with_the_glyphs_is_chosen(cat_font: Path) -> None:
    assert fonts.font(12, "猫").path == cat_font
    assert "DejaVu" in str(fonts.font(12, "Kater é").path)
    assert "Bold" in str(fonts.font(12, "Kater", bold=True).path)
    assert fonts.remarks_on_glyphs(["猫", "é", "line\nend"]) == []
    assert fonts.families_for(["猫"]) == ["Test Cat Sans"]
    assert fonts.families_for(["Kater"]) == []


def test_what_no_font_has_is_said_with_the_package_that_brings_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "system_fonts", tuple)
    (remark,) = fonts.remarks_on_glyphs(["猫 cat", "犬"])
    assert "犬 猫" in remark
    assert "fonts-noto-cjk" in remark
    assert "DejaVu" in str(fonts.font(12, "猫").path)


def test_names_that_are_no_utf_8_are_drawn_escaped() -> None:
    assert shortened("caf\udce9\n x", fonts.font(12), 500, ends) == r"caf\udce9 x"
