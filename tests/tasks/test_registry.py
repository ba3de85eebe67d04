"""A package that adds a task and cannot be imported is named where it is used, and hinders nothing else."""

from importlib.metadata import EntryPoint

import pytest
from typer.testing import CliRunner

from vision_train import tasks
from vision_train.cli import app
from vision_train.errors import UserError


@pytest.fixture
def broken(monkeypatch):
    """A registered package that is not there."""
    entry = EntryPoint("weighing", "package_that_is_gone", tasks.ENTRY_POINTS)
    monkeypatch.setattr(tasks, "entry_points", lambda group: [entry])
    tasks.task_packages.cache_clear()
    yield
    tasks.task_packages.cache_clear()


@pytest.mark.usefixtures("broken")
def test_a_package_that_cannot_be_imported_is_named():
    with pytest.raises(UserError, match=r"task=weighing: package_that_is_gone\.options.*uninstall"):
        tasks.task_options("weighing")


@pytest.mark.usefixtures("broken")
def test_it_hinders_only_the_commands_that_ask_every_kind_of_data():
    assert CliRunner().invoke(app, ["--help"]).exit_code == 0
    assert CliRunner().invoke(app, ["recipes"]).exit_code == 0
    asked = CliRunner().invoke(app, ["data", "make", "digits", "digits"])
    assert asked.exit_code == 2
    assert "package_that_is_gone" in asked.output


def test_two_packages_with_one_name_are_refused(monkeypatch):
    entry = EntryPoint("bags", "another_package", tasks.ENTRY_POINTS)
    monkeypatch.setattr(tasks, "entry_points", lambda group: [entry])
    tasks.task_packages.cache_clear()
    with pytest.raises(UserError, match=r"vision_train\.tasks\.bags and another_package.*bags; *uninstall"):
        tasks.task_packages()
    tasks.task_packages.cache_clear()
