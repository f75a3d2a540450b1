"""The report of an experiment: complete, self-contained, true, and the same after a resume."""

import base64
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from resume_checks import SMALL, without_figures

from mlpop.commands import sbi
from mlpop.commands.sbi import resume_experiment, run_experiment
from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.diagnostics.coverage import COLUMNS, DECIDING
from mlpop.experiment.diagnostics.diagnostic import NOT_TESTED, Finding, Grade, Verdict
from mlpop.experiment.output_tree import OutputTree
from mlpop.experiment.profile import Profiler
from mlpop.experiment.report import html as report
from mlpop.experiment.report.contents import RoundContents, round_contents
from mlpop.experiment.report.html import REPORT, write_report
from mlpop.experiment.report.warnings import experiment_warnings
from mlpop.plots.style import SYMBOLS
from mlpop.tracking import Store, connect, find
from mlpop.tracking.artifacts import fetched

Values = dict[str, Any]
NAME = "<script>alert(1)&amp;"
LOADING = {"base", "embed", "iframe", "image", "link", "object", "script", "source", "use"}
CODE = {
    "mlpop.version": "0.1.0",
    "mlpop.python": "3.11",
    "mlpop.git_commit": None,
    "mlpop.git_dirty": None,
}


@dataclass
class Page(HTMLParser):
    """What a browser makes of a page."""

    html: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def images(self) -> list[bytes]:
        sources = [values["src"] or "" for tag, values in self.tags if tag == "img"]
        head = "data:image/png;base64,"
        assert all(source.startswith(head) for source in sources)
        return [base64.b64decode(source.removeprefix(head), validate=True) for source in sources]

    def section(self, name: str) -> "Page":
        (found,) = re.findall(rf'<section id="{name}">.*?</section>', self.html, re.DOTALL)
        return Page(found)


def page_of(done) -> Page:
    return Page((done.models / REPORT).read_text())


@dataclass(frozen=True)
class Rounds:
    """An experiment of two rounds and two members, and the same one stopped before its report."""

    values: Values
    store: Store
    run_id: str
    html: str
    resumed: str


@pytest.fixture(scope="module")
def rounds(
    workplace: Any, vectors: Callable[..., Values], tmp_path_factory: pytest.TempPathFactory
) -> Rounds:
    with workplace(), pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        folder = tmp_path_factory.mktemp("report")
        values = vectors(folder / "whole", name=NAME, **SMALL)
        whole = run_experiment(SbiConfig.parse(values))
        store = connect()
        with fetched(store.client, whole.run_id, REPORT) as path:
            html = path.read_text()
        tell, told = sbi._tell, []

        def stop(*arguments: Any) -> None:
            told.append(tell(*arguments))
            if len(told) == SMALL["trainer__num_rounds"]:
                raise KeyboardInterrupt

        patch.setattr(sbi, "_tell", stop)
        again = SbiConfig.parse(vectors(folder / "again", name=NAME, **SMALL))
        with pytest.raises(KeyboardInterrupt):
            run_experiment(again)
        # only the store is left
        shutil.rmtree(folder / "again")
        (stopped,) = (
            run
            for run in find(store, {"mlpop.name": NAME, "mlpop.kind": "experiment"})
            if run.info.run_id != whole.run_id
        )
        resume_experiment(stopped.info.run_id)
        with fetched(store.client, stopped.info.run_id, REPORT) as path:
            return Rounds(values, store, whole.run_id, html, path.read_text())


def test_every_colour_has_one_for_the_dark() -> None:
    text = (Path(report.__file__).parent / report.TEMPLATE).read_text()
    light, dark = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    names = set(re.findall(r"(--[a-z]+):", light))
    assert names == set(re.findall(r"(--[a-z]+):", dark))
    # the frame of a bar and the white card of a figure are the same in both
    rest = re.sub(r":root \{.*?\}", "", text, flags=re.DOTALL)
    assert set(re.findall(r"#[0-9a-f]{3,6}\b", rest)) == {"#8d99a6", "#fff"}


