"""What verbs print can be written on any terminal."""

import ast
import io
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import vision_train
from vision_train.cli import app
from vision_train.cli.console import PLAIN, plain_console, write_anywhere


def written(text: str, encoding: str, errors: str = "strict") -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors=errors)
    write_anywhere(stream)
    stream.write(text)
    stream.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("a, b, …", "ascii", "a, b, ..."),
        ("0.5 ± 0.1 → ∞", "ascii", "0.5 +/- 0.1 -> inf"),
        ("caf\u00e9 \u732b", "ascii", "caf\\xe9 \\u732b"),
        ("caf\u00e9 \u732b …", "latin-1", "caf\u00e9 \\u732b ..."),
        ("caf\u00e9 …", "utf-8", "caf\u00e9 …"),
        ("not text: \udcff", "utf-8", "not text: \\udcff"),
    ],
)
def test_what_an_encoding_lacks_is_written_in_its_place_or_escaped(text: str, encoding: str, expected: str) -> None:
    assert written(text, encoding) == expected


def test_a_console_writes_through_such_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    write_anywhere(stream)
    monkeypatch.setattr("sys.stdout", stream)
    plain_console().print("r\u00e9sultat …")
    stream.flush()
    assert raw.getvalue() == b"r\\xe9sultat ...\n"


def test_every_sign_that_the_command_line_uses_has_something_in_its_place() -> None:
    """Those of reports and pictures go to files and need none."""
    root = Path(vision_train.__file__).parent
    for file in (file for room in ("cli", "run", "study") for file in (root / room).glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        signs = {sign for text in texts if isinstance(text, str) for sign in text if not sign.isascii()}
        assert signs <= {*PLAIN}, file


@pytest.mark.parametrize("arguments", [["--help"], ["inspect", "{file}"], ["recipes"], ["inspect", "--help"]])
def test_verbs_end_well_on_a_terminal_of_ascii(tmp_path: Path, arguments: list[str]) -> None:
    content = {"state_dict": {"w": torch.ones(2), "b": torch.ones(2)}, "classes": [f"caf\u00e9 {k}" for k in range(9)]}
    torch.save(content, tmp_path / "w.pth")
    result = CliRunner(charset="ascii").invoke(app, [each.format(file=tmp_path / "w.pth") for each in arguments])
    assert result.exit_code == 0, result.output
    if arguments[0] == "inspect" and arguments[1] != "--help":
        assert "9: caf\\xe9 0, caf\\xe9 1" in result.stdout
