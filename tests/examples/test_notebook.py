"""The notebook runs from its first cell to its last, in a kernel of its own."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "first_run.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_and_shows_a_run_and_its_predictions(tmp_path: Path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, kernel_name="python3", timeout=300, resources=where).execute()
    cells = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    run, history, predictions, classes = (outputs[-1]["data"] for outputs in cells)
    assert "Test accuracy" in run["text/html"]
    assert len(history["text/plain"].split(",")) == 2, "epochs"
    assert predictions["text/plain"].count("confidence") == 4
    assert classes["text/plain"].startswith("tensor")