def test_a_bar_stands_below_its_interval(rounds: Rounds) -> None:
    result = Page(rounds.html).section("result").html
    cells = re.findall(r'<td class="interval">(.*?)</td>', result, re.DOTALL)
    assert len(cells) == 2
    assert all(re.search(r"\]\s*<svg", re.sub("</?span[^>]*>", "", cell)) for cell in cells)
    assert result.count("<svg") == len(cells)


def test_report_is_a_file_of_the_launch_and_an_artifact(gaussian) -> None:
    with fetched(gaussian.store.client, gaussian.result.run_id, REPORT) as path:
        assert path.read_bytes() == (gaussian.models / REPORT).read_bytes()


@pytest.mark.parametrize("name", ["pulsars", "gaussian"])
def test_report_loads_nothing(name: str, request: pytest.FixtureRequest) -> None:
    page = page_of(request.getfixturevalue(name))
    assert not LOADING & {tag for tag, _ in page.tags}
    for tag, values in page.tags:
        assert "srcset" not in values
        assert not any(key.startswith("on") for key in values)
        if tag != "a":
            assert not {"href", "xlink:href"} & set(values)
    assert "url(" not in page.html
    assert "@import" not in page.html
    images = page.images()
    assert all(image.startswith(b"\x89PNG") for image in images)
    assert len(images) == len(set(images))


def test_report_shows_every_figure(pulsars) -> None:
    folder, logs = pulsars.models / "round_0", pulsars.logs / "round_0"
    drawn = {path.read_bytes() for path in (*folder.glob("*.png"), *logs.glob("*.png"))}
    assert set(page_of(pulsars).images()) == drawn


def test_estimates_are_those_of_mlflow(gaussian) -> None:
    metrics = gaussian.store.client.get_run(gaussian.result.rounds[0].run_id).data.metrics
    shown = [
        float(values["title"] or "")
        for _, values in page_of(gaussian).section("result").tags
        if "title" in values
    ]
    assert shown == [
        metrics[f"posterior/{label}/{statistic}"]
        for label in gaussian.config.prior_ranges.labels
        for statistic in ("median", "low_95", "high_95")
    ]


def test_result_comes_first_with_verdict_and_truth(gaussian) -> None:
    page = page_of(gaussian)
    places = [page.html.index(f'id="{name}"') for name in ("result", "warnings", "observed")]
    assert places == sorted(places)
    text = page.section("result").text
    assert "Too few tests: too few test simulations to tell" in text
    assert "10 tests succeeded, 50 are needed" in text
    for value in gaussian.config.observed_sample.synthetic.theta.values():
        assert f"{value:g}" in text


def test_verdict_comes_with_the_figure_that_decides_and_estimates_with_their_worth(
    gaussian,
) -> None:
    result = page_of(gaussian).section("result")
    folder = gaussian.models / "round_0"
    assert result.images() == [(folder / DECIDING.file).with_suffix(".png").read_bytes()]
    for title in COLUMNS:
        assert title in result.text
    # ten tests are too few for an interval that holds 95 %: it is the whole prior
    assert result.text.count("[-1.0, 1.0]") == 2


def test_every_round_and_member_has_its_place(rounds: Rounds) -> None:
    page = Page(rounds.html)
    runs = find(rounds.store, {"mlpop.root": rounds.run_id})
    links = [values["href"] or "" for tag, values in page.tags if tag == "a"]
    assert len(runs) == 7
    for run in runs:
        assert any(f"/runs/{run.info.run_id}" in link for link in links)
    assert "round 0round 1truth" in page.section("estimates").text
    text = page.section("rounds").text
    for part in ("round 0", "round 1", "prior, truncated", "6, 6", "too few tests"):
        assert part in text
    # corner, proposal, four of coverage and two members for each round
    assert len(page.images()) == 2 * 8


def test_text_of_the_user_is_escaped(rounds: Rounds) -> None:
    page = Page(rounds.html)
    assert "<script" not in rounds.html
    assert NAME in page.text
    assert f'"name": "{NAME}"' in page.section("run").text


