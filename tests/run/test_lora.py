"""Runs that train adapters, or a head alone, from first step to prediction."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from vision_train.checkpoints import read_weights
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.recipe.sections import ALL_BUT_HEAD
from vision_train.run.directory import RunDirectory
from vision_train.run.dry_run import dry_run
from vision_train.run.encoder import load_encoder
from vision_train.run.evaluate import evaluate_run
from vision_train.run.export.verb import export_run
from vision_train.run.fit import fit, resume
from vision_train.run.inference import load_for_inference
from vision_train.run.phase import build_task, prepare, scan
from vision_train.run.predict import predict_run
from vision_train.tasks.classification.task import ClassificationTask

QUIET = Console(quiet=True)
LORA = ("model.lora.rank=2", "model.checkpoint=first")
HEAD = ("head.weight", "head.bias")


def run(recipe: str, *overrides: str, run_dir: str) -> RunDirectory:
    return fit(load_recipe(recipe, overrides), run_dir=Path(run_dir), command=[], console=QUIET)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> Path:
    """A folder with the tiny recipe, the run `first`, and `second`, which adapts it. They are only read."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("tiny.yaml").write_text(tiny_text)
        run("tiny.yaml", "trainer.max_epochs=1", "seed=7", run_dir="first")
        run("tiny.yaml", *LORA, run_dir="second")
    return folder


@pytest.fixture
def first(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tiny recipe; in the working directory lie the runs `first` and `second`."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return str(tmp_path / "tiny.yaml")


def tensors(file: Path, part: str = "state_dict") -> dict[str, torch.Tensor]:
    return torch.load(file, weights_only=True)[part]


def test_adapters_and_head_are_all_that_is_trained(first):
    second = RunDirectory(Path("second"))
    before, after = read_weights("first").state, tensors(second.best)
    own = {name.removeprefix("network.").replace(".base_layer.", "."): tensor for name, tensor in after.items()}
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, own[name])}
    assert changed == {*HEAD}
    adapters = {name for name in own if "lora_" in name}
    assert len(adapters) == 2 * 8  # two for each of four layers of two blocks
    assert all(own[name].any() for name in adapters)  # the zeros of B have moved
    (optimizer,) = torch.load(second.best, weights_only=True)["optimizer_states"]
    assert sum(len(group["params"]) for group in optimizer["param_groups"]) == 16 + len(HEAD)
    assert ", of which" in dry_run(load_recipe(first, LORA))


def test_a_run_with_adapters_is_read_under_plain_names_with_what_they_learnt(first):
    second = RunDirectory(Path("second"))
    before, merged = read_weights("first").state, read_weights(second.path).state
    assert list(merged) == list(before)
    averaged = tensors(second.best, "averaged")
    layer = "blocks.1.mlp.fc2"
    a, b = (averaged[f"{layer}.lora_{letter}.default.weight"] for letter in "AB")
    torch.testing.assert_close(merged[f"{layer}.weight"], before[f"{layer}.weight"] + b @ a)
    assert torch.equal(merged[f"{layer}.bias"], before[f"{layer}.bias"])


def test_figures_of_a_run_with_adapters_are_those_of_its_merged_weights(first):
    second = RunDirectory(Path("second"))
    summary = json.loads(second.summary.read_text())
    assert evaluate_run(second.path, "test")["test/loss"] == pytest.approx(summary["test/loss"], abs=1e-12)
    # Validation measures the average with its adapters apart.
    assert evaluate_run(second.path, "val")["val/loss"] == pytest.approx(summary["val/loss"], abs=1e-5)
    plain = build_task(load_for_inference(second.recipe), second.read_classes()).network
    assert summary["model/parameters"] == sum(parameter.numel() for parameter in plain.parameters())


@pytest.mark.parametrize("options", [LORA, (f"model.freeze={ALL_BUT_HEAD}", "model.checkpoint=first")])
def test_a_resumed_run_of_a_part_of_the_network_is_bit_equal_to_an_uninterrupted_one(first, cut_short, options):
    whole = run(first, *options, run_dir="whole")
    with cut_short(ClassificationTask, 7):
        run(first, *options, run_dir="cut")
    resumed = resume(Path("cut"), console=QUIET)
    for file in ("last.ckpt", "best.ckpt"):
        for part in ("state_dict", "averaged"):
            ours, theirs = (tensors(each.path / "checkpoints" / file, part) for each in (resumed, whole))
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    old, new = (json.loads(each.summary.read_text()) for each in (whole, resumed))
    assert {key: old[key] for key in ("test/loss", "val/loss", "train/steps")} == {
        key: new[key] for key in ("test/loss", "val/loss", "train/steps")
    }


