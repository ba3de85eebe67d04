"""Verbs on a real terminal, of few columns or many, and of an encoding that has no signs but those of ASCII."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

DEADLINE = 300


def on_a_terminal(columns: int, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code of a command and what its terminal got, without colours and movements of the cursor."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    left_out = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"}
    kept = {key: value for key, value in os.environ.items() if key not in left_out}
    process = subprocess.Popen(
        [sys.executable, "-m", "vision_train", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**kept, "TERM": "xterm-256color", **environment},
    )
    os.close(theirs)
    said = bytearray()
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        said += part
    os.close(ours)
    code = process.wait(DEADLINE)
    return code, re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", said.decode())


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "encoding"), [(80, "ascii"), (200, "utf-8")])
def test_training_fits_the_terminal(place: Path, columns: int, encoding: str) -> None:
    arguments = ("fit", "tiny.yaml", "data.root=photos", "--run-dir", "run", "trainer.max_epochs=3")
    code, said = on_a_terminal(columns, *arguments, PYTHONIOENCODING=encoding)
    assert code == 0, said
    assert "Traceback" not in said
    assert said.isascii() == (encoding == "ascii")
    shown = list(filter(None, re.split(r"[\r\n]+", said)))
    assert "fit tiny: loading PyTorch and Lightning" in shown[0]
    moving = [part for part in shown if re.search(r"\d:\d\d:\d\d( left)?$", part)]
    lasting = [part for part in shown if re.match(r"epoch \d/3  val ", part)]
    assert moving
    assert len(lasting) == 3
    assert max(map(len, [*moving, *lasting])) <= columns
    assert any("% wait" in line and "samples/s" in line for line in moving)
    if columns == 200:
        assert max(map(len, moving)) > 180
        assert all("waiting for data" in line for line in lasting)
