"""A resumed run is compared with what it was trained with: recipe, samples, versions, steps.

Items are those of the specification of learning from unlabelled images.
"""

import contextlib
import io
import json
import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml
from rich.console import Console

from vision_train.errors import UserError
from vision_train.metrics_log import read_metrics
from vision_train.recipe import load_recipe, to_plain
from vision_train.run.differences import HARMLESS, REFUSED, Difference, sample_differences
from vision_train.run.directory import RunDirectory
from vision_train.run.fit import fit, resume
from vision_train.run.last_checkpoint import SAVED
from vision_train.run.phase import prepare, scan
from vision_train.run.sample_lists import ListedSample, SampleLists, digest_of, read_samples
from vision_train.tasks.classification.task import ClassificationTask

RECIPE = """
extends: quickstart
data: {batch_size: 30, labels_per_class: 9, workers: 0}
model: {args: {embed_dim: 24, depth: 1, num_heads: 2}}
optim: {warmup_epochs: 1, ema: {decay: 0.9}}
trainer: {max_epochs: 4, log_every_n_steps: 1, limit_val_batches: 1, limit_test_batches: 1}
"""
STEPS = 3
"""Steps of an epoch: 90 images in batches of 30."""
QUIET = Console(quiet=True)


class Reached(Exception):
    """Everything was compared, and training would begin."""


