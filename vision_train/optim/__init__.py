"""Which parameters are trained, by which optimiser, and at which learning rate in each step."""

from vision_train.optim.accumulation import WholeWindows
from vision_train.optim.adaptation import choose_trained
from vision_train.optim.clipping import ClipEachGradient
from vision_train.optim.freezing import Frozen, KeepFrozen, ReleaseFrozen, freeze
from vision_train.optim.optimizer import (
    build_optimizer,
    check_groups,
    check_names,
    configure_optimizers,
    learning_rate_factor,
)
from vision_train.optim.schedule import build_schedule, count_warmup_steps, schedule

__all__ = [
    "ClipEachGradient",
    "Frozen",
    "KeepFrozen",
    "ReleaseFrozen",
    "WholeWindows",
    "build_optimizer",
    "build_schedule",
    "check_groups",
    "check_names",
    "choose_trained",
    "configure_optimizers",
    "count_warmup_steps",
    "freeze",
    "learning_rate_factor",
    "schedule",
]
