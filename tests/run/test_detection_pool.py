"""A mean teacher of a detector from end to end: it learns from the pool, reads no annotation of it, and resumes.

Items are those of the specification of learning from unlabelled images.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from vision_train.data.toy.shapes import shapes
from vision_train.errors import UserError
from vision_train.metrics_log import read_metrics
from vision_train.recipe import load_recipe
from vision_train.run.fit import fit, resume
from vision_train.run.leakage import clear_pool
from vision_train.run.phase import scan
from vision_train.run.sample_lists import read_samples
from vision_train.tasks.detection.task import DetectionTask

QUIET = Console(quiet=True)
SMALL = (
    *("data.workers=0", "data.epoch_batches=3", "trainer.max_epochs=3", "trainer.limit_train_batches=null"),
    *("trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "semi.burn_in=0.3", "data.eval_batch_size=8"),
)
MIXED = ("data.mix_unlabelled=true", "data.batch_size=4")  # full after two steps
# Nothing that each process draws for itself, and no optimiser that makes whole steps of rounding errors.
ALIKE = ("method.denoising={count: 1, label_noise: 0, box_noise: 0}", "optim.name=sgd", "data.batch_size=4")


@contextmanager
def easily_sure() -> Iterator[None]:
    """Let a network that was hardly trained teach boxes."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("FIRST_CUT", 0.01), ("LOWEST_CUT", 0.001), ("HIGHEST_CUT", 0.01)):
            patch.setattr(f"vision_train.semi.boxes.{name}", value)
        patch.setattr("vision_train.tasks.detection.pool.FIRST_CUT", 0.01)
        yield


def train(run_dir: Path, *overrides: str) -> Path:
    recipe = load_recipe("semi/shapes", [*SMALL, *overrides], smoke=True)
    with easily_sure():
        return fit(recipe, run_dir=run_dir, command=[], console=QUIET).path