def test_resumed_report_is_that_of_an_undisturbed_experiment(rounds: Rounds) -> None:
    assert told(rounds.resumed) == told(rounds.html)


def told(html: str) -> str:
    """Return a report without times, and without the ids and places of its runs."""
    for pattern in (
        r'<section id="run">.*?</section>',
        r'<tr class="time">.*?</tr>\n',
        r'<td class="number time">.*?</td>',
        r'<a class="id".*?</a>',
    ):
        html, count = re.subn(pattern, "", html, flags=re.DOTALL)
        assert count, pattern
    return html


# --- what is not well ---------------------------------------------------------------------------


@pytest.fixture
def tree(gaussian, tmp_path: Path) -> OutputTree:
    """A copy of an experiment's folders, to break."""
    for part in ("logs", "models"):
        shutil.copytree(getattr(gaussian, part), tmp_path / part)
    return OutputTree(tmp_path / "logs", tmp_path / "models")


def judged(name: str, **changes: Any) -> dict[str, Finding]:
    """Return the findings of a round with a verdict of its tests."""
    grade = Grade.GOOD if name == "calibrated" else Grade.BAD
    verdict = Verdict(name, grade, "the regions are what they are", "its reason", "something")
    return {"coverage": Finding(verdict=verdict, **changes)}


@pytest.fixture
def good(gaussian, tree: OutputTree) -> RoundContents:
    """A round of which there is nothing to warn."""
    contents = round_contents(gaussian.config, gaussian.result.rounds[0], tree.round(0), 1.0)
    return replace(
        contents,
        result=replace(contents.result, findings=judged("calibrated")),
        members=[replace(member, stopped="patience") for member in contents.members],
    )


def of_result(**changes: Any) -> Callable[[RoundContents], RoundContents]:
    return lambda contents: replace(contents, result=replace(contents.result, **changes))


def of_contents(**changes: Any) -> Callable[[RoundContents], RoundContents]:
    return lambda contents: replace(contents, **changes)


def of_estimate(**changes: float) -> Callable[[RoundContents], RoundContents]:
    def change(contents: RoundContents) -> RoundContents:
        first, *others = contents.result.estimates
        return of_result(estimates=[replace(first, **changes), *others])(contents)

    return change


FAULTS: dict[str, Callable[[RoundContents], RoundContents]] = {
    "Overconfident: the regions are what they are.": of_result(findings=judged("overconfident")),
    "Not tested: nobody has checked": of_result(
        findings={"coverage": Finding(verdict=NOT_TESTED)}
    ),
    "3.5 % of the training simulations failed": of_result(numbers={"sim/failed_fraction": 0.035}),
    "theta_1 is hardly constrained: its 95 % interval spans 90 %": of_estimate(low=-0.9, high=0.9),
    "The posterior of theta_1 is cut off by the lower edge of the prior, -1": of_estimate(
        low=-0.99, median=-0.7, high=0
    ),
    "The posterior of theta_1 is cut off by the upper edge of the prior, 1": of_estimate(
        low=0, median=0.7, high=0.99
    ),
    "Round 0: R-hat of theta_1 is 1.2.": of_contents(problems=["R-hat of theta_1 is 1.2"]),
    "Round 0: 3 tests are left out.": of_result(
        findings=judged("calibrated", warnings=["3 tests are left out."])
    ),
    "theta were resampled, not drawn exactly": of_contents(
        proposal={"exact": False, "ess_median": 3.2}
    ),
    "up to 5.0 % of the proposal's support may have been missed": of_contents(
        proposal={"exact": True, "uncovered": 0.05}
    ),
    "were NaN or outside the prior and were made again (2 times)": of_contents(
        proposal={"redraws": 2}
    ),
}


@pytest.mark.parametrize("sentence", FAULTS)
def test_what_is_not_well_is_said_and_nothing_else(
    sentence: str, gaussian, good: RoundContents
) -> None:
    assert experiment_warnings(gaussian.config, [good]) == []
    (warning,) = experiment_warnings(gaussian.config, [FAULTS[sentence](good)])
    assert sentence in warning


