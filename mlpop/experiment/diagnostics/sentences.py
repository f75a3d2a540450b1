"""What the numbers of `calibration.json` say, for somebody who wants to use the posterior."""

from collections.abc import Callable, Mapping
from typing import Any

from mlpop.inference.diagnostics.verdict import LARGE_EFFECT, MIN_TESTS, Fault

Values = Mapping[str, Any]

MAX_FAILED = 0.02
"""Fraction of the tests that may fail of a posterior that is to be relied on."""

REMEDIES: Mapping[Fault, str] = {
    "biased": "more simulations, trainer.ema_decay, an ensemble",
    "overconfident": "more simulations, an ensemble or a smaller network",
    "underconfident": "trainer.lr_decay, a longer training, a larger network or embedding",
    "edge": "a density that ends where the prior does, more simulations, or a wider prior",
    "correlation": "a density with more components or transforms, more simulations",
    "tails": "a density with more components or transforms, an ensemble",
    "locally biased": "more simulations or a larger embedding; a further round near x_o",
    "locally overconfident": "more simulations, an ensemble; a further round near x_o",
    "locally underconfident": "trainer.lr_decay, a larger network; a further round near x_o",
    "shape": "another density_estimator.type, more components or transforms",
}
"""Fault -> what would help."""


def statistic_in_words(name: str) -> str:
    """Return what a statistic of the family measures; other names as they are."""
    kind, _, of = name.partition("/")
    places = of.split(" ~ ")
    first, last = places[0], places[-1]
    everything = of == "all"
    words = {
        "bias": f"bias of {first}",
        "width": "width of the credible regions" if everything else f"width of {first}",
        "tails": "tails of the credible regions",
        "correlation": f"correlation of {first} and {last}",
        "edge": f"edges of the prior, {'all labels' if everything else first}",
        "slope": f"bias of {first} along {last}",
        "width slope": f"width of the credible regions along {first}",
        "distance": "distance from random points (TARP)",
        "near distance": "distance from points of the posterior (TARP)",
        "x_o bias": f"bias of {first} near x_o",
        "x_o width": f"width of {'the credible regions' if everything else first} near x_o",
        "shape": f"shape of the ranks of {'the density' if everything else first}",
    }
    return words.get(kind, name)


def fault_in_words(values: Values, levels: Values) -> str:
    """Return what is wrong, as the end of a sentence.

    Args:
        values: content of `calibration.json`.
        levels: credibility -> coverage, of `coverage.json`.
    """
    kind, _, of = values["decided_by"].partition("/")
    value, effect = values["statistics"][values["decided_by"]], values["effects"]
    size = abs(effect[values["decided_by"]])
    labels = of.split(" ~ ")
    check = values["intervals"].get(labels[0])
    phrases: dict[str, Callable[[], str]] = {
        "bias": lambda: _bias(labels[0], check["bias"], check["bias_error"]),
        "width": lambda: (
            _regions(value, values, levels)
            if of == "all"
            else _width(labels[0], check, "in the tests")
        ),
        "tails": lambda: (
            f"the credible regions have too {'little' if value > 0 else 'much'} mass far out: "
            f"truths of tests lie at the centre or far from it {_often(value)} than they say"
        ),
        "correlation": lambda: (
            f"the posterior has a wrong correlation of {labels[0]} and {labels[-1]}: that of the "
            f"truths of tests is {'higher' if value > 0 else 'lower'}, by {size:.2f}"
        ),
        "edge": lambda: _edge(labels[0], value, values["edge"]),
        "slope": lambda: (
            f"the posterior of {labels[0]} is shifted one way where {labels[-1]} is small and the "
            f"other way where it is large, by {size:.2f} of its standard deviations for one "
            f"standard deviation of {labels[-1]}"
        ),
        "width slope": lambda: (
            f"the credible regions are too {'wide' if value > 0 else 'narrow'} where {labels[0]} "
            f"is small and too {'narrow' if value > 0 else 'wide'} where it is large"
        ),
        "x_o bias": lambda: (
            f"in tests like the observed sample the posterior of {labels[0]} lies too "
            f"{'low' if value > 0 else 'high'}, by {size:.2f} of its standard deviations"
        ),
        "x_o width": lambda: (
            "in tests like the observed sample the credible regions are too "
            f"{'narrow' if value > 0 else 'wide'}"
            if of == "all"
            else _width(labels[0], check, "in tests like the observed sample", near=True)
        ),
    }
    shapeless = (
        "the truths of tests are distributed otherwise than the posterior says, in a way that "
        "has no simple name: see the histograms of ranks"
    )
    return phrases.get(kind, lambda: shapeless)()


