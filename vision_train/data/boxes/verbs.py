"""``vision-train data``: the commands for images with boxes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_train.cli.arguments import refuse_absent
from vision_train.cli.console import busy, counted, loading, plain_console

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vision_train.data.boxes.annotations import BoxSample
    from vision_train.data.toy.scenes import Scene


def add_verbs(data: typer.Typer, make: typer.Typer) -> None:
    """Add the commands to ``data`` and ``data make``."""
    data.command()(check)
    data.command()(correlation)
    make.command()(shapes)
    make.command("digit_scenes")(digit_scenes)
    make.command()(things)


def check(
    place: Annotated[Path, typer.Argument(metavar="DIR|FILE", help="Folder of a data set, or a file of annotations.")],
    images: Annotated[Path | None, typer.Option(help="Folder of the images, where they do not lie there.")] = None,
) -> None:
    """Say what is in annotations of boxes and what is wrong with them; exit with 2 if something has to be mended.

    COCO json, YOLO folders and Pascal VOC xml are read, as Roboflow, CVAT and Label Studio export them too.

    Example: vision-train data check photos/
    """
    from vision_train.progress import shown_on

    refuse_absent(place, "folder of a data set or file of annotations")
    if images is not None:
        refuse_absent(images, "folder; name that of the images with --images")
    console = plain_console()
    with shown_on(console):
        with loading(f"data check {place}"):
            from vision_train.data.boxes.check import check_boxes

        lines, wrong = check_boxes(place, images, _watched)
    console.print("\n".join(lines))
    if wrong:
        raise typer.Exit(2)


def _watched(samples: Sequence[BoxSample]) -> Iterator[BoxSample]:
    """The samples one by one, with how many of them have been gone through."""
    from vision_train.progress import doing

    with doing("checking", len(samples), "images", parts="boxes") as work:
        for sample in samples:
            yield sample
            work.advance(1, len(sample.truth.boxes))


def correlation(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Annotations: a COCO json, a data.yaml, a VOC folder.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the exchange of boxes among images.")] = 0,
) -> None:
    """Measure how much the boxes of an image resemble one another (the MC metric of Relation-DETR).

    Random boxes give about 0.5, so the same boxes exchanged among images are measured beside them.

    Example: vision-train data correlation annotations.json
    """
    from vision_train.progress import doing, shown_on

    refuse_absent(file, "file of annotations")
    console = plain_console()
    with shown_on(console):
        with loading(f"data correlation {file}"):
            from vision_train.data.boxes.correlation import correlation as measured
            from vision_train.data.boxes.correlation import shown

        with doing("measuring"):
            lines = shown(measured(file, seed))
    console.print("\n".join(lines))


NewFolder = Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")]


def shapes(folder: NewFolder) -> None:
    """Write pictures of circles, squares and triangles that overlap, with their boxes as COCO json.

    Example: vision-train data make shapes shapes
    """
    with busy(f"making shapes in {folder}"):
        from vision_train.data.toy.shapes import shapes

        _write(shapes(), folder)


def digit_scenes(folder: NewFolder) -> None:
    """Write scanned digits that overlap on one canvas, with clutter, and their boxes as COCO json.

    Example: vision-train data make digit_scenes scenes
    """
    with busy(f"making digit_scenes in {folder}"):
        from vision_train.data.toy.digit_scenes import digit_scenes

        _write(digit_scenes(), folder)


def things(folder: NewFolder) -> None:
    """Write pictures of things that lie apart, each of a size, a colour and a shape, with their boxes as COCO json.

    Example: vision-train data make things things
    """
    with busy(f"making things in {folder}"):
        from vision_train.data.toy.thing_scenes import thing_scenes

        _write(thing_scenes(), folder)


def _write(scenes: Sequence[Scene], folder: Path) -> None:
    from vision_train.data.toy.scenes import write_coco

    counts = write_coco(scenes, folder)
    boxes = sum(len(scene.boxes) for scene in scenes)
    typer.echo(f"Wrote {sum(counts.values())} images to {folder} ({counted(counts)}) with {boxes:,} boxes.")
    typer.echo(f"Next: vision-train fit relation_detr/shapes data.source=boxes data.root={folder}")
