"""What comes out of a detector: COCO's results, tables, pictures, thresholds, and other annotations than its own."""

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from PIL import ExifTags, Image
from rich.console import Console

from vision_train.checkpoints import read_weights
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.report import boxes as drawing
from vision_train.run.evaluate import evaluate_run
from vision_train.run.fit import fit
from vision_train.run.predict import predict_run
from vision_train.run.preview import preview

CATEGORIES = {"cat": 3, "dog": 7, "owl": 12}
SIDES = {"cat": 24, "dog": 30, "owl": 40}
"""Objects lie in the middle, where an untrained network proposes boxes, so that some of its boxes are right."""


def write_coco(folder: Path, split: str, names: list[str], categories: dict[str, int], first: int) -> None:
    """A picture of 64 x 64 pixels with one object for each name, and their annotations, with ids from ``first`` on."""
    random = np.random.default_rng(first)
    images, annotations = [], []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        file, side = f"{split}_{number}.png", SIDES[name]
        pixels = random.integers(0, 60, (64, 64, 3), dtype=np.uint8)
        corner = 32 - side // 2
        pixels[corner : corner + side, corner : corner + side, sorted(SIDES).index(name)] += 150
        Image.fromarray(pixels).save(folder / "images" / file)
        images.append({"id": first + number, "file_name": file, "width": 64, "height": 64})
        box = {"bbox": [corner, corner, side, side], "area": side**2, "iscrowd": 0}
        annotations.append({"id": number + 1, "image_id": first + number, "category_id": categories[name], **box})
    listed = [{"id": number, "name": name} for name, number in categories.items()]
    content = {"images": images, "annotations": annotations, "categories": listed}
    (folder / f"{split}.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_coco(folder, "train", ["cat", "dog", "owl", "cat"], CATEGORIES, 40)
    write_coco(folder, "val", ["cat", "dog", "cat"], CATEGORIES, 700)
    write_coco(folder, "test", ["dog", "cat", "owl"], CATEGORIES, 2001)
    return folder


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory) -> Path:
    overrides = ["data.source=boxes", f"data.root={photos}", "model.args.queries=85", "trainer.max_epochs=2"]
    overrides += [
        "model.args.dim=64"
    ]  # two channels in each of 32 groups: with one, a map of one pixel has no variance
    overrides += ["trainer.limit_val_batches=null", "trainer.limit_test_batches=null", "optim.ema={decay: 0.5}"]
    recipe = load_recipe("relation_detr/shapes", overrides, smoke=True)
    place = tmp_path_factory.mktemp("run") / "run"
    return fit(recipe, run_dir=place, command=[], console=Console(quiet=True)).path


def predict(run: Path, *inputs: Path, out: Path, render: Path | None = None, overrides=()) -> str:
    console = Console(file=io.StringIO(), markup=False, soft_wrap=True)
    predict_run(run, inputs, out=out, render=render, images=None, overrides=overrides, console=console, force=True)
    return console.file.getvalue()


def images_of_test(photos: Path) -> list[Path]:
    return sorted((photos / "images").glob("test_*.png"))


def rows(file: Path) -> list[dict[str, str]]:
    with file.open() as lines:
        return list(csv.DictReader(lines))


def thresholds(run: Path) -> dict:
    return read_weights(run).facts["calibration"]


def test_results_in_cocos_format_have_the_average_precision_of_the_run(run, photos, tmp_path):
    out = tmp_path / "boxes.json"
    said = predict(run, *images_of_test(photos), out=out)
    results = json.loads(out.read_text())
    assert {entry["image_id"] for entry in results} == {2001, 2002, 2003}
    assert {entry["category_id"] for entry in results} == {3, 7, 12}
    assert len(results) == 3 * 85 * 3, "no threshold is applied"
    assert said == f"{len(results)} results of 3 images in {out}\n", "no threshold is named where none is applied"
    truth = COCO(str(photos / "test.json"))
    evaluation = COCOeval_faster(truth, truth.loadRes(str(out)), "bbox", print_function=lambda *_: None)
    evaluation.run()
    summary = json.loads((run / "summary.json").read_text())
    assert evaluation.stats[0] == pytest.approx(summary["test/ap"], abs=1e-6)
    assert evaluation.stats[1] == pytest.approx(summary["test/ap50"], abs=1e-6)
    assert summary["test/ap50"] > 0


