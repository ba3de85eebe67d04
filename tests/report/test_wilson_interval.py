import pytest

from vision_train.report.intervals import wilson_interval


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


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (290, 300), (5000, 5000), (37, 90)])
def test_agrees_with_scipy(hits, count):
    from scipy.stats import binomtest

    expected = binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson_interval(hits / count, count) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("share", "count"), [(0.5, 0), (1.1, 10), (-0.1, 10), (float("nan"), 10)])
def test_what_is_no_proportion_is_refused(share, count):
    with pytest.raises(ValueError, match="share in"):
        wilson_interval(share, count)
