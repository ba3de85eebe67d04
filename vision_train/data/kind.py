"""What the engine knows of a kind of data: its section of a recipe, its words, and where the code that reads it lies.

Each kind is a package ``data/<kind>/`` whose ``__init__.py`` defines one :class:`KindOfData`. A task names that object
as ``DATA`` in its options. Nothing but the standard library is imported here, so that recipes are checked in
milliseconds.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, cast

if TYPE_CHECKING:
    from vision_train.checkpoints import Weights
    from vision_train.data.dataset import SampleLoader
    from vision_train.data.module import SampleDataModule
    from vision_train.data.sample import Sample
    from vision_train.recipe import Recipe

SPLITS = ("train", "val", "test")
"""Names of the splits, in tables, folders and options alike."""

BETWEEN_LABELS = "|"
"""Divides the labels of a cell where a sample bears several, in tables that are read and in those that are written."""
IDENTITY = {"identity": True}
"""Metadata of a field that is part of the identity of a data set."""
PLACE = {"identity": True, "path": True}
"""Metadata of a field that names a file or folder of the samples or of their truth."""
REST, LABELLED = "rest", "labelled"
"""What ``unlabelled`` may say in place of a folder: the training samples that are not drawn, or those that are."""
UNLABELLED = {"path": True, "words": (REST, LABELLED)}
"""Metadata of a field that names samples without labels."""

OnBad = Literal["error", "skip"]
"""What a sample that cannot be read does."""
SKIP_BAD = "set data.on_bad=skip to go on without such samples"
"""The remedy in messages about samples that cannot be used."""

Problems = Iterator[tuple[str, str]]
"""Pairs of a key inside a section and what is wrong with its value."""


@dataclass(frozen=True, kw_only=True)
class DataSection:
    """The keys that the ``data`` section of every kind has.

    The metadata of a field says whether its value is a ``path`` and whether it is part of the ``identity`` of a data
    set: two sections whose identity fields agree name the same samples.
    """

    source: str = field(default="", metadata=IDENTITY)
    """Where the samples come from."""
    root: str | None = field(default=None, metadata=PLACE)
    """Folder of the samples."""
    batch_size: int = 64
    """Samples per process and step. The effective batch also counts processes and accumulated batches. Samples that do
    not fill a last batch are left out of the epoch, up to a tenth of them; another shuffle leaves out others. Where it
    would be more, the last batch is filled from the next shuffle. A data set smaller than one batch gives one smaller
    batch. `auto` keeps the effective batch that it would have without that word, and divides it into the largest equal
    parts that fit into memory, which are accumulated."""
    epoch_batches: int | None = None
    """Batches of an epoch; null takes as many as one pass over the training samples needs, or over the unlabelled ones
    where there are some. With a number, or with unlabelled samples, batches are always full: passes over the samples
    follow one another across batches and epochs, and none is left out."""
    workers: int = 2
    """Loader processes for each training process, at most one for each processor that it may use; 0 loads in the
    training process itself."""
    on_bad: OnBad = "error"
    """`error` stops at a sample that cannot be used and names it; `skip` leaves such samples out and counts them."""
    allow_overlap: bool = False
    """Test on samples all the same though copies of them are trained on. Copies are files of the same bytes, whatever
    they are called. Those between other splits are counted and named."""

    def problems(self) -> Problems:
        """Yield values outside their range."""
        if self.batch_size < 1:
            yield "batch_size", f"is {self.batch_size}; must be at least 1"
        if self.epoch_batches is not None and self.epoch_batches < 1:
            yield "epoch_batches", f"is {self.epoch_batches}; must be at least 1"
        if self.workers < 0:
            yield "workers", f"is {self.workers}; must be 0 or more"

    @property
    def balanced(self) -> bool:
        """Whether training draws equally many samples of every class."""
        return False

    @property
    def left_to_weights(self) -> tuple[str, ...]:
        """What a recipe may leave to its weights of how pixels are prepared, such as ``mean``; nothing without any."""
        return ()

    @property
    def evaluation_batch_size(self) -> int:
        """Samples per process and step where nothing is learned."""
        return self.batch_size

    def unset(self) -> Problems:
        """Yield the keys that only the user can give and has not given."""
        return iter(())

    def identity(self) -> dict[str, Any]:
        """The values that say which data set this is."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.metadata.get("identity")}

    def differing(self, other: DataSection) -> list[str]:
        """Keys by which this section names other samples than another one. Shares of splits do not count."""
        theirs = other.identity()
        return [
            key for key, value in self.identity().items() if value != theirs.get(key) and not isinstance(value, dict)
        ]

    def with_samples_of(self, asked: DataSection) -> Self:
        """This section, where it names no samples, with those of a phase that follows."""
        own = {each.name: each.default for each in fields(self) if each.metadata.get("identity")}
        shared = {each.name for each in fields(asked)} & own.keys()
        return replace(self, **{name: getattr(asked, name) for name in shared if getattr(self, name) == own[name]})

    def for_other_data(self, own: Self, changed: Collection[str]) -> tuple[Self, list[str]]:
        """This section where a run is evaluated on other data than its own.

        Args:
            own: The run's section.
            changed: Keys that were named for the evaluation.

        Returns:
            The section without what belongs to the run's own data alone, and what is to be said of that.
        """
        return self, []

    def paths(self) -> list[str]:
        """The files and folders that hold the samples and their truth."""
        values = [getattr(self, each.name) for each in fields(self) if {*each.metadata} >= {"identity", "path"}]
        return [value for value in values if isinstance(value, str)]

    def named(self) -> str:
        """The key that names the samples, with its value, for messages."""
        key = "source" if self.root is None else "root"
        return f"data.{key}={getattr(self, key)}"


