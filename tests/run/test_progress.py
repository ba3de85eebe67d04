import io
import re

from rich.console import Console

from vision_train.recipe import load_recipe
from vision_train.run.fit import fit
from vision_train.run.progress import EpochReached, epoch_reached


def shown(recipe: str, terminal: bool, width: int = 200) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width, soft_wrap=True, highlight=False)
    fit(load_recipe(recipe, ["trainer.max_epochs=2"]), run_dir=None, command=[], console=console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_pipe_gets_one_plain_line_an_epoch(tiny):
    text = shown(tiny, terminal=False)
    lines = [line for line in text.splitlines() if line.startswith("epoch")]
    assert len(lines) == 2
    pattern = r"epoch 1/2  val accuracy \d+\.\d %  loss \d+\.\d{4}  [\d,]+ samples/s  \d+ % waiting for data  .+ left"
    assert re.fullmatch(pattern, lines[0])
    assert "\x1b" not in text


def test_a_terminal_gets_a_bar_with_the_same_figures(tiny):
    text = shown(tiny, terminal=True)
    for figure in ("epoch 1/2", "samples/s", "waiting for data", "loss", "left", "100 %"):
        assert figure in text
    assert "\x1b" in text


def test_a_terminal_of_80_columns_is_never_too_narrow_for_training(tiny):
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown(tiny, terminal=True, width=80))
    bars = [part for line in text.split("\n") for part in line.split("\r") if " left" in part]
    epochs = [line for line in re.split(r"[\r\n]", text) if re.match(r"epoch \d/2  val ", line)]
    assert any("epoch 2/2" in bar and "samples/s" in bar and "% wait" in bar for bar in bars)
    assert len(epochs) == 2
    assert all("samples/s" in line for line in epochs)
    assert max(map(len, [*bars, *epochs])) <= 80


def test_how_far_a_run_is_can_be_read_from_what_it_printed(tiny):
    said = shown(tiny, terminal=False)
    assert epoch_reached(said) == EpochReached(2, 2, 1.0)
    assert epoch_reached(said.partition("epoch 2/2")[0]) == EpochReached(1, 2, 0.5)
    assert epoch_reached("epoch 3/30  8%  loss 0.1") == EpochReached(3, 30, 0.08), "as earlier versions wrote it"
    assert epoch_reached("epoch 3/30  7 %  loss 0.1  2 samples/s\nnote: epoch 9/9\n") == EpochReached(3, 30, 0.07)
    assert epoch_reached("nothing yet\n") is None
