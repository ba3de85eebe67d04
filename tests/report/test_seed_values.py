"""Values of several seeds, from the artefact to the page."""

import math

from vision_train.artefacts import Curve, SeedValues, read_artefact, write_artefact
from vision_train.report.artefact_blocks import artefact_block

FOUND = SeedValues(
    "seeds", "Accuracy", "accuracy", "percent", {"labelled": [0.8, 0.9], "method": [0.9, 0.95]}, "Dots are seeds."
)


def test_seeds_of_arms_are_drawn_as_strips_with_their_means(tmp_path):
    write_artefact(tmp_path, FOUND)
    read = read_artefact(tmp_path / "seeds.json")
    assert read == FOUND
    markup = str(artefact_block(read))
    for words in ("labelled", "85.0 %", "method", "92.5 %", "Dots are seeds.", 'class="range"'):
        assert words in markup


def test_a_single_seed_has_no_interval():
    markup = str(artefact_block(SeedValues("seeds", "Loss", "loss", "number", {"labelled": [0.5]})))
    assert 'class="range"' not in markup


def test_a_value_that_a_curve_lacks_leaves_a_gap_after_it_was_stored(tmp_path):
    write_artefact(
        tmp_path, Curve("health", "Health", "step", "share", [0.0, 1.0, 2.0], {"accepted": [0.2, math.nan, 0.4]})
    )
    read = read_artefact(tmp_path / "health.json")
    assert isinstance(read, Curve)
    assert math.isnan(read.lines["accepted"][1])
    assert artefact_block(read)
