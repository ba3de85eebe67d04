"""Which images, which mixes and which label shares a preview shows."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from vision_train.data.toy.folder import make_image_folder
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.recipe.sections import Mixing
from vision_train.run import preview as module
from vision_train.run.phase import prepare
from vision_train.run.preview import mixing_weights, plan_rows, preview

ALL_KINDS = "augment.mixing={maskmix: 0.4, mixup: 0.2, cutmix: 0.2, mask_patch: 4}"


@pytest.fixture
def drawn(monkeypatch):
    """Rows and notes of the pictures drawn, in the order they are."""
    seen = []
    render = module.render_preview

    def record(title, subtitle, rows, notes):
        seen.append((rows, list(notes)))
        return render(title, subtitle, rows, notes)

    monkeypatch.setattr(module, "render_preview", record)
    return seen


@pytest.fixture
def show(tiny, drawn):
    """Preview the tiny recipe; return rows, notes and what was printed."""

    def call(*overrides, count=8, out="p.png"):
        printed = io.StringIO()
        console = Console(file=printed, soft_wrap=True, width=200)
        preview(load_recipe(tiny, overrides), Path(out), count=count, console=console)
        return *drawn[-1], printed.getvalue()

    return call


# --- which kinds


def test_weights_are_shares_of_the_batches():
    assert mixing_weights(Mixing(mixup=0.25, cutmix=0.25)) == {"mixup": 0.25, "cutmix": 0.25, "unmixed": 0.5}
    assert mixing_weights(Mixing(mixup=0.1, cutmix=0.9)) == {"mixup": 0.1, "cutmix": 0.9}
    assert mixing_weights(Mixing()) == {"unmixed": 1.0}


@pytest.mark.parametrize(
    ("weights", "count", "rows"),
    [
        ({"maskmix": 0.5, "mixup": 0.25, "cutmix": 0.25}, 8, [4, 2, 2, 0]),
        ({"maskmix": 0.98, "mixup": 0.01, "cutmix": 0.01}, 4, [2, 1, 1, 0]),
        ({"maskmix": 0.1, "mixup": 0.2, "cutmix": 0.7}, 1, [0, 0, 1, 0]),
        ({"mixup": 0.25, "cutmix": 0.25, "unmixed": 0.5}, 6, [0, 3, 2, 1]),
        ({"mixup": 0.25, "cutmix": 0.25, "unmixed": 0.5}, 2, [0, 1, 1, 0]),
        ({"unmixed": 1.0}, 3, [0, 0, 0, 3]),
    ],
)
def test_every_kind_has_a_row_if_there_is_room(weights, count, rows):
    planned = plan_rows(weights, count)
    assert [planned.count(kind) for kind in ("maskmix", "mixup", "cutmix", "unmixed")] == rows


def test_every_kind_appears_and_is_told_with_its_share(show):
    rows, _, printed = show(ALL_KINDS)
    assert {row.mixing for row in rows} == {"MaskMix", "MixUp", "CutMix", "not mixed"}
    assert printed.splitlines() == [
        "p.png",
        "8 training images: MaskMix (40 % of batches), MixUp (20 % of batches), CutMix (20 % of batches), "
        "not mixed (20 % of batches)",
    ]


def test_a_kind_too_rare_to_come_is_told(show, monkeypatch):
    monkeypatch.setattr(module, "DRAWS", 5)
    rows, _, printed = show("augment.mixing={maskmix: 0, mixup: 0.999, cutmix: 1.0e-4, labels: area}", count=3)
    assert len(rows) == 3
    assert "CutMix (0.01 % of batches, none shown)" in printed


def test_a_recipe_that_mixes_nothing_shows_its_augmentation(show):
    rows, notes, printed = show("augment.mixing={maskmix: 0, mixup: 0, cutmix: 0, labels: area}", count=2)
    assert all(row.partner is None and row.own.min() == 1 and not row.shares for row in rows)
    assert all((row.mixed == row.augmented).all() for row in rows)
    assert notes == []
    assert "not mixed (100 % of batches)" in printed


# --- what a row says


def test_pixels_are_whose_the_mask_says_and_shares_their_area(show):
    rows, _, _ = show(ALL_KINDS)
    augmented = {row.image.name: row.augmented.astype(float) for row in rows}
    for row in rows:
        if row.partner is None or row.partner.name not in augmented:
            continue
        own = row.own[..., None]
        expected = own * augmented[row.image.name] + (1 - own) * augmented[row.partner.name]
        np.testing.assert_allclose(row.mixed, expected, atol=1.5)
        assert row.shares["by area"] == pytest.approx(row.own.mean(), abs=1e-5)
        assert row.partner != row.image


def test_augmented_images_are_those_that_training_would_load(tiny, show):
    rows, _, _ = show(count=2)
    data = prepare(replace(recipe := load_recipe(tiny), data=replace(recipe.data, workers=0))).data
    batch = next(iter(data.train_dataloader()))
    assert [row.image.name for row in rows] == batch["id"][:2]
    levels = (batch["image"][0].permute(1, 2, 0) * 0.5 + 0.5).clamp(0, 1) * 255
    assert torch.equal(torch.from_numpy(rows[0].augmented), levels.round().to(torch.uint8))


def test_only_training_images_are_shown_and_never_decoded_otherwise(tmp_path, show, monkeypatch):
    for split, count in (("train", 3), ("val", 2), ("test", 2)):
        make_image_folder(tmp_path / "images" / split, classes=2, per_class=count, size=(20, 30))
    decoded = []
    decode = module.decode
    monkeypatch.setattr("vision_train.data.dataset.decode", lambda path: decoded.append(path) or decode(path))
    overrides = ["data.source=images", f"data.root={tmp_path / 'images'}", "data.labels_per_class=null"]
    rows, _, _ = show(*overrides, count=9)
    assert len(rows) == 9  # more than there are images: a second epoch augments them anew
    assert all(Path(path).relative_to(tmp_path / "images").parts[0] == "train" for path in decoded)
    assert rows[0].original.shape == (30, 20, 3)
    assert rows[0].image.name.startswith(f"train/{rows[0].image.label}/")
    assert len({row.image.name for row in rows[:6]}) == 6


def test_the_seed_alone_decides(show):
    show(ALL_KINDS, out="a.png", count=4)
    torch.rand(5)
    show(ALL_KINDS, out="b.png", count=4)
    show(ALL_KINDS, "seed=4", out="c.png", count=4)
    first, second, other = (Path(name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert first == second != other


def test_batches_of_one_are_augmented(show):
    rows, _, _ = show("data.batch_size=1", "augment.mixing={maskmix: 0, mixup: 0, cutmix: 0, labels: area}", count=2)
    assert len({row.image for row in rows}) == 2


# --- labels by attention


@pytest.mark.parametrize(
    ("labels", "kind", "weights"),
    [
        ("progressive", "MaskMix", "maskmix: 0.5, mask_patch: 4, cutmix: 0"),
        ("transmix", "CutMix", "maskmix: 0, cutmix: 0.5"),
    ],
)
def test_shares_by_attention_stand_beside_those_by_area(show, labels, kind, weights):
    mixing = f"augment.mixing={{mixup: 0.5, labels: {labels}, {weights}}}"
    rows, notes, _ = show(mixing, count=4)
    for row in rows:
        assert list(row.shares) == (["by area", "with attention"] if row.mixing == kind else ["by area"])
        assert all(0 <= share <= 1 for share in row.shares.values())
    assert labels in notes[0]
    assert "random weights" in notes[1]


def test_trained_weights_need_no_warning(show, tiny, tmp_path):
    torch.save(prepare(load_recipe(tiny)).task.network.state_dict(), tmp_path / "weights.pth")
    mixing = "augment.mixing={maskmix: 0, mixup: 0.2, cutmix: 0.8, labels: transmix}"
    _, notes, _ = show(mixing, "model.checkpoint=weights.pth", count=4)
    assert len(notes) == 1


# --- files


def test_the_ending_says_the_format_and_folders_are_made(show):
    show(out="new/folder/p.JPG", count=1)
    assert Image.open("new/folder/p.JPG").format == "JPEG"


def test_a_picture_that_exists_is_overwritten(show):
    Path("p.png").write_text("old")
    show(count=1)
    assert Image.open("p.png").format == "PNG"


def test_skipped_images_are_counted_under_the_policy_that_asks_for_it(tmp_path, show):
    for split in ("train", "val", "test"):
        make_image_folder(tmp_path / "images" / split, classes=2, per_class=3, size=(20, 20))
    (tmp_path / "images/train/class_0/0001.png").write_bytes(b"no picture")
    overrides = ["data.source=images", f"data.root={tmp_path / 'images'}", "data.labels_per_class=null"]
    with pytest.raises(UserError, match="unreadable image"):
        show(*overrides)
    assert not Path("p.png").exists()
    rows, _, printed = show(*overrides, "data.on_bad_image=skip")
    assert len(rows) == 8
    assert "1 unreadable images were skipped:" in printed