def cut_short(recipe: str, *overrides: str, run_dir: Path, step: int) -> None:
    """Train until a step fails, as a killed process would leave it."""
    original, calls = ClassificationTask.training_step, iter(range(10**6))

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        if next(calls) == step:
            raise KeyboardInterrupt
        return original(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClassificationTask, "training_step", training_step)
        with pytest.raises(KeyboardInterrupt):
            fit(load_recipe(recipe, overrides), run_dir=run_dir, command=[], console=QUIET)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which two of four epochs are saved; it is only read."""
    folder = tmp_path_factory.mktemp("cut")
    (folder / "small.yaml").write_text(RECIPE)
    cut_short(str(folder / "small.yaml"), run_dir=folder / "run", step=2 * STEPS + 1)
    return folder / "run"


@pytest.fixture
def edited(cut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A copy of the run whose recipe.yaml has other values."""
    monkeypatch.chdir(tmp_path)

    def edit(changes: dict[str, Any], file: str = "recipe.yaml") -> Path:
        shutil.rmtree("run", ignore_errors=True)
        shutil.copytree(cut, "run")
        recipe = yaml.safe_load(Path("run", file).read_text())
        for key, value in changes.items():
            *sections, last = key.split(".")
            place = recipe
            for section in sections:
                place = place[section]
            place[last] = value
        Path("run", file).write_text(yaml.safe_dump(recipe, sort_keys=False))
        return Path("run")

    return edit


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop where training would begin."""

    def reached(*_: Any) -> None:
        raise Reached

    monkeypatch.setattr("vision_train.run.fit.run_phase", reached)


def refusal(run: Path, *accept: str) -> str:
    with pytest.raises(UserError) as caught:
        resume(run, console=QUIET, accept=accept)
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optim.lr", 0.1),
        ("optim.weight_decay", 0.3),
        ("optim.schedule", "constant"),
        ("optim.ema.decay", 0.5),
        ("trainer.max_epochs", 9),
        ("trainer.precision", "bf16-mixed"),
        ("augment.train.color_jitter", 0.4),
        ("augment.mixing.cutmix", 0.5),
        ("method.label_smoothing", 0.2),
        ("method.class_weights", "balanced"),
        ("run.select.metric", "val/f1"),
        ("data.batch_size", 32),
        ("data.balance", "classes"),
    ],
)
def test_what_changes_the_training_needs_to_be_accepted(edited, untrained, key, value):
    run = edited({key: value})
    text = refusal(run)
    assert f"{key}: " in text
    assert f"fit --resume run --accept {key}" in text
    assert "model.checkpoint=run/phases/fit/checkpoints/last.ckpt" in text
    with pytest.raises(Reached):
        resume(run, console=QUIET, accept=[key])
    with pytest.raises(Reached):
        resume(run, console=QUIET, accept=[key.partition(".")[0]])


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("optim.name", "sgd", "optim.name: `adamw`, now `sgd`"),
        ("optim.ema", None, "optim.ema: a moving average, now null"),
        ("optim.layer_decay", 0.75, "optim.layer_decay: null, now 0.75"),
        ("optim.lr_factors", {"blocks.*": 0.1}, "optim.lr_factors"),
        ("model.freeze", ["blocks.*"], "model.freeze"),
        ("model.args.embed_dim", 12, "model.args.embed_dim: 24, now 12"),
        ("model.args.num_heads", 3, "model.args.num_heads: 2, now 3"),
        ("model.positions", "sincos", "model.positions"),
        ("data.classes", list("1023456789"), "data.classes: null, now"),
        ("seed", 5, "seed: 0, now 5"),
        ("data.batch_size", 10, "steps of an epoch: 3, now 9"),
        ("data.labels_per_class", 3, "steps of an epoch: 3, now 1"),
        ("trainer.accumulate_grad_batches", 2, "steps of an epoch: 3, now 2"),
        ("trainer.max_epochs", 1, "trainer.max_epochs: 6 steps in 2 epoch(s) taken"),
        ("model.checkpoint", "RUN", "acts at the start alone"),
    ],
)
def test_what_no_run_can_change_is_refused_with_the_command_for_a_new_one(edited, untrained, cut, key, value, said):
    run = edited({key: str(cut) if value == "RUN" else value})
    for accept in ((), (key,)):
        text = refusal(run, *accept)
        assert said in text
        assert "--resume" not in text, "there is nothing that could be accepted"
        assert "vision-train fit run/recipe.yaml model.checkpoint=run/phases/fit/checkpoints/last.ckpt" in text


def test_a_network_of_other_tensors_is_refused_though_accepted(edited, untrained):
    run = edited({"data.image_size": 32})
    assert "--accept data.image_size" in refusal(run)
    text = refusal(run, "data.image_size")
    assert "model.args" in text
    assert "network." in text
    assert "model.checkpoint=run/phases/fit/checkpoints/last.ckpt" in text


def test_a_parameter_that_leaves_tensors_alone_can_be_accepted(edited, untrained):
    with pytest.raises(Reached):
        resume(edited({"model.args.drop_path_rate": 0.2}), console=QUIET, accept=["model.args.drop_path_rate"])


@pytest.mark.parametrize(("key", "value"), [("data.workers", 1), ("trainer.log_every_n_steps", 7), ("name", "other")])
def test_what_changes_nothing_is_said_and_harmless(edited, monkeypatch, key, value):
    console = Console(file=io.StringIO(), width=300)
    monkeypatch.setattr("vision_train.run.run_phase.fit_phase", lambda *_: (_ for _ in ()).throw(Reached))
    with pytest.raises(Reached):
        resume(edited({key: value}), console=console)
    assert f"{key}: " in console.file.getvalue()
    assert "harmless" in console.file.getvalue()


OTHER: dict[type, Any] = {bool: True, int: 3, float: 0.3, str: "other", list: [0.5, 0.6, 0.7]}


def other_than(value: Any) -> list[Any]:
    """Values of the same type, or of several where it is not known; null for a section."""
    if isinstance(value, bool):
        return [not value]
    if value is None:
        return [3, 0.5, "other"]
    return [None if isinstance(value, dict) else OTHER[type(value)]]


def all_keys(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in values.items():
        found[prefix + key] = value
        if isinstance(value, dict):
            found |= all_keys(value, f"{prefix}{key}.")
    return found


def test_no_edited_key_ends_in_a_traceback(edited, untrained, cut):
    """Every key, set to other values: a run goes on or is refused in words, though that key is accepted."""
    keys = all_keys(to_plain(load_recipe(cut / "recipe.yaml")))
    assert len(keys) > 60
    for key, value in keys.items():
        for other in other_than(value):
            with contextlib.suppress(UserError, Reached):
                resume(edited({key: other}), console=QUIET, accept=[key])


def test_the_lists_of_keys_name_keys_that_there_are():
    from fnmatch import fnmatchcase

    from vision_train.recipe import explain

    known = {key.name for key in explain()}
    assert set(HARMLESS) <= known
    assert all(any(fnmatchcase(name, glob.removesuffix(".*")) for name in known) for glob in REFUSED)


def test_an_accepted_change_acts_and_is_kept(edited):
    run = edited({"trainer.max_epochs": 5, "optim.lr": 0.5, "optim.schedule": "constant"})
    console = Console(file=io.StringIO(), width=300)
    directory = resume(run, console=console, accept=["trainer.max_epochs", "optim"])
    rates = {line["epoch"]: line["lr"] for line in read_metrics(directory.metrics) if "lr" in line}
    assert rates[4] == pytest.approx(0.5)
    assert rates[1] < 0.01
    assert "optim.lr: 0.002, now 0.5 (accepted)" in console.file.getvalue()
    table = json.loads((directory.artefacts / "fit_resumed_2.json").read_text())
    assert {row[0] for row in table["rows"]} == {"trainer.max_epochs", "optim.lr", "optim.schedule"}
    assert "optim.lr" in (directory.path / "report.html").read_text()
    checkpoint = torch.load(directory.best.with_name("last.ckpt"), weights_only=True)
    copy = yaml.safe_load((directory.phase("fit") / "recipe.yaml").read_text())
    for recipe in (checkpoint["recipe"], copy):
        assert recipe["optim"]["lr"] == 0.5, "resumed again, nothing would differ"


def test_another_order_of_the_classes_is_refused(edited, untrained):
    run = edited({})
    classes = json.loads((run / "classes.json").read_text())
    (run / "classes.json").write_text(json.dumps(classes[::-1]))
    assert "classes.json: 0, 1, 2" in refusal(run)


def test_the_command_for_a_new_run_works(edited):
    text = refusal(edited({"optim.name": "sgd"}))
    *_, recipe, start = shlex.split(text.rpartition("vision-train fit ")[2])
    prepared = prepare(scan(load_recipe(recipe, [start])))
    assert prepared.load_reports[0].matched_share == 1


def test_an_edited_copy_that_is_not_read_is_pointed_out(edited, monkeypatch):
    console = Console(file=io.StringIO(), width=300)
    monkeypatch.setattr("vision_train.run.run_phase.fit_phase", lambda *_: (_ for _ in ()).throw(Reached))
    with pytest.raises(Reached):
        resume(edited({"optim.lr": 0.5}, file="phases/fit/recipe.yaml"), console=console)
    assert "optim.lr in run/phases/fit/recipe.yaml" in console.file.getvalue()
    assert "not read" in console.file.getvalue()


def test_a_damaged_copy_is_not_read_and_stops_nothing(edited, untrained):
    run = edited({})
    (run / "phases/fit/recipe.yaml").write_text("x: [")
    with pytest.raises(Reached):
        resume(run, console=QUIET)
    (run / "recipe.yaml").write_text((run / "recipe.yaml").read_text().replace("lr: 0.002", "lr: 0.1"))
    assert "run/phases/fit/recipe.yaml" in refusal(run)


@pytest.mark.parametrize("damage", ["other", "truncated", "of another program"])
def test_a_damaged_last_checkpoint_is_named_with_what_helps(edited, untrained, damage):
    last = edited({}) / "phases/fit/checkpoints/last.ckpt"
    content = last.read_bytes()
    last.unlink()  # best.ckpt may be the same file
    last.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"xx")
    if damage == "of another program":
        torch.save({"weights": torch.zeros(1)}, last)
    text = refusal(Path("run"))
    assert "run/phases/fit/checkpoints/last.ckpt: is truncated or damaged" in text
    assert "model.checkpoint=run/phases/fit/checkpoints/best.ckpt" in text


@pytest.mark.parametrize("entry", [*SAVED, "averaged", "callbacks.AverageWeights", "ImageDataModule"])
def test_item_5_every_entry_of_the_last_checkpoint_that_is_missing_is_noticed(edited, untrained, entry):
    """Lightning would go on without some of them, as if there had never been any."""

    def without(checkpoint: dict[str, Any]) -> None:
        *outer, last = entry.split(".")
        for name in outer:
            checkpoint = checkpoint[name]
        del checkpoint[last]

    rewrite(edited({}), without)
    text = refusal(Path("run"))
    assert "run/phases/fit/checkpoints/last.ckpt: is truncated or damaged: it" in text
    assert ("streams of samples" if entry == "ImageDataModule" else f"lacks {entry}") in text


def test_what_every_last_checkpoint_holds_is_known_by_name(cut):
    """But for Lightning's version, which it asks for itself, and what checkpoints of earlier versions lack."""
    checkpoint = torch.load(cut / "phases/fit/checkpoints/last.ckpt", weights_only=True)
    named = {name for name in SAVED if "." not in name} | {"averaged", "ImageDataModule"}
    assert checkpoint.keys() - {"pytorch-lightning_version", "conditions", "named_by", "calibration"} == named
    callbacks = {name for name in SAVED if "." in name} | {"callbacks.AverageWeights"}
    assert {f"callbacks.{name}" for name in checkpoint["callbacks"]} == callbacks


