"""What is wrong with a recipe: every mistake, all at once, each with its file, line, key and remedy."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_train.errors import UserError
from vision_train.recipe import explain, load_recipe, to_plain
from vision_train.recipe.keys import Key
from vision_train.recipe.plain import to_yaml

Mistakes = Callable[..., list[str]]

KEYS = [key for key in explain("classification") if key.path[0] not in ("extends", "smoke", "name", "task")]
SECTIONS = [key.path for key in KEYS if not key.kind]
TYPED = [key for key in KEYS if key.kind]
SINGLE = [key for key in TYPED if "mapping" not in key.kind]


@st.composite
def planted(draw: st.DrawFn) -> dict[tuple[str, ...], str]:
    """Paths, none inside another, and what is planted there."""
    choices = [((*path, f"unknown_{index}"), "unknown") for index, path in enumerate([(), *SECTIONS])]
    choices += [(key.path, "wrong type") for key in TYPED]
    choices += [(key.path, "mapping for a value") for key in SINGLE]
    choices += [(path, "value for a mapping") for path in SECTIONS]
    chosen: dict[tuple[str, ...], str] = {}
    for path, what in draw(st.lists(st.sampled_from(choices), min_size=1, max_size=8)):
        if not any(path[: len(other)] == other or other[: len(path)] == path for other in chosen):
            chosen[path] = what
    return chosen


def wrong_value(key: Key, marker: str) -> Any:
    """Return a value that no member of the key's type accepts, holding the marker."""
    if "text" not in key.kind:
        return marker
    number = float(f"{marker.removeprefix('marker')}.5")
    return [number] if "number" in key.kind and "mapping" in key.kind else number


def plant(plain: dict[str, Any], mistakes: dict[tuple[str, ...], str]) -> dict[tuple[str, ...], str]:
    """Put the mistakes into a plain recipe; return the text by which the line of each can be found."""
    markers = {}
    for number, (path, what) in enumerate(mistakes.items(), start=98_000):
        inside = plain
        for part in path[:-1]:
            if inside.get(part) is None:  # a section that a recipe may leave out
                inside[part] = {}
            inside = inside[part]
        marker = f"marker{number}"
        if what == "wrong type":
            inside[path[-1]] = wrong_value(next(key for key in KEYS if key.path == path), marker)
        else:
            inside[path[-1]] = {marker: 1} if what == "mapping for a value" else marker
        markers[path] = str(number)
    return markers


# What a section that may be left out demands where it is there.
DEMANDED = (
    "optim.ema.decay=0.5",
    "run.early_stopping.patience=3",
    "model.freeze_first.epochs=1",
    "data.fold={number: 1, of: 3}",
)


@given(planted())
@settings(max_examples=60)
def test_every_planted_mistake_is_reported_with_its_line(mistakes: dict[tuple[str, ...], str]):
    plain = to_plain(load_recipe("quickstart", DEMANDED))
    markers = plant(plain, mistakes)
    text = to_yaml(plain)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "mine.yaml"
        file.write_text(text)
        with pytest.raises(UserError) as caught:
            load_recipe(file)
    found = [line.strip() for line in str(caught.value).splitlines()]
    expected = []
    for path, what in mistakes.items():
        line = next(n for n, line in enumerate(text.splitlines(), start=1) if markers[path] in line)
        line -= what == "mapping for a value"  # the marker is inside the mapping, a line below its key
        expected.append((line, f"{file}:{line}: {'.'.join(path)}: "))
    reported = found if len(mistakes) == 1 else found[1:]
    assert len(reported) == len(expected)
    for message, (_, start) in zip(reported, sorted(expected), strict=True):
        assert message.startswith(start)


