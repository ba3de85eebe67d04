"""Exported programs, from end to end and by their parts: what they compute, what stands in them, what is refused."""

import importlib.util
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import nn

from vision_train import progress
from vision_train.checkpoints import load_weights
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.directory import RunDirectory
from vision_train.run.export import programs
from vision_train.run.export.codec import Codec, Ran, Runner
from vision_train.run.export.compared import compare
from vision_train.run.export.format import Format
from vision_train.run.export.formats import FORMATS
from vision_train.run.export.verb import export_run
from vision_train.run.fit import fit
from vision_train.run.inference import load_for_inference
from vision_train.run.phase import build_task
from vision_train.tasks.detection.program import furthest
from vision_train.tasks.exported import Exported

SIDE = 64
SMALL = ["trainer.limit_train_batches=2", "model.args.dim=64", "model.args.levels=3"]
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    recipe = load_recipe("relation_detr/shapes", SMALL, smoke=True)
    return fit(recipe, run_dir=tmp_path_factory.mktemp("trained") / "run", command=[], console=QUIET).path


@pytest.fixture(scope="module")
def traced_once() -> Iterator[None]:
    """Let all exports of this module share what was traced, which takes longest."""
    with pytest.MonkeyPatch.context() as patch:
        kept = []
        trace = programs.traced
        patch.setattr(programs, "traced", lambda exported: (kept or kept.append(trace(exported)) or kept)[0])
        yield


@pytest.fixture(scope="module")
def noted(noting_display):
    return noting_display()


@pytest.fixture(scope="module")
def files(run, traced_once, noted, tmp_path_factory) -> tuple[Path, Path]:
    out = tmp_path_factory.mktemp("exported") / "new" / "detector.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "_display_for", lambda console: noted)
        with progress.shown_on(QUIET):
            return export_run(run, "onnx", out=out, size=None, console=QUIET)


@pytest.mark.slow
def test_it_says_what_it_does_while_it_writes_and_compares(files, noted):
    steps = ["translating it to ONNX", "folding its constants", "listing images", "comparing with PyTorch"]
    assert [text for text in noted.texts if text in steps] == steps
    assert any(text.startswith("writing ") for text in noted.texts)


@pytest.fixture(scope="module")
def batch(run, tmp_path_factory) -> tuple[dict, dict]:
    """Two pictures of unlike size as `predict` reads them, and what the run finds in them."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, width in (("square", SIDE), ("upright", SIDE - 24)):
        levels = random.integers(0, 256, (8, width // 8, 3), dtype=np.uint8)
        Image.fromarray(levels).resize((width, SIDE), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    recipe = load_for_inference(run / "recipe.yaml", ["data.eval_batch_size=2"])
    task = build_task(recipe, RunDirectory(run).read_classes()).eval()
    load_weights(task.network, run, min_matched_share=1.0)
    (read,) = recipe.kind.load().loose(recipe, [folder], learner="")
    with torch.no_grad():
        return read, task.detect(read)._asdict()


def pixels(batch) -> tuple[np.ndarray, np.ndarray]:
    """The pictures as levels, on one canvas with something that is not of them."""
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    levels = ((batch["image"] * std + mean) * 255).round()
    levels = levels.masked_fill(batch["padding_mask"][:, None], 77.0)
    return levels.numpy().astype(np.float32), np.array(batch["size"], dtype=np.int64)


def found_by(session, image: np.ndarray, size: np.ndarray) -> dict[str, torch.Tensor]:
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, map(torch.from_numpy, session.run(None, {"image": image, "size": size})), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("brightest", [1, 255])
def test_onnxruntime_finds_what_predict_finds_in_images_of_0_to_1_and_of_0_to_255(files, batch, brightest):
    session = onnxruntime.InferenceSession(files[0])
    read, expected = batch
    image, size = pixels(read)
    image = image / np.float32(255 / brightest)
    assert furthest(expected, found_by(session, image, size), SIDE) < 1e-4
    for place in (0, 1):
        alone = found_by(session, image[[place]], size[[place]])
        assert furthest({key: value[[place]] for key, value in expected.items()}, alone, SIDE) < 1e-4
    assert expected["scores"].max() > 0.005


@pytest.mark.slow
def test_an_image_that_was_normalised_before_gets_no_scores_while_others_do(files, batch):
    session = onnxruntime.InferenceSession(files[0])
    image, size = pixels(batch[0])
    image[0] = batch[0]["image"][0].numpy()
    scores = found_by(session, image, size)["scores"]
    assert scores[0].isnan().all()
    assert scores[1].isfinite().all()


@pytest.mark.slow
def test_the_file_and_its_card_say_what_goes_in_and_what_comes_out(files, run):
    model, card = onnx.load(files[0]), json.loads(files[1].read_text())
    onnx.checker.check_model(model)
    held = {each.key: each.value for each in model.metadata_props}
    assert json.loads(held["classes"]) == card["classes"] == json.loads((run / "classes.json").read_text())
    assert json.loads(held["category_ids"]) == card["category_ids"] == [1, 2, 3]
    assert card["largest_difference"] < 1e-4
    assert card["compared_on"].endswith("images of the run's validation")
    assert (card["height"], card["width"], card["format"]) == (SIDE, SIDE, "onnx")
    assert {each.name for each in model.graph.input} == card["inputs"].keys()
    assert [each.name for each in model.graph.output] == [*card["outputs"]]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {node.op_type for node in model.graph.node} >= {"GridSample", "TopK"}
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}


@pytest.mark.slow
def test_torch_export_is_saved_and_loaded_again(run, traced_once, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out, card = export_run(run, "torch-export", out=None, size=None, console=QUIET)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shapes.pt2", "shapes.pt2.json", "shapes.pt2.md"]
    extra = {"card.json": ""}
    program = torch.export.load(out, extra_files=extra).module()
    scores, labels, boxes = program(torch.rand(3, 3, SIDE, SIDE), torch.tensor([[40, 50]] * 3))
    assert scores.shape == labels.shape == boxes.shape[:2] == (3, 30)
    assert json.loads(extra["card.json"])["classes"] == json.loads(card.read_text())["classes"]


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (2 * x,)


def drawn(generator: torch.Generator) -> dict[str, torch.Tensor]:
    return {"x": torch.rand(2, 3, generator=generator)}


DOUBLED = Exported(Doubled(), drawn, ("y",), {})


def doubled(error: float = 0.0) -> Runner:
    return lambda inputs: Ran({"y": 2 * inputs["x"] + error}, [])


@pytest.fixture
def text(monkeypatch) -> Callable[[float], None]:
    """Offers a format of text whose programs are off by an error."""
    monkeypatch.setitem(FORMATS, "text", Format(".txt", (), "vision_train.run.export.programs:TEXT"))

    def off_by(error: float) -> None:
        codec = Codec(lambda _, path: path.write_text("x"), lambda *_: doubled(error))
        monkeypatch.setattr(programs, "TEXT", codec, raising=False)

    return off_by


@pytest.mark.parametrize("error", [1e-3, float("nan")])
def test_a_program_that_deviates_is_refused_and_leaves_no_file(run, text, tmp_path, monkeypatch, error):
    text(error)
    monkeypatch.setattr("vision_train.tasks.detection.task.DetectionTask.exported", lambda *_: DOUBLED)
    with pytest.raises(UserError, match=r"a\.txt: .*nothing was written.*--format"):
        export_run(run, "text", out=tmp_path / "a.txt", size=None, console=QUIET)
    assert [*tmp_path.iterdir()] == []
    text(1e-6)
    export_run(run, "text", out=tmp_path / "a.txt", size=None, console=QUIET)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "a.txt.json", "a.txt.md"]


class Chooser(nn.Module):
    """Gives other results where its input changes in the last place."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return ((x * 2e7).sin(),)