def test_the_thresholds_are_those_of_the_best_weights_on_val(run, photos, tmp_path):
    chosen = thresholds(run)
    assert set(chosen["thresholds"]) == {"cat", "dog"}, "val has no owl"
    out = tmp_path / "all.json"
    predict(run, *sorted((photos / "images").glob("val_*.png")), out=out)
    cats = [entry for entry in json.loads(out.read_text()) if entry["category_id"] == 3]
    scores = np.array(sorted((entry["score"] for entry in cats), reverse=True))
    least = chosen["thresholds"]["cat"]
    taken = int((scores >= least).sum())
    following = scores[taken] if taken < len(scores) else scores[-1]
    assert least == pytest.approx((scores[taken - 1] + following) / 2, abs=1e-6), "midway between two scores of val"


def test_tables_hold_the_boxes_above_the_thresholds(run, photos, tmp_path):
    said = predict(run, photos / "images", out=tmp_path / "boxes.csv")
    for word in ("F1 on the validation images", "owl", "method.threshold"):
        assert word in said
    chosen = thresholds(run)
    least = {name: chosen["thresholds"].get(name, chosen["threshold"]) for name in CATEGORIES}
    table = rows(tmp_path / "boxes.csv")
    assert list(table[0]) == ["path", "label", "category_id", "score", "threshold", "left", "top", "right", "bottom"]
    for row in table:
        assert float(row["score"]) >= least[row["label"]] - 1e-6
        assert float(row["threshold"]) == pytest.approx(least[row["label"]], abs=1e-6)
        assert int(row["category_id"]) == CATEGORIES[row["label"]]
        assert float(row["left"]) < float(row["right"])
    predict(run, photos / "images", out=tmp_path / "boxes.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "boxes.jsonl").read_text().splitlines()]
    assert len(lines) == 10, "one for each image, with boxes or without"
    assert sum(len(line["boxes"]) for line in lines) == len(table)
    first = next(line for line in lines if line["path"] == table[0]["path"])["boxes"][0]
    assert (first["label"], first["category_id"]) == (table[0]["label"], int(table[0]["category_id"]))
    assert first["box"][0] == pytest.approx(float(table[0]["left"]), abs=1e-3)


def test_a_threshold_that_is_asked_for_holds_for_all_classes(run, photos, tmp_path):
    image = images_of_test(photos)[0]
    predict(run, image, out=tmp_path / "all.csv", overrides=["method.threshold=0"])
    assert len(rows(tmp_path / "all.csv")) == 85 * 3
    said = predict(run, image, out=tmp_path / "no.csv", render=tmp_path / "out", overrides=["method.threshold=1"])
    assert "0 rows of 1 image" in said
    assert (tmp_path / "no.csv").read_text().startswith("path,label")
    assert len(list((tmp_path / "out").glob("*.png"))) == 1, "an image without boxes has a picture too"
    with pytest.raises(UserError, match=r"method\.threshold"):
        predict(run, image, out=tmp_path / "no.csv", overrides=["method.threshold=7"])


def test_boxes_are_drawn_on_images_of_any_kind(run, photos, tmp_path):
    odd = tmp_path / "odd"
    odd.mkdir()
    Image.new("L", (40, 30), 90).save(odd / "grey.png")
    Image.new("RGB", (32, 32)).save(odd / "small.png")
    Image.new("RGB", (1, 200)).save(odd / "thin.png")
    Image.new("RGB", (20_000, 60)).save(odd / "wide.png")
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (400, 500)).save(odd / "turned.jpg", exif=turned)
    (odd / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"broken\.png.*data\.on_bad=skip"):
        predict(run, odd, out=tmp_path / "odd.csv", render=tmp_path / "out")
    assert not (tmp_path / "odd.csv").exists()
    overrides = ["data.on_bad=skip", "data.eval_batch_size=2"]
    said = predict(run, odd, out=tmp_path / "odd.json", render=tmp_path / "out", overrides=overrides)
    assert "results of 5 images" in said
    assert "broken.png" in said
    drawn = {file.stem[6:]: Image.open(file) for file in (tmp_path / "out").glob("*.png")}
    assert set(drawn) == {"grey", "small", "thin", "wide", "turned"}
    assert drawn["turned"].size[0] == 500, "upright, as it is shown"
    assert drawn["wide"].size[0] == 6000
    results = json.loads((tmp_path / "odd.json").read_text())
    assert {entry["image_id"] for entry in results} == {"grey", "small", "thin", "wide", "turned"}
    assert all(math.isfinite(side) for entry in results for side in entry["bbox"])


