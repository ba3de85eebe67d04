"""``log.txt``: the terminal shows progress, the file keeps everything that was said."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OURS = ("vision_train", "pytorch_lightning", "lightning_fabric", "py.warnings")
LIBRARIES = ("onnxscript", "onnx_ir", "torch.onnx")
"""What writes exports remarks on its own insides, and its warnings reach the terminal where nobody takes them."""
LOGGERS = (*OURS, *LIBRARIES)


@contextmanager
def logging_to(path: Path | None) -> Iterator[None]:
    """Send what Lightning, warnings and we have to say to a file instead of the terminal.

    Args:
        path: The file, appended to; None discards it (every process but the first).
    """
    loggers = [logging.getLogger(name) for name in LOGGERS]
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace") if path else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    before = [(entry.level, entry.propagate, entry.handlers[:]) for entry in loggers]
    showing = warnings.showwarning
    logging.captureWarnings(True)
    captured = warnings.showwarning is not showing  # else the caller had it on, and wants it on
    for entry in loggers:
        entry.setLevel(logging.INFO)
        entry.propagate, entry.handlers = False, [handler]
    try:
        yield
    finally:
        if captured:
            logging.captureWarnings(False)
        for entry, (level, propagate, handlers) in zip(loggers, before, strict=True):
            entry.setLevel(level)
            entry.propagate, entry.handlers = propagate, handlers
        handler.close()
