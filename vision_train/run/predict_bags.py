"""Classifying bags with a finished run, and showing where it looks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console

from models.mil.bags import BagNetwork, BagOutput
from vision_train.checkpoints import load_weights
from vision_train.contract import as_module
from vision_train.data.bags.bag import BagEntry
from vision_train.data.bags.embed import id_of_image
from vision_train.data.bags.index import patches_folders
from vision_train.data.bags.loose import loose_bags
from vision_train.data.bags.samples import BagSample
from vision_train.data.bags.tables import first_named
from vision_train.data.dataset import SampleLoader
from vision_train.data.decode import decode_large, is_image_file
from vision_train.errors import UserError
from vision_train.recipe import Recipe
from vision_train.report.bags.pictures import CSV_NAME, Renderer, open_renderer
from vision_train.run.directory import RunDirectory
from vision_train.run.log import logging_to
from vision_train.run.phase import build_task
from vision_train.run.predictions import Prediction, check_outputs, write_predictions
from vision_train.run.trainer import build_trainer


def predict_bags(
    run: Path,
    recipe: Recipe,
    inputs: Sequence[Path],
    *,
    out: Path,
    render: Path | None,
    images: Path | None,
    console: Console,
) -> None:
    """Predict bag by bag and write a table, and pictures of the attention if asked for.

    One bag is in memory at a time, in the type of its file. Its pictures are written as soon as they are drawn; the
    tables once all bags are done.

    Args:
        run: A run directory; its best weights are used.
        recipe: Of the run, for inference.
        inputs: Folders and files of features.
        out: ``.jsonl`` or ``.csv``.
        render: Folder for the pictures and a csv of the attention.
        images: Folder of the images that the bags were made of, called like them.
        console: Where to report.

    Raises:
        UserError: The bags cannot be used or are not of the kind that the run learned from, the network has no
            attention to show, or a place cannot be written.
    """
    if images and not render:
        raise UserError("--images: is for pictures; say where to put them with --render DIR")
    classes = RunDirectory(run).read_classes()
    task = build_task(recipe, classes)
    if render and not cast(BagNetwork, task.network).attends:
        raise UserError(
            f"--render: {run} is a run of {recipe.model.name}, which pools bags without attention, so that there is "
            "nothing to draw; leave it out"
        )
    load_weights(task.network, run, min_matched_share=1.0)
    loader = loose_bags(recipe.data, inputs, learner=f"the run {run}", skip_with="give --on-bad-bag skip")
    check_outputs(out, render)
    opened = _renderer(render, images, recipe, loader, console) if render else nullcontext()
    with logging_to(None), opened as pictures:
        collected = _Collect(classes, pictures)
        build_trainer(recipe, [collected]).predict(as_module(task), dataloaders=loader, return_predictions=False)
    write_predictions(out, list(collected.predictions.values()), "slide_id", classes)
    console.print(f"{len(collected.predictions)} predictions in {out}")
    if render and pictures:
        _tell(console, render, pictures)
    _list(console, "bags could not be used and were skipped", loader.dataset.skipped)


def _renderer(
    folder: Path, images: Path | None, recipe: Recipe, loader: SampleLoader, console: Console
) -> AbstractContextManager[Renderer]:
    samples = cast(list[BagSample], loader.dataset.samples)
    bags = {sample.id: sample.bag for sample in samples if isinstance(sample.bag, BagEntry)}
    found = {} if images is None else images_of_bags(images, bags)
    if images is not None and (absent := [bag_id for bag_id in bags if bag_id not in found]):
        console.print(f"note: no image in {images} of {first_named(absent)}; drawn without")
    if unplaced := [bag_id for bag_id, bag in bags.items() if bag.coords is None]:
        first = unplaced[0]
        folders = ", ".join(map(str, patches_folders(bags[first].path)))
        console.print(
            f"note: no coordinates of {first_named(unplaced)}; drawn in the order of the file. Looked for in the files "
            f"of features, and for {first}.h5 and {first}_patches.h5 in {folders}"
        )
    return open_renderer(
        folder,
        {bag_id: bag.level0_size for bag_id, bag in bags.items()},
        encoder=recipe.data.encoder,
        images=found,
        decode=decode_large,
        on_bad=recipe.data.on_bad_bag,
    )


def images_of_bags(folder: Path, ids: Collection[str]) -> dict[str, Path]:
    """Find the images that bags were made of.

    Args:
        folder: Of images that are called like their bags; further folders in it are not searched.
        ids: Of the bags.

    Returns:
        The image of each bag that has one.

    Raises:
        UserError: No such folder, no image of any bag in it, or several of one.
    """
    if not folder.is_dir():
        raise UserError(f"--images {folder}: no such folder")
    found: dict[str, list[Path]] = {}
    for path in sorted(filter(is_image_file, folder.iterdir())):
        found.setdefault(id_of_image(path), []).append(path)
    images = {bag_id: found[bag_id] for bag_id in ids if bag_id in found}
    if not images:
        raise UserError(
            f"--images {folder}: no image there is called like a bag; expected such as {next(iter(ids))}.png"
        )
    for bag_id, paths in images.items():
        if len(paths) > 1:
            raise UserError(
                f"--images {folder}: several of the bag {bag_id}: {first_named([path.name for path in paths])}"
            )
    return {bag_id: paths[0] for bag_id, paths in images.items()}


def _tell(console: Console, folder: Path, pictures: Renderer) -> None:
    console.print(f"their attention in {folder / CSV_NAME}, with pictures beside it")
    _list(console, "bags have no pictures, as they cannot be drawn", pictures.undrawn)
    if pictures.too_small:
        named = first_named(pictures.too_small)
        console.print(f"note: no sheet of the hottest instances of {named}; too small in their images")


def _list(console: Console, what: str, reasons: Mapping[str, str]) -> None:
    if reasons:
        console.print(f"{len(reasons)} {what}:")
        for bag_id, reason in reasons.items():
            console.print(f"  {bag_id}: {reason}")


class _Collect(Callback):
    """Turns outputs into predictions and pictures; a bag that stands in for a skipped one counts once."""

    def __init__(self, classes: list[str], pictures: Renderer | None) -> None:
        self.classes = classes
        self.pictures = pictures
        self.predictions: dict[str, Prediction] = {}

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: BagOutput,
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        (bag_id,) = batch["id"]
        if bag_id in self.predictions:
            return
        probabilities = outputs.bag_logits[0].double().softmax(dim=0)
        confidences, labels = probabilities.sort(descending=True, stable=True)
        top = [(self.classes[label], value) for label, value in zip(labels.tolist(), confidences.tolist(), strict=True)]
        self.predictions[bag_id] = prediction = Prediction(bag_id, top)
        if self.pictures is not None and outputs.branch_attention is not None:
            attention = outputs.branch_attention[0].float().cpu().numpy()
            (coords,), (size,) = batch["coords"], batch["patch_size_level0"]
            places = None if coords is None else coords.cpu().numpy()
            title = f"{bag_id}: {prediction.label} ({prediction.confidence:.0%})"
            self.pictures.add(bag_id, title, attention, batch["features"][0], places, size)
