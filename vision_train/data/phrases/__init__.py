"""Images with expressions that each mean one box: REFER's folders, TransVG's lists, Flickr30k Entities, or a csv."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vision_train.data.crop_section import Crop
from vision_train.data.kind import (
    IDENTITY,
    PLACE,
    SPLITS,
    UNLABELLED,
    DataSection,
    KindOfData,
    Problems,
    share_problems,
)

FILES = "phrases"
"""The source that the user's own files are."""
VOCABULARY, WHOLE_TOKENIZER = "vocab.txt", "tokenizer.json"
"""Files of which the folder of a tokenizer has one."""
FEWEST_TOKENS = 3
"""The start, one piece and the end."""


@dataclass(frozen=True, kw_only=True)
class Section(DataSection):
    """Expressions, each with an image and the box that it means. Images are padded to a square."""

    source: Literal["phrases", "referring"] = field(default="phrases", metadata=IDENTITY)
    """`phrases`: files on disk. `referring`: drawn scenes whose things are described by colour, shape, size and
    place."""
    root: str | None = field(default=None, metadata=PLACE)
    """Folder of the data set. It holds `instances.json` and `refs(NAME).p` as REFER has them, lists `NAME_SPLIT.pth` as
    TransVG has them, `Annotations` and `Sentences` as Flickr30k Entities has them, or a csv; `labels` says which where
    there are several."""
    labels: str | None = field(default=None, metadata=PLACE)
    """Annotations: a `refs(NAME).p` beside its `instances.json`, one of the lists `NAME_SPLIT.pth`, which stands for
    those of all splits, or a csv with the columns `path,text,x,y,w,h[,split][,category]` in pixels."""
    images: str | None = field(default=None, metadata=PLACE)
    """Folder that the paths of images are below. Null looks in `root`, and beside the annotations. An image that is not
    at its path is found by its name where there is only one of it."""
    splits: dict[str, float] | None = field(default=None, metadata=IDENTITY)
    """Shares of `val` and `test` cut from the training images, by their paths alone, where nothing names such a split.
    Without it each of them gets 0.1; where a `val` is named and no `test`, `test` is `val` again, unless this cuts one.
    All expressions of an image are in one split. `testA` and `testB` are parts of `test`."""
    image_size: int = 640
    """Side of the square that enters the network, in pixels."""
    scales: list[int] | None = None
    """Long sides of training images, of which one is drawn for each; null takes `image_size`."""
    crop: Crop | None = None
    """Crop some of the training images whose expression names no direction, such that at least half of the box is
    kept; null crops none."""
    shift: bool = False
    """Put training images at a random place of the square; else they lie in the middle."""
    tokenizer: str | None = field(default=None, metadata={"path": True})
    """Folder of the tokenizer of an uncased BERT, on this machine. Null makes a vocabulary of the expressions that may
    be trained on, of few labels too."""
    max_tokens: int = 20
    """Word pieces of an expression that enter the network, its start and end among them; the rest is cut."""
    vocabulary: list[str] | None = None
    """The word pieces that were made of the expressions. Filled in from the data."""
    pieces: int | None = None
    """Word pieces that the tokenizer knows. Filled in from the data."""
    share: float = 1.0
    """Share of the training images to train on, rounded down, drawn with the seed; all expressions of an image are
    taken, or none."""
    drawn_as: Literal["nested", "refteacher"] = "nested"
    """How `share` draws images. `nested`: with the seed, and a larger share holds a smaller one. `refteacher`: as
    RefTeacher's code does, the same for every seed, to compare with its figures."""
    unlabelled: str | None = field(default=None, metadata=UNLABELLED)
    """Expressions to learn from without boxes (`semi.method`): a csv with the columns `path,text`, of which no other
    column is read. `rest` takes those of the training images that `share` leaves, `labelled` the labelled ones again;
    what boxes there are of them is not read."""
    pseudo_labels: str | None = field(default=None, metadata={"path": True})
    """Csv file with boxes of expressions of `unlabelled`, as `semi.method` writes it between phases. Each batch has as
    many such expressions beside the labelled ones as `semi.ratio` says."""

    @property
    def left_to_weights(self) -> tuple[str, ...]:
        """Mean and deviation; sizes are the recipe's, and images are always resized bilinearly."""
        return ("mean", "std")

    def problems(self) -> Problems:
        """Yield values outside their range and keys that exclude one another."""
        yield from super().problems()
        for key in ("root", "labels", "images", "splits"):
            if self.source != FILES and getattr(self, key) is not None:
                yield key, f"is given, but `{self.source}` comes with the installation; set data.source={FILES}"
        yield from share_problems(self.splits or {})
        if self.image_size < 1:
            yield "image_size", f"is {self.image_size}; must be at least 1"
        if self.scales is not None and (not self.scales or min(self.scales) < 1):
            yield "scales", f"is {self.scales}; name at least one side of 1 pixel or more"
        elif self.scales is not None and max(self.scales) > self.image_size:
            yield "scales", f"holds {max(self.scales)}, and the square has data.image_size={self.image_size}"
        if self.max_tokens < FEWEST_TOKENS:
            yield "max_tokens", f"is {self.max_tokens}; start, end and one piece need {FEWEST_TOKENS}"
        if not 0 < self.share <= 1:
            yield "share", f"is {self.share}; must lie above 0 and not above 1"

    def unset(self) -> Problems:
        """Yield annotations that are not named."""
        if self.source == FILES and self.root is None and self.labels is None:
            yield "root", "no expressions named; set data.root=FOLDER, or data.labels=FILE"

    def named(self) -> str:
        """The key that names the expressions, with its value."""
        return super().named() if self.labels is None else f"data.labels={self.labels}"


PHRASES = KindOfData(
    section=Section,
    noun="expressions",
    given="expressions with a box each",
    implementation="vision_train.data.phrases.build",
    look="vision_train.data.phrases.look:look",
    splits=(*SPLITS, "testA", "testB"),
    id_column="expression",
    takes_text=True,
    report="vision_train.report.boxes",
    verbs="vision_train.data.phrases.verbs",
)
