"""Mean teacher's consistency loss, its ramp, and the bound of what the pool may add to the loss."""

from __future__ import annotations

from torch import Tensor

from vision_train.processes import sum_over_processes

RAMP = 0.4
"""Share of the steps over which the weight of consistency rises from 0."""
MOST = 4.0
"""How often the loss of labelled images the loss of the pool may weigh; without a bound it was seen at 1,000 times."""


def consistency_loss(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Squared difference of softmaxes, averaged over images and classes (Tarvainen and Valpola, NeurIPS 2017).

    The official code of USB compares the teacher's answer with itself, so that its loss is exactly 0; here the student
    answers for the strong view and the teacher for the weak one.

    Args:
        logits: Of the student, U C.
        probabilities: Of the teacher, U C; no gradient flows through them.

    Returns:
        Scalar, float32.
    """
    return (logits.float().softmax(dim=-1) - probabilities.detach()).square().mean()


def ramp(step: int, steps: int, share: float = RAMP) -> float:
    """Factor in [0, 1] that rises in proportion to the optimiser step, from 0, until a share of the steps is done.

    Args:
        step: Steps done, from 0.
        steps: Of the whole run.
        share: In (0, 1].
    """
    return min(max(step / (share * steps), 0.0), 1.0)


def capped(pool_loss: Tensor, labelled_loss: Tensor, most: float = MOST) -> Tensor:
    """The loss of the pool, made smaller where it exceeds a multiple of the loss of labelled images.

    The factor is detached: the direction of the gradient stays, its size shrinks. It is the same in all processes.

    Args:
        pool_loss: Scalar with its weight, ``lambda * L_uns``.
        labelled_loss: Scalar, ``L_sup``.
        most: The multiple.
    """
    pool, labelled = (sum_over_processes(loss.detach().float()) for loss in (pool_loss, labelled_loss))
    # Where the pool's loss is 0 any factor will do; the bound keeps the quotient finite.
    return pool_loss * (most * labelled / pool.clamp(min=1e-12)).clamp(max=1)
