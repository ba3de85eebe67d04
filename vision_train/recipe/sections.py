"""The sections of a recipe: plain dataclasses, one docstring under each field.

The docstrings are the documentation: ``vision-train recipes --explain`` prints them. A field exists only if a shipped
recipe or a parity test sets it. ``problems`` yields what types alone cannot say, as ``(key, message)`` pairs relative
to the section; ``unset`` yields what a recipe has to leave to its user. The validator reports all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from vision_train.data.kind import Problems
from vision_train.recipe.lora_section import Lora
from vision_train.recipe.preprocessing import Preprocessing


@dataclass(frozen=True)
class TrainAugment:
    """What happens to one training image before it is put into a batch."""

    crop_scale: tuple[float, float] | None = None
    """Random resized crop: smallest and largest share of the image area. Null resizes the whole image."""
    crop_ratio: tuple[float, float] = (0.75, 1.3333333333333333)
    """Random resized crop: narrowest and widest aspect ratio (width over height)."""
    horizontal_flip: float = 0.0
    """Probability of mirroring left and right."""
    rand_augment: str | None = None
    """timm's RandAugment configuration, such as `rand-m9-mstd0.5-inc1`; null for none."""
    color_jitter: float = 0.0
    """Strength of random brightness, contrast and saturation changes, 0 to 1."""
    erasing: float = 0.0
    """Probability of replacing a random rectangle by noise, after normalisation (random erasing)."""
    interpolation: Literal["bilinear", "bicubic"] | None = None
    """How pixels are resampled. Null does as the weights that training starts from were trained; else `bicubic`."""

    def problems(self) -> Problems:
        """Yield probabilities and ranges that make no sense."""
        for key in ("horizontal_flip", "color_jitter", "erasing"):
            if not 0 <= getattr(self, key) <= 1:
                yield key, f"is {getattr(self, key)}; must lie between 0 and 1"
        if self.crop_scale is not None and not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            yield "crop_scale", f"is {list(self.crop_scale)}; needs 0 < smallest <= largest <= 1"
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            yield "crop_ratio", f"is {list(self.crop_ratio)}; needs 0 < narrowest <= widest"


@dataclass(frozen=True)
class EvalAugment:
    """What happens to one image in validation, test and prediction."""

    crop_share: float | Literal["whole"] | None = None
    """Side of the centre crop over the shorter side of the resized image: 0.875 resizes to 256 for a crop of 224. With
    a rectangular `data.image_size` the resized image just covers the rectangle divided by this share. `whole` resizes
    the whole image to `data.image_size`, whatever its aspect. Null does as the weights that training starts from were
    measured; else `whole`."""
    interpolation: Literal["bilinear", "bicubic"] | None = None
    """How pixels are resampled; always with antialiasing, as the published results were measured. Null does as the
    weights that training starts from were measured; else `bicubic`."""

    def problems(self) -> Problems:
        """Yield an impossible share."""
        if isinstance(self.crop_share, float) and not 0 < self.crop_share <= 1:
            yield "crop_share", f"is {self.crop_share}; must lie in (0, 1]"