def is_test(split: str) -> bool:
    """Whether a split only judges, so that nothing is learned from it: `test`, and its parts such as `testA`."""
    return split.startswith("test")


def share_problems(shares: Mapping[str, float]) -> Problems:
    """Yield shares of ``splits`` that cannot be cut."""
    for name, share in shares.items():
        if name not in ("val", "test"):
            yield f"splits.{name}", "unknown split; `val` and `test` can be cut from the training samples"
        elif not 0 < share < 1:
            yield f"splits.{name}", f"is {share}; a share lies strictly between 0 and 1"
    if sum(shares.values()) >= 1:
        yield "splits", f"sum to {sum(shares.values()):g}; nothing would be left to train on"


def class_problems(classes: Sequence[str] | None) -> Problems:
    """Yield names in ``classes`` that stand there twice or are too few."""
    if classes is None:
        return
    if repeated := sorted({name for name in classes if classes.count(name) > 1}):
        yield "classes", f"names {', '.join(repeated)} more than once"
    elif len(classes) < 2:
        yield "classes", "names fewer than two; list all classes, in the order of their labels"


class Implementation(Protocol):
    """The module that reads a kind of data; imported when samples are needed."""

    def build(self, recipe: Recipe, classes: list[str] | None = None, only: str | None = None) -> SampleDataModule:
        """Read and check the samples that a recipe names.

        Args:
            recipe: Its ``data``, ``augment`` and ``seed`` matter here.
            classes: Label map of an earlier run; None takes the sorted names found.
            only: Evaluate this one split of other data than the run's own: nothing is cut from it or drawn.

        Raises:
            UserError: The data cannot be used as they are.
        """

    def all_samples(self, recipe: Recipe) -> Sequence[Sample]:
        """Every sample that a recipe names, whatever the seed draws of them."""

    def loose(
        self, recipe: Recipe, inputs: Sequence[Path], *, learner: str, taken: Callable[[str], bool] | None = None
    ) -> SampleLoader:
        """Load files and folders without labels, to predict on.

        Args:
            recipe: The recipe of the run that predicts.
            inputs: Files, folders or tables.
            learner: What messages call the network.
            taken: Chooses a share of the samples by their ids, which may be empty; given only to kinds that say
                ``takes_shares``. None takes all.

        Raises:
            UserError: There is nothing to predict on, or it is not what the network learned from.
        """

    def loose_with_texts(
        self, recipe: Recipe, inputs: Sequence[Path], texts: Sequence[str], *, learner: str
    ) -> SampleLoader:
        """Load images without labels, each with each of the texts; only kinds that say ``takes_text`` have it.

        Args:
            recipe: The recipe of the run that predicts.
            inputs: Images, folders or tables of them.
            texts: At least one.
            learner: What messages call the network.

        Raises:
            UserError: As :meth:`loose`, or a text says nothing.
        """

    def image_transform(self, recipe: Recipe) -> Callable[[Any], Any]:
        """What happens to one image in validation; only kinds have it whose networks take an image alone.

        Args:
            recipe: The recipe of a run.

        Returns:
            Pixels (H W 3, uint8) -> normalised image (3 H W, float32).
        """

    def picture_sources(
        self, samples: Sequence[Any], section: Any, images: Path | None
    ) -> tuple[dict[str, Any], list[str]]:
        """What the pictures of samples are drawn from.

        Args:
            samples: The samples that are predicted.
            section: The recipe's ``data``.
            images: Folder of images that the samples were made of; None where none was named.

        Returns:
            Arguments of ``open_renderer`` of the module that draws this kind of data, and what to tell the user.
        """

    def check_start(self, recipe: Recipe, weights: Weights, name: str, data: SampleDataModule) -> list[str]:
        """Refuse weights that were trained on data of another kind than the recipe's.

        Args:
            recipe: With what the data themselves say filled in.
            weights: The weights to start from.
            name: What messages call them.
            data: The samples.

        Returns:
            Warnings of what they may have learnt of these samples, in sentences.

        Raises:
            UserError: They do not suit the data.
        """


