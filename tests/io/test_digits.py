"""Numbers are shown with as many digits as their interval needs."""

import pytest

from mlpop.io.digits import interval_texts, needed_digits, plain_texts, rounded, rounded_interval
from mlpop.plots.corner import interval_text

CASES = {
    (0.2386, 0.33170001, 0.407): ("0.2386", "0.3317", "0.407"),
    (2.2e-15, 3.21e-15, 4.3e-15): ("2.2e-15", "3.21e-15", "4.3e-15"),
    (60000.00491, 60000.00608, 60000.00712): ("60000.0049", "60000.0061", "60000.0071"),
    (-1e9 - 3, -1e9, -1e9 + 2): ("-1000000003", "-1000000000", "-999999998"),
    (5.0, 5.0, 5.0): ("5", "5", "5"),
}


@pytest.mark.parametrize("numbers", list(CASES))
def test_texts_tell_the_ends_of_an_interval_apart(numbers: tuple[float, float, float]) -> None:
    assert interval_texts(*numbers) == CASES[numbers]


def test_metrics_keep_six_digits_but_for_those_of_a_posterior() -> None:
    made = rounded({"loss": 60000.00608, "posterior/t/median": 60000.00723456})
    assert made == {"loss": 60000.0, "posterior/t/median": 60000.00723456}


@pytest.mark.parametrize("offset", [0.0, 60000.0, -2.46e6, 1e9])
@pytest.mark.parametrize("width", [1.0, 0.001])
def test_intervals_are_rounded_to_what_tells_them_apart(offset: float, width: float) -> None:
    ends = [offset + width * value for value in (0.123456789, 0.5123456789, 1.9123456789)]
    made = rounded_interval(*ends)
    assert made == pytest.approx(ends, abs=width / 1000, rel=0.0)
    assert all(len(f"{value!r}".strip("-")) <= 18 for value in made)


def test_never_more_digits_than_a_number_has() -> None:
    assert needed_digits(1.0, 1.0 + 2e-16, 2.0) <= 17
    assert needed_digits(float("-inf"), 0.0, 1.0) == 4


def test_the_corner_plot_writes_powers_of_ten() -> None:
    assert interval_text(2.2e-15, 3.2e-15, 4.3e-15) == r"$(3.2_{-1.0}^{+1.1})\times 10^{-15}$"
    assert interval_text(0.2, 0.3, 0.5) == "$0.30_{-0.10}^{+0.20}$"
    assert interval_text(1.1e30, 1.5e30, 2.2e30) == r"$(1.50_{-0.40}^{+0.70})\times 10^{30}$"
    assert interval_text(2e-310, 3.2e-310, 5e-310) == r"$(3.2_{-1.2}^{+1.8})\times 10^{-310}$"


def test_reports_write_equal_decimals_or_powers_of_ten() -> None:
    assert plain_texts(0.1, 0.25, 0.4) == ("0.10", "0.25", "0.40")
    assert plain_texts(1.1e12, 1.5e12, 2.2e12) == ("1.1e+12", "1.5e+12", "2.2e+12")
    assert plain_texts(60000.0049, 60000.006, 60000.0071)[0] == "60000.0049"
