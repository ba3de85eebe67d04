"""Training, measuring and using runs from Python, and the page and the notebook that show how."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from PIL import Image

import vision_train
from vision_train.api.inputs import place_of
from vision_train.api.loaded import picture_of
from vision_train.api.overrides import as_typed
from vision_train.data.decode import decode
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.study import conduct

ROOT = Path(__file__).parents[2]
SMALL = {"trainer": {"max_epochs": 1}, "data.labels_per_class": 5, "data.workers": 0, "optim.lr": 1e-4}
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory."""
    folder = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def run(place: Path) -> vision_train.Run:
    return vision_train.fit("quickstart", SMALL, quiet=True)


def pictures() -> list[np.ndarray]:
    return [np.random.default_rng(seed).integers(0, 256, (9, 7, 3), dtype=np.uint8) for seed in range(3)]


@pytest.mark.slow
def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, vision_train; from vision_train import fit, compare, Run; "
        "print(*{'torch', 'pytorch_lightning', 'omegaconf', 'rich', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_run_is_that_of_the_command_line(run, place):
    assert run.path == place / "runs" / "quickstart" / "0"
    assert run.metrics == json.loads((run.path / "summary.json").read_text())
    assert run.metrics["val/accuracy"] in [line.get("val/accuracy") for line in run.history]
    assert run.classes == [str(digit) for digit in range(10)]
    assert "lr: 0.0001" in run.recipe
    assert run.report.is_file()
    command = json.loads((run.path / "environment.json").read_text())["command"]
    assert command.startswith("vision-train fit quickstart 'trainer={\"max_epochs\": 1}' data.labels_per_class=5")
    assert repr(run) == f"Run({str(run.path)!r})"


def test_a_notebook_shows_the_figures_and_the_report(run):
    shown = run._repr_html_()
    assert f"{run.metrics['test/accuracy']:.1%}".replace("%", " %") in shown
    assert run.report.as_uri() in shown


def test_images_in_memory_are_predicted_as_files_are(run, tmp_path):
    images = pictures()
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    from_files = run.predict([tmp_path / f"{number}.png" for number in range(3)])
    from_memory = vision_train.predict(run.path, [images[0], Image.fromarray(images[1]), images[2]])
    assert [row.pop("path") for row in from_memory] == [0, 1, 2]
    assert [row.pop("path") for row in from_files] == [str(tmp_path / f"{number}.png") for number in range(3)]
    assert from_memory == from_files
    assert run.predict(images[0])[0]["confidence"] == pytest.approx(from_memory[0]["confidence"], abs=1e-6)
    assert run.predict(str(tmp_path))[0]["label"] == from_files[0]["label"]


