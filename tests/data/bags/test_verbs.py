"""``vision-train data`` for bags: what the commands write, report and refuse."""

import shlex
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from typer.testing import CliRunner

from vision_train import progress
from vision_train.cli import app
from vision_train.data.bags import digits
from vision_train.data.bags.bag import read_bag
from vision_train.data.bags.index import index_bags
from vision_train.data.bags.tables import read_labels, read_splits

Lines = Callable[..., list[str]]


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lines:
    """Call ``vision-train data`` in a fresh working directory; what it prints, line by line."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object, exit_code: int = 0) -> list[str]:
        result = CliRunner().invoke(app, ["data", *map(str, arguments)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == exit_code, result.output
        return (result.stderr if exit_code == 2 else result.stdout).splitlines()

    return call


@pytest.fixture
def embed(lines: Lines) -> Lines:
    """Call ``embed`` on a folder of two images, one of them in a folder of its own, with a small encoder."""
    for number, name in enumerate(("a.png", "deeper/b.png")):
        pixels = np.full((100, 150, 3), 250, dtype=np.uint8)
        pixels[:64, :90] = np.random.default_rng(number).integers(0, 100, (64, 90, 3))
        Path("images", name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(Path("images", name))
    torch.save(timm.create_model("test_vit").state_dict(), "vit.pth")
    fixed = ("embed", "images", "bags", "--model", "test_vit", "--checkpoint", "vit.pth", "--device", "cpu")
    return lambda *more, exit_code=0: lines(*fixed, "--tile", 64, *more, exit_code=exit_code)


@pytest.fixture
def few_bags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "BAGS", {"train": 4, "val": 2, "test": 3})


@pytest.mark.usefixtures("few_bags")
@pytest.mark.parametrize("variant", ["rare", "patterns"])
def test_digit_bags_are_made_with_the_command_that_reads_them(lines: Lines, variant: str) -> None:
    wrote, following = lines("make", "digit_bags", "bags", "--variant", variant)
    assert wrote == "Wrote 9 bags to bags (4 train, 2 val, 3 test)."
    verb, *words = shlex.split(following.removeprefix("Next: vision-train "))
    keys = dict(word.split("=") for word in words[1:])
    assert (verb, words[0], keys["data.source"]) == ("fit", "acmil/digit_bags", "bags")
    index = index_bags(Path(keys["data.root"]))
    assert len(index.entries) == len(read_labels(Path(keys["data.labels"])).slides) == 9
    assert set(read_splits(Path(keys["data.splits"])).slides) == set(index.entries)


@pytest.mark.usefixtures("few_bags")
def test_digit_bags_of_another_seed_differ(lines: Lines) -> None:
    lines("make", "digit_bags", "0")
    lines("make", "digit_bags", "1", "--seed", 1)
    bags = [(Path(seed) / digits.FEATURES_FOLDER / "train_000.h5").read_bytes() for seed in "01"]
    assert bags[0] != bags[1]


def test_digit_bags_that_cannot_be_made(lines: Lines) -> None:
    assert lines("make", "digit_bags", "bags", "--variant", "rear", exit_code=2) == [
        "Error: --variant rear: is unknown; there are rare and patterns"
    ]
    Path("full").mkdir()
    Path("full/file").touch()
    assert "not an empty folder" in lines("make", "digit_bags", "full", exit_code=2)[0]


@pytest.fixture
def rows() -> Path:
    """A folder of two bags, a chunk for each row, and of a third one without instances."""
    Path("slow").mkdir()
    for name, count in (("a", 5), ("b", 3), ("empty", 0)):
        with h5py.File(f"slow/{name}.h5", "w") as file:
            file.create_dataset("features", data=np.ones((count, 4), np.float32), maxshape=(None, 4), chunks=(1, 4))
    return Path("slow")


def test_bags_are_repacked_kept_or_skipped(lines: Lines, rows: Path) -> None:
    error = lines("repack", rows, "fast", exit_code=2)[0]
    assert "1 bag(s) cannot be used. empty: empty: it has no instances. Mend them, or give --on-bad-bag skip" in error
    assert not Path("fast").exists()
    assert lines("repack", rows, "fast", "--on-bad-bag", "skip") == [
        "Wrote 2 bags to fast (8 instances).",
        "Skipped 1 bag that cannot be used:",
        "  empty: empty: it has no instances",
        "Next: vision-train fit acmil/slides data.root=fast data.labels=LABELS.csv",
    ]
    assert index_bags(Path("fast")).entries["a"].instances == 5
    Path("fast/b.h5").unlink()
    assert lines("repack", rows, "fast", "--on-bad-bag", "skip")[0] == (
        "Wrote 1 bag to fast (3 instances); 1 already there."
    )
    assert lines("repack", rows, "fast", "--on-bad-bag", "drop", exit_code=2) == [
        "Error: --on-bad-bag drop: is unknown; it is error or skip"
    ]


def test_a_pipe_gets_a_line_now_and_then(lines: Lines, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    monkeypatch.setattr(progress, "SECONDS_UNTOLD", 0)
    shown = [line for line in lines("repack", rows, "fast", "--on-bad-bag", "skip") if line.startswith("repacking")]
    assert [line.split("  ")[:2] for line in shown] == [
        ["repacking"],
        ["repacking", "1/3 bags"],
        ["repacking", "2/3 bags"],
    ]
    assert all("instances/s" in line and line.endswith(" left") for line in shown[1:])


def test_images_become_bags_that_fit_reads(embed: Lines) -> None:
    *notes, wrote, following = embed()
    assert notes[0] == "vit.pth: fills 100 % of the model"
    assert notes[-1].endswith("on cpu")
    (features,) = Path("bags").glob("1x_64px_0px_overlap/features_test_vit-*")
    assert wrote == f"Wrote 2 bags to {features} (4 tiles)."
    assert following == f"Next: vision-train fit acmil/slides data.root={features} data.labels=LABELS.csv"
    index = index_bags(Path("bags"))
    assert list(index.entries) == ["a", "b"]
    bag = read_bag(index.entries["b"])
    assert bag.features.shape == (2, 64)
    assert bag.coords is not None
    assert bag.coords.tolist() == [[0, 0], [64, 0]]
    assert {entry.encoder for entry in index.entries.values()} == {features.name.removeprefix("features_")}


def test_finished_images_are_kept(embed: Lines) -> None:
    embed()
    assert embed()[-2].endswith(" (0 tiles); 2 already there.")
    torch.save(timm.create_model("test_vit").state_dict(), "vit.pth")
    assert embed()[-2].endswith(" (4 tiles).")


def test_background_is_kept_if_asked_for(embed: Lines) -> None:
    embed()
    assert embed("--keep-background")[-2].endswith(" (10 tiles).")  # of six each, a corner is hardly inside


def test_bad_images_stop_or_are_skipped(embed: Lines) -> None:
    Path("images/c.jpg").write_bytes(b"no picture")
    assert embed(exit_code=2) == [
        "Error: images/c.jpg: not an image in a known format. "
        "Mend or remove it, or give --on-bad-image skip to go on without it"
    ]
    wrote, *skipped, _ = embed("--on-bad-image", "skip")[-4:]
    assert wrote.endswith(" (2 tiles); 1 already there.")
    assert skipped == [
        "Skipped 1 bag that cannot be used:",
        "  images/c.jpg: not an image in a known format",
    ]


def test_what_cannot_be_embedded(embed: Lines, lines: Lines) -> None:
    assert "there are 32-true" in embed("--precision", "64", exit_code=2)[0]
    checkpoint = ("--checkpoint", "vit.pth")
    assert "name it with --model" in lines("embed", "images", "bags", *checkpoint, exit_code=2)[0]
    assert "nowhere: no such image, folder" in lines("embed", "nowhere", "bags", *checkpoint, exit_code=2)[0]
    Path("images/deeper/a.jpg").touch()
    assert "several images would become the bag a: images/a.png, images/deeper/a.jpg" in embed(exit_code=2)[0]
    assert not Path("bags").exists()
