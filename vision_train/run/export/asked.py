"""What is asked of an export, checked before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vision_train.errors import UserError
from vision_train.recipe import Recipe
from vision_train.run.directory import RunDirectory, open_run
from vision_train.run.export.format import Format
from vision_train.run.export.formats import FORMATS
from vision_train.run.export.place import Place
from vision_train.run.inference import load_for_inference


@dataclass(frozen=True)
class Asked:
    """An export that can be tried."""

    directory: RunDirectory
    recipe: Recipe
    """For inference."""
    written_as: Format
    place: Place


def check_export(
    run: Path,
    name: str,
    *,
    out: Path | None,
    size: tuple[int, int] | None,
    force: bool = False,
    repository: str | None = None,
) -> Asked:
    """Refuse to export what is no finished run, as what is no format, or to where nothing can be written or sent.

    The arguments are those of :func:`vision_train.run.export.verb.export_run`.

    Raises:
        UserError: There is no such run, format or size, the place cannot be written or holds something, or a package
            or the hub's token is missing.
    """
    if name not in FORMATS:
        raise UserError(f"--format {name}: is unknown; there are {', '.join(FORMATS)}")
    if size is not None and min(size) < 1:
        raise UserError(f"--size {size[0]} {size[1]}: must be at least 1 pixel each")
    directory = open_run(run, with_weights=True)
    if repository is not None:
        from vision_train.run.export.push import check_push  # and the hub's library

        check_push(repository)
    # What computes attention is a matter of the program that runs the file.
    recipe = load_for_inference(directory.recipe, ["model.attention=auto"])
    written_as = FORMATS[name]
    written_as.check_recipe(name, recipe)
    place = Place.of(out, Path(recipe.name).name, name, written_as.suffix)
    place.check(force=force)
    written_as.check_installed(name)
    return Asked(directory, recipe, written_as, place)
