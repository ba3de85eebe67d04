"""How two recipes, two lists of samples and two sets of versions differ, and what each difference means for a run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from vision_train.recipe import Recipe, to_plain
from vision_train.recipe.layers import show
from vision_train.run.sample_lists import EARLIER, ListedSample, SampleLists, digest_of, known_by

Verdict = Literal["harmless", "accept", "accepted", "refused"]

HARMLESS = (
    *("name", "description", "data.workers", "run.on_nan", "run.keep", "run.trackers"),
    "run.threads",
    *("model.attention", "model.compile"),
    *("trainer.accelerator", "trainer.strategy", "trainer.deterministic", "trainer.benchmark"),
    *("trainer.inference_mode", "trainer.detect_anomaly", "trainer.log_every_n_steps", "trainer.num_sanity_val_steps"),
    *("trainer.limit_test_batches", "trainer.limit_predict_batches", "data.allow_overlap"),
    "data.pseudo_labels",  # it lies in the run, which may move; the labels themselves are compared with the samples
)
"""Keys that do not change what is learnt, rounding aside."""
OTHER_NETWORK = "the weights so far are those of another network, also where their shapes fit"
REFUSED = {
    "task": "another task trains another network",
    "seed": "what was drawn so far was drawn with the other one",
    "model.name": "the weights so far are those of the other network",
    "model.args.*": OTHER_NETWORK,
    "model.positions": OTHER_NETWORK,
    "method.decoder.*": OTHER_NETWORK,
    "model.lora*": "the weights so far have other adapters",
    "model.freeze": "the state of the optimiser belongs to other parameters",
    "model.freeze_first*": "the state of the optimiser belongs to other groups of parameters",
    "optim.name": "the state of the optimiser is that of the other one",
    "optim.layer_decay": "the state of the optimiser belongs to other groups of parameters",
    "optim.lr_factors*": "the state of the optimiser belongs to other groups of parameters",
    "optim.decay_also": "the state of the optimiser belongs to other groups of parameters",
    "optim.ema": "an average begins with the training",
    "run.pretrain": "acts at the start alone",
    "model.checkpoint*": "acts at the start alone",
    "model.fresh": "acts at the start alone",
    "model.min_matched_share": "acts at the start alone",
    "model.head_std": "acts at the start alone",
}
"""Globs of keys that cannot change within a run -> why. All other keys change how it goes on, if that is accepted."""
RATES = ("model.args.*drop*",)
"""Globs of keys that are none of these: shares that are dropped in training."""
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
    old, new = flat(to_plain(then)), flat(to_plain(now))
    if (then.optim.ema is None) != (now.optim.ema is None):
        was, became = ("null" if recipe.optim.ema is None else "a moving average" for recipe in (then, now))
        yield Difference("optim.ema", was, became, "refused", REFUSED["optim.ema"])
        old, new = ({k: v for k, v in each.items() if not k.startswith("optim.ema")} for each in (old, new))
    for key in dict.fromkeys([*old, *new]):
        if key in old and key in new and old[key] == new[key]:
            continue
        was, became = (show(each[key]) if key in each else "not set" for each in (old, new))
        why = "" if _matches(key, RATES) else next((REFUSED[glob] for glob in REFUSED if _matches(key, [glob])), "")
        verdict: Verdict = "refused" if why else "harmless" if key in HARMLESS else "accept"
        yield Difference(key, was, became, verdict, why)


def _matches(key: str, globs: Collection[str]) -> bool:
    return any(fnmatchcase(key, glob) for glob in globs)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of nested mappings by dotted key; an empty mapping has none."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def version_differences(then: Mapping[str, str | None], now: Mapping[str, str | None]) -> Iterator[Difference]:
    """Packages of other versions. What does not fit together is found out by other checks."""
    for package in dict.fromkeys([*then, *now]):
        old, new = (each.get(package) or "not installed" for each in (then, now))
        if old != new:
            yield Difference(package, old, new, "harmless", "figures may differ in their last digits")


def sample_differences(
    then: Mapping[str, Mapping[str, Any]],
    before: SampleLists,
    now: SampleLists,
    *,
    trained_on: Collection[str] = ("train",),
    allow_overlap: bool = False,
) -> Iterator[Difference]:
    """Splits with other samples, truths or contents, and samples trained on that are now to be measured on.

    Args:
        then: Count and digest of each split, as the checkpoint has them.
        before: The samples themselves, as the phase wrote them; empty where that file is gone.
        now: Those of today.
        trained_on: Splits that training draws from.
        allow_overlap: Whether the recipe allows to measure on what was trained on.
    """
    for split in dict.fromkeys([*then, *now]):
        old, new = before.get(split, []), now.get(split, [])
        digest = then[split]["digest"] if split in then else digest_of([])
        said = _sample_changes(old, new) if digest_of(old) == digest else f"{len(new):,} others"
        others = digest != digest_of(new)
        if others or _with_other_content(old, new):
            # A test image that was repaired has changed nothing of the training.
            verdict: Verdict = "harmless" if split == "test" and not others else "accept"
            yield Difference(SAMPLES, f"{then.get(split, {}).get('count', 0):,} of {split}", said, verdict)
    learnt = [each for split in trained_on for name in (split, EARLIER + split) for each in before.get(name, [])]
    known = known_by(learnt) | {each.id for each in learnt}
    for split in ("val", "test"):
        measured = {sample.id for sample in before.get(split, [])}
        moved = [
            each.id for each in now.get(split, []) if each.id not in measured and known & {each.id, *each.known_by}
        ]
        if moved:
            yield Difference(
                SAMPLES,
                f"{_some(moved)} trained on",
                f"of {split}",
                "accept" if allow_overlap else "refused",
                "the run would be measured on what it has learnt from",
            )


def _sample_changes(old: Sequence[ListedSample], new: Sequence[ListedSample]) -> str:
    was, became = ({sample.id: sample.truth for sample in samples} for samples in (old, new))
    common = [name for name in became if name in was]
    other = [f"{name} from {was[name]} to {became[name]}" for name in common if was[name] != became[name]]
    changes = {
        "also": [name for name in became if name not in was],
        "without": [name for name in was if name not in became],
        "with another truth of": other,
        "with another content of": _with_other_content(old, new),
    }
    said = [f"{what} {_some(names)}" for what, names in changes.items() if names]
    return ", ".join(said) or "the same in another order"


def _with_other_content(old: Sequence[ListedSample], new: Sequence[ListedSample]) -> list[str]:
    """Samples whose files were replaced, as far as that is known."""
    marks = {sample.id: sample.mark for sample in old}
    return [each.id for each in new if each.mark and marks.get(each.id) and marks[each.id] != each.mark]


def _some(names: list[str]) -> str:
    rest = len(names) - MOST_NAMED
    return f"{len(names):,} ({', '.join(names[:MOST_NAMED])}{f' and {rest:,} others' if rest > 0 else ''})"
