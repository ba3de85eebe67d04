"""Predictions of finished runs: every sample once, in a table, with pictures of what the network sees in it."""

import csv
import gc
import hashlib
import io
import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from vision_train.errors import UserError
from vision_train.files import OUTPUT_MARK
from vision_train.recipe import load_recipe
from vision_train.report.bags import pictures as room
from vision_train.report.bags.tile_layout import LONGEST_SIDE
from vision_train.run.fit import fit
from vision_train.run.predict import predict_run
from vision_train.run.shards import Shard
from vision_train.tasks.classification.task import ClassificationTask
from vision_train.tasks.predicted import Predicted

NO_OPTIONS = {"render": None, "images": None, "overrides": (), "force": True}
SKIP = ("data.on_bad=skip",)


@pytest.fixture
def bags(tmp_path, monkeypatch, write_features) -> Path:
    """Three bags, in the folder `bags` of a fresh working directory."""
    monkeypatch.chdir(tmp_path)
    write_features(Path("bags"), "007", "a:b", "a-b")
    return Path("bags")


def predict(run: Path, *inputs: Path, out: str | None = "out.csv", **options) -> str:
    console = Console(file=io.StringIO(), markup=False, soft_wrap=True)
    place = None if out is None else Path(out)
    predict_run(run, inputs, out=place, console=console, **{**NO_OPTIONS, **options})
    return console.file.getvalue()


def rows(file: str | Path) -> list[dict[str, str]]:
    with Path(file).open() as lines:
        return list(csv.DictReader(lines))


def test_each_bag_is_predicted_once(bags_run, bags):
    said = predict(bags_run, bags, bags / "007.h5", Path("bags/../bags/a-b.h5").absolute())
    assert said == "3 predictions in out.csv\n"
    table = rows("out.csv")
    assert [row["slide_id"] for row in table] == ["007", "a-b", "a:b"]
    for row in table:
        shares = {label: float(row[label]) for label in ("0", "1")}
        assert sum(shares.values()) == pytest.approx(1, abs=2e-6)
        assert float(row["confidence"]) == shares[row["label"]] == max(shares.values())
    predict(bags_run, bags, out="out.jsonl")
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [line["slide_id"] for line in lines] == ["007", "a-b", "a:b"]
    assert lines[0]["confidence"] == pytest.approx(float(table[0]["confidence"]), abs=1e-6)


def test_half_precision_gives_what_float32_gives(bags_run, bags, write_features):
    with h5py.File("bags/007.h5") as file:
        same = file["features"][()].astype(np.float32)
    write_features(Path("single"), "007", features=same)
    predict(bags_run, bags / "007.h5")
    half = rows("out.csv")
    predict(bags_run, Path("single"))
    assert rows("out.csv") == half


def test_pictures_and_attention_of_each_bag(bags_run, bags):
    said = predict(bags_run, bags, render=Path("heat/maps"))
    assert "their attention in heat/maps/attention.csv, with pictures beside it" in said
    names = ("007", "a-b", "a-b (2)")
    pictures = {f"{name}{ending}" for name in names for ending in (".png", "-branches.png", "-top.png")}
    assert {file.name for file in Path("heat/maps").iterdir()} == {OUTPUT_MARK, "attention.csv", *pictures}
    table = rows("heat/maps/attention.csv")
    assert list(table[0]) == ["slide_id", "x", "y", "attention", *(f"branch_{number}" for number in range(5))]
    for bag_id in ("007", "a-b", "a:b"):
        of_bag = [row for row in table if row["slide_id"] == bag_id]
        assert [(row["x"], row["y"]) for row in of_bag[:6]] == [
            *((str(16 * column), "0") for column in range(5)),
            ("0", "16"),
        ]
        for column in ("attention", "branch_4"):
            assert sum(float(row[column]) for row in of_bag) == pytest.approx(1, abs=1e-5)