@pytest.mark.parametrize("name", ["semi/digits_rounds", "actress/referring"])
@pytest.mark.parametrize("voters", ["3", "[runs/one]"])
def test_rounds_have_no_voters_of_the_user_s_whatever_the_task(name, voters):
    with pytest.raises(UserError, match=r"semi\.voters: is for self_training: .*leave it out"):
        load_recipe(name, [f"semi.voters={voters}"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.batchsize=3", "data.batchsize: unknown key; did you mean data.batch_size?"),
        ("lr=3", "lr: unknown key; did you mean optim.lr?"),
        ("optim.learning_rate=3", "optim.learning_rate: unknown key; did you mean optim.lr "),
        ("data.batch_size=many", "data.batch_size: is `many`; expected a whole number or auto"),
        ("model.args={patch_size:8}", "model.args: `patch_size:8` has no value; write a space, `patch_size: 8`"),
        ("decay=3", "decay: unknown key; did you mean optim.ema.decay?"),
        ("label_smoothing=0.1", "label_smoothing: unknown key; did you mean method.label_smoothing?"),
        ("zzz=3", "zzz: unknown key"),
        ("task=clasification", "task: is `clasification`; expected classification | pretraining | bags | "),
        ("data.on_bad=ignore", "data.on_bad: is `ignore`; expected error | skip"),
        ("data.feature_width=3", "data.feature_width: unknown key"),
        ("seed=true", "seed: is true; expected a whole number"),
        ("seed=1.5", "seed: is 1.5; expected a whole number"),
        ("seed=null", "seed: is null; expected a whole number"),
        ("seed=-1", "seed: is -1; must lie between 0 and 4294967295"),
        ("optim.lr=fast", "optim.lr: is `fast`; expected a number"),
        ("optim.lr=.nan", "optim.lr: is nan; expected a finite number"),
        ("optim.lr=-1", "optim.lr: is -1.0; must be above 0"),
        ("model.name=3", "model.name: is 3; expected text; put it in quotes"),
        ("model.compile=1", "model.compile: is 1; expected true or false"),
        ("augment.train.crop_scale=[1]", "augment.train.crop_scale: is [1]; expected a list of 2 numbers or null"),
        ("augment.mean=[0, 0, x]", "augment.mean[2]: is `x`; expected a number"),
        ("data.splits={val: a}", "data.splits.val: is `a`; expected a number"),
        (
            "data.splits={dev: 0.1}",
            "data.splits.dev: unknown split; `val` and `test` can be cut from",
        ),
        ("model.args={1: 2}", "model.args.1: is no text; put the key in quotes"),
        ("model.args.num_classes=7", "model.args.num_classes: is not for a recipe to set: the head has one output"),
        ("optim.ema=0.9", "optim.ema: is 0.9; expected a mapping or null"),
        ("optim.ema.decay=1", "optim.ema.decay: is 1.0; must lie strictly between 0 and 1"),
        ("optim.ema={half_life: 0}", "optim.ema.half_life: is 0.0; must be above 0"),
        ("optim.ema={half_life: 9, decay: 0.9}", "optim.ema.half_life: is 9 beside decay 0.9; give one of them"),
        ("optim.lr_factors={'head.*': 0}", "optim.lr_factors: is 0.0 for `head.*`; must be above 0"),
        ("optim.lr_factors={'head.*': x}", "optim.lr_factors.head.*: is `x`; expected a number"),
        ("optim.warmup_steps=9", "optim.warmup_steps: is 9 beside warmup_epochs 5; set one to 0"),
        ("optim.decay_share=1.5", "optim.decay_share: is 1.5; must lie in (0, 1]"),
        ("optim.schedule=step", "optim.milestones: is empty; the schedule `step` needs the epochs of its drops"),
        ("optim={schedule: step, milestones: [3, 2]}", "optim.milestones: is [3.0, 2.0]; must be epochs above 0, each"),
        ("optim={schedule: step, milestones: [3], gamma: 0}", "optim.gamma: is 0.0; must be above 0"),
        ("optim={schedule: step, milestones: [3], min_lr: 1}", "optim.min_lr: is 1.0, which the schedule `step` does"),
        ("optim.milestones=[3]", "optim.milestones: is [3.0], but schedule is `cosine`; set schedule to step"),
        ("model.checkpoint=3", "model.checkpoint: is 3; expected text or a mapping or null; put it in quotes"),
        ("model.checkpoint={a: 3}", "model.checkpoint.a: is 3; expected text; put it in quotes"),
        ("model.checkpoint={}", "model.checkpoint: is an empty mapping; map parts of the network to files"),
        ("model.checkpoint={'': a.pth}", "model.checkpoint: has a part without a name; for the whole network"),
        ("model.checkpoint={a: x, ab: x, a.b: x}", "model.checkpoint: has the parts `a` and `a.b`, one inside the"),
        ("model.freeze=blocks.*", "model.freeze: is `blocks.*`; expected a list of texts"),
        (
            "trainer.accelerator=gpus",
            "trainer.accelerator: is `gpus`; expected auto | cpu | gpu | cuda | mps | tpu; did you",
        ),
        ("trainer.precision=bf17", "trainer.precision: is `bf17`; expected auto | 32-true | "),
        ("trainer.devices=0", "trainer.devices: names no device"),
        ("trainer.logger=true", "trainer.logger: is not for a recipe to set: every run writes metrics.jsonl"),
        ("trainer.max_epoch=3", "trainer.max_epoch: unknown key; did you mean trainer.max_epochs?"),
        ("trainer.max_epochs=0", "trainer.max_epochs: is 0; must be at least 1"),
        ("trainer=null", "trainer.max_epochs: is missing; expected a whole number, such as trainer.max_epochs=100"),
        ("augment.eval.crop_share=0", "augment.eval.crop_share: is 0.0; must lie in (0, 1]"),
        ("augment.eval.crop_share=1.1", "augment.eval.crop_share: is 1.1; must lie in (0, 1]"),
        (
            "trainer.strategy=fsdp",
            "trainer.strategy: is `fsdp`; it may split the weights over processes, and a checkpoint here is one whole "
            "file; `ddp`",
        ),
        ("trainer.strategy=ddp_spawn", "trainer.strategy: is `ddp_spawn`; it starts processes that end with training"),
        ("trainer.strategy=dpp", "trainer.strategy: is `dpp`; expected auto | ddp | "),
        (
            "run.pretrain=quickstrat",
            "run.pretrain: is `quickstrat`, which is neither a built-in recipe nor a file; did you",
        ),
        ("name=../elsewhere", "name: is `../elsewhere`; it names a folder under runs/"),
        ("smoke.data.workers=1", "smoke: unknown key"),
    ],
)
def test_the_message(mistakes: Mistakes, override: str, message: str):
    (found,) = mistakes("quickstart", override)
    assert found.startswith(f"command line: {message}")