def test_adapters_cannot_change_within_a_run(first, cut_short):
    with cut_short(ClassificationTask, 7):
        run(first, *LORA, run_dir="cut")
    recipe = Path("cut/recipe.yaml")
    recipe.write_text(recipe.read_text().replace("rank: 2", "rank: 3"))
    with pytest.raises(UserError, match=r"model\.lora\.rank: 2, now 3 \(cannot change within a run"):
        resume(Path("cut"), console=QUIET)


def test_a_run_starts_from_one_with_adapters_with_and_without_its_own(first):
    second = RunDirectory(Path("second"))
    merged = read_weights(second.path).state
    for options in ((), ("model.lora.rank=3",)):
        recipe = load_recipe(first, ["model.checkpoint=second", *options])
        prepared = prepare(scan(recipe))
        assert [report.matched_share for report in prepared.load_reports] == [1]
        own = prepared.task.network.state_dict()
        name = "blocks.0.attn.qkv.weight" if not options else "blocks.0.attn.qkv.base_layer.weight"
        assert torch.equal(own[name], merged["blocks.0.attn.qkv.weight"])
    run(first, "model.checkpoint=second", "trainer.max_epochs=1", run_dir="third")


def test_a_run_with_adapters_predicts_encodes_and_is_exported_like_any_other(first):
    second = RunDirectory(Path("second"))
    encoder = load_encoder(second.path, None, device="cpu", precision="32-true").encoder
    network = build_task(load_for_inference(second.recipe), second.read_classes()).network
    network.load_state_dict(read_weights(second.path).state)
    network.reset_classifier(0)
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(encoder.encode(images), network.eval()(images))
    Image.new("RGB", (16, 16), "gray").save("grey.png")
    predict_run(
        second.path, [Path("grey.png")], overrides=(), out=Path("o.csv"), render=None, images=None, console=QUIET
    )
    assert len(Path("o.csv").read_text().splitlines()) == 2
    folder, _ = export_run(second.path, "timm", out=None, size=None, console=QUIET)
    assert load_file(folder / "model.safetensors").keys() == network.state_dict().keys() | {"head.weight", "head.bias"}


def test_a_phase_before_may_teach_what_adapters_change(tiny):
    Path("before.yaml").write_text(f"extends: {tiny}\ntrainer: {{max_epochs: 1}}\n")
    options = ("run.pretrain=before.yaml", "model.lora.rank=2", "trainer.max_epochs=1")
    assert ", of which" in dry_run(load_recipe(tiny, options))
    directory = run(tiny, *options, run_dir="both")
    before = read_weights(directory.phase("pretrain") / "checkpoints" / "best.ckpt").state
    after = tensors(directory.best)
    assert torch.equal(after["network.blocks.0.attn.qkv.base_layer.weight"], before["blocks.0.attn.qkv.weight"])


def test_a_phase_with_adapters_may_come_before(first):
    Path("before.yaml").write_text(
        f"extends: {first}\nmodel: {{checkpoint: first, lora: {{rank: 2}}}}\ntrainer: {{max_epochs: 1}}\n"
    )
    directory = run(first, "run.pretrain=before.yaml", "trainer.max_epochs=1", run_dir="both")
    assert json.loads(directory.summary.read_text())["checkpoint/matched_share"] == 1


def test_the_head_alone_is_trained_on_any_network_of_classification(first):
    second = run(first, f"model.freeze={ALL_BUT_HEAD}", "model.checkpoint=first", run_dir="frozen")
    before, after = read_weights("first").state, read_weights(second.path).state
    assert {name for name, tensor in before.items() if not torch.equal(tensor, after[name])} == {*HEAD}
    # Blocks that are skipped at random, and dropouts, belong to a network that learns.
    prepared = prepare(scan(load_recipe(first, [f"model.freeze={ALL_BUT_HEAD}", "model.checkpoint=first"])))
    assert prepared.task.network.blocks in prepared.frozen.modules
    assert not prepared.task.network.blocks[1].drop_path1.training
    prepared = prepare(scan(load_recipe(resnet(), ["model.freeze=all_but_head"])))
    trained = {name for name, each in prepared.task.network.named_parameters() if each.requires_grad}
    assert trained == {"fc.weight", "fc.bias"}
    assert not prepared.task.network.bn1.training


