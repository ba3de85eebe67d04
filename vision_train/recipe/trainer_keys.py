"""What a recipe may say under ``trainer``: a light table of Lightning's ``Trainer`` arguments.

Lightning takes seconds to import, a recipe is checked in milliseconds; a test compares this table with the library.
Annotations are not postponed here: a TypedDict would not notice `Required` in them.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Required, TypedDict

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]
AUTO = "auto"
Precision = Literal[
    "auto", "32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true",
    "transformer-engine", "transformer-engine-float16", "32", "16", "bf16", "64", 32, 16, 64,
]  # fmt: skip
Strategy = Literal["auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false"]

_LOST = "it starts processes that end with training, and what the run keeps in the first one would be lost"
_PARTIAL = (
    "it may split the weights over processes, and a checkpoint here is one whole file; `ddp` trains with whole weights "
    "in every process"
)
_CHOSEN = "`auto` chooses by itself what a single device needs"
REFUSED_STRATEGIES = {
    **dict.fromkeys(("single_device", "single_tpu", "single_xla"), _CHOSEN),
    **dict.fromkeys(("xla", "xla_debug"), _LOST),
    **{
        f"ddp_{start}{suffix}": _LOST
        for start in ("spawn", "fork", "notebook")
        for suffix in ("", "_find_unused_parameters_false", "_find_unused_parameters_true")
    },
    **dict.fromkeys(("fsdp", "fsdp_cpu_offload"), _PARTIAL),
    **{
        f"deepspeed{stage}": _PARTIAL
        for stage in (
            "", "_stage_1", "_stage_2", "_stage_2_offload", "_stage_3", "_stage_3_offload", "_stage_3_offload_nvme"
        )
    },
}  # fmt: skip
"""Lightning's other strategies -> why a run does not take them, as shown to a user who asks for one."""


class TrainerKeys(TypedDict, total=False):
    """Lightning's Trainer arguments that a recipe may set; their defaults are Lightning's."""

    max_epochs: Required[int | None]
    """Epochs to train; the schedule ends with the last. Null where `max_steps` alone says how long."""
    max_steps: int | None
    """Train for this many optimiser steps, instead of `max_epochs` or if it comes first; the last one is validated.
    Null or -1 for no such limit."""
    max_time: str | dict[str, int] | None
    """Stop after this time: `DD:HH:MM:SS`, or a mapping such as `{hours: 2}`."""
    accelerator: Accelerator
    """Kind of device; `auto` takes the best there is."""
    devices: int | str | list[int]
    """How many devices, -1 for all, or which: `[0, 2]`."""
    num_nodes: int
    """Machines that train together."""
    strategy: Strategy
    """How several devices share the work; `auto` suits one device and ordinary data parallelism."""
    precision: Precision | None
    """Number format: `32-true`, `bf16-mixed`, `16-mixed`, ... `auto` takes `bf16-mixed` where the GPU or processor
    multiplies bfloat16 itself, else `32-true`; the run's recipe keeps which."""
    accumulate_grad_batches: int
    """Batches whose gradients are added up for one optimiser step."""
    gradient_clip_val: int | float | None
    """Largest gradient norm (or value); null does not clip."""
    gradient_clip_algorithm: Literal["norm", "value"] | None
    """What `gradient_clip_val` limits."""
    check_val_every_n_epoch: int | None
    """Validate after every so many epochs."""
    val_check_interval: int | float | str | dict[str, int] | None
    """Validate within an epoch: after a share of it (a number below 1), or after this many batches."""
    num_sanity_val_steps: int | None
    """Validation batches run before training, to fail early."""
    log_every_n_steps: int | None
    """Write training metrics every so many steps."""
    limit_train_batches: int | float | None
    """Train on only this many batches an epoch, or on this share of them."""
    limit_val_batches: int | float | None
    """Validate on only this many batches, or on this share of them."""
    limit_test_batches: int | float | None
    """Test on only this many batches, or on this share of them."""
    limit_predict_batches: int | float | None
    """Predict only this many batches, or this share of them."""
    deterministic: bool | Literal["warn"] | None
    """Use deterministic algorithms only, slower; `warn` where there is none."""
    benchmark: bool | None
    """Let cuDNN time its algorithms; pays off when every batch has the same shape."""
    inference_mode: bool
    """Validate under torch.inference_mode rather than torch.no_grad."""
    detect_anomaly: bool
    """Point at the operation that produced a gradient that is not finite; slow."""
    sync_batchnorm: bool
    """Share batch-norm statistics between processes."""
    callbacks: list[str] | None
    """Callbacks that installed packages offer, by the names of their entry points in the group
    `vision_train.callbacks`; a recipe never names code to import."""


_NO_EARLY_END = "only `run.early_stopping` ends a training before max_epochs, max_steps or max_time do; set that"
OWNED = {
    "min_epochs": _NO_EARLY_END,
    "min_steps": _NO_EARLY_END,
    "logger": "every run writes metrics.jsonl",
    "plugins": "a recipe names no code",
    "profiler": "every run measures images per second and the wait for data",
    "enable_checkpointing": "every run keeps the last and the best epoch; `run.select` says what is best",
    "enable_progress_bar": "progress is a bar on a terminal and plain lines when piped",
    "enable_model_summary": "`vision-train fit RECIPE --dry-run` prints the model",
    "default_root_dir": "a run has its own folder; name it with --run-dir",
    "use_distributed_sampler": "our sampler already gives every process its own images",
    "reload_dataloaders_every_n_epochs": "the data is scanned once a run",
    "fast_dev_run": "use `vision-train fit RECIPE --dry-run`",
    "overfit_batches": "use `data.labels_per_class` for a run on few images",
    "barebones": "a run without metrics and checkpoints leaves nothing to judge",
    "enable_autolog_hparams": "the resolved recipe is written into every run",
    "model_registry": "checkpoints stay in the run directory",
}
"""Trainer arguments that the run sets itself -> why, as shown to a user who asks for one."""


def ends_by_steps(trainer: Mapping[str, Any]) -> bool:
    """Whether `max_steps` says how long a training is, so that `max_epochs` need not."""
    return trainer.get("max_steps") not in (None, -1)


def trainer_problems(trainer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield trainer values of the right type that cannot work, as pairs of a key and what is wrong."""
    for key in ("max_epochs", "accumulate_grad_batches", "num_nodes"):
        value = trainer.get(key)
        unlimited = key == "max_epochs" and value == -1 and ends_by_steps(trainer)
        if value is not None and value < 1 and not unlimited:
            yield key, f"is {value}; must be at least 1"
    for key in ("check_val_every_n_epoch", "log_every_n_steps"):
        value = trainer.get(key)
        if value is not None and value < 1:
            yield key, f"is {value}; must be at least 1"
    for key in ("limit_train_batches", "limit_val_batches", "limit_test_batches"):
        if trainer.get(key) == 0:
            yield key, "is 0; every run trains, validates and tests"
    steps = trainer.get("max_steps")
    if steps is not None and (steps < -1 or steps == 0):
        yield "max_steps", f"is {steps}; must be at least 1, or null for no limit"
    if trainer.get("devices") in (0, "0", "", []):
        yield "devices", "names no device; set a number, -1 for all, or a list such as [0, 1]"
    clip = trainer.get("gradient_clip_val")
    if clip is not None and clip < 0:
        yield "gradient_clip_val", f"is {clip}; must be 0 or more"
