"""Exported weights and programs of classifiers and encoders: what loads them, what they compute, what is refused."""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest
import timm
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file
from timm.data import create_transform, resolve_data_config

from augment.geometry import View
from models.vit import build_model
from vision_train.checkpoints import load_weights, provenance_of, read_weights
from vision_train.data.image_dataset import eval_transform
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.directory import RunDirectory
from vision_train.run.export import push as pushing
from vision_train.run.export import weights as folders
from vision_train.run.export.verb import export_run
from vision_train.run.fit import fit
from vision_train.run.inference import load_for_inference
from vision_train.run.phase import build_task

QUIET = Console(quiet=True)
RECTANGLE = ("data.image_size=[16,24]", "augment.eval.crop_share=0.9", "augment.mixing=null")


@pytest.fixture(scope="module")
def run(tiny_text, tmp_path_factory) -> Path:
    """A run with averaged weights on rectangles, of which a crop is seen."""
    folder = tmp_path_factory.mktemp("classifier")
    recipe = folder / "tiny.yaml"
    recipe.write_text(tiny_text)
    recipe = load_recipe(str(recipe), ["trainer.max_epochs=1", "trainer.limit_train_batches=2", *RECTANGLE])
    return fit(recipe, run_dir=folder / "run", command=[], console=QUIET).path


@pytest.fixture(scope="module")
def encoder_run(pretraining_text, tmp_path_factory) -> Path:
    """A pre-training that never saw a position."""
    folder = tmp_path_factory.mktemp("encoder")
    pool = folder / "pool"
    pool.mkdir()
    random = np.random.default_rng(0)
    for number in range(24):
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(pool / f"{number}.png")
    recipe = folder / "pre.yaml"
    recipe.write_text(pretraining_text)
    options = [f"data.root={pool}", "method.masking.position_mask_ratio=1.0"]
    recipe = load_recipe(str(recipe), options)
    return fit(recipe, run_dir=folder / "run", command=[], console=QUIET).path


def network_of(run: Path):
    recipe = load_for_inference(run / "recipe.yaml")
    task = build_task(recipe, RunDirectory(run).read_classes()).eval()
    load_weights(task.network, run, min_matched_share=1.0)
    return recipe, task


def export(run: Path, name: str, out: Path, **options):
    return export_run(run, name, out=out, size=options.pop("size", None), console=QUIET, **options)


def test_a_run_leaves_its_averaged_weights_alone_and_timm_loads_them(run):
    recipe, task = network_of(run)
    file = run / "weights.safetensors"
    with safe_open(file, "pt") as opened:
        said = opened.metadata()
    assert said["names"] == "those of timm"
    assert said["network"].startswith("timm.create_model('vit_base_patch16_224', num_classes=10, img_size=[16, 24]")
    args = {"img_size": recipe.data.height_and_width, **recipe.model.args}
    model = timm.create_model("vit_base_patch16_224", num_classes=10, checkpoint_path=str(file), **args).eval()
    images = torch.rand(2, 3, 16, 24)
    with torch.no_grad():
        assert torch.allclose(model(images), task.network(images), atol=1e-5)
    assert file.stat().st_size < (run / "checkpoints" / "best.ckpt").stat().st_size / 2
    averaged = read_weights(run).state
    assert all(torch.equal(tensor, averaged[name]) for name, tensor in load_file(file).items())


def test_the_weights_alone_say_all_that_a_checkpoint_says_of_them(run):
    alone, checkpoint = read_weights(run / "weights.safetensors"), read_weights(run)
    assert alone.state.keys() == checkpoint.state.keys()
    assert alone.classes == checkpoint.classes == RunDirectory(run).read_classes()
    assert alone.image_size == checkpoint.image_size == (16, 24)
    for key in ("mean", "std", "crop_share", "interpolation"):
        assert provenance_of(alone, "x").get(key) == provenance_of(checkpoint, "x").get(key) is not None
    assert alone.source == str(run / "weights.safetensors")


