"""``vision-train data``: the commands for bags of instances."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from vision_train.cli.arguments import refuse_absent
from vision_train.cli.console import busy, say_written
from vision_train.errors import UserError
from vision_train.wording import count_of

if TYPE_CHECKING:
    from rich.console import Console

    from vision_train.data.bags.digits import Variant
    from vision_train.data.kind import OnBad

SMALLEST_TILE = 16


def add_verbs(data: typer.Typer, make: typer.Typer) -> None:
    """Add the commands to ``data`` and ``data make``."""
    data.command()(repack)
    data.command()(embed)
    make.command("digit_bags")(digit_bags)


def digit_bags(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")],
    variant: Annotated[
        str, typer.Option(help="rare: a few nines in positive bags. patterns: test bags show one of three patterns.")
    ] = "rare",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random bags.")] = 0,
) -> None:
    """Write bags of scanned digits in TRIDENT's layout, with tables of labels and splits in CLAM's.

    Example: vision-train data make digit_bags bags --variant patterns
    """
    if variant not in ("rare", "patterns"):
        raise UserError(f"--variant {variant}: is unknown; there are rare and patterns")

    with busy(f"making digit_bags in {folder}"):
        from vision_train.data.bags.digits import make_digit_bags

        counts = make_digit_bags(folder, cast("Variant", variant), seed)
    tables = f"data.labels={folder / 'labels.csv'} data.splits={folder / 'splits_0.csv'}"
    say_written(counts, "bags", folder, f"fit acmil/digit_bags data.source=bags data.root={folder} {tables}")


def repack(
    source: Annotated[Path, typer.Argument(help="Folder or file of features, in any format that is read.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write a file for each bag.")],
    on_bad_bag: Annotated[
        str, typer.Option(help="error stops at a bag that cannot be used; skip leaves it out.")
    ] = "error",
) -> None:
    """Copy bags into files that are read fast, with their coordinates, labels and encoder.

    CLAM, TRIDENT and ACMIL write HDF5 files whose rows have to be looked up one by one. Copies that exist already and
    are no older than their source are kept: a command that was stopped continues where it was.

    Example: vision-train data repack features/ fast/
    """
    policy = _policy("--on-bad-bag", on_bad_bag)
    refuse_absent(source, "file or folder of features")

    from vision_train.cli.console import loading, plain_console
    from vision_train.progress import doing, shown_on

    console, done = plain_console(), _Done()
    with shown_on(console):
        with loading(f"data repack {source}"):
            from vision_train.data.bags.index import index_bags
            from vision_train.data.bags.tools.repack import repack_bags

        with doing("listing bags"):
            index = index_bags(source)
        for remark in index.notes:
            console.print(f"note: {remark}")
        repacked = repack_bags(index, folder, policy, skip_with="give --on-bad-bag skip")
        with doing("repacking", len(index.entries) + len(index.bad), "bags", parts="instances") as work:
            for bag in repacked:
                written = bag.skipped is None and not bag.kept
                instances = index.entries[bag.id].instances if written else 0
                done.count(bag.id, instances, bag.skipped)
                work.advance(1, instances)
    done.report(console, folder, "instances")


def embed(
    images: Annotated[Path, typer.Argument(help="Folder of images, searched through; an image; or a csv with `path`.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write, in TRIDENT's layout.")],
    checkpoint: Annotated[Path, typer.Option(help="Weights of the encoder: a file, or the directory of a run.")],
    model: Annotated[
        str | None, typer.Option(help="The encoder's name in timm, for a file. A run says its own.")
    ] = None,
    tile: Annotated[int, typer.Option(min=SMALLEST_TILE, help="Side of a tile in pixels of the image.")] = 256,
    keep_background: Annotated[
        bool, typer.Option("--keep-background", help="Take tiles of bright and colourless background too.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Number of tiles that are encoded at a time.")] = 64,
    on_bad_image: Annotated[
        str, typer.Option(help="error stops at an image that cannot be used; skip leaves it out.")
    ] = "error",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    precision: Annotated[
        str, typer.Option(help="32-true, or bf16-mixed or 16-mixed: faster on a GPU, and stored in 16 bits.")
    ] = "32-true",
) -> None:
    """Cut large images into tiles and write the features of the tiles, one bag for each image.

    A grid of tiles covers each image. A tile is taken if content fills a quarter of it. Pixels beyond the edge of the
    image, which are made white, and background are no content. Background is bright and almost colourless, like paper
    or the glass of a slide; black and dark grey are content. An image without such a tile counts as bad.

    Tiles are resized to the encoder's image size and normalised as its run or timm says. A tag selects the
    normalisation of other published weights, as in vit_small_patch16_224.dino (ImageNet's mean and deviations).

    Bags are called like their images. Bags that exist already, of the same image, weights and tiles, are kept: a
    command that was stopped continues where it was.

    For example:

      vision-train data embed photos/ bags/ --model vit_small_patch16_224 --checkpoint vit_small.safetensors

      vision-train data embed photos/ bags/ --checkpoint runs/droppos/vit_base/0 --tile 512 --keep-background

    Use TRIDENT to embed slides (.svs, .ndpi, ...); its features are read as they are.
    """
    policy = _policy("--on-bad-image", on_bad_image)
    refuse_absent(images, "image, folder or csv file")
    refuse_absent(checkpoint, "file or run directory; name the encoder's weights with --checkpoint")

    from vision_train.cli.console import loading, plain_console
    from vision_train.progress import doing, shown_on

    console, done = plain_console(), _Done()
    with shown_on(console):
        with loading(f"data embed {images}"):
            from vision_train.data.bags.tools.embed import Embedding, embed_images, images_by_id
            from vision_train.data.dim_images import dim_images
            from vision_train.data.image_files import list_images
            from vision_train.run.encoder import load_encoder

        with doing("listing images"):
            found, remarks = list_images([images])
            remarks += dim_images(found)
            files = images_by_id(map(Path, found))
        with doing(f"loading {checkpoint}"):
            loaded = load_encoder(checkpoint, model, device=device, precision=precision)
        embedding = Embedding(folder, loaded.encoder, tile, keep_background, batch_size)
        console.print("\n".join([*loaded.notes, *(f"note: {remark}" for remark in remarks)]))
        with doing("embedding", len(files), "images", parts="tiles") as work:

            def count(tiles: int, of: int) -> None:
                work.advance(tiles / of, tiles)

            for image in embed_images(files, embedding, policy, "give --on-bad-image skip", count):
                done.count(str(image.image), image.tiles, image.skipped)
                if not image.tiles:
                    work.advance(1, 0)
    done.report(console, embedding.features, "tiles")


def _policy(option: str, value: str) -> OnBad:
    if value not in ("error", "skip"):
        raise UserError(f"{option} {value}: is unknown; it is error or skip")
    return cast("OnBad", value)


@dataclass
class _Done:
    """Counts of the bags that a command has gone through."""

    written: int = 0
    parts: int = 0
    """Instances or tiles of the bags that were written."""
    kept: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    """Reason for each bag that was skipped, by its name."""

    def count(self, name: str, parts: int, skipped: str | None) -> None:
        """Count one bag. It existed already if it was not skipped and no part of it was written."""
        if skipped is not None:
            self.skipped[name] = skipped
        self.written += parts > 0
        self.kept += parts == 0 and skipped is None
        self.parts += parts

    def report(self, console: Console, folder: Path, parts: str) -> None:
        """Print the counts and the command to use next."""
        there = f"; {self.kept} already there" if self.kept else ""
        console.print(f"Wrote {count_of(self.written, 'bags')} to {folder} ({count_of(self.parts, parts)}){there}.")
        if self.skipped:
            console.print(f"Skipped {count_of(len(self.skipped), 'bags')} that cannot be used:")
            for name, reason in self.skipped.items():
                console.print(f"  {name}: {reason}")
        if self.written or self.kept:
            console.print(f"Next: vision-train fit acmil/slides data.root={folder} data.labels=LABELS.csv")
