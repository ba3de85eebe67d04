"""Copies among the splits of one data set and what earlier runs learnt from; ``test_pretrain_phases.py`` has phases."""

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vision_train.data.module import SampleDataModule
from vision_train.data.toy.folder import make_image_folder
from vision_train.errors import UserError
from vision_train.recipe import load_recipe, write_recipe
from vision_train.run.checked import check_phases
from vision_train.run.evaluate import evaluate_run
from vision_train.run.fit import fit
from vision_train.run.leakage import check_overlap, keep_apart
from vision_train.run.learnt import learnt_before
from vision_train.run.phase import scan
from vision_train.run.plan import plan_of
from vision_train.run.sample_lists import SAMPLES_FILE, read_samples, write_samples

RECIPE = """
task: classification
data: {root: photos, image_size: 16, batch_size: 4, workers: 0}
model: {name: vit, args: {patch_size: 8, embed_dim: 12, depth: 1, num_heads: 1}}
trainer: {max_epochs: 1, accelerator: cpu}
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pretraining_text: str) -> None:
    """Images that are divided into splits: of each of two classes 6 to train on, 2 to validate and 2 to test."""
    monkeypatch.chdir(tmp_path)
    Path("fit.yaml").write_text(RECIPE)
    Path("pool.yaml").write_text(pretraining_text)
    for seed, (split, count) in enumerate({"train": 6, "val": 2, "test": 2}.items()):
        make_image_folder(Path("photos", split), classes=2, per_class=count, size=(20, 20), seed=seed)


def data_of(recipe: str = "fit.yaml", *overrides: str) -> SampleDataModule:
    return scan(load_recipe(recipe, overrides)).data


def told(data: SampleDataModule) -> list[str]:
    """What is noted of copies, among the other notes."""
    check_overlap(data)
    return [note for note in data.notes if "are copies of" in note]


def copied(origin: str, target: str) -> None:
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(origin, target)


def test_splits_without_copies_have_nothing_to_tell() -> None:
    assert told(data_of()) == []


def test_a_copy_of_a_training_image_among_those_of_the_test_is_refused_by_name() -> None:
    copied("photos/train/class_0/0003.png", "photos/test/class_1/holiday.png")
    with pytest.raises(UserError) as refused:
        check_phases(plan_of(load_recipe("fit.yaml")))
    for said in ("data.root", "1 of 5 test", "class_1/holiday.png", "class_0/0003.png", "data.allow_overlap=true"):
        assert said in str(refused.value)
    assert not Path("runs").exists()


def test_it_can_be_allowed_and_is_told_then() -> None:
    copied("photos/train/class_0/0003.png", "photos/test/class_1/holiday.png")
    console = Console(file=io.StringIO(), width=300)
    recipe = load_recipe("fit.yaml", ["data.allow_overlap=true"])
    fit(recipe, run_dir=Path("run"), command=[], console=console)
    said = console.file.getvalue()
    assert "1 of 5 test images are copies of train images: test/class_1/holiday.png" in said
    assert "too high" in said


def test_whether_it_is_refused_does_not_depend_on_what_the_seed_draws() -> None:
    copied("photos/train/class_0/0003.png", "photos/test/class_1/holiday.png")
    for seed in range(3):
        with pytest.raises(UserError, match=r"holiday\.png.*data\.allow_overlap"):
            check_overlap(data_of("fit.yaml", "data.labels_per_class=1", f"seed={seed}"))


def test_what_is_left_out_is_no_part_of_what_was_drawn_from() -> None:
    data = data_of("fit.yaml", "data.labels_per_class=1")
    first, *others = data.drawn_from["train"]
    data.leave_out("train", {first.identity})
    assert data.drawn_from["train"] == others


@pytest.mark.parametrize(("first", "second"), [("train", "val"), ("val", "test")])
def test_copies_between_other_splits_are_counted_and_named(first: str, second: str) -> None:
    for index in range(2):
        name = f"000{index}.{'png' if index else 'jpg'}"
        copied(f"photos/{first}/class_1/{name}", f"photos/{second}/class_1/copy_{name}")
    (note,) = told(data_of())
    assert f"2 of 6 {second} images are copies of {first} images" in note
    assert f"{second}/class_1/copy_0000.jpg (as {first}/class_1/0000.jpg)" in note


def test_a_file_that_a_table_names_twice_in_two_splits_is_a_copy_too() -> None:
    table = "path,label,split\n" + "".join(
        f"{split}/class_{label}/{name},{label},{split}\n"
        for split in ("train", "val", "test")
        for label in (0, 1)
        for name in ("0000.jpg", "0001.png")
    )
    Path("photos/link.png").symlink_to(Path("photos/train/class_0/0001.png").absolute())
    Path("table.csv").write_text(table + "link.png,0,test\n")
    with pytest.raises(UserError, match=r"test images are copies of train images: link\.png"):
        check_overlap(data_of("fit.yaml", "data.labels=table.csv"))


class TestEarlierRun:
    """What a run learnt from is what its list says, whatever has become of the files since."""

    @pytest.fixture
    def keep(self) -> Callable[..., Path]:
        """Leave a run as far as it is asked for here: recipe and list of samples of its phase."""

        def kept(name: str, *overrides: str, start: str | None = None) -> Path:
            phase = Path(name, "phases/fit")
            phase.mkdir(parents=True)
            recipe = load_recipe("fit.yaml", overrides)
            write_recipe(phase / "recipe.yaml", replace(recipe, model=replace(recipe.model, checkpoint=start)))
            write_samples(phase / SAMPLES_FILE, scan(recipe).data, {})
            return phase

        return kept

    def learnt(self, checkpoint: str, *overrides: str) -> tuple[set[str], list[str]]:
        found, notes = learnt_before(data_of("fit.yaml", *overrides).samples("test"), checkpoint)
        return {sample.id for sample in found}, notes

    def test_nothing_of_an_unchanged_folder(self, keep: Callable[..., Path]) -> None:
        keep("before")
        assert self.learnt("before") == (set(), [])

    @pytest.mark.parametrize("split", ["train", "val"])
    def test_a_file_that_moved_to_the_test_folder(self, keep: Callable[..., Path], split: str) -> None:
        keep("before")
        Path("photos", split, "class_0/0001.png").rename("photos/test/class_0/moved.png")
        assert self.learnt("before") == ({"test/class_0/moved.png"}, [])

    def test_a_folder_whose_splits_are_cut_anew_with_more_images(self, keep: Callable[..., Path]) -> None:
        make_image_folder(Path("auto"), classes=2, per_class=10, size=(20, 20), seed=5)
        keep("before", "data.root=auto")
        before = data_of("fit.yaml", "data.root=auto")
        learnt = {sample.id for split in ("train", "val") for sample in before.samples(split)}
        make_image_folder(Path("more"), classes=2, per_class=10, size=(20, 20), seed=6)
        for image in Path("more").glob("*/*"):
            image.rename(Path("auto", image.parent.name, f"more_{image.name}"))
        today = ("data.root=auto", "data.splits={test: 0.5}")
        tested = {sample.id for sample in data_of("fit.yaml", *today).samples("test")}
        assert tested & learnt, "else the test shows nothing"
        assert self.learnt("before", *today) == (tested & learnt, [])

    def test_data_that_its_recipe_no_longer_fits(self, keep: Callable[..., Path]) -> None:
        phase = keep("before")
        Path("photos/train/class_0/0001.png").rename("photos/test/class_0/moved.png")
        Path("photos").rename("elsewhere")
        assert self.learnt("before", "data.root=elsewhere") == ({"test/class_0/moved.png"}, [])
        (phase / SAMPLES_FILE).write_bytes((phase / SAMPLES_FILE).read_bytes()[:50])
        found, (note,) = self.learnt("before", "data.root=elsewhere")
        assert not found
        assert "cannot tell" in note
        assert "before" in note
        assert "photos" in note

    def test_also_of_the_run_that_it_started_from(self, keep: Callable[..., Path]) -> None:
        keep("first")
        make_image_folder(Path("others"), classes=2, per_class=10, size=(20, 20), seed=5)
        keep("second", "data.root=others", start="first")
        Path("photos/train/class_0/0001.png").rename("photos/test/class_0/moved.png")
        assert self.learnt("second") == ({"test/class_0/moved.png"}, [])

    def test_a_phase_that_is_still_to_come_is_not_one_without_a_list(self, keep: Callable[..., Path]) -> None:
        phase = keep("run").rename("run/phases/pretrain")
        Path("run/phases/fit").mkdir()
        recipe = Path(shutil.copy(phase / "recipe.yaml", "run/phases/fit"))
        Path("photos/train/class_0/0001.png").rename("photos/test/class_0/moved.png")
        weights = str(phase / "checkpoints/best.ckpt")
        assert self.learnt(weights) == ({"test/class_0/moved.png"}, [])
        recipe.with_name("checkpoints").mkdir()
        assert "earlier version" in self.learnt(weights)[1][0], "it has begun, so its list is missing"

    def test_what_was_taken_out_at_a_resumption_stays_learnt(self, keep: Callable[..., Path]) -> None:
        listed = keep("before") / SAMPLES_FILE
        Path("photos/train/class_0/0001.png").rename("away.png")
        for _ in range(2):
            before = read_samples(listed)
            assert before is not None
            write_samples(listed, data_of(), before)
        after = read_samples(listed)
        assert after is not None
        assert [sample.id for sample in after["earlier train"]] == ["train/class_0/0001.png"]
        Path("away.png").rename("photos/test/class_0/back.png")
        assert self.learnt("before") == ({"test/class_0/back.png"}, [])


def test_evaluation_says_which_images_the_run_learnt_from() -> None:
    fit(load_recipe("fit.yaml"), run_dir=Path("run"), command=[], console=Console(quiet=True))
    copied("photos/train/class_0/0003.png", "others/class_0/holiday.png")
    make_image_folder(Path("others"), classes=2, per_class=2, size=(20, 20), seed=9)

    def said(*arguments: Any) -> str:
        console = Console(file=io.StringIO(), width=300)
        evaluate_run(Path("run"), *arguments, console=console)
        return console.file.getvalue()

    assert "1 of the 5 images, such as class_0/holiday.png" in said(None, ["data.root=others"])
    assert "learnt from" not in said(None)
    assert "learnt from" not in said("train")


class TestPool:
    @pytest.fixture(autouse=True)
    def pool(self) -> None:
        make_image_folder(Path("pool"), classes=1, per_class=12, size=(20, 20), seed=7)

    def test_copies_in_a_pool_of_what_is_measured_are_left_out(self) -> None:
        copied("photos/test/class_0/0001.png", "pool/class_0/renamed.png")
        earlier, later = data_of("pool.yaml"), data_of()
        keep_apart(earlier, later)
        assert [sample.id for sample in earlier.left_out] == ["class_0/renamed.png"]

    def test_test_images_that_an_earlier_run_learnt_under_other_names_are_told(self, tmp_path: Path) -> None:
        copied("photos/test/class_0/0001.png", "pool/class_0/renamed.png")
        phase = tmp_path / "before/phases/fit"
        phase.mkdir(parents=True)
        shutil.copy("pool.yaml", phase / "recipe.yaml")
        found, notes = learnt_before(data_of().samples("test"), "before")
        assert [sample.id for sample in found] == ["test/class_0/0001.png"]
        assert "earlier version" in notes[0]

    def test_a_probe_that_copies_the_pool_is_told_and_one_that_is_part_of_it_is_not(self) -> None:
        make_image_folder(Path("probe"), classes=2, per_class=12, size=(20, 20), seed=8)
        copied("pool/class_0/0003.png", "probe/class_1/copy.png")
        assert any("class_1/copy.png" in note for note in told(data_of("pool.yaml", "data.probe=probe")))
        assert told(data_of("pool.yaml", "data.root=probe", "data.probe=probe")) == []


def test_the_key_is_one_of_every_kind_of_data() -> None:
    def key(values: dict[str, Any]) -> bool:
        return values["allow_overlap"]

    for recipe in ("quickstart", "droppos/digits", "acmil/digit_bags"):
        assert key(vars(load_recipe(recipe, runnable=False).data)) is False