def test_a_second_bad_verdict_is_said_too(gaussian, good: RoundContents) -> None:
    bad = Verdict("misspecified", Grade.BAD, "nothing fits", "why", "what helps")
    both = dict(judged("overconfident")) | {"predictive": Finding(verdict=bad)}
    first, second = experiment_warnings(gaussian.config, [of_result(findings=both)(good)])
    assert first.startswith("Overconfident: ")
    assert second == "Misspecified, too: nothing fits."


def test_network_that_could_still_learn_is_a_warning(gaussian) -> None:
    warnings = page_of(gaussian).section("warnings").text
    assert "Round 0: trainer.max_num_epochs (15) stopped 1 of 1 networks" in warnings


def test_verdict_of_an_earlier_round_is_a_warning(gaussian, good: RoundContents) -> None:
    rounds = [of_result(findings=judged("biased"))(good), of_result(number=1)(good)]
    (warning,) = experiment_warnings(gaussian.config, rounds)
    assert warning.startswith("Round 0, biased: ")


def test_empty_map_of_the_observed_sample_is_a_warning(gaussian, good: RoundContents) -> None:
    x = np.ones((2, 4, 4), dtype=np.float32)
    x[1] = 0
    observed = replace(good.result.observed, x=x, channels=("full", "void"))
    found = experiment_warnings(gaussian.config, [of_result(observed=observed)(good)])
    assert found == ["The map void of the observed sample is empty."]


def test_symbols_are_those_of_the_figures() -> None:
    assert report._symbol("B_initial_log10_mean") == ("&mu;<sub>log B</sub> [log<sub>10</sub> G]")
    assert report._symbol("L_radio_log10_sigma") == "&sigma;<sub>log L<sub>0</sub></sub> [dex]"
    assert report._symbol("death_Edot_log10_mean") == (
        "&mu;<sub>log E&#775;, death</sub> [log<sub>10</sub> erg/s]"
    )
    assert report._symbol("death_BP2_log10") == (
        "log (B / P<sup>2</sup>)<sub>death</sub> [log<sub>10</sub> G s<sup>-2</sup>]"
    )
    assert report._symbol("theta_1") == ""
    for label in SYMBOLS:
        assert not set(report._symbol(label)) & set("$\\{}_^"), label


# --- a report that cannot be written ------------------------------------------------------------


@pytest.fixture
def write(gaussian, tree: OutputTree) -> Callable[[], dict[str, Path]]:
    """Write the report of the copied experiment."""
    run = SimpleNamespace(store=gaussian.store, experiment_id="1", run_id="run")
    rounds = [
        replace(result, members=(tree.round(0).member(0),)) for result in gaussian.result.rounds
    ]
    return lambda: write_report(
        run, gaussian.config, 7, rounds, tree, Profiler(tree.logs, show=False), CODE
    )


def test_missing_figure_is_a_gap_and_a_warning(
    write: Any, tree: OutputTree, caplog: pytest.LogCaptureFixture
) -> None:
    (tree.models / "round_0" / "coverage_plot.png").unlink()
    path = write()[REPORT]
    assert "coverage_plot.png cannot be read" in Page(path.read_text()).text
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "coverage_plot.png: not in the report: No such file" in record.message


def test_missing_numbers_cost_the_report_and_not_the_experiment(
    write: Any, tree: OutputTree, caplog: pytest.LogCaptureFixture
) -> None:
    (tree.models / "round_0" / "summary.json").unlink()
    assert write() == {}
    assert not (tree.models / REPORT).exists()
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert record.levelno == logging.WARNING
    assert "summary.json: no such file" in record.message


def test_mistake_in_the_report_is_logged_with_its_traceback(
    write: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(*_: Any) -> None:
        raise TypeError("a mistake")

    monkeypatch.setattr(report, "experiment_warnings", wrong)
    assert write() == {}
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[0] is TypeError