@dataclass(frozen=True)
class Mixing:
    """Mixing of image pairs within a training batch, drawn once a batch.

    The weights are probabilities and sum to at most 1; the rest of the batches stays as it is.
    """

    maskmix: float = 0.0
    """Share of batches in which random cells of a grid come from the partner image (MaskMix)."""
    mixup: float = 0.0
    """Share of batches whose images are blended pixel by pixel (MixUp)."""
    cutmix: float = 0.0
    """Share of batches in which a rectangle is pasted from the partner image (CutMix)."""
    mask_patch: int | None = None
    """Side of one MaskMix cell in pixels: a multiple of the model's patch that divides `data.image_size`, so that every
    token shows one image."""
    maskmix_alpha: float = 1.0
    """Both parameters of the Beta distribution of the share of cells that stay an image's own."""
    mixup_alpha: float = 0.8
    """Both parameters of the Beta distribution of the blend."""
    cutmix_alpha: float = 1.0
    """Both parameters of the Beta distribution of the rectangle's area."""
    partner: Literal["permutation", "flip"] = "permutation"
    """Who is mixed with whom: a random permutation of the batch, or the batch in reverse order (timm, TransMix)."""
    labels: Literal["area", "transmix", "progressive"] = "area"
    """How two images share their label. `area`: by pixels. `transmix`: CutMix batches by the mean of area and
    attention. `progressive`: MaskMix batches go from area to attention as far as the prediction resembles the label
    (MixPro)."""
    alpha_grad: bool = False
    """Progressive labels: let the gradient flow through that resemblance too, as the released code of MixPro does."""
    alpha_rescale: bool = False
    """Progressive labels: measure that resemblance from what a prediction without knowledge reaches, so that attention
    counts for nothing at the start; matters with few classes."""

    def problems(self) -> Problems:
        """Yield weights outside [0, 1], Beta parameters that are not positive and keys that lack what they act on."""
        weights = {key: getattr(self, key) for key in ("maskmix", "mixup", "cutmix")}
        for key, weight in weights.items():
            if not 0 <= weight <= 1:
                yield key, f"is {weight}; a weight lies between 0 and 1"
        if sum(weights.values()) > 1 + 1e-9:
            yield "", f"weights sum to {sum(weights.values()):g}; shares of the batches sum to at most 1"
        for key in ("maskmix_alpha", "mixup_alpha", "cutmix_alpha"):
            if getattr(self, key) <= 0:
                yield key, f"is {getattr(self, key)}; must be above 0 (set the weight to 0 to switch it off)"
        yield from self._maskmix_problems()
        if self.labels == "transmix" and not self.cutmix:
            yield "labels", "is `transmix`, which shares the labels of CutMix batches; give cutmix a weight"

    def _maskmix_problems(self) -> Problems:
        if self.mask_patch is not None and self.mask_patch < 1:
            yield "mask_patch", f"is {self.mask_patch}; must be at least 1"
        if self.maskmix > 0 and self.mask_patch is None:
            yield "mask_patch", "is missing; MaskMix needs the side of its cells in pixels, such as 32"
        if self.labels == "progressive" and not self.maskmix:
            yield "labels", "is `progressive`, which shares the labels of MaskMix batches; give maskmix a weight"
        for key in ("alpha_grad", "alpha_rescale"):
            if getattr(self, key) and self.labels != "progressive":
                yield key, f"is set, but labels is `{self.labels}`; it acts on `progressive` labels only"


STRONGEST = "rand-n3-m10-mstd101-inc1"
"""Three operations of RandAugment, each of a strength drawn evenly up to the full one, as USB has them."""


@dataclass(frozen=True)
class Augment:
    """What is done to images: alone (train, eval) and in pairs (mixing)."""

    train: TrainAugment = field(default_factory=TrainAugment)
    """Per training image."""
    weak: TrainAugment | None = None
    """Per unlabelled image: the view that the teacher labels. Null takes the crop and the flip of `train`."""
    strong: TrainAugment | None = None
    """Per unlabelled image: the view that the network learns, drawn anew. Null adds to the weak view three operations
    of RandAugment of any strength and a random rectangle of noise; where boxes have to follow, changes of colour, blur
    and up to three rectangles of noise."""
    eval: EvalAugment = field(default_factory=EvalAugment)
    """Per image in validation, test and prediction."""
    mixing: Mixing = field(default_factory=Mixing)
    """Per training batch."""
    mean: tuple[float, float, float] | None = None
    """Channel means (red, green, blue) subtracted from pixels in [0, 1]. Null takes those that the weights of
    `model.checkpoint` were trained with; where nobody says them, ImageNet's."""
    std: tuple[float, float, float] | None = None
    """Channel standard deviations that pixels are divided by. Null as for `mean`."""

    @property
    def weak_view(self) -> TrainAugment:
        """What happens to an unlabelled image that the teacher labels."""
        if self.weak is not None:
            return self.weak
        return replace(self.train, rand_augment=None, color_jitter=0.0, erasing=0.0)

    @property
    def strong_view(self) -> TrainAugment:
        """What happens to an unlabelled image that the network learns."""
        if self.strong is not None:
            return self.strong
        return replace(self.weak_view, rand_augment=STRONGEST, erasing=1.0)

    @property
    def preprocessing(self) -> Preprocessing:
        """The values as they stand, and what is assumed for those that are open."""
        values = {
            "mean": self.mean,
            "std": self.std,
            "crop_share": self.eval.crop_share,
            "interpolation": self.eval.interpolation,
            "train_interpolation": self.train.interpolation,
        }
        return Preprocessing(**{key: value for key, value in values.items() if value is not None})  # type: ignore[arg-type]

    def problems(self) -> Problems:
        """Yield deviations that cannot be divided by."""
        if self.std is not None and min(self.std) <= 0:
            yield "std", f"is {list(self.std)}; every value must be above 0"


