"""Whether weights to start from may have learnt from the images of validation and test.

RefCOCO, RefCOCO+ and RefCOCOg take all their images from COCO's train2014, and the public weights of DETR have learnt
from all of these. TransVG begins with a DETR that was trained without the images of validation and test.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from models.grounding.published import is_of_detr
from vision_train.checkpoints import Weights
from vision_train.data.module import SampleDataModule
from vision_train.files import printable
from vision_train.recipe.recipe import Recipe

_OF_COCO = re.compile(r"(COCO_train2014_|train201[47]/)\d{12}\.\w+$")
"""How paths of COCO's training images end."""


def check_start(recipe: Recipe, weights: Weights, name: str, data: SampleDataModule) -> list[str]:
    """Accept any weights, and warn of a DETR of others where validation or test has images of COCO's training.

    Nothing in a file says which images it has learnt from: what the warning assumes are public weights.
    """
    if weights.recipe is not None or not is_of_detr(weights.state):
        return []
    splits = [split for split in data.counts if split != "train"]
    members = {sample.id: sample for split in splits for sample in data.samples(split)}
    known = [each.place for each in members.values() if _OF_COCO.search(PurePath(each.place).as_posix())]
    if not known:
        return []
    return [
        f"{name}: holds the encoder of a DETR, and nothing says which images it has learnt from. Public weights of "
        f"DETR have seen all of COCO's training images, and {len(known):,} of {len(members):,} expressions of "
        f"{', '.join(splits)} are about such images ({printable(PurePath(known[0]).name)}): what is measured would "
        "be too good. Start from a DETR that was trained without the validation and test images of RefCOCO, RefCOCO+ "
        "and RefCOCOg, as TransVG's authors did, or say with your figures that its weights have seen these images"
    ]
