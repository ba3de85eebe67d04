"""What became of every tensor when a weights file met a model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from vision_train.artefacts import Table

Outcome = Literal["matched", "resized", "reinitialised", "fresh", "mismatched", "missing", "unexpected"]
OUTCOMES: dict[Outcome, str] = {
    "matched": "loaded as they are",
    "resized": "loaded after resizing",
    "reinitialised": "part of the head, left as freshly initialised",
    "fresh": "named by model.fresh, or not in networks of the file's kind, left as freshly initialised",
    "mismatched": "not loaded, of another shape or complex-valued",
    "missing": "not in the file, left as freshly initialised",
    "unexpected": "in the file, without a place in the model",
}
"""Every outcome in the order of reports, and what it means."""


@dataclass(frozen=True)
class Entry:
    """One tensor of the model or of the file."""

    name: str
    outcome: Outcome
    file_shape: tuple[int, ...] | None
    """None where the file has no such tensor."""
    model_shape: tuple[int, ...] | None
    """None where the model has no such tensor."""
    head: bool = False
    """Belongs to the classifier; heads count in no share."""
    fresh: bool = False
    """Need not be filled, as the recipe says; such tensors count in no share."""
    essential: bool = False
    """The rest means nothing without it, however small it is."""

    @property
    def parameters(self) -> int:
        """Number of values, in the model if it has the tensor, else in the file."""
        shape = self.model_shape if self.model_shape is not None else self.file_shape
        return prod(shape or ())


@dataclass(frozen=True)
class LoadReport:
    """Which tensors were loaded, resized, left fresh or not used."""

    source: str
    """What was read, in words."""
    family: str | None
    """What kind of network the file seems to hold."""
    entries: tuple[Entry, ...]
    """Every tensor of the model, then those of the file that found no place."""
    not_finite: tuple[str, ...] = ()
    """Names loaded with values that are NaN or infinite."""
    part: str = ""
    """Dotted name of the part of the network that the file was for; names above are relative to it. Empty for all."""
    conflicts: tuple[str, ...] = ()
    """Why the file holds another network than the model, although tensors fit; with what to do."""
    notes: tuple[str, ...] = ()
    """What is assumed of the file, and small differences."""
    head: str = ""
    """What to know of a head's classes that are not simply those of the data, as a sentence; else empty."""
    classes: tuple[str, ...] | None = None
    """The classes that heads know as they are loaded, where the translation of the file's names says them."""

    def names(self, outcome: Outcome) -> list[str]:
        """All names of one outcome, in the model's order."""
        return [entry.name for entry in self.entries if entry.outcome == outcome]

    def parameters(self, outcome: Outcome) -> int:
        """Number of values of one outcome."""
        return sum(entry.parameters for entry in self.entries if entry.outcome == outcome)

    @property
    def matched(self) -> list[str]:
        """Names loaded as they are."""
        return self.names("matched")

    @property
    def resized(self) -> list[str]:
        """Names loaded after resizing; their entries hold both shapes."""
        return self.names("resized")

    def filled(self, together: Mapping[str, Sequence[str]]) -> list[str]:
        """Names in the whole network of what the file filled.

        Args:
            together: Names of parts that are several modules or tensors, and the dotted names of these.
        """
        inside = together[self.part][0].rpartition(".")[0] if self.part in together else self.part
        prefix = f"{inside}." if inside else ""
        return [f"{prefix}{name}" for name in (*self.matched, *self.resized)]

    @property
    def reinitialised(self) -> list[str]:
        """Names of the head that stay freshly initialised."""
        return self.names("reinitialised")

    @property
    def fresh(self) -> list[str]:
        """Names that need not be filled and stay freshly initialised."""
        return self.names("fresh")

    @property
    def missing(self) -> list[str]:
        """Names outside the head that the file could not fill, for want of a tensor or of the right shape."""
        return self.names("mismatched") + self.names("missing")

    @property
    def unexpected(self) -> list[str]:
        """Names in the file without a place in the model."""
        return self.names("unexpected")

    @property
    def matched_share(self) -> float:
        """Share of the parameters that the file filled, 0 to 1, of those outside heads that it has to fill."""
        body = [entry for entry in self.entries if entry.model_shape is not None and not (entry.head or entry.fresh)]
        filled = sum(entry.parameters for entry in body if entry.outcome in ("matched", "resized"))
        return filled / sum(entry.parameters for entry in body) if body else 1.0

    @property
    def essential(self) -> list[Entry]:
        """Essential tensors that the file could not fill, though nobody said that they may start fresh."""
        open_ = [entry for entry in self.entries if entry.outcome in ("mismatched", "missing")]
        return [entry for entry in open_ if entry.essential and not entry.fresh]

    def problems(self) -> list[str]:
        """Why a recipe may not start from the file, whatever the share, each with what to do."""
        problems = list(self.conflicts)
        if absent := self.essential:
            some = ", ".join(map(_with_shapes, absent[:6])) + (
                f" and {len(absent) - 6} more" if len(absent) > 6 else ""
            )
            globs = ",".join(dict.fromkeys(_glob(f"{self.part}.{entry.name}".lstrip(".")) for entry in absent))
            problems.append(
                f"The rest means nothing without {some}, which would stay random. Name the model that the file belongs "
                f"to (model.name, model.args), or let them start fresh with 'model.fresh=[{globs}]'"
            )
        return problems

    def fits(self, min_matched_share: float) -> bool:
        """Whether a run that asks for ``min_matched_share`` would take the file."""
        return self.matched_share >= min_matched_share and not self.problems()

    def summary(self) -> str:
        """One line on what was loaded, and one each on what was not and what is not finite, if anything."""
        whole = f"the part `{self.part}`" if self.part else "the model"
        loaded = f"{self.source}: fills {_percent(self.matched_share)} of {whole}"
        parts = [self._phrase("resized", "resized"), self._phrase("reinitialised", "fresh head")]
        parts.append(self._phrase("fresh", "left fresh"))
        lines = ["; ".join([loaded, *filter(None, parts)])]
        absent = [self._phrase("mismatched", "do not fit"), self._phrase("missing", "not in the file")]
        absent.append(_unused(self.unexpected))
        if any(absent):
            lines.append("  " + "; ".join(filter(None, absent)))
        lines += [f"  {note}" for note in self.notes]
        if self.not_finite:
            count, first = len(self.not_finite), self.not_finite[0]
            lines.append(f"  {count} tensors hold values that are not finite, the first of them {first}")
        return "\n".join(lines)

    def verdict(self, min_matched_share: float) -> str:
        """One line on whether a run that asks for ``min_matched_share`` would take the file."""
        wanted = f"{_percent(min_matched_share)} (model.min_matched_share={min_matched_share:g})"
        if self.matched_share >= min_matched_share and (problems := self.problems()):
            return "Does not fit: `fit` would refuse it. " + " ".join(problems)
        if self.matched_share >= min_matched_share:
            return f"Fits: {_percent(self.matched_share)} of the model would be filled; `fit` asks for {wanted}."
        return (
            f"Does not fit: only {_percent(self.matched_share)} of the model would be filled; "
            f"`fit` would refuse it, as it asks for {wanted}."
        )

    def _phrase(self, outcome: Outcome, label: str) -> str:
        entries = [entry for entry in self.entries if entry.outcome == outcome]
        if not entries:
            return ""
        more = f" and {len(entries) - 3} more" if len(entries) > 3 else ""
        return f"{label}: {', '.join(map(_with_shapes, entries[:3]))}{more}"

    def table(self) -> Table:
        """One row for each kind of tensor, numbered blocks together; the full list is in :attr:`entries`."""
        total = max(sum(entry.parameters for entry in self.entries if entry.model_shape is not None), 1)
        rows = [
            [
                first.outcome,
                pattern,
                len(group),
                _shape(first.file_shape),
                _shape(first.model_shape),
                sum(entry.parameters for entry in group),
                _percent(sum(entry.parameters for entry in group) / total) if first.model_shape is not None else "",
            ]
            for pattern, first, group in self._groups()
        ]
        columns = ["outcome", "name", "tensors", "shape in file", "shape in model", "parameters", "share of model"]
        note = f"{self.summary()}\n" + "; ".join(f"{outcome}: {meaning}" for outcome, meaning in OUTCOMES.items())
        if not self.part:
            return Table("checkpoint", "What the checkpoint filled", columns, rows, note)
        return Table(f"{self.part}_checkpoint", f"What the checkpoint of {self.part} filled", columns, rows, note)

    def _groups(self) -> Iterator[tuple[str, Entry, list[Entry]]]:
        groups: dict[tuple[Outcome, str, tuple[int, ...] | None, tuple[int, ...] | None], list[Entry]] = {}
        order = list(OUTCOMES)
        for entry in sorted(self.entries, key=lambda listed: order.index(listed.outcome)):
            pattern = re.sub(r"(?<=\.)\d+(?=\.)", "*", entry.name)
            groups.setdefault((entry.outcome, pattern, entry.file_shape, entry.model_shape), []).append(entry)
        for (_, pattern, _, _), group in groups.items():
            yield group[0].name if len(group) == 1 else pattern, group[0], group


def _glob(name: str) -> str:
    """A glob for tensors of that name in every block."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", name)


def _unused(names: Sequence[str]) -> str:
    """How many tensors of the file have no place in the model, and which of its parts they are."""
    if not names:
        return ""
    parts = list(dict.fromkeys(re.match(r"[^.]+(\.\d+(?=\.))?", name)[0] for name in names))  # type: ignore[index]
    some = ", ".join(parts[:4]) + (f" and {len(parts) - 4} more" if len(parts) > 4 else "")
    return f"{len(names)} tensors of the file not used ({some})"


def _with_shapes(entry: Entry) -> str:
    if entry.file_shape is None or entry.model_shape is None or entry.file_shape == entry.model_shape:
        return entry.name
    return f"{entry.name} ({_shape(entry.file_shape)} -> {_shape(entry.model_shape)})"


def _shape(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else "x".join(map(str, shape)) or "scalar"


def _percent(share: float) -> str:
    # Rounded down, so that 100 % means all of it.
    return f"{int(share * 1000) / 10:g} %"