def test_a_run_in_a_folder_whose_name_is_no_text_goes_on(edited, untrained):
    name = Path(os.fsdecode(b"r\xe9"))
    edited({}).rename(name)
    with pytest.raises(Reached):
        resume(name, console=QUIET)


def test_an_accepted_key_that_does_not_exist_is_refused_with_the_nearest(edited, untrained):
    text = refusal(edited({"trainer.max_epochs": 5}), "trainer.max_epoch")
    assert "--accept trainer.max_epoch: " in text
    assert "trainer.max_epochs" in text


@pytest.mark.parametrize(
    "key", ["optim", "data.samples", "optim.lr", "model.args.drop_path_rate", "data.label_map.cat"]
)
def test_an_accepted_key_of_which_nothing_has_changed_is_told(edited, monkeypatch, key):
    seen: list[str] = []

    def reached(directory: Any, phase: Any, prepared: Any, *_: Any) -> None:
        seen.extend(prepared.data.notes)
        raise Reached

    monkeypatch.setattr("vision_train.run.fit.run_phase", reached)
    with pytest.raises(Reached):
        resume(edited({"data.workers": 1}), console=QUIET, accept=[key])
    assert any(f"--accept {key}" in note for note in seen)


def test_naming_the_classes_as_they_are_changes_nothing(edited, untrained):
    with pytest.raises(Reached):
        resume(edited({"data.classes": list("0123456789")}), console=QUIET)


