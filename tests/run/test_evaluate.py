import io
from pathlib import Path

import h5py
import pytest
from rich.console import Console

from vision_train.data.toy.digits import make_digits
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.dry_run import dry_run
from vision_train.run.evaluate import evaluate_run
from vision_train.run.fit import fit
from vision_train.run.phase import prepare, scan


@pytest.fixture
def finished(tiny) -> Path:
    return fit(load_recipe(tiny, ["trainer.max_epochs=2"]), run_dir=None, command=[], console=Console(quiet=True)).path


@pytest.mark.parametrize("folder", ["digits", "digits/test"], ids=["divided into splits", "class folders alone"])
def test_other_images_are_measured_whole(finished, folder):
    make_digits(Path("digits"))
    own = evaluate_run(finished, "test")
    other = evaluate_run(finished, "test", ["data.source=images", f"data.root={folder}"])
    assert other["test/samples"] == own["test/samples"] == 300
    # The same scans in the same classes, by way of files.
    assert other["test/loss"] == pytest.approx(own["test/loss"], rel=1e-4)


def test_a_dry_run_covers_every_phase_and_writes_nothing(tiny):
    Path("first.yaml").write_text(f"extends: {tiny}\ntrainer: {{max_epochs: 7}}\n")
    before = sorted(Path.cwd().rglob("*"))
    text = dry_run(load_recipe(tiny, ["run.pretrain=first.yaml"]))
    assert "phase pretrain" in text
    assert "phase fit" in text
    assert "21 in all" in text  # seven epochs of three steps
    assert sorted(Path.cwd().rglob("*")) == before


def test_a_dry_run_names_the_rounds_between_the_first_and_the_last_phase(tiny):
    rounds = ("semi.method=active_rounds", "semi.rounds.count=3", "data.unlabelled=rest", "trainer.max_epochs=8")
    text = dry_run(load_recipe(tiny, [*rounds, "data.epoch_batches=3", "trainer.limit_val_batches=1"]))
    assert text.count("\nrecipe ") == 2
    assert "before it, 2 alike, each with new labels of the pool: round-1 (6 steps), round-2 (6 steps)" in text


@pytest.fixture
def other_bags(tmp_path, monkeypatch, write_features) -> list[str]:
    """Overrides that name twelve labelled bags in files."""
    monkeypatch.chdir(tmp_path)
    ids = [f"{number:03d}" for number in range(12)]
    write_features(Path("others"), *ids)
    rows = [f"{bag_id},{number % 2}\n" for number, bag_id in enumerate(ids[:10])]
    Path("others.csv").write_text("".join(["slide_id,label\n", *rows]))
    return ["data.source=bags", "data.root=others", "data.labels=others.csv"]


def test_other_bags_are_measured_whole_and_what_is_left_out_is_told(bags_run, other_bags):
    console = Console(file=io.StringIO(), soft_wrap=True)
    figures = evaluate_run(bags_run, None, other_bags, console)
    assert figures["test/samples"] == 10
    assert {"test/auroc", "test/attention_entropy"} <= figures.keys()
    assert console.file.getvalue() == "note: left out, as they have no label: 010, 011 (2 in all)\n"


def test_labels_of_other_bags_must_be_classes_of_the_run(bags_run, other_bags):
    Path("others.csv").write_text(Path("others.csv").read_text().replace(",1\n", ",tumour\n"))
    with pytest.raises(UserError, match=r"001: label `tumour` is not one of the run's classes: \['0', '1'\]"):
        evaluate_run(bags_run, None, other_bags)
    mapped = evaluate_run(bags_run, None, [*other_bags, "data.label_map={tumour: '1', '0': '0'}"])
    assert mapped["test/samples"] == 10
    with pytest.raises(UserError, match=r"data\.label_map does not say what becomes of the label `0` of 000"):
        evaluate_run(bags_run, None, [*other_bags, "data.label_map={tumour: '1'}"])


def test_bags_of_another_encoder_are_refused(bags_run, other_bags, write_features):
    write_features(Path("others"), *(f"{number:03d}" for number in range(12)), encoder="uni")
    with pytest.raises(UserError, match="those of the encoder uni, but the network learned from those of pixels"):
        evaluate_run(bags_run, None, other_bags)


def test_a_file_of_splits_does_not_divide_other_bags(other_bags, write_features, quiet):
    ids = [f"own_{number}" for number in range(12)]
    write_features(Path("own"), *ids)
    Path("own.csv").write_text("slide_id,label\n" + "".join(f"{each},{n % 2}\n" for n, each in enumerate(ids)))
    rows = [
        f"{number},{own},{val},{test}\n" for number, (own, val, test) in enumerate(zip(*[iter(ids)] * 3, strict=True))
    ]
    Path("splits.csv").write_text("".join([",train,val,test\n", *rows]))
    named = ["data.source=bags", "data.root=own", "data.labels=own.csv", "data.splits=splits.csv"]
    run = fit(load_recipe("acmil/digit_bags", named, smoke=True), run_dir=Path("run"), command=[], console=quiet).path
    assert evaluate_run(run, None)["test/samples"] == 4
    assert evaluate_run(run, None, other_bags)["test/samples"] == 10
    Path("own").rename("moved")
    assert evaluate_run(run, None, ["data.root=moved"])["test/samples"] == 4


def test_a_file_of_splits_does_not_divide_other_bags_whose_files_hold_their_labels(other_bags, write_features, quiet):
    ids = [f"own_{number}" for number in range(12)]
    for folder, names in {"own": ids, "labelled": [f"other_{number}" for number in range(6)]}.items():
        write_features(Path(folder), *names)
        for number, name in enumerate(names):
            with h5py.File(f"{folder}/{name}.h5", "r+") as file:
                file.attrs["label"] = number % 2
    splits = ("train", "val", "test")
    Path("splits.csv").write_text(
        "slide_id,split\n" + "".join(f"{each},{splits[n // 4]}\n" for n, each in enumerate(ids))
    )
    named = ["data.source=bags", "data.root=own", "data.splits=splits.csv"]
    run = fit(load_recipe("acmil/digit_bags", named, smoke=True), run_dir=Path("run"), command=[], console=quiet).path
    console = Console(file=io.StringIO(), soft_wrap=True)
    assert evaluate_run(run, None, ["data.root=labelled"], console)["test/samples"] == 6
    assert "splits.csv divides the run's own bags; give data.splits=" in console.file.getvalue()
    Path("own").rename("moved")
    assert evaluate_run(run, None, ["data.root=moved", "data.splits=splits.csv"])["test/samples"] == 4


def test_a_run_of_other_features_is_no_start(bags_run, other_bags, write_features):
    start = [*other_bags, f"model.checkpoint={bags_run}"]
    assert prepare(scan(load_recipe("acmil/digit_bags", start, smoke=True))).load_reports[0].matched_share == 1
    write_features(Path("others"), *(f"{number:03d}" for number in range(12)), encoder="uni")
    for weights in (bags_run, bags_run / "checkpoints" / "best.ckpt"):
        with pytest.raises(
            UserError, match=r"of the encoder uni, but model\.checkpoint .*run.* learned from those of pixels"
        ):
            prepare(scan(load_recipe("acmil/digit_bags", [*other_bags, f"model.checkpoint={weights}"], smoke=True)))
    write_features(Path("others"), *(f"{number:03d}" for number in range(12)), encoder=None, width=32)
    with pytest.raises(UserError, match=r"32 features an instance, but model\.checkpoint .*run learned from 64"):
        prepare(scan(load_recipe("acmil/digit_bags", start, smoke=True)))
