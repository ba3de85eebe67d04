"""From pre-training to fine-tuning: what runs and published files hand over, and what nobody may learn from."""

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from models.positions import fit_positions
from vision_train.data.toy.folder import make_image_folder
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.directory import RunDirectory
from vision_train.run.fit import check_phases, fit, resume
from vision_train.run.phase import Prepared, prepare, scan
from vision_train.run.plan import plan_of
from vision_train.tasks.pretraining.task import PretrainingTask

GOLDEN = Path(__file__).parents[1] / "golden" / "droppos"
# As deep as the decoder: the names of its blocks look like the encoder's.
SMALL = """
data: {batch_size: 8, labels_per_class: 10}
model: {args: {embed_dim: 24, depth: 1}}
optim: {warmup_epochs: 0}
trainer: {max_epochs: 2, check_val_every_n_epoch: 1, limit_train_batches: 3, limit_val_batches: 3}
"""
PRETRAIN = f"extends: droppos/digits\nmethod: {{decoder: {{width: 24, depth: 1, heads: 2}}}}\n{SMALL}"
FINETUNE = f"extends: studies/droppos/finetune_digits_scratch\n{SMALL}"
FRESH = ["fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"]
QUIET = Console(quiet=True)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh working directory with a recipe for each of the two, on digits and on the user's own images."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("pretrain", PRETRAIN), ("finetune", FINETUNE)):
        Path(f"{name}.yaml").write_text(text)
        Path(f"{name}_photos.yaml").write_text(
            f"extends: {name}.yaml\ndata: {{source: images, labels_per_class: null, batch_size: 4}}\n"
            "trainer: {limit_train_batches: null, limit_val_batches: null}\n"
        )


def run(recipe: str, *overrides: str, run_dir: str = "run", console: Console = QUIET) -> RunDirectory:
    return fit(load_recipe(recipe, overrides), run_dir=Path(run_dir), command=[], console=console)


def start(recipe: str, *overrides: str) -> Prepared:
    return prepare(scan(load_recipe(recipe, overrides)))