@pytest.mark.parametrize("name", ["timm", "hf"])
def test_folders_of_timm_load_in_timm_and_prepare_images_as_training_did(run, tmp_path, capfd, name):
    out, described = export(run, name, tmp_path / "folder")
    assert "Loading weights" not in capfd.readouterr().err, "the bars of transformers"
    assert {file.name for file in out.iterdir()} == {
        *("config.json", "model.safetensors", "preprocessing.json", "README.md"),
    }
    recipe, task = network_of(run)
    model = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    levels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    ours = eval_transform(recipe.data, recipe.augment)(View.whole(levels)).image
    theirs = create_transform(**resolve_data_config(model.pretrained_cfg, model=model))(Image.fromarray(levels))
    assert theirs.shape == ours.shape == (3, 16, 24)
    assert (theirs - ours).abs().max() < 1e-5
    with torch.no_grad():
        assert torch.allclose(model(theirs[None]), task.network(ours[None]), atol=1e-4)
    card = json.loads(described.read_text())
    assert card["largest_difference"] < 1e-4
    assert card["compared_on"] == "4 images of the run's validation"
    config = json.loads((out / "config.json").read_text())
    assert config["label_names"] == card["classes"]
    assert not {"license", "tag", "hf_hub_id", "url"} & config["pretrained_cfg"].keys()


def test_preprocessing_is_said_step_by_step(run, tmp_path):
    _, described = export(run, "safetensors", tmp_path / "folder")
    steps = json.loads(described.read_text())["preprocessing"]
    assert (steps["resize"]["height"], steps["resize"]["width"]) == (17, 26)
    assert steps["centre_crop"] == {"height": 16, "width": 24}
    recipe, _ = network_of(run)
    levels = np.random.default_rng(1).integers(0, 256, (17, 26, 3), dtype=np.uint8)
    seen = eval_transform(recipe.data, recipe.augment)(View.whole(levels)).image
    made = torch.from_numpy(levels).permute(2, 0, 1) / steps["divide_by"] - pixel(steps["mean"])
    made = made / pixel(steps["std"])
    assert any(torch.allclose(made[:, top : top + 16, 1:25], seen, atol=1e-5) for top in (0, 1))


def pixel(values):
    return torch.tensor(values).view(3, 1, 1)


def test_exported_weights_start_another_run_and_name_no_place_of_this_machine(run, tmp_path):
    out, described = export(run, "safetensors", tmp_path / "folder")
    started = read_weights(out)
    assert started.classes == RunDirectory(run).read_classes()
    assert all(torch.equal(tensor, read_weights(run).state[name]) for name, tensor in started.state.items())
    written = (
        (out / "README.md").read_text()
        + described.read_text()
        + (out / "weights.safetensors").read_bytes().decode("latin-1")
    )
    assert str(tmp_path.parent) not in written


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "torch-export"])
def test_programs_of_a_classifier_take_any_number_of_images(run, tmp_path, name):
    out, _ = export(run, name, tmp_path / f"a{ {'onnx': '.onnx'}.get(name, '.pt2') }")
    _, task = network_of(run)
    for count in (1, 3):
        images = torch.rand(count, 3, 16, 24)
        with torch.no_grad():
            expected = task.network(images)
        if name == "onnx":
            found = torch.from_numpy(onnxruntime.InferenceSession(out).run(["logits"], {"image": images.numpy()})[0])
        else:
            found = torch.export.load(out).module()(images)[0]
        assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["timm", "hf"])
def test_an_encoder_gives_the_features_of_its_task(encoder_run, tmp_path, name):
    out, _ = export(encoder_run, name, tmp_path / "folder")
    _, task = network_of(encoder_run)
    encode, words = task.encoder()
    assert "without positions" in words
    model = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(model(images), encode(images), atol=1e-5)
    assert json.loads((out / "preprocessing.json").read_text())["pooling"] == words