def state_of(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return {key: checkpoint[key] for key in ("state_dict", "averaged")}


def same(one: Path, other: Path) -> bool:
    ours, theirs = state_of(one), state_of(other)
    return all(torch.equal(value, theirs[part][name]) for part in ours for name, value in ours[part].items())


def log_of(run: Path) -> list[dict]:
    timed = ("time", "train/samples_per_second", "train/data_wait")
    return [{key: line[key] for key in line if key not in timed} for line in read_metrics(run / "metrics.jsonl")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run on drawn shapes; it is only read."""
    return train(tmp_path_factory.mktemp("pool") / "whole")


def test_the_pool_is_learnt_after_burn_in_and_watched(whole, tmp_path):
    measured = [line for line in read_metrics(whole / "metrics.jsonl") if "val/ap" in line]
    assert ["val/pool_boxes" in line for line in measured] == [False, True, True]
    assert all(line["val/pool_boxes"] > 0 for line in measured[1:])
    assert measured[1]["val/pool_loss_ratio"] > 0
    assert not same(whole, train(tmp_path / "without", "semi.weight=0"))
    cuts = state_of(whole)["state_dict"]["pool.cuts.values"]
    assert cuts.dtype == torch.float64
    assert ((cuts >= 0.001) & (cuts <= 0.01)).all()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """The same, with mixed unlabelled images; it is only read."""
    return train(tmp_path_factory.mktemp("pool") / "mixed", *MIXED)


def test_mixed_images_are_learnt(whole, mixed):
    assert not same(whole, mixed)
    assert all(value.isfinite().all() for value in state_of(mixed)["state_dict"].values())
    (kept,) = torch.load(mixed / "checkpoints" / "last.ckpt", weights_only=True)["pool_mixing"]
    assert len(kept["kept"]) == 8


@pytest.mark.parametrize(("uncut", "overrides"), [("whole", ()), ("mixed", MIXED)])
def test_item_5_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(request, uncut, overrides, tmp_path, cut_short):
    whole = request.getfixturevalue(uncut)
    recipe = load_recipe("semi/shapes", [*SMALL, *overrides], smoke=True)
    with easily_sure():
        with cut_short(DetectionTask, 5):
            fit(recipe, run_dir=tmp_path / "cut", command=[], console=QUIET)
        resume(tmp_path / "cut", console=QUIET)
    assert same(whole, tmp_path / "cut")
    ends = [[line for line in log_of(path) if "val/ap" in line][-1] for path in (whole, tmp_path / "cut")]
    assert ends[0] == ends[1]


def test_labelled_images_as_pool_and_a_student_that_teaches_itself_train(tmp_path):
    run = train(tmp_path / "run", "data.unlabelled=labelled", "semi.teacher=student", "trainer.max_epochs=2")
    assert all(value.isfinite().all() for value in state_of(run)["state_dict"].values())


# --- what annotations of the pool say


@pytest.fixture(scope="module")
def disk(tmp_path_factory, write_coco) -> Path:
    """Labelled images with a COCO json, and a pool with one of its own."""
    folder = tmp_path_factory.mktemp("disk")
    scenes = [scene for scene in shapes() if scene.split == "train"]
    write_coco(folder / "labelled", scenes[:16])
    write_coco(folder / "pool", scenes[16:28])
    return folder


def from_disk(labelled: Path, *overrides: str) -> tuple[str, ...]:
    cut = ("data.splits={val: 0.25, test: 0.25}", "data.batch_size=2", "trainer.max_epochs=2")
    return ("data.source=boxes", f"data.root={labelled}", *cut, *overrides)


def on_disk(run_dir: Path, labelled: Path, *overrides: str) -> Path:
    return train(run_dir, *from_disk(labelled, *overrides))


@pytest.mark.parametrize("split", ["val", "test"])
def test_item_7_copies_of_measured_images_leave_the_pool_by_their_pixels(disk, tmp_path, split):
    pool = tmp_path / "pool"
    shutil.copytree(disk / "pool", pool)
    files = from_disk(disk / "labelled", "data.share=1", f"data.unlabelled={pool}")
    recipe = load_recipe("semi/shapes", [*SMALL, *files], smoke=True)
    with Image.open(scan(recipe).data.samples(split)[0].place) as image:
        image.save(pool / "holiday.bmp")
    data = scan(recipe).data
    assert "holiday.bmp" in {Path(sample.place).name for sample in data.samples("unlabelled")}
    clear_pool(data)
    left = {Path(sample.place).name for sample in data.samples("unlabelled")}
    assert left == {file.name for file in (disk / "pool").glob("*.png")}
    assert any("1 image" in note and "holiday.bmp" in note for note in data.notes)


def test_item_7_annotations_and_folders_of_the_pool_change_no_bit(disk, tmp_path):
    runs = []
    for name in ("intact", "deleted", "corrupt in folders"):
        pool = tmp_path / name
        shutil.copytree(disk / "pool", pool)
        if name == "deleted":
            (pool / "annotations.json").unlink()
        if name == "corrupt in folders":
            (pool / "annotations.json").write_text("{ no json")
            for number, image in enumerate(sorted(pool.glob("*.png"))):
                (pool / f"class {number % 3}").mkdir(exist_ok=True)
                image.rename(pool / f"class {number % 3}" / image.name)
        runs.append(on_disk(tmp_path / f"run {name}", disk / "labelled", "data.share=1", f"data.unlabelled={pool}"))
    assert same(runs[0], runs[1])
    assert same(runs[0], runs[2])
    assert log_of(runs[0]) == log_of(runs[1]) == log_of(runs[2])


def test_item_7_boxes_of_the_rest_change_no_bit(disk, tmp_path):
    overrides = ("data.share=0.5", "data.unlabelled=rest")
    first = on_disk(tmp_path / "run", disk / "labelled", *overrides)
    rest = pool_of(first)
    assert len(rest) == 4
    changed = tmp_path / "changed"
    shutil.copytree(disk / "labelled", changed)
    content = json.loads((changed / "annotations.json").read_text())
    ids = {image["id"] for image in content["images"] if image["file_name"] in rest}
    random = np.random.default_rng(0)
    for box in content["annotations"]:
        if box["image_id"] in ids:
            box |= {"bbox": [1, 1, 5, 5], "category_id": int(random.integers(1, 4))}
    (changed / "annotations.json").write_text(json.dumps(content))
    second = on_disk(tmp_path / "again", changed, *overrides)
    assert pool_of(second) == rest
    assert same(first, second)
    assert log_of(first) == log_of(second)


def pool_of(run: Path) -> set[str]:
    """Names of the unlabelled images that a run learned from."""
    listed = read_samples(run / "phases" / "fit" / "samples.jsonl.gz")
    assert all(sample.truth is None for sample in listed["unlabelled"])
    return {sample.id for sample in listed["unlabelled"]}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("semi.method=freematch",), ("semi.method", "freematch", "detection", "mean_teacher")),
        (("data.share=1",), ("data.unlabelled=rest", "data.share")),
        (("data.unlabelled=null",), ("data.unlabelled", "FOLDER", "semi.method")),
        (("optim.ema=null",), ("optim.ema", "half_life: run")),
        (("semi.threshold=0.5",), ("semi.threshold", "detection")),
        (("augment.strong={rand_augment: rand-m9}",), ("augment.strong.rand_augment", "augment.strong.erasing")),
        (("augment.weak={erasing: 0.5}",), ("augment.weak.erasing", "augment.weak.color_jitter")),
        (
            ("data.mix_unlabelled=true", "semi.method=self_training"),
            ("data.mix_unlabelled", "self_training", "data.mixing", "mean_teacher"),
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_remedy(tmp_path, overrides, words):
    with pytest.raises(UserError) as refused:
        train(tmp_path / "run", *overrides)
    for word in words:
        assert word in str(refused.value)


def _fit(rank: int, run_dir: Path, overrides: tuple[str, ...]) -> None:
    train(run_dir, *ALIKE, *overrides)


@pytest.mark.slow
def test_two_processes_learn_as_one(two_processes, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    _fit(0, one, ())
    two_processes(_fit, two, ("data.batch_size=2", "trainer.devices=2", "trainer.strategy=ddp"))
    ours, theirs = state_of(one)["state_dict"], state_of(two)["state_dict"]
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, atol=1e-4, rtol=1e-3)
    logs = [[line for line in log_of(path) if "val/pool_boxes" in line] for path in (one, two)]
    for mine, other in zip(*logs, strict=True):
        assert other["val/pool_boxes"] == pytest.approx(mine["val/pool_boxes"], abs=0.1)