def weights(directory: RunDirectory, kind: str = "state_dict") -> dict[str, torch.Tensor]:
    stored = torch.load(directory.best, weights_only=True)[kind]
    return {name.removeprefix("network."): tensor for name, tensor in stored.items()}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A finished pre-training run that no test changes."""
    folder = tmp_path_factory.mktemp("pretrained")
    (folder / "pretrain.yaml").write_text(PRETRAIN)
    return run(str(folder / "pretrain.yaml"), "optim.ema.decay=0.9", run_dir=str(folder / "run"))


class TestFromARun:
    def test_the_whole_encoder_is_taken_and_four_tensors_start_fresh(self, pretrained):
        prepared = start("finetune.yaml", f"model.checkpoint={pretrained.path}")
        report, network = prepared.load_reports[0], prepared.task.network
        assert report.matched_share == 1
        assert (report.reinitialised, report.missing, report.resized) == (FRESH, [], [])
        others = [name for name in report.unexpected if not name.startswith("decoder.")]
        assert sorted(others) == ["mask_pos_token", "norm.bias", "norm.weight"]
        source = weights(pretrained, "averaged")
        for name, tensor in network.state_dict().items():
            if name not in FRESH:
                assert torch.equal(tensor, source[f"encoder.{name}"]), name

    def test_its_positions_stay_as_they_were(self, pretrained):
        directory = run("finetune.yaml", f"model.checkpoint={pretrained.path}", "optim.ema.decay=0.9", "optim.lr=0.01")
        before, after, averaged = weights(pretrained), weights(directory), weights(directory, "averaged")
        assert torch.equal(after["pos_embed"], before["encoder.pos_embed"])
        assert torch.equal(averaged["pos_embed"], before["encoder.pos_embed"])
        assert not torch.equal(after["patch_embed.proj.weight"], before["encoder.patch_embed.proj.weight"])
        assert json.loads(directory.summary.read_text())["checkpoint/matched_share"] == 1

    def test_another_image_size_resizes_the_positions_and_says_so(self, pretrained):
        prepared = start("finetune.yaml", f"model.checkpoint={pretrained.path}", "data.image_size=24")
        report, network = prepared.load_reports[0], prepared.task.network
        assert (report.matched_share, report.resized, report.reinitialised) == (1, ["pos_embed"], FRESH)
        assert "resized" in report.summary()
        table = weights(pretrained)["encoder.pos_embed"]
        assert torch.equal(network.pos_embed, fit_positions(table, (6, 6), prefix=1, before=(4, 4)))
        assert not network.pos_embed.requires_grad

    def test_pretraining_goes_on_from_it(self, pretrained):
        report = start("pretrain.yaml", f"model.checkpoint={pretrained.path}").load_reports[0]
        assert (report.matched_share, report.reinitialised, report.unexpected) == (1, [], [])
        report = start("pretrain.yaml", f"model.checkpoint={pretrained.path}", "data.image_size=24").load_reports[0]
        assert (report.matched_share, report.resized) == (1, ["encoder.pos_embed"])
        assert all(name.startswith("decoder.") for name in report.reinitialised)

    def test_a_fine_tuned_run_is_pretrained_further(self, pretrained):
        directory = run("finetune.yaml", "trainer.max_epochs=1")
        report = start(
            "pretrain.yaml", f"model.checkpoint={directory.path}", "model.fresh=[encoder.norm.*]"
        ).load_reports[0]
        assert (report.missing, report.fresh) == ([], ["encoder.norm.weight", "encoder.norm.bias"])
        assert "encoder.blocks.0.attn.qkv.weight" in report.matched

    def test_another_network_is_refused(self, pretrained):
        with pytest.raises(UserError, match=r"best\.ckpt: fills \d+ % of the model"):
            start("finetune.yaml", f"model.checkpoint={pretrained.path}", "model.args.embed_dim=32")


def official(name: str) -> dict[str, torch.Tensor]:
    tensors = load_file(GOLDEN / f"{name}.safetensors")
    return {key.removeprefix("state."): tensor for key, tensor in tensors.items() if key.startswith("state.")}


def shape_of(name: str) -> list[str]:
    made = json.loads((GOLDEN / "manifest.json").read_text())["files"][f"{name}.safetensors"]["config"]
    args = {"patch_size": made["patch"], "embed_dim": made["dim"], "depth": made["depth"], "num_heads": made["heads"]}
    return [f"data.image_size={made['img']}", f"model.args={args}"]


def decoder_of(name: str) -> str:
    made = json.loads((GOLDEN / "manifest.json").read_text())["files"][f"{name}.safetensors"]["config"]
    shape = {"width": made["ddim"], "depth": made["ddepth"], "heads": made["dheads"]}
    return f"method.decoder={shape}"


class TestFromPublishedFiles:
    @pytest.fixture
    def released(self) -> str:
        """A file laid out as the released ones, whose `model` is the name of it."""
        content = {
            "epoch": 800,
            "state_dict": {f"module.{name}": tensor for name, tensor in official("pretrain").items()},
            "optimizer": {"state": {0: {"step": 1, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]},
            "model": "DropPos_mae_vit_base_patch16_dec512d2b",
        }
        torch.save(content, "released.pth")
        return "model.checkpoint=released.pth"

    def test_fine_tuning_takes_the_encoder_of_a_released_one(self, released):
        prepared = start("finetune.yaml", *shape_of("pretrain"), "model.args.global_pool=avg", released)
        made = json.loads((GOLDEN / "manifest.json").read_text())["files"]["finetune.safetensors"]["models"]["gap64"]
        report = prepared.load_reports[0]
        assert report.family == "DropPos pre-training"
        assert (report.matched_share, report.missing, sorted(report.reinitialised)) == (1, [], made["missing_keys"])
        assert sorted(report.unexpected) == made["unexpected_keys"]
        weight = prepared.task.network.blocks[1].mlp.fc1.weight
        assert torch.equal(weight, official("pretrain")["blocks.1.mlp.fc1.weight"])

    def test_fine_tuning_at_another_size(self, released):
        shape = [*shape_of("pretrain"), "data.image_size=96"]
        report = start("finetune.yaml", *shape, "model.args.global_pool=avg", released).load_reports[0]
        assert (report.matched_share, report.resized, report.reinitialised) == (1, ["pos_embed"], FRESH)

    def test_pretraining_goes_on_from_a_released_one(self, released):
        prepared = start("pretrain.yaml", *shape_of("pretrain"), decoder_of("pretrain"), released)
        report = prepared.load_reports[0]
        outcomes = (report.matched_share, report.missing, report.reinitialised, report.resized, report.unexpected)
        assert outcomes == (1, [], [], [], [])
        decoder = prepared.task.network.decoder
        assert torch.equal(decoder.pred.weight, official("pretrain")["decoder_pred.weight"])

    def test_pretraining_with_pixels_goes_on_from_a_released_one(self):
        torch.save({"state_dict": official("multitask"), "model": "name"}, "multitask.pth")
        changes = [*shape_of("multitask"), decoder_of("multitask"), "method.masking.mask_ratio=0.5"]
        prepared = start("pretrain.yaml", *changes, "method.position_weight=0.05", "model.checkpoint=multitask.pth")
        report = prepared.load_reports[0]
        assert (report.matched_share, report.missing, report.reinitialised, report.unexpected) == (1, [], [], [])
        mask_token = prepared.task.network.pixel_decoder.mask_token
        assert torch.equal(mask_token, official("multitask")["mask_token"])

    @pytest.fixture
    def mae(self) -> str:
        """A file of MAE: an encoder, and a decoder of pixels whose names are those of DropPos's decoder."""
        state = {name: tensor for name, tensor in official("pretrain").items() if name != "mask_pos_token"}
        width = len(state["decoder_embed.bias"])
        state |= {"mask_token": torch.zeros(1, 1, width), "decoder_pos_embed": torch.zeros(1, 65, width)}
        state |= {"decoder_pred.weight": torch.zeros(192, width), "decoder_pred.bias": torch.zeros(192)}
        torch.save({"model": state}, "mae.pth")
        return "model.checkpoint=mae.pth"

    def test_fine_tuning_takes_the_encoder_of_mae(self, mae):
        report = start("finetune.yaml", *shape_of("pretrain"), "model.args.global_pool=avg", mae).load_reports[0]
        assert (report.matched_share, report.missing, report.reinitialised) == (1, [], FRESH)

    def test_pretraining_takes_no_more_of_mae(self, mae):
        """Its decoder reconstructs pixels from mask tokens; ours stays fresh, though shapes agree."""
        torch.manual_seed(0)
        prepared = start("pretrain.yaml", *shape_of("pretrain"), decoder_of("pretrain"), mae)
        report = prepared.load_reports[0]
        assert report.matched_share > 0.99
        assert report.missing == []
        assert "mask_pos_token" in report.reinitialised
        assert {"decoder_embed.weight", "decoder_blocks.0.attn.qkv.weight", "mask_token"} <= set(report.unexpected)
        assert all(name.startswith("encoder.") for name in report.matched)
        embed = prepared.task.network.decoder.embed.weight
        assert not torch.equal(embed, official("pretrain")["decoder_embed.weight"])