def test_a_network_on_the_edge_of_a_choice_cannot_be_compared():
    with pytest.raises(UserError, match="changes by a millionth"):
        compare(Exported(Chooser(), drawn, ("y",), {}), doubled(), Path("a.onnx"))


class Ranked(nn.Module):
    """Gives each rank a weight of its own, so that a swap of near equals is seen."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        chosen = x.topk(4, dim=1).indices
        return (chosen * torch.tensor([1.0, 10.0, 100.0, 1000.0]),)


def near_equals(generator: torch.Generator) -> dict[str, torch.Tensor]:
    x = torch.arange(8.0).repeat(2, 1)
    x[:, 6] = x[:, 7] - 1e-6
    return {"x": x}


def run_with_ranks(ranks: list[int]) -> Runner:
    def run(inputs):
        chosen = torch.tensor([ranks]).expand(len(inputs["x"]), -1)
        return Ran({"y": chosen * torch.tensor([1.0, 10.0, 100.0, 1000.0])}, [chosen])

    return run


def test_a_program_may_rank_near_equals_either_way_but_nothing_else():
    ranked = Exported(Ranked(), near_equals, ("y",), {})
    for ranks in ([7, 6, 5, 4], [6, 7, 5, 4]):
        assert compare(ranked, run_with_ranks(ranks), Path("a.onnx")) == (0, False)
    for ranks in ([7, 6, 4, 5], [7, 7, 5, 4], [7, 6, 5, 3], [7, 6, 5, 8]):
        with pytest.raises(UserError, match="computes something else"):
            compare(ranked, run_with_ranks(ranks), Path("a.onnx"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "caffe"}, r"--format caffe: .*onnx, torch-export"),
        ({"out": Path("a.pt")}, r"--out a\.pt: .*\.onnx"),
        ({"size": (0, 64)}, r"--size 0 64: .*1 pixel"),
    ],
)
def test_mistakes_are_named(run, arguments, message):
    asked = {"name": "onnx", "out": None, "size": None} | arguments
    with pytest.raises(UserError, match=message):
        export_run(run, asked.pop("name"), **asked, console=QUIET)


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else there(name))
    with pytest.raises(UserError, match=r"--format onnx: .*onnxscript; pip install 'vision-train\[export\]'"):
        FORMATS["onnx"].check_installed("onnx")
    FORMATS["torch-export"].check_installed("torch-export")


def test_equally_likely_detections_may_change_places_but_not_labels():
    first = {
        "scores": torch.tensor([[0.5, 0.5, 0.1]]),
        "labels": torch.tensor([[0, 1, 0]]),
        "boxes": torch.rand(1, 3, 4) * 64,
    }
    swapped = {key: value[:, [1, 0, 2]] for key, value in first.items()}
    distance = partial(furthest, side=64)
    assert distance(first, swapped) == 0
    assert distance(first, {**first, "boxes": first["boxes"] + 0.64}) == pytest.approx(0.01, rel=1e-3)
    assert distance(first, {**first, "labels": first["labels"] + 2}) == float("inf")
    assert distance(first, {**first, "scores": first["scores"] * float("nan")}) == float("inf")
    assert distance(first, {key: value[:, :2] for key, value in first.items()}) == float("inf")
