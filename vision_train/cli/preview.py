"""``vision-train preview``: what the augmentations do to my images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vision_train.errors import UserError
from vision_train.files import check_writable

FORMATS = (".png", ".jpg", ".jpeg")
"""Endings of pictures that can be written."""
MOST_IMAGES = 64
"""Rows above this make a picture that few viewers open."""


def preview(
    recipe: Annotated[str, typer.Argument(help="A built-in recipe's name or a YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys to change, such as data.root.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Picture to write: .png or .jpg.")] = Path("preview.png"),
    count: Annotated[int, typer.Option(help=f"Images to show, 1 to {MOST_IMAGES}.")] = 8,
) -> None:
    """Show what a recipe's augmentation and mixing do to training images, in one picture.

    Each row shows an image as on disk, augmented, and as the network sees it once it is mixed with another, with whose
    pixels these are and how the two share the label. Annotations are drawn on the images. Nothing is trained.

    For example:

      vision-train preview quickstart

      vision-train preview classification/vit_small data.root=photos --out preview.png --count 12
    """
    if not 1 <= count <= MOST_IMAGES:
        raise UserError(f"--count {count}: must lie between 1 and {MOST_IMAGES}")
    if out.suffix.lower() not in FORMATS:
        raise UserError(f"--out {out}: is no picture that can be written; end it in {', '.join(FORMATS)}")
    try:
        is_folder = out.is_dir()
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror})") from error
    if is_folder:
        raise UserError(f"--out {out}: is a folder; name a file")
    check_writable(out.parent, "--out")

    from vision_train.cli.console import loading, plain_console
    from vision_train.progress import shown_on
    from vision_train.recipe import load_recipe
    from vision_train.run.places import check_places

    loaded = load_recipe(recipe, overrides or [])
    check_places(loaded)
    console = plain_console()
    with shown_on(console):
        with loading(f"preview {loaded.name}"):
            from vision_train.run.preview import preview as draw_preview

        draw_preview(loaded, out, count=count, console=console)