def test_sections_are_checked_against_one_another_though_a_third_is_wrong(mistakes: Mistakes):
    found = mistakes("quickstart", "optim.lr=fast", "name=../elsewhere")
    assert [line.split(": ")[1] for line in found] == ["optim.lr", "name"]


def test_a_section_is_checked_though_one_inside_it_is_out_of_range(mistakes: Mistakes):
    found = mistakes("quickstart", "augment.train.erasing=2", "augment.std=[0, 1, 1]")
    assert [line.split(": ")[1] for line in found] == ["augment.train.erasing", "augment.std"]


@pytest.mark.parametrize(
    ("recipe", "wrong"),
    [
        ("acmil/slides", "data.batch_size=many"),
        ("acmil/slides", "optim.lr=fast"),
        ("quickstart", "data.source=photos"),
        ("droppos/vit_base", "augment.mixing=[]"),
        ("droppos/vit_base", "model.args=3"),
        ("acmil/slides", "augment.mean=grey"),
    ],
)
def test_no_check_runs_on_the_defaults_of_a_section_with_a_mistake(mistakes: Mistakes, recipe: str, wrong: str):
    (found,) = mistakes(recipe, wrong, runnable=False)
    assert found.startswith(f"command line: {wrong.split('=')[0]}: ")


def test_every_mistake_beside_a_section_that_cannot_be_read_is_reported_at_once(mistakes: Mistakes):
    wrong = [
        "data.batch_size=many",
        "data.workers=-1",
        "data.on_bat=skip",
        "optim.layer_decay=0.7",
        "name=../elsewhere",
    ]
    found = [line.split(": ")[1] for line in mistakes("acmil/slides", *wrong, runnable=False)]
    assert set(found) >= {"data.batch_size", "data.on_bat", "optim.layer_decay", "name"}
    assert "data.source" not in found


def test_mistakes_come_in_the_order_they_were_written(folder: Path, mistakes: Mistakes):
    (folder / "base.yaml").write_text("task: classification\nsed: 1\nmodel:\n  nam: vit\n")
    (folder / "mine.yaml").write_text("extends: base\nrun:\n  on_nan: cry\ndata:\n  source: digits\n\n  workers: two\n")
    assert mistakes("mine", "trainer.max_epochs=x", "seed=x") == [
        "base.yaml:2: sed: unknown key; did you mean seed?",
        "base.yaml:3: model.name: is missing; name a timm model such as vit_small_patch16_224, or `vit`",
        "base.yaml:4: model.nam: unknown key; did you mean model.name?",
        "mine.yaml:3: run.on_nan: is `cry`; expected stop | continue",
        "mine.yaml:7: data.workers: is `two`; expected a whole number",
        "command line: trainer.max_epochs: is `x`; expected a whole number or null",
        "command line: seed: is `x`; expected a whole number",
    ]


def test_an_empty_file_lacks_what_is_required(folder: Path, mistakes: Mistakes):
    (folder / "mine.yaml").write_text("")
    assert sorted(line.split(": ")[1] for line in mistakes("mine")) == ["model.name", "task", "trainer.max_epochs"]
    (folder / "mine.yaml").write_text("task: classification")
    assert mistakes("mine")[-1].startswith("data.root: ")


def test_data_that_only_the_user_can_name_is_missing_from_no_file(mistakes: Mistakes):
    assert mistakes("classification/vit_small") == [
        "data.root: no images named; set data.root=FOLDER, or data.labels=FILE.csv"
    ]
    assert mistakes("classification/vit_small", "seed=-1")[-1].startswith("data.root: no images named")


NESTED_ALIASES = "".join(
    f"k{level}: &k{level} [{', '.join([f'*k{level - 1}' if level else 'x'] * 9)}]\n" for level in range(9)
)
"""A few hundred bytes that stand for 400 million values."""