def test_an_image_lies_under_the_map_and_shows_the_instances(bags_run, bags, write_features, monkeypatch):
    write_features(Path("others"), "007", "photo", encoder=None)
    Path("images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("images/photo.png")
    sheets = {}
    draw = room.contact_sheet
    monkeypatch.setattr(
        room,
        "contact_sheet",
        lambda *given: sheets.setdefault(given[0][:5], given[1]) is None or draw(*given),
    )
    said = predict(bags_run, Path("others"), render=Path("heat"), images=Path("images"))
    assert "note: no image in images of 007; drawn without" in said
    of_photo = [row for row in rows("heat/attention.csv") if row["slide_id"] == "photo"]
    hottest = max(of_photo, key=lambda row: float(row["attention"]))
    x, y = int(hottest["x"]), int(hottest["y"])
    assert (sheets["photo"][0] == pixels[y : y + 16, x : x + 16]).all()
    assert Image.open("heat/photo.png").width > 1.5 * Image.open("heat/007.png").width, "the slide stands beside it"


def magnified(file: Path, factor: int, **attributes: int) -> None:
    """Let the tiles of a bag be so many times larger at level 0."""
    with h5py.File(file, "r+") as opened:
        opened["coords"][...] *= factor
        opened["coords"].attrs["patch_size_level0"] = 16 * factor
        opened["coords"].attrs.update(attributes)


def test_a_smaller_image_serves_where_the_file_says_how_large_the_slide_is(
    bags_run, tmp_path, monkeypatch, write_features
):
    monkeypatch.chdir(tmp_path)
    write_features(Path("others"), "sharp", "small", encoder=None)
    for name, factor in {"sharp": 4, "small": 8}.items():
        magnified(Path(f"others/{name}.h5"), factor, level0_width=80 * factor, level0_height=64 * factor)
    Path("images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("images/sharp.png")  # a quarter: 16 pixels a tile
    Image.fromarray(pixels[::2, ::2]).save("images/small.png")
    cut = {}
    monkeypatch.setattr("vision_train.tasks.bags.attended.pictured_instances", lambda *_: [])
    monkeypatch.setattr(
        room,
        "contact_sheet",
        lambda title, pictures, captions: cut.setdefault(title[:5], pictures)[0],
    )
    said = predict(bags_run, Path("others"), render=Path("heat"), images=Path("images"))
    assert "note: no sheet of the hottest instances of small; too small in their images" in said
    assert list(cut) == ["sharp"]
    of_sharp = [row for row in rows("heat/attention.csv") if row["slide_id"] == "sharp"]
    hottest = max(of_sharp, key=lambda row: float(row["attention"]))
    x, y = int(hottest["x"]) // 4, int(hottest["y"]) // 4
    assert (cut["sharp"][0] == pixels[y : y + 16, x : x + 16]).all()
    for name in ("sharp", "small"):
        assert Image.open(f"heat/{name}.png").width > 1.5 * LONGEST_SIDE, "the slide stands beside it"


def test_a_smaller_image_is_refused_where_nothing_says_how_large_the_slide_is(bags_run, bags):
    magnified(bags / "007.h5", 4)
    Path("images").mkdir()
    Image.new("RGB", (80, 64)).save("images/007.png")
    with pytest.raises(
        UserError, match=r"007: .* images/007\.png: 18 of 20 tiles lie outside of its 80 x 64 .* lacks level0_width"
    ):
        predict(bags_run, bags, render=Path("heat"), images=Path("images"))


def test_where_coordinates_were_looked_for_is_told_with_the_pictures(bags_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("features/pt_files").mkdir(parents=True)
    for name in "ab":
        torch.save(torch.rand(20, 64), f"features/pt_files/{name}.pt")
    said = predict(bags_run, Path("features"), render=Path("heat"))
    assert "note: no coordinates of a, b (2 in all); drawn in the order of the file. Looked for in" in said
    assert "for a.h5 and a_patches.h5 in features/pt_files/patches, features/patches, patches\n" in said
    assert "coordinates" not in predict(bags_run, Path("features"))


def test_bad_bags_are_named_or_skipped_and_counted(bags_run, bags, write_features):
    write_features(bags, "nan", features=np.full((20, 64), np.nan, np.float16))
    write_features(bags, "empty", features=np.zeros((0, 64), np.float16))
    with pytest.raises(UserError, match=r"1 bag\(s\) cannot be used. empty: .* set data\.on_bad=skip"):
        predict(bags_run, bags, overrides=("data.on_bad=error",))
    (bags / "empty.h5").unlink()
    with pytest.raises(UserError, match=r"nan: NaN or infinite values in 20 of 20 .* set data\.on_bad=skip"):
        predict(bags_run, bags, render=Path("heat"))
    assert not Path("out.csv").exists()
    assert not Path("heat/attention.csv").exists()
    write_features(bags, "empty", features=np.zeros((0, 64), np.float16))
    said = predict(bags_run, bags, overrides=SKIP, render=Path("heat"))
    assert "3 predictions in out.csv\n" in said
    assert "skipped 2 bags that cannot be used:\n  empty: empty: it has no instances\n  nan: NaN" in said
    assert len(rows("heat/attention.csv")) == 60, "a bag that stands in for another counts once"


def test_bags_that_cannot_be_drawn(bags_run, bags):
    Path("images").mkdir()
    Path("images/007.png").write_bytes(b"no picture")
    Image.new("RGB", (4000, 100)).save("images/a-b.png")
    options = {"render": Path("heat"), "images": Path("images")}
    with pytest.raises(UserError, match=r"007: its pictures cannot be drawn: images/007\.png: not an image.*skip"):
        predict(bags_run, bags, **options)
    said = predict(bags_run, bags, overrides=SKIP, **options)
    assert "no pictures of 1 bag that cannot be drawn:\n  007: images/007.png: not an image" in said
    assert len(rows("out.csv")) == 3
    assert len(rows("heat/attention.csv")) == 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overrides": ["data.on_bad_bag=skip"]}, r"data\.on_bad_bag: unknown key; did you mean data\.on_bad\?"),
        ({"overrides": ["data.on_bad=ignore"]}, r"data\.on_bad: is `ignore`; expected error \| skip"),
        ({"images": Path("bags")}, r"--images: is for pictures; say where to put them with --render DIR"),
        ({"images": Path("no"), "render": Path("heat")}, r"--images no: no such folder"),
        ({"images": Path("bags"), "render": Path("heat")}, r"no image there is called like a bag; .* 007\.png"),
        (
            {"images": Path("twice"), "render": Path("heat")},
            r"--images twice: several of the bag 007: 007\.jpg, 007\.png",
        ),
        ({"out": "out.txt"}, r"--out out\.txt: ends in neither"),
    ],
)
def test_options_that_make_no_sense(bags_run, bags, options, message):
    Path("twice").mkdir()
    for ending in ("jpg", "png"):
        Image.new("RGB", (80, 64)).save(f"twice/007.{ending}")
    with pytest.raises(UserError, match=message):
        predict(bags_run, bags, **options)
    assert not Path("heat").exists()


def test_features_of_another_kind_are_refused(bags_run, bags, write_features):
    write_features(Path("narrow"), "a", width=32)
    write_features(Path("uni"), "a", "b", encoder="uni")
    write_features(Path("again"), "007")
    for inputs, message in {
        ("narrow",): "the bags have 32 features an instance, but the run .*run learned from 64",
        ("uni",): "of the encoder uni, but the run .*run learned from those of pixels",
        ("bags", "uni"): r"2 bag\(s\) cannot be used. a, b .*: features of the encoder uni, where 3 .* of pixels",
        ("bags", "again"): "007: 2 bags of one id: bags/007.h5, again/007.h5",
        ("nowhere",): "nowhere: no such file or folder of features",
    }.items():
        with pytest.raises(UserError, match=message):
            predict(bags_run, *map(Path, inputs))


def test_a_network_without_attention_has_nothing_to_draw(bags, tmp_path, quiet):
    changes = ["model.name=mean", "method={hiding: null, entropy_weight: 0}"]
    recipe = load_recipe("acmil/digit_bags", changes, smoke=True)
    run = fit(recipe, run_dir=tmp_path / "run", command=[], console=quiet).path
    with pytest.raises(UserError, match=r"--render: .*run is a run of mean, which pools bags without attention"):
        predict(run, bags, render=Path("heat"))
    assert predict(run, bags) == "3 predictions in out.csv\n"


def test_labels_in_the_files_do_not_matter(bags_run, bags):
    for file in bags.glob("*.h5"):
        with h5py.File(file, "r+") as opened:
            opened.attrs["label"] = 17
    predict(bags_run, bags)
    assert len(rows("out.csv")) == 3


@pytest.fixture(scope="module")
def images_run(tmp_path_factory) -> Path:
    """A run that has trained on digits for a moment; it is only read."""
    small = ["model.args={embed_dim: 24, depth: 1}", "trainer={max_epochs: 1, limit_train_batches: 2}"]
    recipe = load_recipe("quickstart", small)
    return fit(recipe, run_dir=tmp_path_factory.mktemp("images") / "run", command=[], console=Console(quiet=True)).path


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """Images of two folders, in the folder `photos` of a fresh working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("red/1", "blue/1", "blue/img 14 (1)"):
        path = Path(f"photos/{name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 20), path.parent.name).save(path)
    return Path("photos")


PHOTOS = ["photos/blue/1.png", "photos/blue/img 14 (1).png", "photos/red/1.png"]


def test_each_image_is_predicted_once(images_run, photos):
    assert predict(images_run, photos, photos / "red" / "1.png") == "3 predictions in out.csv\n"
    table = rows("out.csv")
    assert list(table[0]) == ["path", "label", "confidence", *map(str, range(10))]
    for row in table:
        shares = {label: float(row[label]) for label in map(str, range(10))}
        assert sum(shares.values()) == pytest.approx(1, abs=6e-6)
        assert float(row["confidence"]) == shares[row["label"]] == max(shares.values())
    assert [row["path"] for row in table] == PHOTOS
    predict(images_run, photos, out="out.jsonl")
    first = json.loads(Path("out.jsonl").read_text().splitlines()[0])
    assert list(first) == ["path", "label", "confidence", "top"]
    assert len(first["top"]) == 5
    assert next(iter(first["top"].items())) == (first["label"], first["confidence"])
    assert sorted(first["top"].values(), reverse=True) == list(first["top"].values())
    assert float(table[0]["confidence"]) == pytest.approx(first["confidence"], abs=1e-6)


def test_rows_are_on_the_disk_before_the_end_and_none_is_kept(images_run, photos, monkeypatch):
    """When a batch is predicted, the rows of the batch before it are in the file."""
    written, kept = [], []
    predicted = ClassificationTask.predicted

    def watched(task, batch, output):
        (file,) = Path().glob(".out.csv.*.tmp")
        written.append(file.read_text().count("\n"))
        assert not Path("out.csv").exists()
        gc.collect()
        kept.append(sum(isinstance(each, Predicted) and each.id in PHOTOS for each in gc.get_objects()))
        return predicted(task, batch, output)

    monkeypatch.setattr(ClassificationTask, "predicted", watched)
    predict(images_run, photos, overrides=("data.batch_size=1", "data.workers=0"))
    assert written == [0, 2, 3], "the heading and a row, and one row more each time"
    assert max(kept) <= 1
    assert [row["path"] for row in rows("out.csv")] == PHOTOS


def test_ctrl_c_stays_ctrl_c_and_leaves_nothing(images_run, photos, monkeypatch):
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ClassificationTask, "predicted", stopped)
    with pytest.raises(KeyboardInterrupt):
        predict(images_run, photos, out="new/out.csv")
    assert not Path("new").exists()


def test_one_image_gets_an_answer(images_run, photos):
    said = predict(images_run, Path(PHOTOS[0]), out=None)
    answer = re.fullmatch(r"photos/blue/1\.png: (\d) (\d+\.\d) %, \d .* %\n", said)
    assert answer, said
    assert not Path("predictions.jsonl").exists()
    said = predict(images_run, Path(PHOTOS[0]), out="one.csv")
    assert said == f"{answer[0]}1 prediction in one.csv\n"
    assert rows("one.csv")[0]["label"] == answer[1]


def test_json_goes_to_the_lines_alone(images_run, photos):
    lines = io.StringIO()
    assert predict(images_run, photos, out=None, lines=lines) == ""
    assert [json.loads(line)["path"] for line in lines.getvalue().splitlines()] == PHOTOS
    assert not Path("predictions.jsonl").exists()
    assert predict(images_run, photos, out=None) == "3 predictions in predictions.jsonl\n"
    assert Path("predictions.jsonl").read_text() == lines.getvalue()


def test_what_is_there_is_written_over_only_if_asked(images_run, photos, monkeypatch):
    monkeypatch.setattr("vision_train.run.predict.load_best", lambda *_: pytest.fail("it was refused too late"))
    for out in ("there.csv", None):
        file = Path(out or "predictions.jsonl")
        file.write_text("mine")
        with pytest.raises(UserError, match=rf"--out {file}: exists; .*--force"):
            predict(images_run, photos, out=out, force=False)
        assert file.read_text() == "mine"
    Path("seen").mkdir()
    Path("seen/mine.txt").touch()
    with pytest.raises(UserError, match=r"--render seen: .*--force"):
        predict(images_run, photos, render=Path("seen"), force=False)


def test_images_of_a_table_are_found_beside_it(images_run, photos):
    (photos / "table.csv").write_text("path,what\nred/1.png,x\nblue/1.png,y\n")
    predict(images_run, photos / "table.csv")
    assert [row["path"] for row in rows("out.csv")] == ["photos/red/1.png", "photos/blue/1.png"]
    (photos / "table.csv").write_text("path\nred/1.png\nb.png\n")
    with pytest.raises(UserError, match=r"table\.csv line 3: no file .*b\.png\. Paths are relative to"):
        predict(images_run, photos / "table.csv")


def test_pictures_of_images_are_named_after_their_folder_and_file(images_run, photos):
    assert predict(images_run, photos, render=Path("seen")) == "3 predictions in out.csv\n"
    assert sorted(file.name for file in Path("seen").iterdir()) == [
        *(OUTPUT_MARK, "00000-blue-1.png", "00001-blue-img 14 (1).png", "00002-red-1.png"),
    ]
    assert Image.open("seen/00000-blue-1.png").size[0] == 360


def test_bad_images_are_named_or_skipped_and_counted(images_run, photos):
    (photos / "blue/1.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"photos/blue/1\.png: .*set data\.on_bad=skip"):
        predict(images_run, photos, render=Path("seen"))
    assert not Path("out.csv").exists()
    said = predict(images_run, photos, overrides=SKIP, render=Path("seen"))
    assert "2 predictions in out.csv\n" in said
    assert "skipped 1 image that cannot be used:\n  photos/blue/1.png: " in said
    assert [row["path"] for row in rows("out.csv")] == PHOTOS[1:], "an image that stands in for another counts once"
    assert len(list(Path("seen").glob("*.png"))) == 2


def test_recipe_keys_change_the_prediction(images_run, photos):
    predict(images_run, photos, out="one.csv", overrides=("data.batch_size=1", "data.workers=0"))
    predict(images_run, photos, out="all.csv")
    for one, other in zip(rows("one.csv"), rows("all.csv"), strict=True):
        assert one["label"] == other["label"]
        assert float(one["confidence"]) == pytest.approx(float(other["confidence"]), abs=2e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": Path("photos")}, "--images: is for pictures; .*--render DIR"),
        ({"images": Path("photos"), "render": Path("seen")}, "--images photos: .*leave it out"),
        ({"overrides": ["data.encoder=uni"]}, r"data\.encoder: unknown key"),
    ],
)
def test_options_for_bags_on_a_run_of_images(images_run, photos, options, message):
    with pytest.raises(UserError, match=message):
        predict(images_run, photos, **options)
    assert not Path("seen").exists()


def test_inputs_without_images_are_refused(images_run, photos):
    Path("empty").mkdir()
    for place, message in {
        "empty": "empty: no images there; known endings are .*png",
        "nowhere": "nowhere: no such",
    }.items():
        with pytest.raises(UserError, match=message):
            predict(images_run, Path(place))


def test_a_run_that_predicts_nothing_says_what_to_do(photos, tmp_path, quiet):
    small = ["model.args.embed_dim=24", "model.args.depth=1", "trainer={max_epochs: 1, limit_train_batches: 1}"]
    small += ["trainer.check_val_every_n_epoch=1", "trainer.limit_val_batches=1", "data.batch_size=8"]
    run = fit(load_recipe("droppos/digits", small), run_dir=tmp_path / "run", command=[], console=quiet).path
    with pytest.raises(UserError, match=r"run: is a run of pretraining.*model\.checkpoint=.*run"):
        predict(run, photos)


def test_shards_hold_every_image_once_and_a_whole_one_is_left_alone(images_run, photos):
    Path("list.txt").write_text("".join(f"{name}\r\n" for name in [*PHOTOS, "", PHOTOS[0]]))
    for number in (1, 2, 3, 4):
        said = predict(images_run, Path("list.txt"), shard=Shard(number, 4), force=False)
        assert f"out-0000{number}-of-00004.csv" in said
    tables = [rows(f"out-0000{number}-of-00004.csv") for number in (1, 2, 3, 4)]
    assert sorted(row["path"] for table in tables for row in table) == PHOTOS
    assert [] in tables, "no share is empty, which is to be tried"
    place = Path("out-00001-of-00004.csv.manifest.json")
    manifest = json.loads(place.read_text())
    assert manifest["finished"] is True
    assert (manifest["predictions"], manifest["shard"], manifest["of"]) == (len(tables[0]), 1, 4)
    assert manifest["weights"] == hashlib.sha256((images_run / "checkpoints/best.ckpt").read_bytes()).hexdigest()
    before = place.stat().st_mtime_ns
    said = predict(images_run, Path("list.txt"), shard=Shard(1, 4), force=False)
    assert "is finished" in said
    assert place.stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"manifest\.json: is of another prediction: inputs was .*list.*--out.*--force"):
        predict(images_run, photos, shard=Shard(1, 4), force=False)


def test_a_list_that_has_grown_is_another_one(images_run, photos):
    Path("list.txt").write_text(PHOTOS[0])
    predict(images_run, Path("list.txt"), shard=Shard(1, 1), force=False)
    Path("list.txt").write_text("\n".join(PHOTOS))
    with pytest.raises(UserError, match=r"is of another prediction: contents was .*--force"):
        predict(images_run, Path("list.txt"), shard=Shard(1, 1), force=False)


def test_a_finished_table_that_was_changed_is_not_trusted(images_run, photos):
    predict(images_run, photos, shard=Shard(1, 1), force=False)
    table = Path("out-00001-of-00001.csv")
    table.write_text(table.read_text()[:-10])
    with pytest.raises(UserError, match=r"out-00001-of-00001\.csv: has changed.*--force"):
        predict(images_run, photos, shard=Shard(1, 1), force=False)


def test_keys_that_say_where_samples_lie_are_refused(images_run, photos):
    with pytest.raises(UserError, match=r"data\.root: predict reads the inputs"):
        predict(images_run, photos, overrides=["data.root=photos"])


def test_a_list_in_another_encoding_is_named(images_run, photos):
    Path("list.txt").write_text(PHOTOS[0], encoding="utf-16")
    with pytest.raises(UserError, match=r"list\.txt: is text in UTF-16; save it in UTF-8"):
        predict(images_run, Path("list.txt"))


def test_a_mistaken_input_does_not_hold_up_the_right_one(images_run, photos):
    with pytest.raises(UserError, match=r"lisst\.txt"):
        predict(images_run, Path("lisst.txt"), shard=Shard(1, 1), force=False)
    predict(images_run, photos, shard=Shard(1, 1), force=False)
    assert len(rows("out-00001-of-00001.csv")) == 3


def test_a_shard_that_was_cut_short_is_begun_anew(images_run, photos, monkeypatch):
    def cut(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ClassificationTask, "predicted", cut)
        with pytest.raises(KeyboardInterrupt):
            predict(images_run, photos, shard=Shard(1, 1), force=False)
    manifest = Path("out-00001-of-00001.csv.manifest.json")
    assert json.loads(manifest.read_text())["finished"] is False
    left = Path(".out-00001-of-00001.csv.99.tmp")  # as a process leaves that is killed
    left.touch()
    predict(images_run, photos, shard=Shard(1, 1), force=False)
    assert json.loads(manifest.read_text())["predictions"] == len(rows("out-00001-of-00001.csv")) == 3
    assert not left.exists()


def test_shards_that_cannot_be(images_run, bags_run, photos):
    for text in ("0/4", "5/4", "1", "1/0", "1/1000000"):
        with pytest.raises(UserError, match=rf"--shard {text}: write i/n"):
            Shard.read(text)
    with pytest.raises(UserError, match=r"--render.*--shard"):
        predict(images_run, photos, shard=Shard(1, 2), render=Path("pictures"))
    with pytest.raises(UserError, match="--shard: is for images alone, not for bags"):
        predict(bags_run, photos, shard=Shard(1, 2))
    Path("out-00001-of-00002.csv").touch()
    with pytest.raises(UserError, match=r"exists without a manifest.*--force"):
        predict(images_run, photos, shard=Shard(1, 2), force=False)