def test_a_run_is_evaluated_on_annotations_that_number_the_classes_otherwise(run, photos, tmp_path):
    own = evaluate_run(run, "test")
    write_coco(tmp_path, "test", ["dog", "cat", "owl"], {"owl": 1, "cat": 2, "dog": 90}, 2001)
    labels = [f"data.labels={tmp_path / 'test.json'}", f"data.images={photos / 'images'}"]
    other = evaluate_run(run, "test", labels)
    assert other["test/ap"] == pytest.approx(own["test/ap"], abs=1e-9)
    out = tmp_path / "boxes.json"
    predict(run, *images_of_test(photos), out=out, overrides=labels)
    assert {entry["category_id"] for entry in json.loads(out.read_text())} == {1, 2, 90}
    content = json.loads((tmp_path / "test.json").read_text())
    content["categories"][1]["name"] = "lynx"
    (tmp_path / "test.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"test\.json.* lynx.*cat, dog, owl"):
        evaluate_run(run, "test", labels)


def test_every_split_can_be_evaluated(run):
    summary = json.loads((run / "summary.json").read_text())
    assert evaluate_run(run, "val")["val/ap"] == pytest.approx(summary["val/ap"], abs=1e-9)
    assert evaluate_run(run, "train")["train/samples"] == 4


def test_a_preview_shows_the_boxes_that_training_gets(photos, tmp_path, monkeypatch):
    seen = []
    render = drawing.render_preview
    monkeypatch.setattr(drawing, "render_preview", lambda *given: seen.append(given[1].rows) or render(*given))
    overrides = ["data.source=boxes", f"data.root={photos}", "augment.train.horizontal_flip=1", "data.short_side=48"]
    recipe = load_recipe("relation_detr/shapes", overrides, smoke=True)
    preview(recipe, tmp_path / "preview.png", count=4, console=Console(quiet=True))
    assert Image.open(tmp_path / "preview.png").width > 800
    for row in seen[0]:
        augmented, original = row.boxes["augmented"], row.boxes["original"]
        side = SIDES[original.classes[original.class_ids[0]]]
        np.testing.assert_allclose(original.corners[0], [32 - side / 2] * 2 + [32 + side / 2] * 2, atol=1e-3)
        assert original.part is None, "nothing is cropped"
        np.testing.assert_allclose(augmented.corners, original.corners * 48 / 64, atol=1e-3)
        assert row.pictures["augmented"].shape == (48, 48, 3)


def test_a_preview_shows_which_part_of_an_image_is_cropped(photos, tmp_path, monkeypatch):
    seen = []
    render = drawing.render_preview
    monkeypatch.setattr(drawing, "render_preview", lambda *given: seen.append(given[1].rows) or render(*given))
    crop = "data.crop={probability: 1, short_sides: [64], sides: [40, 50]}"
    recipe = load_recipe("relation_detr/shapes", ["data.source=boxes", f"data.root={photos}", crop], smoke=True)
    preview(recipe, tmp_path / "preview.png", count=4, console=Console(quiet=True))
    for row in seen[0]:
        left, top, right, bottom = row.boxes["original"].part
        assert 40 <= right - left <= 50
        assert 40 <= bottom - top <= 50
        for box in row.boxes["original"].corners:
            assert left - 1e-3 <= box[0] < box[2] <= right + 1e-3
            assert top - 1e-3 <= box[1] < box[3] <= bottom + 1e-3
