"""Which samples of a pool are taken with their pseudo labels. All of it is our choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from hashlib import blake2b

from torch import Tensor


def select(
    ids: Sequence[str],
    scores: Tensor,
    budget: int,
    *,
    seed: int,
    eligible: Tensor | None = None,
    excluded: Collection[str] = (),
    strata: Sequence[Hashable] | None = None,
) -> list[str]:
    """The samples of the highest scores.

    The order of the pool does not matter, and a smaller budget takes the first of what a larger one takes. Equal scores
    are put in order by a hash of seed and id, so that no class is favoured because its names come first.

    Strata take turns: each gives its best sample, then each its second best, and so on; within a turn the higher score
    comes first. A stratum that has no more leaves its share to the others.

    Args:
        ids: N different ones.
        scores: N; those that are not finite are never selected.
        budget: The most that are taken; fewer where fewer are left.
        seed: Of this round.
        eligible: N, False for those below a floor; None lets all be taken.
        excluded: Ids that are never taken: labelled ones, and those of earlier rounds where these stay.
        strata: N, such as the predicted classes; None for one stratum.

    Returns:
        Ids, the first taken first.

    Raises:
        ValueError: An id occurs twice, numbers of samples differ, or the budget is negative.
    """
    _check(ids, scores, eligible, strata, budget)
    allowed = scores.isfinite() if eligible is None else scores.isfinite() & eligible
    values, draws, barred = scores.tolist(), [_draw(seed, each) for each in ids], set(excluded)
    places = [at for at in allowed.nonzero().flatten().tolist() if ids[at] not in barred]
    places.sort(key=lambda at: (-values[at], draws[at], ids[at]))
    if strata is not None:
        taken: Counter[Hashable] = Counter()
        turns = {}
        for at in places:
            turns[at] = taken[strata[at]]
            taken[strata[at]] += 1
        places.sort(key=turns.__getitem__)  # stable: within a turn the higher score stays first
    return [ids[at] for at in places[:budget]]


def _check(
    ids: Sequence[str],
    scores: Tensor,
    eligible: Tensor | None,
    strata: Sequence[Hashable] | None,
    budget: int,
) -> None:
    lengths = {len(each) for each in (ids, scores, eligible, strata) if each is not None}
    if len(lengths) > 1:
        raise ValueError(f"ids, scores, eligible and strata are of as many samples; got {sorted(lengths)}")
    if len(set(ids)) < len(ids):
        raise ValueError(f"id `{Counter(ids).most_common(1)[0][0]}` occurs twice")
    if budget < 0:
        raise ValueError(f"a budget is at least 0, got {budget}")


def _draw(seed: int, sample: str) -> float:
    """A number in (0, 1) that a sample has whatever else is in the pool."""
    digest = blake2b(f"{seed} {sample}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return ((int.from_bytes(digest, "big") >> 12) + 0.5) / 2**52
