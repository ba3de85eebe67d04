"""What is wrong with annotations: counted, and named by its first examples, in one message."""

from __future__ import annotations

from dataclasses import dataclass, field

from vision_train.data.kind import SKIP_BAD, OnBad
from vision_train.errors import UserError
from vision_train.wording import first_named


@dataclass
class Findings:
    """What is wrong with annotations, counted, with the first examples of each kind.

    Attributes:
        wrong: What has to be mended or left out.
        handled: What was put right, which the user should know.
    """

    wrong: dict[str, list[str]] = field(default_factory=dict)
    handled: dict[str, list[str]] = field(default_factory=dict)

    def mend(self, kind: str, example: str) -> None:
        """Count one of a kind that has to be mended."""
        self.wrong.setdefault(kind, []).append(example)

    def note(self, kind: str, example: str) -> None:
        """Count one of a kind that was put right."""
        self.handled.setdefault(kind, []).append(example)

    def settle(self, on_bad: OnBad, noun: str = "boxes and images") -> list[str]:
        """What was put right and left out, in sentences.

        Args:
            on_bad: The policy.
            noun: What is left out under it, in the plural.

        Raises:
            UserError: Something has to be mended and the policy is ``error``.
        """
        if self.wrong and on_bad == "error":
            kinds = "; ".join(f"{kind}: {first_named(examples)}" for kind, examples in self.wrong.items())
            raise UserError(f"{kinds}. Mend them, or {SKIP_BAD.replace('samples', noun)}")
        left_out = [f"left out, {kind}: {first_named(examples)}" for kind, examples in self.wrong.items()]
        return [*left_out, *(f"{kind}: {first_named(examples)}" for kind, examples in self.handled.items())]
