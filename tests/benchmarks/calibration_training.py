"""Small heads on cached features, many trained at once: the pieces of `vision_train.semi` under `torch.vmap`.

Nothing crosses from one head to another: each has its own start, labelled images, pool, order, teacher and running
averages. The loss is the sum over the heads, and AdamW moves each number by its own gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from calibration_images import Features
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from vision_train.ema import MovingAverage
from vision_train.optim import build_optimizer, build_schedule
from vision_train.recipe.optim_section import Optim
from vision_train.semi.consistency import capped, consistency_loss, ramp
from vision_train.semi.fixmatch import FixMatch
from vision_train.semi.freematch import FreeMatch, fairness_loss
from vision_train.semi.pseudo_labels import pseudo_label_loss, teacher_probabilities
from vision_train.semi.teacher import decay_of, default_burn_in, half_life

AT_ONCE = 200
"""Heads that are trained together; more would hardly be faster."""
MOMENTUM = 0.99
"""Share of FreeMatch's averages that a step keeps; runs of fewer than 5,000 steps take it."""
FAIRNESS = 0.001


@dataclass(frozen=True)
class Head:
    """One training, without what it shares with the others of its arm."""

    seed: int
    """It decides the start, and the order and views of labelled images; all arms of a seed share it."""
    labelled: np.ndarray
    """Indices of its labelled images."""
    pool: np.ndarray
    """Indices of its unlabelled images; empty for an arm without any."""
    pool_seed: int
    """It decides the order and views of the pool."""


@dataclass(frozen=True)
class Arm:
    """What heads that are trained together share."""

    method: str
    """``none``, or a method of the recipe section ``semi``."""
    batch: int
    """Labelled images of a step."""
    pool_batch: int
    """Unlabelled ones, 0 for none."""
    rate: float
    steps: int
    weight: float = 1.0
    """Weight of the loss of unlabelled images."""
    threshold: float = 0.95
    """Confidence from which FixMatch accepts a label."""

    @property
    def burn_in(self) -> int:
        """Steps on labelled images alone; other arms take it for the half-life of their average, which all share."""
        return default_burn_in(self.steps, "scratch")


class Stacked(nn.Module):
    """G linear layers side by side: G N D to G N E.

    Args:
        starts: Weights (E D) and bias (E) of each, from torch's own initialisation.
    """

    def __init__(self, starts: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([each.weight.detach().T for each in starts]))
        self.bias = nn.Parameter(torch.stack([each.bias.detach() for each in starts]))

    def forward(self, values: Tensor) -> Tensor:
        return torch.baddbmm(self.bias[:, None], values, self.weight)


class Heads(nn.Module):
    """G networks of one hidden layer; each starts from its own seed.

    Args:
        seeds: G.
        components: D, features of an image.
        hidden: Width of the hidden layer.
        classes: C.
    """

    def __init__(self, seeds: Sequence[int], components: int, hidden: int, classes: int) -> None:
        super().__init__()
        layers = []
        for seed in seeds:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                layers.append((nn.Linear(components, hidden), nn.Linear(hidden, classes)))
        self.first = Stacked([first for first, _ in layers])
        self.second = Stacked([second for _, second in layers])

    def forward(self, values: Tensor) -> Tensor:
        """Logits (G N C) of features (G N D), or of the same features (N D) for all."""
        if values.dim() == 2:
            values = values.expand(len(self.first.bias), -1, -1)
        return self.second(self.first(values).relu())