def test_fresh_tensors_are_trained_beside_the_head_and_beside_adapters(first):
    fresh = ("model.checkpoint=first", "model.fresh=[norm.*, blocks.0.mlp.fc1.*]")
    expected = {"norm.weight", "norm.bias", "blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc1.bias", *HEAD}
    for options in (("model.lora.rank=2",), ("model.freeze=all_but_head",)):
        network = prepare(scan(load_recipe(first, [*fresh, *options]))).task.network
        trained = {name for name, each in network.named_parameters() if each.requires_grad}
        assert {name for name in trained if "lora_" not in name} == expected


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.lora.rank=2"], r"model\.lora: .*random weights.*model\.checkpoint.*model\.lora=null"),
        ([f"model.freeze={ALL_BUT_HEAD}"], r"model\.freeze=all_but_head: .*model\.checkpoint.*model\.freeze=\[\]"),
        ([*LORA, "model.lora.rank=25"], r"model\.lora\.rank: is 25.*blocks\.0\.attn\.qkv.*at most 24"),
        ([*LORA, "model.lora.rank=0"], r"model\.lora\.rank.*at least 1.*lora itself to null"),
        ([*LORA, "model.freeze=[blocks.*]"], r"model\.freeze.*`lora`"),
        ([*LORA, f"model.freeze={ALL_BUT_HEAD}"], r"model\.freeze.*`lora`"),
        ([*LORA, "model.freeze=some_words"], r"model\.freeze.*all_but_head"),
        (
            ["model.checkpoint={blocks: part.pth}", "model.lora.rank=2"],
            r"model\.lora: would keep cls_token, .*model\.fresh",
        ),
    ],
)
def test_adapters_and_frozen_networks_that_make_no_sense_are_refused_before_a_run_begins(first, overrides, message):
    torch.save(read_weights("first").state, "part.pth")
    with pytest.raises(UserError, match=message):
        run(first, *overrides, run_dir="run")
    assert not Path("run").exists()


def resnet() -> str:
    Path("resnet.yaml").write_text(
        "extends: _parts/digits\ntask: classification\nmodel: {name: resnet18}\ntrainer: {max_epochs: 1}\n"
    )
    return "resnet.yaml"


def test_a_network_without_layers_to_adapt_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"model\.lora: ResNet has no linear layers.*null"):
        prepare(scan(load_recipe(resnet(), ["model.lora.rank=2"])))


@pytest.mark.parametrize("recipe", ["droppos/digits", "acmil/digit_bags", "relation_detr/shapes"])
def test_other_tasks_refuse_adapters_by_name(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"model\.lora.*task=.*null"):
        prepare(scan(load_recipe(recipe, ["model.lora.rank=2"], smoke=True)))


def test_without_peft_the_extra_is_named(first, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"model\.lora: needs the package peft.*vision-train\[adapters\]"):
        prepare(scan(load_recipe(first, LORA)))


def test_adapters_and_a_frozen_network_learn_from_a_pool_too(first):
    pool = ("semi.method=freematch", "semi.burn_in=0", "data.unlabelled=rest", "data.epoch_batches=2")
    before = read_weights("first").state
    for number, options in enumerate([LORA, (f"model.freeze={ALL_BUT_HEAD}", "model.checkpoint=first")]):
        after = read_weights(run(first, *options, *pool, "trainer.max_epochs=2", run_dir=f"pool{number}").path).state
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items() if name.endswith("norm1.weight"))
        assert not torch.equal(before["head.weight"], after["head.weight"])


@pytest.mark.parametrize("method", ["self_training", "active_rounds"])
def test_networks_with_adapters_label_a_pool_between_phases(first, method):
    semi = (f"semi={{method: {method}, burn_in: 0.5, views: 0, rounds: {{count: 1}}}}", "data.unlabelled=rest")
    found = run(first, *LORA, *semi, "trainer.max_epochs=2", "trainer.limit_train_batches=2", run_dir="phases")
    assert (found.phase("fit") / "pseudo_labels.csv").is_file()
    assert not [name for name in read_weights(found.path, None).state if "lora" in name]
