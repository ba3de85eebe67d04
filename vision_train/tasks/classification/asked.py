"""What a classifier says of unlabelled images under several views, and the labels that follow from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from models.attention_row import predict_with_attention
from vision_train.semi.answers import Answer
from vision_train.semi.health import distance_to_prior, normalised_entropy
from vision_train.semi.label_file import PseudoLabel
from vision_train.semi.monitor import COLLAPSED, UNEVEN
from vision_train.semi.pseudo_labels import teacher_probabilities
from vision_train.semi.score import class_confidence, class_faithfulness, class_robustness, most_attended
from vision_train.semi.voting import most_agreed, vote
from vision_train.wording import first_named, percent


def answer(
    network: nn.Module, ids: Sequence[str], views: Sequence[Tensor], scores: Collection[str], grid: tuple[int, int]
) -> list[Answer]:
    """Ask a classifier about a batch of images.

    Args:
        network: In evaluation mode.
        ids: B.
        views: V views of the images, B 3 H W; the first is that of validation.
        scores: Names of the scores that are wanted.
        grid: Rows and columns of the cells of the network's attention, where faithfulness is wanted.
    """
    first = predict_with_attention(network, views[0]) if "faithfulness" in scores else None
    logits = [network(views[0]) if first is None else first.logits, *(network(view) for view in views[1:])]
    said = torch.stack([teacher_probabilities(each) for each in logits])  # V B C
    finite = said.isfinite().all(dim=-1).all(dim=0)
    known = torch.where(finite[:, None], said, 1 / said.shape[-1])  # what is not finite gets a score of NaN below
    found = {"confidence": class_confidence(known)[0]}
    if "robustness" in scores:
        found["robustness"] = class_robustness(known)
    if first is not None:
        hidden = teacher_probabilities(network(_without(views[0], most_attended(first.attention), grid)))
        found["faithfulness"] = class_faithfulness(known[0], torch.where(hidden.isfinite(), hidden, known[0]))
    columns = {name: torch.where(finite, values, torch.nan).tolist() for name, values in found.items()}
    rows = said.double().mean(dim=0).float().cpu().numpy()
    return [
        Answer(name, row, {score: values[place] for score, values in columns.items()})
        for place, (name, row) in enumerate(zip(ids, rows, strict=True))
    ]


def _without(images: Tensor, hidden: Tensor, grid: tuple[int, int]) -> Tensor:
    """Images whose hidden cells (B N) show the mean of the training images: 0, once normalised."""
    cells = hidden.view(-1, 1, *grid).to(images.dtype)
    return images * (1 - nn.functional.interpolate(cells, size=images.shape[-2:], mode="nearest"))


def labels_of(answers: Sequence[Sequence[Answer]], classes: Sequence[str], class_cap: int | None) -> list[PseudoLabel]:
    """Let voters vote; of a single one, the label is its likeliest class.

    Images of which a voter says nothing finite get no label.

    Args:
        answers: V voters on the same N images in the same order.
        classes: C names.
        class_cap: Labels of each class that are kept at most; None keeps all.
    """
    said = torch.stack([torch.stack([torch.from_numpy(each.said) for each in of_one]) for of_one in answers])  # V N C
    usable = said.isfinite().all(dim=-1).all(dim=0)
    votes = vote(torch.where(usable[:, None], said, 0.0))
    kept = usable.clone()
    if class_cap is not None and usable.any():
        kept[usable] = most_agreed(vote(said[:, usable]), class_cap)
    counts = (votes.shares * len(answers)).round().int()
    confidence = votes.probabilities.gather(1, votes.labels[:, None])[:, 0].tolist()
    labels = []
    for place, first in enumerate(answers[0]):
        if not usable[place]:
            labels.append(PseudoLabel(first.id, "", kept=False, share=0.0, scores=first.scores))
            continue
        name = classes[int(votes.labels[place])]
        named = {classes[each]: int(counts[place, each]) for each in counts[place].nonzero().flatten().tolist()}
        scores = first.scores if len(answers) == 1 else {"confidence": confidence[place]}
        share = float(votes.agreement[place])
        labels.append(PseudoLabel(first.id, name, bool(kept[place]), share, named, stratum=name, scores=scores))
    return labels


def judged(
    labels: Sequence[PseudoLabel], classes: Sequence[str], counts: Sequence[int]
) -> tuple[list[PseudoLabel], list[str]]:
    """Judge the labels of a pool; nothing of that reads a label of its files.

    Args:
        labels: Of the whole pool.
        classes: C names.
        counts: Labelled images of each class; empty where they are not known.

    Returns:
        The labels, none of which is kept where they have collapsed to few classes, and what is wrong, in sentences.
    """
    warnings = _warnings(labels, classes)
    given = Counter(each.label for each in labels if each.label)
    if not given or not sum(counts):
        return list(labels), warnings
    shares, prior = ([n / sum(of) for n in of] for of in ([given[name] for name in classes], counts))
    found, expected = normalised_entropy(shares), normalised_entropy(prior)
    if found >= UNEVEN * expected:
        return list(labels), warnings
    warnings.append(
        f"pseudo-labels gather in few classes: {percent(distance_to_prior(shares, prior))} of them would have to "
        "change class for the frequencies of the labelled images; train longer before the pool is labelled "
        "(semi.burn_in)"
    )
    if found >= COLLAPSED * expected:
        return list(labels), warnings
    warnings.append("none of these pseudo-labels is learnt from; the run goes on with labelled images alone")
    return [replace(each, kept=False, stratum="") for each in labels], warnings


def _warnings(labels: Sequence[PseudoLabel], classes: Sequence[str]) -> list[str]:
    warnings = []
    if silent := sum(not each.label for each in labels):
        warnings.append(
            f"the networks that label the pool returned values that are not finite for {silent:,} of its "
            f"{len(labels):,} images, which get no label; lower optim.lr, or train with trainer.precision=32-true"
        )
    named = {name for each in labels for name in each.votes}
    if never := [name for name in classes if name not in named]:
        warnings.append(
            f"no image of the pool is labelled {first_named(never)}, so nothing is learnt of that from it; label more "
            "images of such classes, or train longer before the pool is labelled (semi.burn_in)"
        )
    return warnings
