"""What a network is in its training, as the names of containers and prefixes tell it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from enum import IntEnum


class Role(IntEnum):
    """What a network is in its training; the lowest is taken."""

    AVERAGED = 0
    TEACHER = 1
    PLAIN = 2
    STUDENT = 3


DEEPEST = 4
"""Containers within containers, or prefixes within prefixes, that are looked into; a file may even hold itself."""
_WORDS = {
    Role.AVERAGED: {"averaged", "average", "avg", "ema", "swa", "polyak", "shadow"},
    Role.TEACHER: {"teacher", "target", "momentum"},
    Role.STUDENT: {"student", "online"},
}
_WHOLE_WORDS = {
    # Contrastive learning's names for the pair of networks.
    "encoder_k": Role.TEACHER,
    "key_encoder": Role.TEACHER,
    "encoder_q": Role.STUDENT,
    "query_encoder": Role.STUDENT,
    "base_encoder": Role.STUDENT,
    "momentum_encoder": Role.TEACHER,
    "target_encoder": Role.TEACHER,
    # Alone it may as well be what an optimiser remembers.
    "momentum": Role.PLAIN,
}
_LETTERS = {
    # The last letter of a name -> the role, and the last letter of its twin: `visual_encoder_m` of `visual_encoder`.
    "m": (Role.TEACHER, ""),
    "k": (Role.TEACHER, "q"),
    "q": (Role.STUDENT, "k"),
    "t": (Role.TEACHER, "s"),
    "s": (Role.STUDENT, "t"),
}
_OF_TRAINING = (
    *("optim", "sched", "scaler", "rng", "loss", "criterion", "callback", "metric"),
    *("buffer", "exp_avg", "velocity", "grad", "averaging_state"),
)
"""Parts of the names of containers whose tensors belong to training."""


def is_of_training(component: str) -> bool:
    """Whether what stands below a name is no network, but what an optimiser, a loss or a metric remembers."""
    return any(part in component.lower() for part in _OF_TRAINING)


def role_of(component: str) -> Role:
    """The role that one name of a dotted place tells; plain where it tells none."""
    lowered = component.lower()
    if lowered in _WHOLE_WORDS:
        return _WHOLE_WORDS[lowered]
    if is_of_training(lowered):
        return Role.PLAIN
    words = set(lowered.split("_"))
    return next((role for role, known in _WORDS.items() if words & known), Role.PLAIN)


def without_role(component: str) -> str:
    """``backbone`` of ``backbone_momentum``, nothing of ``teacher``."""
    return "" if component.lower() in _WHOLE_WORDS else divided(component)[0]


def divided(component: str) -> tuple[str, str]:
    """What a name with a role calls, and the word for the role: ``backbone`` and ``momentum``."""
    words = _WORDS.get(role_of(component), set())
    plain = "_".join(word for word in component.split("_") if word and word.lower() not in words)
    return plain, next((word for word in component.split("_") if word.lower() in words), component)


def twins_by_letter(names: Iterable[str]) -> dict[str, Role]:
    """Prefixes that differ from another in the last letter alone and hold the same names, such as ``encoder_m.``.

    Neither blocks nor single layers count: ``to_q`` and ``to_k`` are parts of attention.
    """
    inside: dict[str, set[str]] = defaultdict(set)
    for name in names:
        parts = name.split(".")
        for cut in range(1, min(len(parts), DEEPEST + 1)):
            if parts[cut - 1].isdigit():
                break
            inside[".".join(parts[:cut])].add(".".join(parts[cut:]))
    found = {}
    for prefix, held in inside.items():
        stem, _, letter = prefix.rpartition("_")
        if letter not in _LETTERS:
            continue
        role, twin = _LETTERS[letter]
        theirs = inside.get(f"{stem}_{twin}".rstrip("_"), set())
        if len(held) > 2 and len(held & theirs) * 2 > len(held):
            found[prefix] = role
    return found
