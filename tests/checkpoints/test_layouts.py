"""Every layout of ``docs/checkpoints.md`` gives the numbers of the library that it comes from."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "studies" / "checkpoints.py"
sys.path.insert(0, str(SCRIPT.parent))  # as where it is run as a script
spec = importlib.util.spec_from_file_location("checkpoint_layouts", SCRIPT)
layouts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(layouts)
CASES = [(layout, size) for layout in layouts.LAYOUTS for size in dict.fromkeys(layout.sizes)]
TOLERANCE = {"timm": 0.0, "transformers": 1e-5}


@pytest.mark.parametrize(("layout", "size"), CASES, ids=[f"{layout.title} at {size}" for layout, size in CASES])
def test_features_are_those_of_the_library(layout, size, tmp_path):
    if layout.package == "transformers":
        pytest.importorskip("transformers")
    assert layouts.difference(layout, tmp_path, size) <= TOLERANCE[layout.package]


def test_the_table_of_the_documentation_has_these_rows():
    rows = [
        line.split(" | ") for line in layouts.TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")
    ]
    written = [(row[0].removeprefix("| "), row[1]) for row in rows if row[1] in TOLERANCE]
    assert written == [(layout.title, layout.package) for layout in layouts.LAYOUTS]
