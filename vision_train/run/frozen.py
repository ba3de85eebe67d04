"""Refusing to train a head or adapters on a network that nothing has taught."""

from __future__ import annotations

from collections.abc import Sequence

from models.lora import plain_name
from vision_train.checkpoints import LoadReport
from vision_train.errors import UserError
from vision_train.recipe.sections import ALL_BUT_HEAD
from vision_train.tasks.base import Task
from vision_train.wording import first_named


def refuse_frozen_random(task: Task, reports: Sequence[LoadReport]) -> None:
    """Refuse ``model.lora`` and ``model.freeze=all_but_head`` where frozen weights are random.

    Globs of ``model.freeze`` are the user's own choice.

    Args:
        task: Its network is frozen as the recipe says.
        reports: What files filled of it.

    Raises:
        UserError: No file filled something that is frozen.
    """
    model = task.recipe.model
    if model.lora is None and model.freeze != ALL_BUT_HEAD:
        return
    key, remedy = ("model.lora", "null") if model.lora else (f"model.freeze={ALL_BUT_HEAD}", "[]")
    if not reports:
        raise UserError(
            f"{key}: freezes the network, which would start from random weights; name weights with model.checkpoint, "
            f"or train all of it with {key.partition('=')[0]}={remedy}"
        )
    filled = {name for report in reports for name in report.filled(task.parts)}
    frozen = [plain_name(name) for name, each in task.network.named_parameters() if not each.requires_grad]
    if stuck := [name for name in frozen if name not in filled]:
        raise UserError(
            f"{key}: would keep {first_named(stuck)} at random values, as no file of model.checkpoint fills them; name "
            "them under model.fresh, and they are trained"
        )