def test_the_card_is_what_the_hub_reads_and_invents_no_license(run, tmp_path):
    out, _ = export(run, "timm", tmp_path / "folder")
    card, summary = ModelCard.load(out / "README.md"), json.loads((run / "summary.json").read_text())
    assert card.data.license is None
    assert (card.data.library_name, card.data.pipeline_tag) == ("timm", "image-classification")
    accuracy = next(each for each in card.data.eval_results if each.metric_type == "accuracy")
    assert accuracy.metric_value == summary["test/accuracy"]
    assert accuracy.dataset_split == "test"
    assert "95 % interval" in card.text
    assert 'timm.create_model("local-dir:folder", pretrained=True)' in card.text
    recipe = card.text.partition("```yaml\n")[2].partition("```")[0]
    assert yaml.safe_load(recipe)["model"]["args"]["embed_dim"] == 24


class Hub:
    """Stands for the hub's API and keeps what it was sent."""

    kept: ClassVar[dict[str, Any]] = {}
    error: ClassVar[OSError | None] = None

    def __init__(self, **options):
        pass

    def create_repo(self, repository, *, private, exist_ok):
        if Hub.error:
            raise Hub.error
        Hub.kept = {"repository": repository, "private": private}
        return type("Made", (), {"repo_id": repository})

    def file_exists(self, repository, name):
        return Hub.kept.get("has_card", False)

    def create_commit(self, repository, operations, *, commit_message):
        Hub.kept["files"] = {each.path_in_repo: Path(each.path_or_fileobj).stat().st_size for each in operations}
        return type("Done", (), {"commit_url": f"hub/{repository}"})


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(pushing.huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(pushing.huggingface_hub, "get_token", lambda: "token")
    monkeypatch.setattr(Hub, "error", None)
    return Hub


def test_push_sends_all_files_to_a_private_repository(run, tmp_path, hub, capsys):
    export_run(run, "timm", out=tmp_path / "folder", size=None, console=Console(soft_wrap=True), repository="me/digits")
    assert hub.kept["repository"] == "me/digits"
    assert hub.kept["private"] is True
    assert hub.kept["files"].keys() == {"config.json", "model.safetensors", "preprocessing.json", "README.md"}
    assert "hf-hub:me/digits" in (tmp_path / "folder" / "README.md").read_text()
    assert "hub/me/digits" in capsys.readouterr().out


def test_a_failed_push_leaves_the_files_and_says_how_to_send_them(run, tmp_path, hub, monkeypatch):
    monkeypatch.setattr(hub, "error", OSError("no route"))
    with pytest.raises(UserError, match=r"--push me/digits: .*no route.*hf upload me/digits"):
        export(run, "safetensors", tmp_path / "folder", repository="me/digits")
    assert (tmp_path / "folder" / "weights.safetensors").is_file()


def test_a_hub_that_cannot_be_reached_is_a_message(monkeypatch):
    monkeypatch.setattr(pushing.huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # a port that refuses
    monkeypatch.setattr(pushing.huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    api = pushing.huggingface_hub.HfApi(endpoint="http://127.0.0.1:9", token="token")
    monkeypatch.setattr(pushing.huggingface_hub, "HfApi", lambda **_: api)
    with pytest.raises(UserError, match=r"--push me/digits: failed .*hf upload me/digits a\.onnx model\.onnx"):
        pushing.push("me/digits", [("model.onnx", Path("a.onnx"))], "export", Console(quiet=True))


def test_push_without_a_token_or_a_name_is_refused_before_any_work(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pushing.huggingface_hub, "get_token", lambda: None)
    for repository, message in (("me/digits", "hf auth login.*HF_TOKEN"), ("a b", "OWNER/NAME")):
        with pytest.raises(UserError, match=f"--push {repository}: .*{message}"):
            export(run, "timm", tmp_path / "folder", repository=repository)
    assert [*tmp_path.iterdir()] == []


def test_what_is_there_stays_without_force_and_with_it_other_files_stay(run, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"folder: holds notes\.txt .*--out.*--force"):
        export(run, "safetensors", folder)
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]
    export(run, "safetensors", folder, force=True)
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "weights.safetensors").is_file()
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_weights_that_compute_something_else_are_refused_and_leave_nothing(run, tmp_path, monkeypatch):
    written = folders.save_for_hf

    def damaged(network, *arguments, **options):
        with torch.no_grad():
            network.head.bias += 1e-3
        written(network, *arguments, **options)

    monkeypatch.setattr(folders, "save_for_hf", damaged)
    with pytest.raises(UserError, match=r"folder: .*nothing was written"):
        export(run, "timm", tmp_path / "folder")
    assert [*tmp_path.iterdir()] == []


def test_absent_data_are_said_and_inputs_are_drawn(encoder_run, tmp_path):
    pool = encoder_run.parent / "pool"
    pool.rename(pool.with_name("moved"))
    try:
        _, described = export(encoder_run, "safetensors", tmp_path / "folder")
    finally:
        pool.with_name("moved").rename(pool)
    assert json.loads(described.read_text())["compared_on"].startswith("drawn inputs: ")
    _, described = export(encoder_run, "safetensors", tmp_path / "again")
    assert json.loads(described.read_text())["compared_on"].endswith("of the run's validation")


@pytest.mark.parametrize(
    ("name", "out", "size", "message"),
    [
        ("timm", "a.txt", None, r"--out .*a\.txt: is a file.*another place"),
        ("onnx", "a.onnx", (18, 18), r"--size 18 18: .*leave it out for 16 24"),
        ("timm", "a", (0, 18), r"--size 0 18: .*1 pixel"),
    ],
)
def test_mistakes_are_named(run, tmp_path, name, out, size, message):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UserError, match=message):
        export(run, name, tmp_path / out, size=size)
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("name", ["timm", "hf"])
def test_networks_that_timm_has_not_are_refused_by_name(bags_run, tmp_path, name):
    with pytest.raises(UserError, match=rf"--format {name}: .*task=bags, model\.name=acmil_ga.*--format safetensors"):
        export(bags_run, name, tmp_path / "folder")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.slow
