"""Which samples, which mixes and which label shares a preview shows."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from vision_train.data import image_dataset
from vision_train.data.toy.folder import make_image_folder
from vision_train.errors import UserError
from vision_train.previews import OWN, PARTNER, Preview, PreviewRow
from vision_train.recipe import load_recipe
from vision_train.report import images
from vision_train.run.phase import prepare, scan
from vision_train.run.preview import preview
from vision_train.tasks.classification import preview as mixed

ALL_KINDS = "augment.mixing={maskmix: 0.4, mixup: 0.2, cutmix: 0.2, mask_patch: 4}"


@pytest.fixture
def drawn(monkeypatch):
    """Rows, notes and originals of the pictures drawn, in the order they are."""
    seen = []
    render = images.render_preview

    def record(title: str, shown: Preview, originals):
        seen.append((shown.rows, shown.notes, originals))
        return render(title, shown, originals)

    monkeypatch.setattr(images, "render_preview", record)
    return seen


@pytest.fixture
def show(tiny, drawn):
    """Preview the tiny recipe; return rows, notes and what was printed."""

    def call(*overrides, count=8, out="p.png", recipe=tiny):
        printed = io.StringIO()
        console = Console(file=printed, soft_wrap=True, width=200)
        preview(load_recipe(recipe, overrides), Path(out), count=count, console=console)
        return *drawn[-1][:2], printed.getvalue()

    return call


def own_of(row: PreviewRow) -> np.ndarray:
    """Share of each pixel that is the image's own, H W, read off the colours that show it."""
    own, partner = (np.array(colour, dtype=float) for colour in (OWN, PARTNER))
    return (row.pictures["whose pixels"] - partner)[..., 0] / (own - partner)[0]


# --- which kinds


def test_every_kind_appears_and_is_told_with_its_share(show):
    rows, _, printed = show(ALL_KINDS)
    assert {row.panel.title for row in rows} == {"MaskMix", "MixUp", "CutMix", "not mixed"}
    assert printed.splitlines() == [
        "p.png",
        "8 training samples: MaskMix (40 % of batches), MixUp (20 % of batches), CutMix (20 % of batches), "
        "not mixed (20 % of batches)",
    ]


def test_a_kind_too_rare_to_come_is_told(show, monkeypatch):
    monkeypatch.setattr(mixed, "DRAWS", 5)
    rows, _, printed = show("augment.mixing={maskmix: 0, mixup: 0.999, cutmix: 1.0e-4, labels: area}", count=3)
    assert len(rows) == 3
    assert "CutMix (0.01 % of batches, none shown)" in printed


def test_a_recipe_that_mixes_nothing_shows_its_augmentation(show):
    rows, notes, printed = show("augment.mixing={maskmix: 0, mixup: 0, cutmix: 0, labels: area}", count=2)
    assert all(row.panel.partner == "" and own_of(row).min() == 1 and not row.panel.shares for row in rows)
    assert all((row.pictures["as the network sees it"] == row.pictures["augmented"]).all() for row in rows)
    assert notes == []
    assert "not mixed (100 % of batches)" in printed


# --- what a row says


def test_pixels_are_whose_the_mask_says_and_shares_their_area(show):
    rows, _, _ = show(ALL_KINDS)
    augmented = {row.id: row.pictures["augmented"].astype(float) for row in rows}
    for row in rows:
        if row.panel.partner not in augmented:
            continue
        own, share = own_of(row), row.panel.shares["by area"]
        if row.panel.title == "MixUp":
            np.testing.assert_allclose(own, share, atol=0.5 / (PARTNER[0] - OWN[0]))
            own = np.full_like(own, share)  # colours are rounded
        assert share == pytest.approx(own.mean(), abs=1e-5)
        expected = own[..., None] * augmented[row.id] + (1 - own[..., None]) * augmented[row.panel.partner]
        np.testing.assert_allclose(row.pictures["as the network sees it"], expected, atol=1.5)
        assert row.panel.partner != row.id


def test_augmented_images_are_those_that_training_would_load(tiny, show):
    rows, _, _ = show(count=2)
    data = prepare(scan(replace(recipe := load_recipe(tiny), data=replace(recipe.data, workers=0)))).data
    trained = {
        name: image
        for batch in data.train_dataloader()
        for name, image in zip(batch["id"], batch["image"], strict=True)
    }
    shown = [row for row in rows if row.id in trained]  # an epoch may leave some out
    assert shown
    for row in shown:
        levels = (trained[row.id].permute(1, 2, 0) * 0.5 + 0.5).clamp(0, 1) * 255
        assert torch.equal(torch.from_numpy(row.pictures["augmented"]), levels.round().to(torch.uint8))


