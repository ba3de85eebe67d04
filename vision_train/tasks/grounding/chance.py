"""A grounding network that guesses: it does no better than one and the same box for every expression."""

from __future__ import annotations

from vision_train.semi.alike import alike_share
from vision_train.statistics import exact_bounds
from vision_train.tasks.chance import LEARN_MORE, too_few
from vision_train.tasks.grounding.results import ACCURACY, Results, measure, true_shares
from vision_train.wording import count_of


def chance_warnings(results: Results, split: str) -> list[str]:
    """Say whether the result could be that of a network that sees neither image nor expression.

    Such a network answers with one box: the middle one of the true boxes (the median of each side, in shares of the
    image), towards which an L1 loss draws it. Where most objects lie at one of several places, another box would find
    more. The accuracy of the middle one on these expressions is known, and one up to its upper bound (Clopper and
    Pearson, one-sided 95 %) could be that of guessing. Images are counted and not expressions, several of which may
    mean one object. Our choice.

    Args:
        results: Of the expressions that the run is judged by.
        split: Name of their split.
    """
    images = len({each.group for each in results.values()})
    if not images:
        return []
    reached, constant = measure(results)[ACCURACY.name], alike_share(true_shares(results))
    lucky = exact_bounds(round(constant * images), images).high
    if reached > lucky:
        return []
    told = f"{count_of(len(results), 'expressions')} of {count_of(images, 'images')}"
    because = LEARN_MORE if lucky < 1 else too_few(split, "more images, with objects in other places,")
    return [
        f"{ACCURACY.title} on {split} is {reached:.1%}, which {told} cannot tell from that of one and the same box for "
        f"every expression ({constant:.1%}). {because}"
    ]
