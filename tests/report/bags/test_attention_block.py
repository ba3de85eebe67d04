"""Attention as a part of the page: bags of any size as pictures, one that cannot be drawn as words."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.mil.attention_maps import AttendedBag, AttentionMaps
from vision_train.artefacts import Table, UnknownArtefactError, read_artefact, write_artefact
from vision_train.report import bags, write_report
from vision_train.report.bags.attention_map import bare_map
from vision_train.report.bags.tile_layout import lay_out_tiles


def bag(count: int, branches: int = 3, pictures: int = 0, **options) -> AttendedBag:
    attention = np.random.default_rng(0).dirichlet(np.full(count, 0.1), branches).astype(np.float32)
    coords = np.stack(np.divmod(np.arange(count), 250), axis=1)[:, ::-1] * 512
    shown = [np.full((256, 256, 3), 20 * number, np.uint8) for number in range(pictures)]
    given = {"attention": attention, "coords": coords, "patch_size_level0": 512, "pictures": shown, **options}
    return AttendedBag("slide <7>", "tumour, taken for normal (97 %)", **given)


def block(*shown: AttendedBag) -> str:
    return bags.block(AttentionMaps("test_attention", "Attention on test", list(shown), "The worst."))


def pictures(markup: str) -> list[np.ndarray]:
    found = re.findall(r'<li><figure><img[^>]* src="data:image/\w+;base64,([^"]+)"', markup)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each))).convert("RGB")) for each in found]


def test_a_bag_is_its_map_its_branches_and_its_hottest_instances():
    shown = bag(300, pictures=4)
    markup = block(shown)
    whole, *branches = pictures(markup)[:4]
    layout = lay_out_tiles(300, shown.coords, 512, longest_side=512)
    assert (whole == bare_map(shown.attention.mean(axis=0), layout)).all(), "a palette loses no colour"
    small = lay_out_tiles(300, shown.coords, 512, longest_side=256)
    for drawn, attention in zip(branches, shown.attention, strict=True):
        assert (drawn == bare_map(attention, small)).all()
    assert len(pictures(markup)) == 8
    hottest = int(shown.attention.mean(axis=0).argmax())
    x, y = shown.coords[hottest]
    assert f"rank 1\nattention {shown.attention.mean(axis=0)[hottest]:.4g}\nx {x}, y {y}" in markup
    assert "slide &lt;7&gt; <span>tumour, taken for normal (97 %)" in markup
    assert "300 tiles\nthe 10 hottest hold" in markup
    assert "other instances that have less attention" in markup


def test_a_single_branch_is_the_map_itself():
    markup = block(bag(300, branches=1))
    assert len(pictures(markup)) == 1
    assert "branch" not in markup


@pytest.mark.parametrize("coords", [None, np.zeros((1, 2), np.int64)])
def test_a_bag_of_one(coords):
    markup = block(bag(1, coords=coords, patch_size_level0=None, pictures=1))
    assert len(pictures(markup)) == 5
    assert "1 instance\n" in markup or "1 tile\n" in markup


def test_a_bag_that_cannot_be_drawn_costs_only_its_own_part():
    attention = np.full((2, 30), np.nan, np.float32)
    markup = block(bag(30, attention=attention), bag(40))
    assert "This bag cannot be drawn: attention is NaN or infinite for 30 of 30 instances." in markup
    assert len(pictures(markup)) == 4
    assert block() == ""


def test_large_bags_are_pictures_and_no_rows(digits_run: Path):
    before = write_report(digits_run).stat().st_size
    maps = AttentionMaps("test_attention", "Attention on test", [bag(50_000, branches=5)])
    write_artefact(digits_run / "artefacts", maps, bags.CODECS)
    report = write_report(digits_run, extension=bags)
    assert "<h2>Where the network looks</h2>" in report.read_text()
    assert report.stat().st_size - before < 500_000


def test_a_csv_that_was_cut_short_is_named(digits_run: Path):
    write_artefact(digits_run / "artefacts", AttentionMaps("test_attention", "Attention", [bag(30)]), bags.CODECS)
    (digits_run / "artefacts" / "test_attention-0.csv").write_text("slide_id,x,y,attention\n")
    assert "Could not be read: artefacts/test_attention.json" in write_report(digits_run, extension=bags).read_text()


def test_without_their_extension_maps_are_named_and_left_out(digits_run: Path):
    write_artefact(digits_run / "artefacts", AttentionMaps("test_attention", "Attention", [bag(30)]), bags.CODECS)
    page = write_report(digits_run).read_text()
    assert "artefacts/test_attention.json: AttentionMaps" in page
    assert "Where the network looks" not in page


def test_maps_come_back_as_they_were_written(tmp_path: Path):
    maps = AttentionMaps("maps", "Attention", [bag(7, pictures=2), bag(3, coords=None)], "A note.")
    write_artefact(tmp_path, maps, bags.CODECS)
    found = read_artefact(tmp_path / "maps.json", bags.CODECS)
    assert (found.name, found.title, found.note) == (maps.name, maps.title, maps.note)
    for ours, theirs in zip(maps.bags, found.bags, strict=True):
        assert np.array_equal(ours.attention, theirs.attention)
        assert np.array_equal(ours.coords, theirs.coords)
        assert np.array_equal(ours.pictures, theirs.pictures)


def test_an_artefact_that_nobody_can_store_is_refused(tmp_path: Path):
    with pytest.raises(UnknownArtefactError, match="AttentionMaps"):
        write_artefact(tmp_path, AttentionMaps("maps", "Attention", []))
    assert bags.block(Table("t", "T", [], [])) is None