OWNED_MODEL_ARGS = {
    "name": "use `model.name`",
    "num_classes": "the head has one output for each class of the data",
    "image_size": "the network takes images of `data.image_size`",
    "img_size": "the network takes images of `data.image_size`",
    "in_chans": "images have three channels",
    "features_only": "the network is a classifier",
    "pretrained": "set `model.checkpoint=timm`, or name a file with it",
    "pretrained_cfg": "name weights with `model.checkpoint`, and pixels with `augment`",
    "pretrained_cfg_overlay": "name weights with `model.checkpoint`, and pixels with `augment`",
    "checkpoint_path": "use `model.checkpoint`, which reads files safely and reports every key",
}
"""Model arguments that are set for the user -> where from, as shown to a user who sets one."""


ALL_BUT_HEAD: Literal["all_but_head"] = "all_but_head"
"""Word of ``model.freeze`` for a head that is trained on a frozen network."""


@dataclass(frozen=True)
class FreezeFirst:
    """What is not trained in the first epochs, and trained from there on.

    The optimiser knows these weights only from then on, and the warm-up of `optim` begins anew for them.
    """

    epochs: float
    """Epochs after which all that `names` names is trained."""
    names: list[str] | Literal["all_but_head"] = ALL_BUT_HEAD
    """As `model.freeze`: globs of names of parameters, or `all_but_head`, which lets a fresh head learn before the
    weights of a checkpoint follow it."""

    def problems(self) -> Problems:
        """Yield no epochs and no names."""
        if self.epochs <= 0:
            yield "epochs", f"is {self.epochs:g}; must be above 0; to freeze nothing at first, set freeze_first to null"
        if not self.names:
            yield "names", "is empty; name what is frozen at first, as in [encoder.*]"