class TestPhases:
    def test_digits_are_pretrained_and_fine_tuned_in_one_run(self):
        console = Console(file=io.StringIO(), width=300)
        directory = run("finetune.yaml", "run.pretrain=pretrain.yaml", "seed=5", console=console)
        summary = json.loads(directory.summary.read_text())
        assert "test/accuracy" in summary
        assert summary["checkpoint/matched_share"] == 1
        page = (directory.path / "report.html").read_text()
        assert "Phase pretrain" in page
        assert "Mean grid distance, in patches" in page
        assert load_recipe(directory.phase("pretrain") / "recipe.yaml").seed == 5
        said = console.file.getvalue()
        assert "phase pretrain: pretrain" in said
        assert "fresh head" in said
        assert "left out" not in said, "digits are divided already"

    def test_what_cannot_be_handed_over_is_refused_before_anything_is_written(self):
        before = sorted(Path.cwd().rglob("*"))
        with pytest.raises(UserError, match=r"^run\.pretrain=pretrain: fills \d+ % of the model"):
            run("finetune.yaml", "run.pretrain=pretrain.yaml", "model.args.embed_dim=32")
        assert sorted(Path.cwd().rglob("*")) == before


@pytest.fixture
def learnt(monkeypatch: pytest.MonkeyPatch) -> Callable[[], set[str]]:
    """Names of the images that pre-training has learned from since the last call."""
    seen: set[str] = set()
    original = PretrainingTask.training_step

    def training_step(self, batch, batch_idx):
        seen.update(batch["id"])
        return original(self, batch, batch_idx)

    def since() -> set[str]:
        found = set(seen)
        seen.clear()
        return found

    monkeypatch.setattr(PretrainingTask, "training_step", training_step)
    return since