def reason_in_words(values: Values) -> str:
    """Return what a verdict rests on, as the end of a sentence."""
    number = values["num_tests"]
    if number < MIN_TESTS or not values.get("statistics"):
        return f"{number} tests succeeded, {MIN_TESTS} are needed"
    statistics, deciding = values["statistics"], values["decided_by"]
    largest = max(statistics, key=lambda name: abs(statistics[name]))
    text = (
        f"{number + values['num_failed']} tests: {statistic_in_words(deciding)!r} is "
        f"{abs(statistics[deciding]):.1f} standard deviations off; of a calibrated posterior the "
        f"largest of all {len(statistics)} statistics stays below {values['critical']:.1f} in "
        f"{100 * (1 - values['alpha']):.0f} of 100 cases (p = {values['p_value']:.2g})"
    )
    if largest != deciding:
        text += (
            f"; the largest, {statistic_in_words(largest)!r} by {abs(statistics[largest]):.1f}, "
            "follows from it or names no cause"
        )
    if values["verdict"] == "too few tests":
        doubtful = ", ".join(statistic_in_words(name) for name in values["may_be_large"])
        text += (
            f"; a bias of {LARGE_EFFECT} standard deviations, or intervals too narrow by a "
            f"factor of {(1 + 2**0.5 * LARGE_EFFECT) ** 0.5:.1f}, cannot be excluded ({doubtful})"
        )
    return text


def calibrated_in_words(values: Values, levels: Values) -> str:
    """Return what `calibrated` means for these tests, as the end of a sentence."""
    if values["fault"] is not None:
        return (
            f"it is measurably {values['fault']}, but by too little to matter: "
            f"{fault_in_words(values, levels)}"
        )
    checks = values["intervals"].values()
    bias = max(abs(check["bias"]) + check["bias_error"] for check in checks)
    width = max(check["width"] + check["width_error"] for check in checks)
    return (
        "the credible regions hold the truth of test simulations as often as they say; with "
        f"95 % confidence no label is biased by more than {bias:.2f} of its standard deviations, "
        f"nor are its intervals too narrow by more than a factor of {max(width, 1.0):.2f}"
    )


def _bias(label: str, bias: float, error: float) -> str:
    return (
        f"the posterior of {label} lies too {'low' if bias > 0 else 'high'}, by {abs(bias):.2f} "
        f"+- {error:.2f} of its standard deviations"
    )


def _width(label: str, check: Values, where: str, *, near: bool = False) -> str:
    held = check["held_near"] if near else check["held"]
    low, high = check["held_near_band"] if near else check["held_band"]
    factor = "" if near else f" by a factor of {max(check['width'], 1 / check['width']):.2f}"
    return (
        f"the intervals of {label} are too {'narrow' if check['width'] > 1 else 'wide'}{factor}: "
        f"that of 95 % holds the truth in {100 * held:.0f} % of cases ({100 * low:.0f} to "
        f"{100 * high:.0f}) {where}"
    )


def _regions(value: float, values: Values, levels: Values) -> str:
    """Tell it by the level at which the coverage is farthest from what it should be.

    Where no level by itself is outside of its band, by the mean of the density ranks.
    """
    failed, total = values["num_failed"], values["num_failed"] + values["num_tests"]
    text = f"the credible regions are too {'narrow' if value > 0 else 'wide'}"
    if value > 0 and failed > MAX_FAILED * total:
        text = (
            f"{failed} of {total} tests have no posterior that could be drawn from, and count as "
            "misses of the credible regions"
        )

    def excess(level: str) -> float:
        expected = float(level)
        offset = expected - levels[level]["coverage"]
        return float(offset / (expected * (1 - expected)) ** 0.5) * (1 if value > 0 else -1)

    if levels and excess(level := max(levels, key=excess)) > 0:
        low, high = levels[level]["band_95"]
        held = levels[level]["coverage"]
        if not low <= held <= high:
            return (
                f"{text}: that of {100 * float(level):.0f} % holds the truth in "
                f"{100 * held:.0f} % of the tests ({100 * low:.0f} to {100 * high:.0f} if "
                "calibrated)"
            )
    error = (1 / 12 / total) ** 0.5
    return (
        f"{text}: on average {100 * (0.5 + values['hpd_shift'] * error):.1f} % of the draws have "
        f"a higher density than the truth, where it should be 50 +- {200 * error:.1f} %"
    )


def _edge(label: str, value: float, edges: Mapping[str, tuple[float, float]]) -> str:
    away = value > 0
    text = f"the posterior {'keeps away from' if away else 'crowds at'} the edges of the prior"
    if label in edges:
        text = text.replace("posterior", f"posterior of {label}")
        truths, draws = edges[label]
    else:
        truths, draws = (sum(pair[k] for pair in edges.values()) / len(edges) for k in (0, 1))
    if (truths > draws) is not away:
        return text
    return (
        f"{text}: {100 * truths:.1f} % of the truths but {100 * draws:.1f} % of the draws lie in "
        "the outer 5 % of its range on either side"
    )


def _often(value: float) -> str:
    return "more often" if value > 0 else "less often"