@dataclass(frozen=True)
class Model:
    """The network and the weights it starts from."""

    name: str = ""
    """`vit` (timm's VisionTransformer, shaped by `args` alone) or any model name of timm."""
    args: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments passed on to the model as they are, such as `drop_path_rate: 0.1`."""
    checkpoint: str | dict[str, str] | None = field(default=None, metadata={"path": True})
    """Weights to start from: a .safetensors, .pth or .bin file, one of our checkpoints, or a run directory; `timm` for
    those that timm has for `name`, `timm:NAME.TAG` for others of timm, `hf-hub:OWNER/NAME` for a repository of the
    Hugging Face hub. Or a mapping of parts of the network to such files, as in `{encoder: a.safetensors, text: b.pth}`;
    a part is the dotted name of a module, and each part is matched and judged by itself. A folder stands for the
    weights in it, sharded ones too."""
    checkpoint_key: str | dict[str, str] | None = None
    """Which of several networks in the file, by its place there, such as `student` or `state_dict`. Null takes averaged
    weights before a teacher's, those before plain ones, and these before a student's. Where `checkpoint` is a mapping,
    a mapping of the same parts."""
    fresh: list[str] = field(default_factory=list)
    """Globs of names of tensors that a checkpoint need not fill, such as `queries.*`; those it lacks stay freshly
    initialised and do not count in `min_matched_share`."""
    freeze: list[str] | Literal["all_but_head"] = field(default_factory=list)
    """Globs of names of parameters that are not trained, such as `encoder.*`; or `all_but_head`, which trains the
    modules that depend on the classes, and `fresh` tensors, alone. A module of which every parameter is frozen stays in
    evaluation mode: its batch norm statistics are kept, and it drops nothing out."""
    freeze_first: FreezeFirst | None = None
    """Freeze for the first epochs alone, beside what `freeze` names for good; null freezes nothing so."""
    lora: Lora | None = None
    """Low-rank adapters: train these, the head and `fresh` tensors, and freeze all else; null trains weights
    themselves."""
    positions: Literal["learned", "sincos"] = "learned"
    """Position embedding of a vision transformer: trained like other weights, or a fixed sine-cosine table, which a
    checkpoint may replace and training never changes. Pre-training always fixes them."""
    head_std: float | None = None
    """Standard deviation of a fresh classifier's weights, with biases of 0; null leaves what the model starts with."""
    min_matched_share: float = 0.9
    """Refuse a checkpoint that fills less than this share of the parameters of the model, or of its part (heads and
    `fresh` tensors not counted). Gaps within what a checkpoint fills are refused whatever the share."""
    attention: Literal["auto", "xformers", "sdpa", "math"] = "auto"
    """What computes attention: memory-efficient kernels of `xformers` (CUDA only), torch's `sdpa`, or plain `math`.
    `auto` takes the fastest that can run and records why it refused others; a name that cannot run is an error."""
    compile: bool = False
    """Compile the network with torch.compile."""

    @property
    def start(self) -> dict[str, str]:
        """Files or runs to start from, by part of the network; the part ``""`` is the whole network."""
        if isinstance(self.checkpoint, dict):
            return self.checkpoint
        return {"": self.checkpoint} if self.checkpoint else {}

    def key_of(self, part: str) -> str | None:
        """Which network to take from the file of a part; None leaves it to the rule."""
        return self.checkpoint_key.get(part) if isinstance(self.checkpoint_key, dict) else self.checkpoint_key

    def problems(self) -> Problems:
        """Yield a missing name, an impossible share, arguments that belong elsewhere and parts that overlap."""
        if not self.name:
            yield "name", "is missing; name a timm model such as vit_small_patch16_224, or `vit`"
        for key in self.args.keys() & OWNED_MODEL_ARGS.keys():
            yield f"args.{key}", f"is not for a recipe to set: {OWNED_MODEL_ARGS[key]}"
        if self.head_std is not None and self.head_std < 0:
            yield "head_std", f"is {self.head_std}; must be 0 or more"
        if not 0 <= self.min_matched_share <= 1:
            yield "min_matched_share", f"is {self.min_matched_share}; must lie between 0 and 1"
        if self.lora is not None and self.freeze:
            yield "freeze", "is set beside `lora`, which decides what is trained; set `freeze` to [] or `lora` to null"
        if self.freeze_first is not None and (self.lora is not None or self.freeze == ALL_BUT_HEAD):
            other = "lora" if self.lora is not None else f"freeze={ALL_BUT_HEAD}"
            yield (
                "freeze_first",
                f"is set beside `{other}`, which freezes the network for good; take one of them out",
            )
        if isinstance(self.checkpoint, dict):
            yield from self._part_problems(self.checkpoint)
        yield from self._key_problems()

    def _key_problems(self) -> Problems:
        if self.checkpoint_key is None:
            return
        if not self.start:
            yield "checkpoint_key", "names a network in a file, and `checkpoint` names no file; set it or take this out"
        elif isinstance(self.checkpoint, dict) and isinstance(self.checkpoint_key, dict):
            for part in self.checkpoint_key.keys() - self.checkpoint.keys():
                yield f"checkpoint_key.{part}", f"is no part of `checkpoint`; there are {', '.join(self.checkpoint)}"
        elif isinstance(self.checkpoint, dict):
            yield "checkpoint_key", "is one key for the files of several parts; map the parts to keys"
        elif isinstance(self.checkpoint_key, dict):
            yield "checkpoint_key", "is a mapping, and `checkpoint` is one file; give one key"

    def _part_problems(self, parts: dict[str, str]) -> Problems:
        if not parts:
            yield "checkpoint", "is an empty mapping; map parts of the network to files, or set it to null"
        if "" in parts:
            yield "checkpoint", "has a part without a name; for the whole network give the file alone"
        for outer in parts:
            for inner in parts:
                if outer and inner.startswith(f"{outer}."):
                    yield "checkpoint", f"has the parts `{outer}` and `{inner}`, one inside the other; keep one of them"
