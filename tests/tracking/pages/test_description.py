import math

from mlpop.tracking import (
    Estimate,
    RoundLine,
    experiment_note,
    member_note,
    point_note,
    round_note,
)
from mlpop.tracking.pages.links import run_path


def test_experiment_shows_its_result_and_links_to_its_rounds() -> None:
    note = experiment_note(
        "7",
        "Two truncated rounds.",
        [
            RoundLine(0, "aaa", "complete", {"simulations": 1000, "acceptance": 1.0}),
            RoundLine(1, "bbb", "training", {"simulations": 500}),
        ],
        [Estimate("B|mean", 13.00012, 12.5, 13.5, 13.1)],
        verdict="calibrated",
    )
    assert note == (
        "**Verdict: calibrated**\n"
        "\n"
        "`B|mean` **13.00** [12.50, 13.50]\n"
        "\n"
        "Two truncated rounds.\n"
        "\n"
        "| parameter | median | 2.5 % | 97.5 % | truth |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| `B\\|mean` | 13.00 | 12.50 | 13.50 | 13.1 |\n"
        "\n"
        "| round | state | simulations | acceptance |\n"
        "| --- | --- | --- | --- |\n"
        f"| [round 0]({run_path('7', 'aaa')}) | complete | 1000 | 1 |\n"
        f"| [round 1]({run_path('7', 'bbb')}) | training | 500 | – |\n"
    )


def test_round_and_member_show_their_main_numbers() -> None:
    note = round_note("7", "Round 0.", {"ece": 0.0123456, "loss": math.nan}, members={"m0": "ccc"})
    assert "| ece | 0.01235 |" in note
    assert "| loss | nan |" in note
    assert "Members: [m0](/#/experiments/7/runs/ccc?workflowType=machine_learning)" in note
    assert member_note("One network.", {"epochs": 12}).endswith("| epochs | 12 |\n")


def test_a_round_begins_with_its_verdict_as_an_experiment_does() -> None:
    estimates = [Estimate("B", 13.0, 12.0, 14.0)]
    for note in (
        round_note("7", "The sky.", {}, estimates, None, "Biased: it is."),
        experiment_note("7", "The sky.", [], estimates, "Biased: it is."),
    ):
        assert note.startswith("**Verdict: Biased: it is.**\n\n`B` **13.0**")


def test_truth_column_is_left_out_where_nobody_knows_it() -> None:
    note = round_note("7", "The sky.", {}, [Estimate("B", 13.0, 12.0, 14.0)])
    assert "truth" not in note
    assert "| `B` | 13.0 | 12.0 | 14.0 |" in note


def test_table_of_estimates_takes_more_columns() -> None:
    columns = {"held": {"B": "85 % (72 to 94)"}, "conformal": {"B": "[11, 15]"}}
    estimates = [Estimate("B", 13.0, 12.0, 14.0), Estimate("P", 1.0, 0.5, 1.5)]
    for note in (
        round_note("7", "The sky.", {}, estimates, columns=columns),
        experiment_note("7", "The sky.", [], estimates, columns=columns),
    ):
        assert "| parameter | median | 2.5 % | 97.5 % | held | conformal |" in note
        assert "| `B` | 13.0 | 12.0 | 14.0 | 85 % (72 to 94) | [11, 15] |" in note
        assert "| `P` | 1.00 | 0.50 | 1.50 | – | – |" in note


def test_estimates_of_a_round_stand_before_what_mlflow_folds_away() -> None:
    estimates = [Estimate("B", 13.0, 12.0, 14.0), Estimate("P", 1.0, 0.5, 1.5)]
    note = round_note("7", "The sky.", {"loss": 1.0}, estimates)
    assert note.startswith("`B` **13.0** [12.0, 14.0] · `P` **1.00** [0.50, 1.50]\n\nThe sky.\n")


def test_point_estimates_show_their_errors_before_what_mlflow_folds_away() -> None:
    numbers = {"B": {"bias": 0.01, "rmse": 0.0856, "rmse_over_std": 0.15}, "P": {"rmse": 0.2}}
    assert point_note("7", "On 60 samples.", numbers, {"trial_00": "ccc"}) == (
        "`B` RMSE **0.0856** · `P` RMSE **0.2**\n"
        "\n"
        "On 60 samples.\n"
        "\n"
        "| parameter | bias | rmse | rmse_over_std |\n"
        "| --- | --- | --- | --- |\n"
        "| `B` | 0.01 | 0.0856 | 0.15 |\n"
        "| `P` | – | 0.2 | – |\n"
        "\n"
        f"Members: [trial_00]({run_path('7', 'ccc')})\n"
    )