def test_programs_take_bags_of_any_number_of_instances(bags_run, tmp_path):
    out, described = export(bags_run, "onnx", tmp_path / "bags.onnx")
    _, task = network_of(bags_run)
    session = onnxruntime.InferenceSession(out)
    assert session.get_inputs()[0].shape[0] == "instances"
    width = task.network.in_features
    for count in (1, 7, 3000):
        features = torch.rand(count, width)
        with torch.no_grad():
            expected = task.network(features[None])
        logits, probabilities, attention = session.run(None, {"features": features.numpy()})
        assert np.allclose(logits, expected.bag_logits[0], atol=1e-4)
        assert np.allclose(probabilities, expected.bag_logits[0].softmax(0), atol=1e-4)
        assert np.allclose(attention, expected.bag_attention[0], atol=1e-4)
    assert json.loads(described.read_text())["compared_on"].endswith("of the run's validation")


def test_a_norm_that_timm_cannot_be_told_is_named():
    from vision_train.tasks.image_program import timm_call_of

    recipe = load_recipe("quickstart", ["model.args.norm_eps=1.0e-12"])
    call, reason = timm_call_of(recipe, 10)
    assert call is None
    assert "model.args.norm_eps" in reason


@pytest.mark.parametrize("name", ["vit", "deit_tiny_patch16_224", "resnet18"])
def test_timm_builds_the_same_parameters_by_the_call(name):
    from models.timm_call import timm_call

    args = {"embed_dim": 24, "depth": 1, "num_heads": 2, "patch_size": 8} if name == "vit" else {}
    call = timm_call(name, num_classes=3, image_size=(32, 32), **args)
    with torch.device("meta"):
        theirs = timm.create_model(call.architecture, **call.args)
        ours = build_model(name, num_classes=3, image_size=(32, 32), **args)
    assert {key: value.shape for key, value in theirs.state_dict().items()} == {
        key: value.shape for key, value in ours.state_dict().items()
    }
