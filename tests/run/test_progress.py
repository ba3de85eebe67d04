import io
import re

from rich.console import Console

from vision_train.recipe import load_recipe
from vision_train.run.fit import fit
from vision_train.run.progress import format_seconds


def shown(recipe: str, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=200, soft_wrap=True, highlight=False)
    fit(load_recipe(recipe, ["trainer.max_epochs=2"]), run_dir=None, command=[], console=console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_pipe_gets_one_plain_line_an_epoch(tiny):
    text = shown(tiny, terminal=False)
    lines = [line for line in text.splitlines() if line.startswith("epoch")]
    assert len(lines) == 2
    pattern = r"epoch 1/2  val accuracy \d+\.\d %  loss \d+\.\d{4}  [\d,]+ samples/s  \d+% waiting for data  .+ left"
    assert re.fullmatch(pattern, lines[0])
    assert "\x1b" not in text


def test_a_terminal_gets_a_bar_with_the_same_figures(tiny):
    text = shown(tiny, terminal=True)
    for figure in ("epoch 1/2", "samples/s", "waiting for data", "loss", "left", "100%"):
        assert figure in text
    assert "\x1b" in text


def test_seconds_read_as_a_person_would_say_them():
    assert [format_seconds(seconds) for seconds in (0.4, 42, 190, 7500)] == ["0 s", "42 s", "3 min 10 s", "2 h 5 min"]