def brackets(deep: int) -> str:
    """Lists inside one another."""
    return "[" * deep + "]" * deep


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2\n", "mine.yaml:2: not valid YAML: found duplicate key seed"),
        ("data:\n  root: a\n  root: b\n", "mine.yaml:3: not valid YAML: found duplicate key root"),
        ("seed: [1\n", "mine.yaml:2: not valid YAML: "),
        (
            "seed: !!python/object/apply:os.getcwd []\n",
            "mine.yaml:1: not valid YAML: !!python/object/apply:os.getcwd is no text, number, list or mapping",
        ),
        ("- seed\n", "mine.yaml: holds no keys; a recipe is a mapping"),
        ("seed: 1\ndescription: ${nothing}\n", "mine.yaml:2: description: Interpolation key 'nothing' not found"),
        ("description: ${seed\n", "mine.yaml:1: description: "),
        ("seed: 1\naugment:\n  mean: [1, '${augment.mean}', 1]\n", "mine.yaml:3: augment.mean"),
        ("x:\n- &a [*a]\n", "mine.yaml:2: not valid YAML: an alias (*) stands inside what it repeats"),
        ("? [1, 2]\n: 3\n", "mine.yaml:1: not valid YAML: "),
        ("null: 3\n", "mine.yaml:1: not valid YAML: a key is a name or a number"),
        ("seed: !!set {1, 2}\n", "mine.yaml:1: not valid YAML: !!set is no text, number, list or mapping"),
        *((f"seed: !!{value}\n", "mine.yaml: not valid YAML: ") for value in ("int three", "int ''", "bool maybe")),
        ("model: {args: {a: 1, b: 2}}\naugment: {x: 1, x: 2}\n", "mine.yaml:2: not valid YAML: found duplicate key x"),
        ("description: <<\n", "mine.yaml:1: not valid YAML: `<<` is no text"),
        *(
            pytest.param(
                f"seed:\n  {brackets(deep)}\n", "mine.yaml:2: not valid YAML: more than 50", id=f"{deep} brackets"
            )
            for deep in (51, 400, 50_000)
        ),
        pytest.param(NESTED_ALIASES, "not valid YAML: more than 10,000 values", id="aliases of aliases"),
        ("smoke: 3\ntask: classification\n", "mine.yaml:1: smoke: is 3; expected a mapping"),
    ],
)
def test_a_file_that_cannot_be_read(folder: Path, mistakes: Mistakes, text: str, message: str):
    (folder / "mine.yaml").write_text(text)
    assert message in "\n".join(mistakes("mine"))


def test_a_file_that_is_no_text(folder: Path, mistakes: Mistakes):
    (folder / "mine.yaml").write_bytes(b"\x80\xff\x00")
    (found,) = mistakes("mine")
    assert found.startswith("mine.yaml: ")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "command line: `seed` is no override; write key.path=value, such as trainer.max_epochs=10"),
        ("=3", "command line: `=3` is no override"),
        ("seed=[1", "command line: seed: `[1` is not valid YAML; try \"seed='[1'\""),
        pytest.param(f"seed=0x{'f' * 5000}", "command line: seed: is 0xffff", id="thousands of digits"),
        pytest.param(f"model.args={brackets(50_000)}", "command line: model.args: `[[[[", id="thousands of brackets"),
        pytest.param("[" * 50_000 + "=1", "command line: `[[[[", id="a key of thousands of brackets"),
        pytest.param("a." * 50_000 + "a=1", "command line: `a.a.a.", id="a key of thousands of parts"),
        ("seed=!!bool maybe", "command line: seed: `!!bool maybe` is not valid YAML"),
        ("seed=!!int three", "command line: seed: `!!int three` is not valid YAML"),
        ("description=${nothing}", "command line: description: Interpolation key 'nothing' not found"),
        ("description=${seed", "command line: description: "),
    ],
)
def test_an_override_that_cannot_be_read(mistakes: Mistakes, override: str, message: str):
    (found,) = mistakes("quickstart", override)
    assert found.startswith(message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("quikstart", "quikstart: no recipe or file of this name; did you mean quickstart?"),
        ("vit_smal", "did you mean classification/vit_small"),
        ("missing.yaml", "missing.yaml: no recipe or file of this name; `vision-train recipes --all`"),
        ("_parts/digits", "_parts/digits: no recipe or file of this name"),
        ("", "no recipe or file of this name"),
        ("runs/0", "runs/0: is a run directory; its recipe is runs/0/recipe.yaml"),
    ],
)
def test_an_unknown_recipe(folder: Path, mistakes: Mistakes, name: str, message: str):
    (folder / "runs" / "0").mkdir(parents=True)
    (folder / "runs" / "0" / "recipe.yaml").write_text("")
    (found,) = mistakes(name)
    assert message in found
