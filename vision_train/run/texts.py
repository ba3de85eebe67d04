"""What ``predict --text`` needs, checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.directory import open_run


def check_texts(run: Path, texts: Sequence[str]) -> None:
    """Refuse texts for a run whose images are not asked about with one.

    Args:
        run: A run directory.
        texts: Those of the command line; with none there is nothing to refuse.

    Raises:
        UserError: The run takes no texts, a text is empty, or there is no such run.
    """
    if not texts:
        return
    recipe = load_recipe(open_run(run).recipe, runnable=False)
    if not recipe.kind.takes_text:
        raise UserError(f"--text: {run} is a run of {recipe.task}, whose images need no text; leave it out")
    if not all(text.strip() for text in texts):
        raise UserError("--text: is empty; write what is looked for, as in --text 'the red cup'")
