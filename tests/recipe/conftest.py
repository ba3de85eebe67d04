from collections.abc import Callable
from pathlib import Path

import pytest

from vision_train.errors import UserError
from vision_train.recipe import load_recipe


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, so that messages name files as `mine.yaml`."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mistakes() -> Callable[..., list[str]]:
    """Load a recipe that is wrong and return what it complains about, one line each, without the heading."""

    def load(name: str | Path, *overrides: str, **options: bool) -> list[str]:
        with pytest.raises(UserError) as caught:
            load_recipe(name, overrides, **options)
        lines = str(caught.value).splitlines()
        if len(lines) == 1:
            return lines
        assert lines[0] == f"{name}: {len(lines) - 1} mistakes"
        return [line.removeprefix("  ") for line in lines[1:]]

    return load