def rewrite(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    last = run / "phases" / "fit" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    change(checkpoint)
    last.unlink()  # best.ckpt may be the same file
    torch.save(checkpoint, last)


def test_other_versions_are_named(edited, monkeypatch):
    run = edited({})
    rewrite(run, lambda checkpoint: checkpoint["conditions"]["versions"].update({"timm": "0.1"}))
    console = Console(file=io.StringIO(), width=300)
    monkeypatch.setattr("vision_train.run.run_phase.fit_phase", lambda *_: (_ for _ in ()).throw(Reached))
    with pytest.raises(Reached):
        resume(run, console=console)
    assert "timm: 0.1, now " in console.file.getvalue()


def test_a_checkpoint_of_an_earlier_version_is_compared_as_far_as_it_goes(edited, monkeypatch):
    run = edited({})
    rewrite(run, lambda checkpoint: checkpoint.pop("conditions"))
    console = Console(file=io.StringIO(), width=300)
    monkeypatch.setattr("vision_train.run.run_phase.fit_phase", lambda *_: (_ for _ in ()).throw(Reached))
    with pytest.raises(Reached):
        resume(run, console=console)
    assert "earlier version" in console.file.getvalue()
    run = edited({"data.batch_size": 10})
    rewrite(run, lambda checkpoint: checkpoint.pop("conditions"))
    assert "steps of an epoch: 3, now 9" in refusal(run)


@pytest.mark.parametrize("damage", ["renamed", "of one stream", "of other streams"])
def test_where_the_streams_stand_is_found_whatever_the_class_was_called(edited, monkeypatch, damage):
    run, seen = edited({}), []

    def change(checkpoint: dict[str, Any]) -> None:
        state = checkpoint.pop("ImageDataModule")
        state["streams"]["train"]["cursor"] = 1
        old = state["streams"]["train"] if damage == "of one stream" else state
        checkpoint["OldDataModule"] = {"streams": {"pairs": old}} if damage == "of other streams" else old

    rewrite(run, change)

    def reached(directory: Any, phase: Any, prepared: Any, *_: Any) -> None:
        seen.append(prepared.data.state_dict())
        raise Reached

    monkeypatch.setattr("vision_train.run.fit.run_phase", reached)
    if damage == "of other streams":
        before = Path(run, "metrics.jsonl").read_bytes()
        assert "streams pairs, and not train" in refusal(run)
        assert Path(run, "metrics.jsonl").read_bytes() == before
        return
    with pytest.raises(Reached):
        resume(run, console=QUIET)
    assert seen[0]["streams"]["train"]["cursor"] == 1


class TestSamples:
    @pytest.fixture
    def photos(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A run on 40 images of two classes in three splits, cut short."""
        from vision_train.data.toy.folder import make_image_folder

        monkeypatch.chdir(tmp_path)
        for seed, (split, count) in enumerate({"train": 20, "val": 3, "test": 3}.items()):
            make_image_folder(Path("photos", split), classes=2, per_class=count, size=(16, 16), seed=seed)
        Path("small.yaml").write_text(RECIPE)
        keys = ("data.source=images", "data.root=photos", "data.labels_per_class=null", "data.batch_size=8")
        cut_short("small.yaml", *keys, run_dir=Path("run"), step=7)
        return Path("photos")

    @pytest.fixture
    def files(self, photos: Path) -> list[Path]:
        return sorted(photos.glob("train/*/*"))

    def test_unchanged_go_on(self, photos, untrained):
        with pytest.raises(Reached):
            resume(Path("run"), console=QUIET)

    def test_moved_ones_are_known_by_their_names(self, photos, untrained):
        photos.rename("elsewhere")
        recipe = Path("run/recipe.yaml")
        recipe.write_text(recipe.read_text().replace("/photos", "/elsewhere"))
        text = refusal(Path("run"))
        assert "data.root" in text
        assert "data.samples" not in text

    def test_one_more_and_one_less_and_one_of_another_class_are_named(self, photos, files, untrained):
        shutil.copy(files[0], files[0].with_name("new.png"))
        files[1].unlink()
        text = refusal(Path("run"))
        assert "--accept data.samples" in text
        assert f"{files[0].parent.name}/new.png" in text
        assert files[1].name in text
        with pytest.raises(Reached):
            resume(Path("run"), console=QUIET, accept=["data.samples"])

    def test_a_list_that_is_gone_leaves_the_counts(self, photos, files, untrained):
        Path("run/phases/fit/samples.jsonl.gz").unlink()
        files[1].unlink()
        text = refusal(Path("run"))
        assert "40 of train, now 39 others" in text
        assert "samples.jsonl.gz" in text

    def test_one_trained_on_that_moved_to_the_test_folder_is_refused_though_accepted(self, photos, files, untrained):
        files[0].rename(photos / "test" / files[0].parent.name / "moved.png")
        assert "moved.png) trained on, now of test" in refusal(Path("run"), "data.samples")

    def test_copies_of_what_is_trained_on_are_looked_for(self, photos, files, untrained):
        shutil.copy(files[0], photos / "val" / files[0].parent.name / "copy.png")
        shutil.copy(files[0], photos / "test" / files[0].parent.name / "copy.png")
        text = refusal(Path("run"), "data.samples")
        assert "copies of train" in text
        assert "copy.png" in text

    def test_a_picture_that_was_replaced_under_its_name_is_named(self, photos, files, untrained):
        shutil.copy(files[0], files[1])
        assert f"another content of 1 (train/{files[1].parent.name}/{files[1].name})" in refusal(Path("run"))

    @pytest.mark.parametrize("content", [b"", b"no list", None], ids=["empty", "other", "truncated"])
    def test_a_damaged_list_counts_as_gone_and_that_is_said(self, photos, files, untrained, content):
        listed = Path("run/phases/fit/samples.jsonl.gz")
        listed.write_bytes(listed.read_bytes()[:50] if content is None else content)
        with pytest.raises(Reached):
            resume(Path("run"), console=QUIET)
        files[1].unlink()
        text = refusal(Path("run"))
        assert "40 of train, now 39 others" in text
        assert "samples.jsonl.gz" in text


class TestSampleDifferences:
    OLD: ClassVar[SampleLists] = {
        "train": [ListedSample("train/a", "x", "/p/train/a", "1:a"), ListedSample("train/b", "y", "/p/train/b", "1:b")],
        "test": [ListedSample("test/d", "x", "/p/test/d", "1:d")],
    }

    def found(self, now: SampleLists, before: SampleLists | None = None, **options: Any) -> list[Difference]:
        then = {split: {"count": len(of), "digest": digest_of(of)} for split, of in self.OLD.items()}
        return list(sample_differences(then, before or self.OLD, now, **options))

    def moved(self) -> SampleLists:
        """One image of train is in the folder test now, where its id is another."""
        here = replace(self.OLD["train"][0], id="test/a", place="/p/test/a")
        return {"train": self.OLD["train"][1:], "test": [*self.OLD["test"], here]}

    def test_the_same_differ_in_nothing(self):
        assert self.found(self.OLD) == []

    def test_more_fewer_other_truths_contents_and_order_are_told_apart(self):
        first, second = self.OLD["train"]
        said = {
            "now also 1 (c)": [first, second, ListedSample("c", "x")],
            "now without 1 (train/a)": [second],
            "train/b from y to x": [first, replace(second, truth="x")],
            "another content of 1 (train/b)": [first, replace(second, mark="2:b")],
            "another order": [second, first],
        }
        for text, train in said.items():
            (difference,) = self.found({**self.OLD, "train": train})
            assert text in str(difference)
            assert difference.key == "data.samples"

    def test_a_sample_trained_on_is_known_where_its_split_is_part_of_its_name(self):
        (refused,) = (each for each in self.found(self.moved()) if each.verdict == "refused")
        assert "1 (test/a) trained on, now of test" in str(refused)
        assert all(each.verdict == "accept" for each in self.found(self.moved(), allow_overlap=True))

    def test_also_one_that_was_taken_out_at_an_earlier_resumption(self):
        before = {**self.OLD, "train": self.OLD["train"][1:], "earlier train": self.OLD["train"][:1]}
        assert "refused" in {each.verdict for each in self.found(self.moved(), before)}

    def test_what_was_tested_on_all_along_stays(self):
        old = {**self.OLD, "test": [replace(self.OLD["train"][0], id="test/copy")]}
        more = {**old, "test": [*old["test"], ListedSample("test/new", "x", "/p/test/new", "1:n")]}
        assert {each.verdict for each in self.found(more, old)} == {"accept"}

    def test_lists_of_earlier_versions_know_ids_alone(self):
        bare = {split: [ListedSample(each.id, each.truth) for each in of] for split, of in self.OLD.items()}
        assert self.found(self.OLD, bare) == []
        table = {"train": self.OLD["train"][1:], "test": [*self.OLD["test"], self.OLD["train"][0]]}
        assert "refused" in {each.verdict for each in self.found(table, bare)}


def test_the_directory_of_a_run_keeps_its_samples(cut):
    listed = read_samples(RunDirectory(cut).phase("fit") / "samples.jsonl.gz")
    assert len(listed["train"]) == 90
    assert {sample.truth for sample in listed["train"]} == set("0123456789")