def oriented(folder: Path) -> Path:
    """A picture that lies on its side, as its EXIF says."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pictures()[0]).save(folder / "oriented.png", exif=exif)
    return folder / "oriented.png"


def transparent(folder: Path) -> Path:
    Image.fromarray(np.zeros((9, 7, 4), np.uint8)).save(folder / "transparent.png")
    return folder / "transparent.png"


def sixteen_bits(folder: Path) -> Path:
    grey = np.linspace(0, 65535, 63).reshape(9, 7).astype(np.uint16)
    Image.fromarray(grey).save(folder / "sixteen.png")
    return folder / "sixteen.png"


@pytest.mark.parametrize("make", [oriented, transparent, sixteen_bits])
def test_a_picture_in_memory_is_prepared_as_its_file_is(run, tmp_path, make):
    file = make(tmp_path)
    with Image.open(file) as opened:
        assert np.array_equal(np.asarray(picture_of(opened)), decode(file))


def test_a_picture_without_a_defined_range_is_refused():
    with pytest.raises(UserError, match="floating-point"):
        picture_of(Image.fromarray(np.zeros((4, 4), np.float32)))


def test_names_with_other_line_ends_are_read_back(run, tmp_path):
    name = tmp_path / "a\u2028b.png"
    Image.fromarray(pictures()[0]).save(name)
    assert [row["path"] for row in run.predict(tmp_path)] == [str(name)]


def test_the_place_of_an_image_stands_for_its_file_in_ids_with_texts():
    places = {"/t/00000000.png": 0, "/t/00000001.png": 1}
    given = ["/t/00000001.png", "/t/00000001.png#2", "/other/00000001.png", "a#b"]
    assert [place_of(name, places) for name in given] == [1, "1#2", "/other/00000001.png", "a#b"]


def test_the_loaded_network_answers_as_predict_does(run):
    loaded, image = vision_train.load(run), pictures()[0]
    assert loaded.transform is not None
    assert not loaded.network.training
    with torch.inference_mode():
        shares = loaded.network(loaded.transform(image)[None]).softmax(dim=1)[0]
    row = run.predict(image)[0]
    assert loaded.classes[int(shares.argmax())] == row["label"]
    assert float(shares.max()) == pytest.approx(row["confidence"], abs=1e-6)


def test_a_run_is_measured_on_another_split(run):
    figures = vision_train.evaluate(str(run.path), "val")
    assert figures["val/accuracy"] == pytest.approx(run.metrics["val/accuracy"])


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "nothing to predict on"),
        (np.zeros((0, 8, 3), np.uint8), "no pixels"),
        (Image.new("RGB", (0, 8)), "no pixels"),
        (["one.png", np.zeros((4, 4, 3), np.uint8)], "one kind at a time"),
    ],
)
def test_inputs_that_say_nothing_are_refused(run, inputs, words):
    with pytest.raises(UserError, match=words):
        run.predict(inputs)


def test_keys_and_recipes_of_another_type_are_refused():
    with pytest.raises(UserError, match="mapping"):
        vision_train.fit("quickstart", ["optim.lr=1"])
    with pytest.raises(UserError, match=r"quickstart: .*list"):
        vision_train.compare("quickstart")


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), [[1]], 3])
def test_what_is_no_image_is_refused(run, image):
    with pytest.raises(UserError, match="uint8"):
        run.predict([image])


def test_a_place_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"recipe\.yaml"):
        vision_train.Run(tmp_path)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (1e-05, 1e-05),
        (np.float64(0.25), 0.25),
        (np.int64(3), 3),
        (torch.tensor(2), 2),
        (None, None),
        ("yes", "yes"),
        ("1", "1"),
        ("a: {b}, #c", "a: {b}, #c"),
        ("${data.root}", "${data.root}"),
        (Path("photos"), "photos"),
        ("größe \udce9", "größe \udce9"),
    ],
)
def test_values_reach_the_recipe_as_they_are(value: Any, read: Any):
    typed = as_typed({"model.args": {"value": value, "several": (value,)}})
    args = load_recipe("quickstart", typed, runnable=False).model.args
    assert (args["value"], args["several"]) == (read, [read])


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}])
def test_values_that_no_recipe_holds_are_refused_by_their_key(value):
    with pytest.raises(UserError, match=r"^model\.args"):
        as_typed({"model.args": value})


class InThisProcess:
    """Trains the runs of a study without a process for each."""

    def __init__(self, jobs: int) -> None:
        pass

    def __call__(self, arguments: Sequence[str], log: BinaryIO) -> int:
        from rich.console import Console

        from vision_train.run.fit import fit

        _, recipe, *overrides, _, folder = arguments
        fit(load_recipe(recipe, overrides), run_dir=Path(folder), command=[], console=Console(quiet=True))
        return 0

    def stop(self) -> None:
        pass


def test_every_block_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(conduct, "RunProcesses", InThisProcess)
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks, names = BLOCK.findall(text), dict[str, Any]()
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block.replace("seeds=3", "seeds=2"), "docs/python.md", "exec"), names)
    study = names["study"]
    assert len(study.verdicts) == 1
    assert study.verdicts[0] in study._repr_html_()
    assert study.table["command"].endswith("--seeds 2 --out study --jobs 1")
    assert "lower_rate" in capsys.readouterr().out


def test_options_of_predict_are_those_of_the_verb(run, tmp_path):
    run.predict(pictures()[:1], render=tmp_path / "drawn", overrides={"data.on_bad": "skip"})
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 1
