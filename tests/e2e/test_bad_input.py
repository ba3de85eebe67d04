"""What a user can get wrong: one clear message, exit 2, and nothing half-written."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from vision_train.data.classes import divide
from vision_train.data.sources import read_folder

FIT = ("fit", "tiny.yaml", "data.root=photos")


def photo(index: int = 1, label: int = 0) -> Path:
    """Path of one of the photos; the even ones are JPEG, the odd ones PNG. Seed 0 trains on 1 to 4 and tests on 0."""
    return Path(f"photos/class_{label}/{index:04d}.{'png' if index % 2 else 'jpg'}")


def write_csv(*rows: str, columns: str = "path,label") -> str:
    """List all photos and further rows in `table.csv`; return the override that names it."""
    listed = [f"{photo(index, label)},class_{label}" for label in (0, 1) for index in range(6)]
    Path("table.csv").write_text("\n".join([columns, *listed, *rows]) + "\n")
    return "data.labels=table.csv"


# --- images in folders


def test_missing_root(refused):
    refused("fit", "tiny.yaml", "data.root=nowhere", says=r"data.root .*/nowhere: no such folder.*data.root=FOLDER")


def test_root_that_is_a_file(refused):
    refused("fit", "tiny.yaml", "data.root=tiny.yaml", says=r"data.root .*/tiny.yaml: is not a folder")


def test_no_root(refused):
    refused("fit", "tiny.yaml", says="data.root: no images named; set data.root=FOLDER")


def test_empty_class_folder(refused):
    Path("photos/empty").mkdir()
    refused(*FIT, says="class folder .*photos/empty: no images in it")


def test_one_class_only(refused):
    shutil.rmtree("photos/class_1")
    refused(*FIT, says="only one class, class_0")


def test_too_few_images_to_split(refused):
    for index in range(4):
        photo(index, 1).unlink()
    refused(*FIT, says=r"class class_1: 2 training image\(s\) are too few.*at least 3")


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_missing_from_a_split(refused, split):
    for name in ("train", "val", "test"):
        shutil.copytree("photos", f"split/{name}")
    shutil.rmtree(f"split/{split}/class_1")
    refused("fit", "tiny.yaml", "data.root=split", says=f"the {split} split has nothing of class class_1")


@pytest.mark.parametrize("name", ["train", "val"])
def test_a_class_named_like_a_split(refused, name):
    Path("photos/class_0").rename(f"photos/{name}")
    refused(*FIT, says=f"photos: holds {name} and also class_1.*rename")


@pytest.mark.parametrize(("one", "other"), [("cat", "cat "), ("caf\u00e9", "cafe\u0301")])
def test_class_folders_that_look_alike(refused, one, other):
    Path("photos/class_0").rename(f"photos/{one}")
    Path("photos/class_1").rename(f"photos/{other}")
    refused(*FIT, says="class folders .* have the same name but for invisible characters")


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    path.write_bytes({"zero bytes": b"", "truncated": content[: len(content) // 2], "no image": b"hello"}[how])


REASONS = {"zero bytes": "the file is empty", "truncated": "truncated", "no image": "not an image"}


@pytest.mark.parametrize("how", REASONS)
@pytest.mark.parametrize("index", [1, 2])  # PNG, JPEG
def test_bad_image(refused, how, index):
    damage(photo(index), how)
    refused(*FIT, says=rf"unreadable image .*{photo(index)}: .*(?i:{REASONS[how]}).*data.on_bad=skip")


def test_bad_image_met_by_a_worker(refused):
    damage(photo(), "truncated")
    refused(*FIT, "data.workers=2", says=rf"unreadable image .*{photo()}: .*truncated")


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_are_skipped_on_request(cli, workers):
    for index, how in enumerate(REASONS):
        damage(photo(index), how)
    result = cli(*FIT, "data.on_bad=skip", f"data.workers={workers}", "data.batch_size=1")
    assert result.exit_code == 0
    assert "skipped 3 unreadable images" in result.stdout
    assert all(str(photo(index)) in result.stdout for index in range(3))
    assert all(str(photo(index)) in Path("runs/tiny/0/log.txt").read_text() for index in range(3))


def test_a_bad_image_found_after_training_costs_no_training(cli):
    tested = Path(str(divide(read_folder(Path("photos")).samples, None)["test"][0].image))
    whole = tested.read_bytes()
    tested.write_bytes(whole[: len(whole) // 2])
    result = cli(*FIT, "--run-dir", "run")
    assert result.exit_code == 2
    assert f"unreadable image {tested.absolute()}" in result.stderr
    assert Path("run/checkpoints/last.ckpt").exists()
    tested.write_bytes(whole)
    assert cli("fit", "--resume", "run").exit_code == 0
    assert json.loads(Path("run/summary.json").read_text())["train/epochs"] == 1


def test_not_one_image_can_be_read(refused):
    for label in (0, 1):
        for index in range(6):
            damage(photo(index, label), "zero bytes")
    refused(*FIT, "data.on_bad=skip", says="none of the 8 images can be read, among .*photos/class_")


def test_dry_run_meets_a_bad_image(refused):
    damage(photo(), "zero bytes")
    refused(*FIT, "data.batch_size=8", "--dry-run", says=f"unreadable image .*{photo()}")


# --- tables


def test_wrong_label_in_csv(refused):
    Path("photos/extra.png").write_bytes(photo(1).read_bytes())
    refused("fit", "tiny.yaml", write_csv("photos/extra.png,clas_0"), says=r"class clas_0: .*label of photos/extra.png")


def test_label_outside_the_classes_of_a_run(run, refused):
    table = write_csv()
    Path("table.csv").write_text(Path("table.csv").read_text().replace(",class_1", ",wolf"))
    refused("evaluate", run, table, "data.root=null", says="photos/class_1/.*: label `wolf` is not one of the run's")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"{photo(0)},class_0", "line 14: .* is listed already in line 2"),
        (f"photos/../{photo(0)},class_1", "line 14: .* is listed already in line 2"),
        ("photos/none.png,class_0", "line 14: no file .*photos/none.png"),
        ("photos/class_0,class_0", "line 14: no file .*photos/class_0"),
        (f"{photo()},", r": no label of 1 image .*line 14.*data\.on_bad=skip"),
        (",class_0", "line 14: the path is empty"),
    ],
)
def test_wrong_row_in_csv(refused, row, message):
    refused("fit", "tiny.yaml", write_csv(row), says=f"table.csv ?{message}")


def test_wrong_split_in_csv(refused):
    table = write_csv(columns="path,label,split")
    Path("table.csv").write_text(Path("table.csv").read_text().replace("class_0\n", "class_0,later\n"))
    refused("fit", "tiny.yaml", table, says="table.csv line 2: split is `later`; write train, val or test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column path and label .found: nothing"),
        (b"file|class\n", r"no column path and label .found: file\|class"),
        (b"path,label\n", "no lines below the header"),
        (b"\x89PNG\x00", "is a binary file; export the table as csv"),
    ],
)
def test_csv_that_is_none(refused, content, message):
    Path("table.csv").write_bytes(content)
    refused("fit", "tiny.yaml", "data.labels=table.csv", says=f"table.csv: {message}")


@pytest.mark.parametrize("table", ["nowhere.csv", "photos"])
def test_csv_that_cannot_be_opened(refused, table):
    refused("fit", "tiny.yaml", f"data.labels={table}", says=f"/{table}: (no such file|Is a directory)")


# --- checkpoints


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def write_checkpoint(kind: str) -> None:
    path = Path("weights.pth")
    if kind == "pickled code":
        path.write_bytes(pickle.dumps(RunsCode()))
    elif kind == "code in a state dict":
        torch.save({"model": RunsCode()}, path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "zero bytes":
        path.touch()
    elif kind == "text":
        path.write_text("hello")
    elif kind in ("truncated", "another family"):
        torch.save(timm.create_model("resnet18", num_classes=2).state_dict(), path)
        if kind == "truncated":
            path.write_bytes(path.read_bytes()[:100_000])


CHECKPOINTS = {
    "pickled code": "could run code: it asks for posix.mkdir",
    "code in a state dict": "could run code: it asks for posix.mkdir",
    "truncated": "is truncated or damaged",
    "directory": "is a directory without checkpoints/best.ckpt",
    "zero bytes": "is empty",
    "text": "is a text file",
    "absent": "does not exist",
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoint_that_cannot_be_read(refused, kind):
    write_checkpoint(kind)
    refused(*FIT, "model.checkpoint=weights.pth", says=f"weights.pth: .*{CHECKPOINTS[kind]}")
    refused("inspect", "weights.pth", says=f"weights.pth: .*{CHECKPOINTS[kind]}")
    assert not Path("executed").exists()


def test_checkpoint_of_another_family(refused):
    write_checkpoint("another family")
    message = refused(*FIT, "model.checkpoint=weights.pth", says="weights.pth: fills 0 % of the model")
    assert "looks like ResNet" in message


def test_pretraining_that_does_not_fit_is_refused_before_it_begins(refused):
    refused(*FIT, "run.pretrain=quickstart", says="run.pretrain=quickstart: fills 0 % of the model")


# --- recipes and overrides


def test_unknown_recipe(refused):
    refused("fit", "quickstrt", says="quickstrt: no recipe.*did you mean quickstart")


@pytest.mark.parametrize("override", ["data.batch_size", "", "=3"])
def test_override_without_key_or_value(refused, override):
    refused(*FIT, override, says="`.*` is no override; write key.path=value")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.batch_size=", "data.batch_size: is null; expected a whole number"),
        ("data.batch_sise=4", "data.batch_sise: unknown key; did you mean data.batch_size"),
        ("data.batch_size = 4", "unknown key; did you mean data.batch_size"),
        ("data.root=[a", "not valid YAML"),
        ("data.image_size=17", "patches of 8 pixels; a height of 17 is no multiple"),
        (
            "data.labels_per_class=100",
            "data.labels_per_class is 100, but these classes have fewer to train on: class_0 .4., class_1",
        ),
        ("model.name=vit_smal", "model.name=vit_smal: no model is called"),
        ("model.args.nosuch=1", "takes no argument 'nosuch'"),
        ("optim.name=adamm", "optim.name=adamm: timm knows no such optimiser"),
        ("optim.betas=[0, 2]", "optim.name=adamw: refuses its options: .*beta"),
        ("optim.lr=1e30", "training loss is no longer finite"),
        ("augment.train.rand_augment=foo", "rand_augment `foo`"),
        ("run.select.metric=val/acuracy", r"val/acuracy: no such metric; there are val/accuracy"),
        ("run.pretrain=nosuch", "run.pretrain: is `nosuch`"),
    ],
)
def test_value_that_cannot_be_used(refused, override, message):
    epochs = "trainer.max_epochs=2" if "lr" in override else "seed=0"
    refused(*FIT, override, epochs, "optim.warmup_epochs=0", says=message)


# --- devices and limits


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.accelerator=xyz", "trainer.accelerator: is `xyz`; expected auto | cpu"),
        ("trainer.devices=0", "trainer.devices: names no device"),
        ("trainer.devices=-1", "trainer.devices=-1: "),
        ("trainer.devices=abc", "trainer.devices=abc: "),
        ("trainer.strategy=fsdp", "trainer.strategy: is `fsdp`; it may split the weights"),
        ("trainer.limit_train_batches=0", "trainer.limit_train_batches: is 0"),
        ("trainer.limit_train_batches=0.01", "trainer.limit_train_batches=0.01: leaves no training batch"),
        ("trainer.limit_val_batches=0.01", "limit_val_batches"),
        ("trainer.val_check_interval=9", "trainer.val_check_interval=9: an epoch has only 2 batches"),
        ("trainer.max_time=abc", "not a valid duration"),
    ],
)
def test_trainer_key_that_cannot_work(refused, override, message):
    refused(*FIT, override, says=message)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU: it asks for one in vain")
@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_a_gpu_that_is_not_there(refused, dry_run):
    refused(*FIT, "trainer.accelerator=gpu", *dry_run, says="trainer.accelerator=gpu: ")


def test_more_processes_than_images(refused):
    refused(*FIT, "trainer.devices=9", "trainer.strategy=ddp", says="9 processes for 8 training images")


def test_batches_of_one_are_legal(cli):
    assert cli(*FIT, "data.batch_size=1").exit_code == 0


# --- places


def test_a_run_directory_that_exists(run, refused):
    refused(*FIT, "--run-dir", run, says="run: exists and is not empty.*--resume")


def test_runs_that_cannot_be_written(refused):
    """A file in the place of a folder stops everyone, root included."""
    Path("runs").touch()
    refused(*FIT, says="runs/tiny: cannot be created")
    refused(*FIT, "--run-dir", "tiny.yaml/run", says="tiny.yaml/run: cannot be created")


@pytest.mark.parametrize("folder", ["photos", "tiny.yaml", "tiny.yaml/below"])
def test_data_sets_overwrite_nothing(refused, folder):
    refused("data", "make", "digits", folder, says=folder)


# --- runs that are none


@pytest.mark.parametrize("verb", [("evaluate",), ("predict",), ("fit", "--resume")])
def test_not_a_run(refused, verb):
    more = ["photos"] if verb == ("predict",) else []
    refused(*verb, "nowhere", *more, says="nowhere: no such run directory")
    refused(*verb, "tiny.yaml", *more, says="tiny.yaml: no such run directory")
    refused(*verb, "photos", *more, says="photos: holds no recipe.yaml")


def test_a_file_of_a_run_is_no_run(run, refused):
    refused("fit", "--resume", run / "checkpoints" / "last.ckpt", says="a file of the run run, name that")


def test_an_unfinished_run(run, refused):
    shutil.rmtree(run / "checkpoints")
    (run / "summary.json").unlink()
    refused("evaluate", run, says="run: has no weights yet; finish it with `vision-train fit --resume run`")
    refused("predict", run, "photos", says="run: has no weights yet")


def test_a_damaged_run(run, refused):
    (run / "checkpoints/best.ckpt").unlink()
    (run / "checkpoints/best.ckpt").write_bytes(b"PK\x03\x04half")
    refused("evaluate", run, says="best.ckpt: is truncated or damaged")
    (run / "classes.json").write_text("[")
    refused("evaluate", run, says="classes.json: is damaged")
    (run / "recipe.yaml").write_text("a: [")
    refused("evaluate", run, says=r"recipe.yaml:2: not valid YAML")


def test_a_run_asked_for_another_network(run, refused):
    refused("evaluate", run, "data.image_size=32", says="belong to a recipe with another model or image size")


def test_a_finished_run_is_not_resumed(run, refused):
    refused("fit", "--resume", run, says="run: is finished")
    refused("fit", "--resume", run, "data.root=photos", says="--resume .* takes no recipe, keys or other options")
    refused("fit", says="name a recipe, or a run with --resume")


# --- predict


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["empty"], "empty: no images there; known endings are"),
        (["nowhere.png"], "nowhere.png: no such file or folder"),
        (["tiny.yaml"], "unreadable image tiny.yaml: not an image"),
        (["nopath.csv"], "nopath.csv: no column path .found: file"),
        (["binary.csv"], "binary.csv: is a binary file; export the table as csv"),
        (["blank.csv"], "blank.csv line 2: the path is empty"),
        (["photos", "--out", "predictions.txt"], "--out predictions.txt: ends in neither .jsonl nor .csv"),
        (["photos", "--out", "folder.csv"], "--out folder.csv: is a folder"),
        (["photos", "--out", "tiny.yaml/p.csv"], "tiny.yaml: cannot be written"),
        (["photos", "--render", "tiny.yaml"], "tiny.yaml: cannot be written"),
        (["photos", "data.on_bad=ignore"], "data.on_bad: is `ignore`; expected error | skip"),
    ],
)
def test_predict_refuses(run, refused, arguments, message):
    Path("empty").mkdir()
    Path("folder.csv").mkdir()
    Path("nopath.csv").write_text("file\na.png\n")
    Path("binary.csv").write_bytes(b"path\n\x00\xff\n")
    Path("blank.csv").write_text('path,label\n"",cat\n')
    refused("predict", run, *arguments, says=message)


def test_a_bad_image_among_the_inputs(run, refused, cli):
    damage(photo(), "truncated")
    arguments = ("predict", run, "photos", "--out", "new/folder/predictions.jsonl")
    refused(*arguments, "--render", "new/pictures", says=f"unreadable image {photo()}: .*truncated")
    assert not Path("new").exists()
    result = cli(*arguments, "data.on_bad=skip")
    assert result.exit_code == 0
    assert "11 predictions in new/folder/predictions.jsonl" in result.stdout
    assert f"  {photo()}: " in result.stdout
    assert len(Path("new/folder/predictions.jsonl").read_text().splitlines()) == 11


# --- what looks odd and simply works


def write_odd_images(folder: Path) -> None:
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    colour = Image.fromarray(pixels)
    grey = colour.convert("L")
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    sideways = Image.Exif()
    sideways[0x0112] = 6
    animation = {"save_all": True, "append_images": [colour.rotate(180)]}
    colour.convert("CMYK").save(folder / "cmyk.jpg")
    colour.convert("CMYK").save(folder / "cmyk.tif")
    deep.save(folder / "sixteen_bits.png")
    deep.save(folder / "sixteen_bits.tiff")
    colour.convert("P").save(folder / "palette.png")
    colour.convert("P").save(folder / "palette.gif")
    grey.convert("1").save(folder / "one_bit.png")
    colour.convert("RGBA").save(folder / "transparent.png")
    grey.convert("LA").save(folder / "grey_transparent.webp")
    colour.save(folder / "animated.gif", **animation)
    colour.save(folder / "animated.webp", **animation)
    colour.save(folder / "rotated.jpg", exif=sideways)
    grey.save(folder / "grey.jpg")
    colour.save(folder / "UPPER.JPG")
    colour.save(folder / "UPPER.PNG")
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.new("RGB", (900, 2)).save(folder / "strip.bmp")


def test_odd_images_simply_work(cli):
    for label in ("one", "other"):
        write_odd_images(Path("odd") / label)
    copies = "data.allow_overlap=true"
    result = cli("fit", "tiny.yaml", "data.root=odd", "data.batch_size=2", copies, "--run-dir", "run")
    assert result.exit_code == 0, result.output
    assert cli("predict", "run", "odd").exit_code == 0
    predicted = [json.loads(line)["path"] for line in Path("predictions.jsonl").read_text().splitlines()]
    assert sorted(predicted) == sorted(str(path) for path in Path("odd").rglob("*.*"))


# --- mixing and attention

MASKMIX = "augment.mixing={maskmix: 1, mask_patch: 8, labels: progressive}"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("augment.mixing.mask_patch=6", r"mask_patch=6: must be a multiple of the model's patch of 8 .*these fit: 8$"),
        ("augment.mixing.mixup=0.5", r"augment\.mixing: weights sum to 1\.5; .*at most 1"),
        (
            "augment.mixing={partner: flip}",
            r"data\.batch_size=3: .*even data\.batch_size, .*augment\.mixing\.partner=permutation",
        ),
        ("data.batch_size=1", r"data\.batch_size=1: .*no partner to mix with; .*'augment\.mixing={maskmix: 0, "),
        ("model.args.global_pool=max", r"labels=progressive: .*pooling 'max'.*set 'augment\.mixing={labels: area"),
        ("model.attention=xformers", r"model\.attention=xformers: .*CUDA devices only.*`auto` or `sdpa`"),
        ("model.attention=flash", r"model\.attention: .*flash.*xformers.*sdpa.*math"),
    ],
    ids=lambda value: str(value).split("=")[0],
)
def test_mixing_and_attention_that_cannot_be(refused, change, says):
    odd = ["data.batch_size=3"] if "flip" in change else []
    refused(*FIT, MASKMIX, *odd, change, says=says)


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_so_many_processes_that_their_batches_cannot_be_mixed(refused, dry_run):
    eight = ("trainer.devices=8", "trainer.strategy=ddp", "trainer.accelerator=cpu")
    refused(*FIT, MASKMIX, *eight, *dry_run, says=r"batches of 1 for each process: .*trainer\.devices.*augment\.mixing")
