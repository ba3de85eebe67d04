"""Locks that end with the process that holds them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vision_train.errors import UserError
from vision_train.locks import HELD, alone, hold_for_life, is_free, take

WAITS = "print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "run.lock"


def started(code: str, **environment: str) -> subprocess.Popen[str]:
    """A process that has taken its lock and now waits."""
    lines = f"import os, sys\nfrom pathlib import Path\nfrom vision_train.locks import *\n{code}\n{WAITS}"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", lines], env=os.environ | environment, text=True, **pipes)
    assert process.stdout.readline().strip() == "held"
    return process


def test_one_alone(lock):
    with alone(lock, "somebody is at work"):
        assert take(lock) is None
        with pytest.raises(UserError, match="somebody is at work"), alone(lock, "somebody is at work"):
            pass
    assert is_free(lock)


def test_a_process_that_was_told_to_holds_a_lock_until_it_is_killed(lock):
    process = started(f"hold_for_life(); assert '{HELD}' not in os.environ", **{HELD: str(lock)})
    assert not is_free(lock)
    process.kill()
    process.communicate()
    assert is_free(lock)


def test_a_lock_that_another_process_holds_is_refused_by_name(lock, monkeypatch):
    monkeypatch.setenv(HELD, str(lock))
    with alone(lock, ""), pytest.raises(UserError, match=r"run\.lock: is held by another process.*wait"):
        hold_for_life()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="loaders are forked on POSIX systems alone")
def test_what_a_process_forks_does_not_hold_its_lock(lock):
    """As the loaders of a killed training, which live on for some seconds."""
    noted = lock.with_suffix(".child")
    code = f"lock = take(Path({str(lock)!r}))\nready, tell = os.pipe()\nchild = os.fork()\n"
    code += "if child == 0:\n    import time\n    os.close(1)\n    os.write(tell, b'.')\n"
    code += "    time.sleep(600)\n    os._exit(0)\n"
    # What a fork closes it closes by itself, which a busy machine may let it do later than its parent goes on.
    process = started(code + f"os.read(ready, 1)\nPath({str(noted)!r}).write_text(str(child))")
    child = int(noted.read_text())
    try:
        assert not is_free(lock)
        process.kill()
        process.wait()
        assert is_free(lock)
        os.kill(child, 0)  # it is still there
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()