class ResultsFile(Protocol):
    """Predictions as one json list, in the format that the field's tools read."""

    notes: list[str]
    """What the user should know of it."""

    def entries(self, name: str, results: Any) -> Sequence[Any]:
        """What the list holds of a sample, as plain values.

        Args:
            name: Id of the sample.
            results: ``Predicted.results`` of it.
        """


@dataclass(frozen=True)
class KindOfData:
    """One kind of data. The engine asks this object and never compares names."""

    section: type[DataSection]
    """Type of the recipe's section ``data``."""
    noun: str
    """What the samples are, in the plural."""
    implementation: str
    """Dotted name of the :class:`Implementation`."""
    given: str = ""
    """What somebody has who can train on them, with what says the truth, such as ``images with a class each``."""
    look: str | None = None
    """What tells what the ``data`` of a recipe holds, as ``module:function``: takes the recipe, returns sentences, and
    loads no library that takes seconds if it can do without; None counts the samples."""
    splits: tuple[str, ...] = SPLITS
    """The splits that can be evaluated."""
    judged: Literal["test", "val"] = "test"
    """The split that a finished run is measured on: ``test``, or ``val`` where nothing has a label."""
    id_column: str = "path"
    """Column of the ids in a table of predictions."""
    takes_text: bool = False
    """Whether a text says what is wanted of an image, so that ``predict`` takes images with texts."""
    takes_shares: bool = False
    """Whether ``predict --shard`` can take a share of the samples without holding a list of all."""
    report: str | None = None
    """Dotted name of the module that draws this kind of data, such as ``vision_train.report.images``."""
    results: str | None = None
    """Dotted name of the module whose ``open_results`` makes a :class:`ResultsFile`; None where the field has none."""
    renamed: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Keys that the section had in an earlier version -> what they are called now."""
    verbs: str | None = None
    """Dotted name of the module whose ``add_verbs(data, make)`` adds commands to ``vision-train data`` and ``data
    make``."""

    @property
    def takes_folds(self) -> bool:
        """Whether its samples can be cut into folds: its section then has the key ``fold``."""
        return any(each.name == "fold" for each in fields(self.section))

    def open_results(self, recipe: Recipe, classes: list[str], samples: Sequence[Any]) -> ResultsFile:
        """Prepare a json of predictions.

        Args:
            recipe: The recipe of the run that predicts.
            classes: Its label map.
            samples: The samples that are predicted.

        Raises:
            UserError: It cannot be written for these samples.
        """
        assert self.results is not None
        module = importlib.import_module(self.results)
        return cast(ResultsFile, module.open_results(recipe, classes, samples))

    def looked(self, recipe: Recipe) -> list[str]:
        """What the places that a recipe names hold, in sentences.

        Raises:
            UserError: It cannot be trained on.
        """
        if self.look is None:
            return [f"{len(self.load().all_samples(recipe)):,} {self.noun}"]
        module, _, function = self.look.partition(":")
        return cast("list[str]", getattr(importlib.import_module(module), function)(recipe))

    def load_report(self) -> ModuleType | None:
        """Import what draws this kind of data, if it adds anything to a report."""
        return None if self.report is None else importlib.import_module(self.report)

    def load(self) -> Implementation:
        """Import the code that reads the data."""
        return cast(Implementation, importlib.import_module(self.implementation))