def measured_on(recipe: str, *overrides: str) -> set[str]:
    """Images that fine-tuning validates or tests on."""
    data = start(recipe, *overrides, "run.pretrain=null").data
    return {sample.id for split in ("val", "test") for sample in data.samples(split)}


class TestKeepingApart:
    PHOTOS = ("data.root=photos", "run.pretrain=pretrain_photos.yaml", "trainer.max_epochs=1")

    @pytest.fixture(autouse=True)
    def photos(self) -> set[str]:
        files = make_image_folder(Path("photos"), classes=2, per_class=12, size=(20, 20))
        return {file.relative_to("photos").as_posix() for file in files}

    def test_images_that_fine_tuning_is_measured_on_are_left_out(self, learnt, photos):
        console = Console(file=io.StringIO(), width=300)
        directory = run("finetune_photos.yaml", *self.PHOTOS, console=console)
        measured, seen = measured_on("finetune_photos.yaml", *self.PHOTOS), learnt()
        assert len(measured) == 4
        assert not seen & measured
        before, _ = plan_of(load_recipe("finetune_photos.yaml", self.PHOTOS)).phases
        validated = {sample.id for sample in scan(before.recipe).data.samples("val")}
        assert len(seen) >= 16
        assert seen <= photos - measured - validated
        assert "left out" in console.file.getvalue()
        assert load_recipe(directory.phase("pretrain") / "recipe.yaml").data.root == str(Path("photos").absolute())

    def test_also_on_resumption(self, learnt, monkeypatch):
        original, calls = PretrainingTask.training_step, iter(range(100))

        def training_step(self, batch, batch_idx):
            if next(calls) == 5:
                raise KeyboardInterrupt
            return original(self, batch, batch_idx)

        with monkeypatch.context() as patch:
            patch.setattr(PretrainingTask, "training_step", training_step)
            with pytest.raises(KeyboardInterrupt):
                run("finetune_photos.yaml", *self.PHOTOS, run_dir="cut")
        learnt()
        resume(Path("cut"), console=QUIET)
        seen = learnt()
        assert seen
        assert not seen & measured_on("finetune_photos.yaml", *self.PHOTOS)

    def test_also_in_the_second_of_three_phases(self, learnt):
        Path("second.yaml").write_text("extends: pretrain_photos.yaml\nrun: {pretrain: pretrain_photos.yaml}\n")
        overrides = (*self.PHOTOS, "run.pretrain=second.yaml")
        directory = run("finetune_photos.yaml", *overrides)
        assert {path.name for path in (directory.path / "phases").iterdir()} == {"pretrain-1", "pretrain-2", "fit"}
        assert not learnt() & measured_on("finetune_photos.yaml", *overrides)

    def test_also_where_all_of_them_pretrain(self, learnt):
        """Nothing is tested then; the last phase is validated on images that the one before has not seen either."""
        overrides = ["data.root=photos", "data.splits={val: 0.3}", "trainer.max_epochs=1"]
        validated = {sample.id for sample in start("pretrain_photos.yaml", *overrides).data.samples("val")}
        Path("second.yaml").write_text("extends: pretrain_photos.yaml\n")
        directory = run("second.yaml", *overrides, "run.pretrain=pretrain_photos.yaml")
        assert not learnt() & validated
        assert json.loads(directory.summary.read_text())["checkpoint/matched_share"] == 1

    def test_their_labels_are_no_matter_for_the_probe_either(self):
        make_image_folder(Path("pool"), classes=1, per_class=9, size=(20, 20), seed=1)
        Path("own.yaml").write_text("extends: pretrain_photos.yaml\ndata: {root: pool, probe: photos}\n")
        recipe = load_recipe("finetune_photos.yaml", [*self.PHOTOS, "run.pretrain=own.yaml", "data.splits={test: 0.4}"])
        phases = check_phases(plan_of(recipe)).scanned
        tested = {sample.identity for sample in phases["fit"].data.samples("test")}
        for split in ("probe_train", "probe_val"):
            shown = {sample.identity for sample in phases["pretrain"].data.samples(split)}
            assert shown
            assert not shown & tested

    def test_what_a_run_to_start_from_learnt_is_told(self):
        """Of two commands the second cannot choose what the first learns from; it says what that means."""
        run("pretrain_photos.yaml", "data.root=photos", "trainer.max_epochs=1", run_dir="before")
        overrides = ("data.root=photos", "model.checkpoint=before")
        (note,) = start("finetune_photos.yaml", *overrides).data.notes
        assert re.match(r"2 of the 2 test images, such as class_\d/.*, are among those that .*before learnt from", note)
        voting = ("data.root=photos", "data.unlabelled=labelled", "semi={method: self_training, voters: [before]}")
        assert start("finetune_photos.yaml", *voting).data.notes == [note]
        make_image_folder(Path("others"), classes=2, per_class=12, size=(20, 20), seed=1)
        assert start("finetune_photos.yaml", *overrides, "data.root=others").data.notes == []
        shutil.rmtree("photos")
        assert start("finetune_photos.yaml", *overrides, "data.root=others").data.notes == []

    @pytest.mark.parametrize("file", ["", "/checkpoints/best.ckpt", "/phases/fit/checkpoints/best.ckpt"])
    def test_what_the_run_of_a_weights_file_learnt_is_told_too(self, file):
        run("pretrain_photos.yaml", "data.root=photos", "trainer.max_epochs=1", run_dir="before")
        data = start("finetune_photos.yaml", "data.root=photos", f"model.checkpoint=before{file}").data
        assert [re.match("2 of the 2 test images", note) is not None for note in data.notes] == [True]

    @pytest.mark.parametrize("file", ["", "/checkpoints/best.ckpt"])
    def test_images_that_the_run_had_left_out_were_not_learnt(self, file):
        """Its pre-training read all images, without those that its fine-tuning, and so this one, is tested on."""
        run("finetune_photos.yaml", *self.PHOTOS, run_dir="before")
        overrides = ("data.root=photos", f"model.checkpoint=before{file}", "run.pretrain=null")
        assert start("finetune_photos.yaml", *overrides).data.notes == []

    def test_images_of_its_own_need_no_care(self, learnt):
        make_image_folder(Path("pool"), classes=1, per_class=9, size=(20, 20), seed=1)
        Path("own.yaml").write_text("extends: pretrain_photos.yaml\ndata: {root: pool/class_0}\n")
        console = Console(file=io.StringIO(), width=300)
        run("finetune_photos.yaml", *self.PHOTOS, "run.pretrain=own.yaml", console=console)
        assert len(learnt()) == 8
        assert "left out" not in console.file.getvalue()

    def test_a_pool_that_only_holds_what_is_measured_on_is_refused(self):
        for seed, split in enumerate(("train", "val", "test")):
            make_image_folder(Path("split", split), classes=2, per_class=3, size=(20, 20), seed=seed)
        Path("own.yaml").write_text("extends: pretrain_photos.yaml\ndata: {root: split/test}\n")
        with pytest.raises(UserError, match=r"^data\.root=.*split/test: all images of its train split are among"):
            run("finetune_photos.yaml", "data.root=split", "run.pretrain=own.yaml")
        assert not Path("run").exists()
