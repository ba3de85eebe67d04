"""Imports that take less time, and leave what they found."""

import gc
import subprocess
import sys

import pytest

from vision_train.importing import uncollected, without_needless


@pytest.fixture(autouse=True)
def collecting():
    yield
    gc.enable()


@pytest.mark.parametrize("was", [True, False])
def test_garbage_is_collected_afterwards_as_before(was):
    (gc.enable if was else gc.disable)()
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled() is was
    with pytest.raises(ImportError), uncollected():
        import there_is_no_such_module  # noqa: F401
    assert gc.isenabled() is was


def test_what_is_not_needed_is_passed_over_and_can_be_imported_later(monkeypatch):
    monkeypatch.setattr("vision_train.importing.NEEDLESS", ("this",))
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with without_needless(), pytest.raises(ImportError):
        import this
    assert "this" not in sys.modules
    import this

    with without_needless():
        assert sys.modules["this"] is this


@pytest.mark.slow
@pytest.mark.parametrize(("shared", "hidden"), [("False", True), ("True", False)])
def test_only_a_process_of_ours_hides_what_timm_imports_of_others(shared, hidden):
    pytest.importorskip("wandb")
    code = (
        "import sys\nfrom vision_train.cli.console import loading\n"
        f"with loading('fit', shared={shared}):\n    import timm.utils.summary as timm\n"
        "print(not hasattr(timm, 'wandb'))\nimport wandb"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(hidden)
