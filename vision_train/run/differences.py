"""How two recipes, two lists of samples and two sets of versions differ, and what each difference means for a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from vision_train.recipe import Recipe, to_plain
from vision_train.recipe.layers import show
from vision_train.run.conditions import Listed, digest_of

Verdict = Literal["harmless", "accept", "refused"]

HARMLESS = (
    *("name", "description", "data.workers", "run.on_nan", "model.attention", "model.compile"),
    *("trainer.accelerator", "trainer.strategy", "trainer.deterministic", "trainer.benchmark"),
    *("trainer.inference_mode", "trainer.detect_anomaly", "trainer.log_every_n_steps", "trainer.num_sanity_val_steps"),
    *("trainer.limit_test_batches", "trainer.limit_predict_batches"),
)
"""Keys that do not change what is learnt, rounding aside."""
REFUSED = {
    "task": "another task trains another network",
    "seed": "what was drawn so far was drawn with the other one",
    "model.name": "the weights so far are those of the other network",
    "model.freeze": "the state of the optimiser belongs to other parameters",
    "optim.name": "the state of the optimiser is that of the other one",
    "optim.layer_decay": "the state of the optimiser belongs to other groups of parameters",
    "optim.lr_factors*": "the state of the optimiser belongs to other groups of parameters",
    "optim.ema": "an average begins with the training",
    "run.pretrain": "acts at the start alone",
    "model.checkpoint*": "acts at the start alone",
    "model.fresh": "acts at the start alone",
    "model.min_matched_share": "acts at the start alone",
    "model.head_std": "acts at the start alone",
}
"""Globs of keys that cannot change within a run -> why. All other keys change how it goes on, if that is accepted."""
SAMPLES = "data.samples"
"""The key under which other samples are accepted."""
MOST_NAMED = 3
"""Samples of one kind that a message names."""


@dataclass(frozen=True)
class Difference:
    """Something that was otherwise when the checkpoint was written."""

    key: str
    then: str
    now: str
    verdict: Verdict
    why: str = ""

    def __str__(self) -> str:
        means = {"accept": f"needs --accept {self.key}", "refused": "cannot change within a run"}
        meaning = means.get(self.verdict, self.verdict) + (f": {self.why}" if self.why else "")
        return f"{self.key}: {self.then}, now {self.now} ({meaning})"


def recipe_differences(then: Recipe, now: Recipe) -> Iterator[Difference]:
    """Keys whose values differ."""
    old, new = _flat(to_plain(then)), _flat(to_plain(now))
    if (then.optim.ema is None) != (now.optim.ema is None):
        was, became = ("null" if recipe.optim.ema is None else "a moving average" for recipe in (then, now))
        yield Difference("optim.ema", was, became, "refused", REFUSED["optim.ema"])
        old, new = ({k: v for k, v in each.items() if not k.startswith("optim.ema")} for each in (old, new))
    for key in dict.fromkeys([*old, *new]):
        if key in old and key in new and old[key] == new[key]:
            continue
        was, became = (show(each[key]) if key in each else "not set" for each in (old, new))
        why = next((reason for glob, reason in REFUSED.items() if fnmatchcase(key, glob)), "")
        verdict: Verdict = "refused" if why else "harmless" if key in HARMLESS else "accept"
        yield Difference(key, was, became, verdict, why)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted key; an empty mapping has none."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inside = _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        flat |= inside
    return flat


def version_differences(then: Mapping[str, str | None], now: Mapping[str, str | None]) -> Iterator[Difference]:
    """Packages of other versions. What does not fit together is found out by other checks."""
    for package in dict.fromkeys([*then, *now]):
        old, new = (each.get(package) or "not installed" for each in (then, now))
        if old != new:
            yield Difference(package, old, new, "harmless", "figures may differ in their last digits")


def sample_differences(then: Mapping[str, Mapping[str, Any]], listed_then: Listed, now: Listed) -> Iterator[Difference]:
    """Splits with other samples or truths, and samples that were trained on and are now to be measured on.

    Args:
        then: Count and digest of each split, as the checkpoint has them.
        listed_then: The samples themselves, as the phase wrote them; empty where that file is gone.
        now: Those of today.
    """
    changed = [split for split in dict.fromkeys([*then, *now]) if _digest(then, split) != digest_of(now.get(split, {}))]
    for split in changed:
        old, new = listed_then.get(split, {}), now.get(split, {})
        known = digest_of(old) == _digest(then, split)
        said = _sample_changes(old, new) if known else f"{len(new):,} others"
        yield Difference(SAMPLES, f"{then.get(split, {}).get('count', 0):,} of {split}", said, "accept")
    learnt = listed_then.get("train", {})
    for split in ("val", "test"):
        if learnt and split in changed and (moved := [name for name in now.get(split, {}) if name in learnt]):
            yield Difference(
                SAMPLES,
                f"{_some(moved)} trained on",
                f"of {split}",
                "refused",
                "the run would be measured on what it has learnt from",
            )


def _digest(then: Mapping[str, Mapping[str, Any]], split: str) -> str:
    return then[split]["digest"] if split in then else digest_of({})


def _sample_changes(old: Mapping[str, str | None], new: Mapping[str, str | None]) -> str:
    came, gone = [name for name in new if name not in old], [name for name in old if name not in new]
    other = [f"{name} from {old[name]} to {new[name]}" for name in new if name in old and old[name] != new[name]]
    parts = [f"{_some(names)} {what}" for names, what in ((came, "more"), (gone, "gone")) if names]
    parts += [f"another truth of {_some(other)}"] if other else []
    return ", ".join(parts) or "the same in another order"


def _some(names: list[str]) -> str:
    rest = len(names) - MOST_NAMED
    return f"{len(names):,} ({', '.join(names[:MOST_NAMED])}{f' and {rest:,} others' if rest > 0 else ''})"
