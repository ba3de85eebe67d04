"""Parameters that are frozen for the first epochs alone."""

from pathlib import Path

import pytest
import torch
from rich.console import Console

from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.fit import fit, resume
from vision_train.run.phase import prepare, scan
from vision_train.tasks.classification.task import ClassificationTask

QUIET = Console(quiet=True)
STAGED = ("model.freeze_first={epochs: 2, names: [patch_embed.*, blocks.*]}", "trainer.max_epochs=4")


def train(recipe: str, path: str, *overrides: str) -> Path:
    return fit(load_recipe(recipe, [*STAGED, *overrides]), run_dir=Path(path), command=[], console=QUIET).path


def checkpoint(run: Path, name: str = "last") -> dict:
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)


@pytest.fixture
def noted(monkeypatch) -> list[dict]:
    """What each step begins with: weights by name, the rates of the optimiser's groups, and whether dropout acts."""
    steps, original = [], ClassificationTask.training_step

    def training_step(self, batch, batch_idx):
        groups = self.trainer.optimizers[0].param_groups
        steps.append(
            {
                "weights": {name: p.detach().clone() for name, p in self.network.named_parameters()},
                "average": self.average and {n: v.clone() for n, v in self.average.weights.items()},
                "rates": {bool(group.get("released")): group["lr"] for group in groups},
                "modes": (self.network.blocks.training, self.network.norm.training),
            }
        )
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ClassificationTask, "training_step", training_step)
    return steps


def frozen(step: dict) -> dict[str, torch.Tensor]:
    return {n: w for n, w in step["weights"].items() if n.startswith(("patch_embed.", "blocks."))}


def test_they_stay_as_they_are_and_are_trained_from_the_epoch_on(tiny, noted):
    train(tiny, "run", "model.args.drop_path_rate=0")
    first, before, last = frozen(noted[0]), frozen(noted[6]), frozen(noted[-1])  # three steps an epoch
    assert all(torch.equal(first[name], before[name]) for name in first)
    assert any(not torch.equal(before[name], last[name]) for name in first)
    assert all(torch.equal(noted[6]["average"][name], first[name]) for name in first)
    assert not torch.equal(noted[0]["weights"]["head.weight"], noted[6]["weights"]["head.weight"])
    assert [step["modes"] for step in noted[:6]] == [(False, True)] * 6
    # The hook of the task runs before a batch begins; so the first step after the release trains too.
    assert [step["modes"] for step in noted[6:]] == [(True, True)] * 6


def test_the_warm_up_begins_anew_for_what_is_released(tiny, noted):
    train(tiny, "run")
    rates = [step["rates"] for step in noted]
    assert [each[True] for each in rates[:6]] == [0.0] * 6
    assert all(each[False] > 0 for each in rates[1:6])
    share = [each[True] / each[False] for each in rates[6:]]
    assert share == pytest.approx([0, 1 / 3, 2 / 3, 1, 1, 1])  # optim.warmup_epochs=1


def test_a_run_that_was_cut_short_goes_on_as_it_would_have(tiny, monkeypatch, cut_short):
    whole = checkpoint(train(tiny, "whole"))
    for name, step in (("frozen", 4), ("released", 10)):
        with cut_short(ClassificationTask, step):
            train(tiny, name)
        again = checkpoint(resume(Path(name), console=QUIET).path)
        for key, value in whole["state_dict"].items():
            assert torch.equal(value, again["state_dict"][key]), (name, key)
        for key, value in whole["averaged"].items():
            assert torch.equal(value, again["averaged"][key]), (name, key)


def test_the_optimiser_knows_nothing_of_them_before(tiny):
    states = checkpoint(train(tiny, "run", "trainer.max_epochs=2"))["optimizer_states"][0]
    groups = {bool(group.get("released")): group["params"] for group in states["param_groups"]}
    assert not set(groups[True]) & states["state"].keys()


def test_the_head_alone_can_go_first(tiny, noted):
    Path("first").mkdir()
    start = fit(load_recipe(tiny, ["trainer.max_epochs=1"]), run_dir=Path("first"), command=[], console=QUIET).path
    noted.clear()
    train(tiny, "run", "model.freeze_first={epochs: 1, names: all_but_head}", f"model.checkpoint={start}")
    moved = {n for n, w in noted[0]["weights"].items() if not torch.equal(w, noted[3]["weights"][n])}
    assert moved == {"head.weight", "head.bias"}
    assert not torch.equal(noted[3]["weights"]["norm.weight"], noted[-1]["weights"]["norm.weight"])


def _fit(rank: int, recipe: str, overrides: tuple[str, ...], run_dir: Path) -> None:
    fit(load_recipe(recipe, overrides), run_dir=run_dir, command=[], console=QUIET)


def test_two_processes_freeze_and_release_as_one(tiny, two_processes):
    alike = (
        *("augment.mixing={maskmix: 0, mixup: 0, cutmix: 0, labels: area}", "augment.train.color_jitter=0"),
        *("model.args.drop_path_rate=0", "model.args.proj_drop_rate=0", *STAGED, "trainer.max_epochs=3"),
    )
    one, two = Path("one").absolute(), Path("two").absolute()
    _fit(0, tiny, (*alike, "data.batch_size=32"), one)
    ddp = ("trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu", "data.batch_size=16")
    two_processes(_fit, tiny, (*alike, *ddp), two)
    ours, theirs = checkpoint(one)["state_dict"], checkpoint(two)["state_dict"]
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-3, atol=1e-4)


def test_one_process_under_ddp_freezes_and_releases_too(tiny):
    ddp = ("trainer.devices=1", "trainer.strategy=ddp", "trainer.accelerator=cpu")
    _fit(0, tiny, (*STAGED, *ddp, "trainer.max_epochs=2"), Path("alone"))
    assert Path("alone/summary.json").is_file()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.freeze_first={epochs: 0, names: [blocks.*]}"], r"model\.freeze_first\.epochs: is 0; must be above 0"),
        (["model.freeze_first={epochs: 1, names: []}"], r"model\.freeze_first\.names: is empty"),
        (["model.freeze_first.epochs=1", "model.lora.rank=2"], r"model\.freeze_first.*`lora`"),
        (
            ["model.freeze_first.epochs=1", "semi.method=active_rounds", "data.unlabelled=rest"],
            r"model\.freeze_first.*semi\.method=active_rounds.*null",
        ),
    ],
)
def test_what_cannot_be_released_is_refused(tiny, overrides, message):
    with pytest.raises(UserError, match=message):
        load_recipe(tiny, overrides)


def test_names_that_match_nothing_are_refused_with_their_key(tiny):
    with pytest.raises(UserError, match=r"model\.freeze_first\.names: `block\.\*`"):
        prepare(scan(load_recipe(tiny, ["model.freeze_first={epochs: 1, names: [block.*]}"])))
