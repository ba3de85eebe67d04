"""What a run asks of a task, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from models.timm_attention import AttentionReceipt
from vision_train.artefacts import Artefact


class Task(Protocol):
    """A LightningModule that owns one network and says how to train it; it knows no files.

    Its validation logs ``val/<metric>``, its test loop ``<test_split>/<metric>``.
    """

    network: nn.Module
    """The network, its parameters under plain names."""
    attention: AttentionReceipt
    """What was installed to compute the network's attention."""
    classes: list[str]
    """The label map."""
    metrics: tuple[str, ...]
    """What validation measures, without a split's prefix."""
    heads: tuple[str, ...]
    """Modules of the network that a checkpoint of other classes need not fill."""
    notes: Sequence[str]
    """What whoever starts a run should know about its objective."""
    warnings: Sequence[str]
    """What whoever reads the result should know: what went wrong in training; known after the test pass."""
    steps_per_epoch: int
    """Optimiser steps of one epoch; set by the run before training."""
    total_steps: int
    """Optimiser steps of the whole training; set by the run before training."""
    test_split: str
    """Name under which the test loop reports: the split that it is given."""

    def adapt_published(self, state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
        """Translate the names and shapes of published weights to those of the network."""

    def random_generators(self) -> dict[str, torch.Generator]:
        """Generators whose state belongs into a checkpoint."""

    def encoder(self) -> tuple[Callable[[Tensor], Tensor], str]:
        """The network as an encoder: normalised images (B 3 H W) -> features (B D), and how tokens become one vector.

        Raises:
            UserError: The network does not encode images.
        """

    def artefacts(self) -> list[Artefact]:
        """What the last test pass has to show."""


def as_task(module: LightningModule) -> Task:
    """The same object, seen as a task."""
    return cast(Task, module)


def as_module(task: Task) -> LightningModule:
    """The same object, seen as Lightning sees it."""
    return cast(LightningModule, task)
