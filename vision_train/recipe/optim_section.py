"""The `optim` section of a recipe: optimiser, schedule and moving average."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vision_train.data.kind import Problems

DEFAULT_DECAY = 0.999


@dataclass(frozen=True)
class AverageWeights:
    """Exponential moving average of the weights, used for validation, test and prediction."""

    decay: float | None = None
    """Share of the old average kept at each optimiser step; null takes 0.999, or what `half_life` says."""
    half_life: float | Literal["run"] | None = None
    """Optimiser steps after which an old weight counts for half in the average: another way to say
    `decay: 0.5 ** (1 / half_life)`. `run` takes a tenth of the steps of the run, at most 693."""
    warmup: bool = True
    """Reach the decay gradually, min(decay, (1 + n) / (10 + n)) at step n, so that a random start is soon forgotten."""

    @property
    def share_kept(self) -> float | None:
        """Share of the old average kept at each optimiser step once warm; None where the run's length decides it."""
        if self.half_life == "run":
            return None
        if self.half_life is not None:
            return float(0.5 ** (1 / self.half_life))
        return DEFAULT_DECAY if self.decay is None else self.decay

    def problems(self) -> Problems:
        """Yield a decay outside (0, 1), an impossible half-life and one beside a decay."""
        if self.decay is not None and not 0 < self.decay < 1:
            yield "decay", f"is {self.decay}; must lie strictly between 0 and 1"
        if isinstance(self.half_life, float) and self.half_life <= 0:
            yield "half_life", f"is {self.half_life}; must be above 0 optimiser steps"
        if self.half_life is not None and self.decay is not None:
            shown = self.half_life if isinstance(self.half_life, str) else f"{self.half_life:g}"
            yield "half_life", f"is {shown} beside decay {self.decay:g}; give one of them, the other null"


@dataclass(frozen=True)
class Optim:
    """Optimiser, schedule and averaging."""

    name: str = "adamw"
    """Optimiser, by its name in timm (`adamw`, `sgd`, `lamb`, ...)."""
    lr: float = 1e-3
    """Learning rate after warm-up. `auto` finds one by a range test (Smith, 2017) before the first step: steps with
    ever higher rates, up to where the loss grows."""
    lr_reference_batch: int | None = None
    """Scale the learning rates linearly by effective batch / this number; null takes them as written."""
    lr_factors: dict[str, float] = field(default_factory=dict)
    """Factors of the learning rate by globs of parameter names, as in `{"backbone.*": 0.1}`. Where several globs match,
    the last one counts; `layer_decay` multiplies it."""
    min_lr: float = 0.0
    """Learning rate at the end of the schedules `cosine` and `warmup_stable_decay`; `lr_reference_batch`, `lr_factors`
    and `layer_decay` scale it along with `lr`."""
    warmup_lr: float = 0.0
    """Learning rate at the first step of the warm-up; `lr_reference_batch`, `lr_factors` and `layer_decay` scale it
    too, along with `lr`."""
    warmup_epochs: float = 0.0
    """Length of the linear warm-up in epochs, counted in optimiser steps."""
    warmup_steps: int = 0
    """Length of the linear warm-up in optimiser steps, instead of `warmup_epochs`."""
    schedule: Literal["cosine", "warmup_stable_decay", "step", "constant"] = "cosine"
    """After the warm-up: half a cosine down to `min_lr`, no change until the last `decay_share` of the steps and a line
    down to `min_lr` over them, a drop by `gamma` at each of `milestones`, or no change."""
    decay_share: float = 0.4
    """Schedule `warmup_stable_decay`: share of the steps over which the learning rate falls."""
    milestones: list[float] = field(default_factory=list)
    """Schedule `step`: epochs after which the learning rate drops, such as `[40]`."""
    gamma: float = 0.1
    """Schedule `step`: what each milestone multiplies the learning rate by."""
    weight_decay: float = 0.05
    """Decoupled weight decay; biases, norms and what the model exempts (positions, tokens) get none."""
    decay_also: list[str] = field(default_factory=list)
    """Globs of names of parameters that decay although `weight_decay` would spare them, for recipes that were published
    so."""
    betas: tuple[float, float] | None = None
    """Adam's decay rates; null takes the optimiser's own."""
    layer_decay: float | None = None
    """Multiply the learning rate by this for each layer further from the head; null treats all layers alike."""
    clip_each_norm: float | None = None
    """Clip the gradient of every parameter tensor by itself to this norm; null for none.
    `trainer.gradient_clip_val` clips all of them together."""
    ema: AverageWeights | None = None
    """Moving average of the weights; null for none."""

    def problems(self) -> Problems:
        """Yield values an optimiser would refuse or silently misuse."""
        if self.lr <= 0:
            yield "lr", f"is {self.lr}; must be above 0"
        for key in ("min_lr", "warmup_lr", "warmup_epochs", "warmup_steps", "weight_decay"):
            if getattr(self, key) < 0:
                yield key, f"is {getattr(self, key)}; must be 0 or more"
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            yield "layer_decay", f"is {self.layer_decay}; must lie in (0, 1]"
        if self.clip_each_norm is not None and self.clip_each_norm <= 0:
            yield "clip_each_norm", f"is {self.clip_each_norm}; must be above 0 (null for none)"
        if self.lr_reference_batch is not None and self.lr_reference_batch < 1:
            yield "lr_reference_batch", f"is {self.lr_reference_batch}; must be at least 1"
        for glob, factor in self.lr_factors.items():
            if factor <= 0:
                yield "lr_factors", f"is {factor} for `{glob}`; must be above 0 (model.freeze excludes from training)"
        if self.warmup_steps > 0 and self.warmup_epochs > 0:
            yield "warmup_steps", f"is {self.warmup_steps} beside warmup_epochs {self.warmup_epochs:g}; set one to 0"
        yield from self._schedule_problems()

    def _schedule_problems(self) -> Problems:
        milestones = self.milestones
        if not 0 < self.decay_share <= 1:
            yield "decay_share", f"is {self.decay_share}; must lie in (0, 1]"
        if self.gamma <= 0:
            yield "gamma", f"is {self.gamma}; must be above 0"
        if any(epoch <= 0 for epoch in milestones) or milestones != sorted(set(milestones)):
            yield "milestones", f"is {milestones}; must be epochs above 0, each later than the one before"
        if self.schedule == "step" and not milestones:
            yield "milestones", "is empty; the schedule `step` needs the epochs of its drops, as in [40]"
        if self.schedule == "step" and self.min_lr:
            yield "min_lr", f"is {self.min_lr}, which the schedule `step` does not reach; set it to 0"
        if self.schedule != "step" and milestones:
            yield "milestones", f"is {milestones}, but schedule is `{self.schedule}`; set schedule to step"