@pytest.mark.parametrize("seed", range(5))
def test_few_rows_show_most_classes_of_class_folders(tmp_path, show, seed):
    for split in ("train", "val", "test"):
        make_image_folder(tmp_path / "images" / split, classes=3, per_class=10, size=(16, 16))
    keys = ["data.source=images", f"data.root={tmp_path / 'images'}", "data.labels_per_class=null", f"seed={seed}"]
    rows, _, _ = show(*keys, count=4)
    assert {row.panel.label for row in rows} == {"class_0", "class_1", "class_2"}
    again, _, _ = show(*keys, count=4)
    assert [row.id for row in again] == [row.id for row in rows]


def test_only_training_images_are_shown_and_never_decoded_otherwise(tmp_path, show, drawn, monkeypatch):
    for split, count in (("train", 3), ("val", 2), ("test", 2)):
        make_image_folder(tmp_path / "images" / split, classes=2, per_class=count, size=(20, 30))
    decoded = []
    decode = image_dataset.decode
    monkeypatch.setattr(image_dataset, "decode", lambda path: decoded.append(path) or decode(path))
    overrides = ["data.source=images", f"data.root={tmp_path / 'images'}", "data.labels_per_class=null"]
    rows, _, _ = show(*overrides, count=9)
    assert len(rows) == 9  # more than there are images: a second epoch augments them anew
    assert all(Path(path).relative_to(tmp_path / "images").parts[0] == "train" for path in decoded)
    originals = drawn[-1][2]
    assert originals.keys() == {row.id for row in rows}
    assert originals[rows[0].id].shape == (30, 20, 3)
    assert rows[0].id.startswith(f"train/{rows[0].panel.label}/")
    assert len({row.id for row in rows[:6]}) == 6


def test_the_seed_alone_decides(show):
    show(ALL_KINDS, out="a.png", count=4)
    torch.rand(5)
    show(ALL_KINDS, out="b.png", count=4)
    show(ALL_KINDS, "seed=4", out="c.png", count=4)
    first, second, other = (Path(name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert first == second != other


def test_batches_of_one_are_augmented(show):
    rows, _, _ = show("data.batch_size=1", "augment.mixing={maskmix: 0, mixup: 0, cutmix: 0, labels: area}", count=2)
    assert len({row.id for row in rows}) == 2


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
        assert list(row.panel.shares) == (["by area", "with attention"] if row.panel.title == kind else ["by area"])
        assert all(0 <= share <= 1 for share in row.panel.shares.values())
    assert labels in notes[0]
    assert "random weights" in notes[1]


def test_trained_weights_need_no_warning(show, tiny, tmp_path):
    torch.save(prepare(scan(load_recipe(tiny))).task.network.state_dict(), tmp_path / "weights.pth")
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
    rows, _, printed = show(*overrides, "data.on_bad=skip")
    assert len(rows) == 8
    assert "skipped 1 image that cannot be used:" in printed


# --- other tasks


def test_pretraining_shows_its_augmented_images_beside_the_originals(show, drawn):
    small = ("model.args={embed_dim: 24, depth: 1}", "augment.train.color_jitter=0.4")
    rows, notes, printed = show(*small, count=3, recipe="droppos/digits")
    assert len({row.id for row in rows}) == 3
    assert notes == []
    assert [(list(row.pictures), row.panel) for row in rows] == [(["augmented"], None)] * 3
    assert rows[0].pictures["augmented"].shape == (16, 16, 3)
    assert drawn[-1][2][rows[0].id].shape == (8, 8, 3)
    assert printed.splitlines() == ["p.png", "3 training samples: augmented as in training"]
    assert Image.open("p.png").height > 3 * 224


def test_samples_that_are_no_images_are_refused(show):
    with pytest.raises(UserError, match="task=bags: preview shows images"):
        show(recipe="acmil/digit_bags")
    assert not Path("p.png").exists()


def test_views_that_are_mixed_before_they_are_learnt_are_said_to_be(tmp_path):
    console = Console(file=io.StringIO(), width=200)
    preview(load_recipe("semi/shapes", ["data.mix_unlabelled=true"]), tmp_path / "p.png", count=1, console=console)
    said = console.file.getvalue()
    assert "1 unlabelled sample in their two views, before two or four are mixed" in said
    assert "data.mix_unlabelled" in said


@pytest.mark.parametrize("recipe", ["semi/digits", "semi/shapes"])
def test_the_pool_is_shown_in_both_views(recipe, tmp_path):
    out, console = tmp_path / "p.png", Console(file=io.StringIO(), width=200)
    preview(load_recipe(recipe), out, count=3, console=console)
    assert "3 unlabelled samples in their two views\n" in console.file.getvalue()
    alone = tmp_path / "alone.png"
    preview(load_recipe(recipe, ["semi.method=none"]), alone, count=3, console=console)
    with Image.open(out) as both, Image.open(alone) as first:
        assert both.height > 1.8 * first.height
        labelled = both.crop((0, 40, first.width, first.height))
        assert np.array_equal(labelled, first.crop((0, 40, first.width, first.height)))
