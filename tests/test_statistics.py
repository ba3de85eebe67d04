import pytest

from vision_train.statistics import wilson_interval


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [
        # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_values(hits, count, low, high):
    assert wilson_interval(hits / count, count) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("share", "count"), [(0.5, 0), (1.1, 10), (-0.1, 10), (float("nan"), 10)])
def test_what_is_no_proportion_is_refused(share, count):
    with pytest.raises(ValueError, match="share in"):
        wilson_interval(share, count)
