"""What a recipe needs beside the engine is looked up before anything heavy is imported."""

import sys
from importlib.metadata import EntryPoint, EntryPoints, PackageNotFoundError

import pytest

from vision_train.errors import UserError
from vision_train.recipe import installed, load_recipe


@pytest.fixture
def offered(monkeypatch) -> list[EntryPoint]:
    """Entry points that stand for those of installed packages; a test adds its own."""
    points: list[EntryPoint] = []
    monkeypatch.setattr(installed, "entry_points", lambda group: EntryPoints(points).select(group=group))
    return points


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_is_refused_with_the_command_that_installs_it(tracker, monkeypatch):
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    recipe = load_recipe("quickstart", [f"run.trackers=[{tracker}]"])
    installed.check_installed(recipe)
    monkeypatch.setattr(installed, "distribution", missing)
    with pytest.raises(UserError, match=rf"run\.trackers: {tracker} .*pip install 'vision-train\[{tracker}\]'"):
        installed.check_installed(recipe)


def test_a_tracker_that_nobody_knows_is_refused_with_those_there_are():
    with pytest.raises(UserError, match=r"run\.trackers.*tensorboard \| wandb \| mlflow"):
        load_recipe("quickstart", ["run.trackers=[comet]"])


def test_a_callback_that_no_package_offers_is_refused_with_those_that_are_installed(offered):
    offered.append(EntryPoint("freeze_norms", "somewhere:FreezeNorms", installed.CALLBACKS))
    offered.append(EntryPoint("freeze_noms", "elsewhere:Other", "another.group"))
    recipe = load_recipe("quickstart", ["trainer.callbacks=[freeze_noms]"])
    with pytest.raises(UserError, match=r"trainer\.callbacks.*did you mean freeze_norms\?; installed: freeze_norms\."):
        installed.check_installed(recipe)
    assert "somewhere" not in sys.modules


def test_two_callbacks_of_one_name_are_refused(offered):
    offered += [EntryPoint("mine", f"{package}:Mine", installed.CALLBACKS) for package in ("one", "two")]
    with pytest.raises(UserError, match=r"one:Mine and two:Mine are both called mine"):
        installed.check_installed(load_recipe("quickstart", ["trainer.callbacks=[mine]"]))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.keep=0", r"run\.keep: is 0; must be at least 1"),
        ("run.trackers=[wandb,wandb]", r"run\.trackers.*once"),
        ("run.early_stopping={patience: 0}", r"run\.early_stopping\.patience: is 0.*null"),
        ("run.early_stopping={patience: 2, min_delta: -1}", r"run\.early_stopping\.min_delta: is -1"),
        ("run.early_stopping={min_delta: 0.1}", r"run\.early_stopping\.patience: is missing"),
    ],
)
def test_values_that_mean_nothing_are_refused(override, message):
    with pytest.raises(UserError, match=message):
        load_recipe("quickstart", [override])


def test_early_stopping_would_end_a_method_before_it_has_learnt_from_the_pool():
    with pytest.raises(UserError, match=r"run\.early_stopping.*semi\.method=freematch.*null"):
        load_recipe("semi/digits", ["run.early_stopping.patience=3"])
