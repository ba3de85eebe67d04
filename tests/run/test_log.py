"""What is said while something runs goes to a file, and all is as before behind it."""

import logging
import warnings

import pytest

from vision_train.run.log import logging_to


def test_warnings_are_captured_afterwards_where_they_were_before(tmp_path):
    logging.captureWarnings(True)
    try:
        with logging_to(tmp_path / "log.txt"), logging_to(None):
            warnings.warn("inside", stacklevel=1)
        captured = warnings.showwarning
        logging.captureWarnings(True)
        assert warnings.showwarning is captured, "it was on all the time"
    finally:
        logging.captureWarnings(False)


def test_warnings_are_shown_afterwards_where_they_were_before(tmp_path):
    shown = warnings.showwarning
    with logging_to(tmp_path / "log.txt"):
        assert warnings.showwarning is not shown
        with logging_to(None):
            pass
        assert warnings.showwarning is not shown, "the outer one goes on"
    assert warnings.showwarning is shown


@pytest.mark.parametrize("library", ["onnxscript.optimizer._constant_folding", "onnx_ir._core", "torch.onnx"])
def test_what_a_library_remarks_on_its_insides_is_logged_and_not_shown(tmp_path, capsys, library):
    with logging_to(tmp_path / "log.txt"):
        logging.getLogger(library).warning("Skipping constant folding for op %s with multiple outputs.", "Split")
    assert "constant folding for op Split" in (tmp_path / "log.txt").read_text()
    assert capsys.readouterr().err == ""