def endless(count: int, wanted: int, generator: np.random.Generator) -> np.ndarray:
    """The first places of an endless chain of permutations of ``count`` places."""
    rounds = -(-wanted // count)
    return generator.permuted(np.tile(np.arange(count), (rounds, 1)), axis=1).ravel()[:wanted]


def draws(images: np.ndarray, steps: int, batch: int, views: Sequence[int], seed: int) -> np.ndarray:
    """Rows of images, one column for the images and one for the view of each kind: steps batch (1 + kinds)."""
    generator = np.random.default_rng(seed)
    chosen = images[endless(len(images), steps * batch, generator)]
    seen = [generator.integers(count, size=steps * batch) for count in views]
    return np.stack([chosen, *seen], axis=-1).reshape(steps, batch, 1 + len(views))


PoolLoss = Callable[[Tensor, Tensor, int], Tensor]
"""(logits G U C of strong views, the teacher's probabilities G U C of weak ones, step) -> losses G."""


def pool_loss(arm: Arm, heads: int, classes: int) -> PoolLoss:
    """The loss of unlabelled images by the arm's method, for each head.

    Raises:
        ValueError: No such method is known here.
    """
    if arm.method == "mean_teacher":
        return lambda logits, teacher, step: vmap(consistency_loss)(logits, teacher) * ramp(step, arm.steps)
    if arm.method == "fixmatch":
        return lambda logits, teacher, step: vmap(pseudo_label_loss)(logits, vmap(FixMatch(arm.threshold))(teacher))
    if arm.method != "freematch":
        raise ValueError(f"no loss for the method {arm.method}")
    rule = FreeMatch(classes, MOMENTUM)
    state = {name: torch.stack([value] * heads) for name, value in rule.named_buffers()}

    def freematch(logits: Tensor, teacher: Tensor, step: int) -> Tensor:
        labels = vmap(lambda own, rows: functional_call(rule, own, (rows,)))(state, teacher)
        fair = vmap(fairness_loss)(logits, labels.weights, state["mean_probabilities"], state["label_shares"])
        return vmap(pseudo_label_loss)(logits, labels) + FAIRNESS * fair

    return freematch


def train(features: Features, targets: Tensor, heads: Sequence[Head], arm: Arm, hidden: int) -> list[Heads]:
    """Train heads of one arm, some at a time.

    Args:
        features: Of all images.
        targets: Class of each image of the task, N; read for labelled images alone.
        heads: What to train; all have as many labelled images.
        arm: How.
        hidden: Width of the hidden layer.

    Returns:
        The averaged networks, in the order of ``heads``.
    """
    return [
        train_together(features, targets, heads[start : start + AT_ONCE], arm, hidden)
        for start in range(0, len(heads), AT_ONCE)
    ]


def train_together(features: Features, targets: Tensor, heads: Sequence[Head], arm: Arm, hidden: int) -> Heads:
    """Train heads as one tensor program and return their averages."""
    classes, components = int(targets.max()) + 1, features.clean.shape[1]
    network = Heads([head.seed for head in heads], components, hidden, classes)
    average = MovingAverage(network, decay_of(half_life(arm.steps - arm.burn_in)))
    options = Optim(lr=arm.rate, warmup_steps=arm.steps // 10)
    optimizer = build_optimizer(network, options, effective_batch=arm.batch)
    scheduler = build_schedule(optimizer, options, total_steps=arm.steps, steps_per_epoch=arm.steps)
    labelled = Labelled(features, targets, heads, arm)
    pool = None if arm.method == "none" else Pool(features, heads, arm, classes)
    for step in range(arm.steps):
        seen, wanted, share = labelled.batch(step)
        if pool is None or step < arm.burn_in:
            losses = mixed_loss(network(seen), wanted, share)
        else:
            weak, strong = pool.batch(step)
            teacher = teacher_probabilities(average(weak))
            logits = network(torch.cat([seen, strong], dim=1))
            losses = mixed_loss(logits[:, : arm.batch], wanted, share)
            added = arm.weight * pool.losses(logits[:, arm.batch :], teacher, step)
            losses = losses + vmap(capped)(added, losses)
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        scheduler.step()
        average.update(network)
    trained = average.network
    assert isinstance(trained, Heads)
    return trained


class Labelled:
    """The labelled batches of G heads: weak views, each mixed with another of its batch by a share that is uniform."""

    def __init__(self, features: Features, targets: Tensor, heads: Sequence[Head], arm: Arm) -> None:
        self.targets = targets
        self.views, self.rows = features.weak.shape[1], features.weak.flatten(0, 1)
        self.drawn = stacked([draws(head.labelled, arm.steps, arm.batch, [self.views], head.seed) for head in heads])
        shape = (arm.steps, arm.batch)
        self.shares = stacked([np.random.default_rng([head.seed, 1]).random(shape, np.float32) for head in heads])

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Mixed features (G B D), labels (G B) and the share of each image (G B); image i meets image B - 1 - i."""
        (chosen, view), share = self.drawn[step].unbind(-1), self.shares[step]
        seen = self.rows[chosen * self.views + view]
        return torch.lerp(seen.flip(1), seen, share[..., None]), self.targets[chosen], share


class Pool:
    """The unlabelled batches of G heads, and the loss of their method."""

    def __init__(self, features: Features, heads: Sequence[Head], arm: Arm, classes: int) -> None:
        self.weak, self.strong = features.weak.flatten(0, 1), features.strong.flatten(0, 1)
        self.views = [features.weak.shape[1], features.strong.shape[1]]
        rows = [draws(head.pool, arm.steps, arm.pool_batch, self.views, head.pool_seed) for head in heads]
        self.drawn = stacked(rows)
        self.losses = pool_loss(arm, len(heads), classes)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Features of weak and of strong views, G U D each."""
        chosen, weak, strong = self.drawn[step].unbind(-1)
        return self.weak[chosen * self.views[0] + weak], self.strong[chosen * self.views[1] + strong]


def stacked(of_heads: Sequence[np.ndarray]) -> Tensor:
    """Draws of G heads as one tensor, steps first."""
    return torch.from_numpy(np.stack(of_heads, axis=1))


def mixed_loss(logits: Tensor, wanted: Tensor, share: Tensor) -> Tensor:
    """MixUp's loss of each head (G): cross-entropy against the labels of both images, by their shares.

    Args:
        logits: Of the mixed images, G B C; image i is mixed with image B - 1 - i.
        wanted: Labels, G B.
        share: Of the first image, G B.
    """
    both = [
        F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(share.shape)
        for labels in (wanted, wanted.flip(1))
    ]
    return torch.lerp(both[1], both[0], share).mean(dim=1)


@torch.no_grad()
def hits(networks: Sequence[Heads], features: Features, images: Sequence[np.ndarray], targets: Tensor) -> np.ndarray:
    """Whether each head is right about its images.

    Args:
        networks: As :func:`train` returned them.
        features: Of all images.
        images: For each head, indices of as many images.
        targets: Class of each image.

    Returns:
        G N.
    """
    found, start = [], 0
    for network in networks:
        count = len(network.first.bias)
        asked = torch.from_numpy(np.stack(images[start : start + count]))
        found.append(network(features.clean[asked]).argmax(dim=-1) == targets[asked])
        start += count
    return torch.cat(found).numpy()
