"""The commands `mlpop train-nn` and `mlpop infer-nn`: flags, help, errors."""

import json
import sys

import pytest
from click.testing import CliRunner
from point_data import LABELS, document

from mlpop.cli.main import cli, main
from mlpop.cli.options import INFER_NN, PACKAGED, TRAIN_NN
from mlpop.config.base import read_json


def parsed(monkeypatch, arguments):
    """Run `mlpop <arguments>` and return what the experiment was called with."""
    calls = []
    for name in ("train_nn.train_nn", "train_nn.resume_train_nn", "infer_nn.infer_nn"):
        monkeypatch.setattr(
            f"mlpop.commands.{name}", lambda *args, **options: calls.append((args, options))
        )
    monkeypatch.setattr(
        "mlpop.commands.resumable.run_to_resume", lambda _, which, *__, **___: which
    )
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    return result, calls[0] if calls else None


@pytest.mark.parametrize("command", [["train-nn"], ["infer-nn", "--trained_model", "m.pth"]])
def test_packaged_gpu_is_one_only_where_there_is_one_N02(monkeypatch, command):
    """A11 documents `n_gpu: 1`, which a machine without a GPU would warn of."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert parsed(monkeypatch, command)[1][0][0].n_gpu == 0
    asked = [*command, "--set", "n_gpu=2"]
    assert parsed(monkeypatch, asked)[1][0][0].n_gpu == 2
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert parsed(monkeypatch, command)[1][0][0].n_gpu == 1


def test_packaged_configuration_is_the_default_N01(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    result, ((config,), options) = parsed(monkeypatch, ["train-nn"])
    assert result.exit_code == 0
    assert (
        config.resolved()
        == type(config).parse(read_json(PACKAGED / "convolution.json")).resolved()
    )
    assert options == {"convergence": None, "trained_model": None}
    _, ((config,), _) = parsed(monkeypatch, ["train-nn", "-c", "linear"])
    assert config.name == "Linear"


def test_overrides_of_training_A8_N15(monkeypatch):
    text = (
        "train-nn --dataset_training t.csv --dataset_validation v.csv "
        "--dataset_statistics s.json --initializer InitializerXavier "
        "--filter_inputs 1 2 --filter_labels 16,15 --batch_size 32 "
        "--input_shape 2 64 64 --num_parameters 2 --save_dir out --normalize "
        "TRUE --standardize 0 --lr 0.01 --convergence 0.2 --trained_model m.pth "
    )
    arguments = text.split()
    _, ((config,), options) = parsed(monkeypatch, arguments)
    training, validation = config.training_data_loader, config.validation_data_loader
    assert str(training.args.dataset_path) == "t.csv"
    assert str(validation.args.dataset_path) == "v.csv"
    for loader in (training, validation):
        assert str(loader.args.statistic_path) == "s.json"
        assert loader.filter_inputs == (1, 2)
        assert loader.filter_labels == (16, 15)
        assert loader.args.batch_size == 32
        assert loader.args.normalize
        assert not loader.args.standardize
    assert config.weights_initializer.type == "InitializerXavier"
    assert config.arch.args.input_shape == (2, 64, 64)
    assert str(config.trainer.save_dir) == "out"
    assert config.optimizer.args["lr"] == 0.01
    assert options["convergence"] == 0.2
    assert str(options["trained_model"]) == "m.pth"


def test_overrides_of_inference_A8_N15_N19(monkeypatch):
    text = (
        "infer-nn --trained_model m.pth --dataset d.csv --dataset_statistics "
        "s.json --filter_inputs 0 1 --filter_labels 5 --input_shape 2 8 8 "
        "--num_parameters 1 --save_dir out --samples 2 0 "
    )
    arguments = text.split()
    _, ((config, model, samples), _) = parsed(monkeypatch, arguments)
    args = config.test_data_loader.args
    assert (str(args.dataset_path), str(args.statistic_path)) == ("d.csv", "s.json")
    assert config.test_data_loader.filter_inputs == (0, 1)
    assert config.arch.args.num_parameters == 1
    assert str(config.infer.save_dir) == "out"
    assert str(model) == "m.pth"
    assert samples == [2, 0]


def test_set_replaces_any_field(monkeypatch):
    arguments = ["train-nn", "--set", "trainer.epochs=7", "--set", "trials=2"]
    _, ((config,), _) = parsed(monkeypatch, arguments)
    assert (config.trainer.epochs, config.trials) == (7, 2)


def test_resume_takes_the_recorded_configuration_unless_one_is_given(monkeypatch):
    _, ((which, config), _) = parsed(monkeypatch, ["train-nn", "--resume", "last"])
    assert (which, config) == ("last", None)
    arguments = ["train-nn", "--resume", "abc", "--lr", "0.1"]
    _, ((which, config), _) = parsed(monkeypatch, arguments)
    assert which == "abc"
    assert config.optimizer.args["lr"] == 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train-nn", "--batch_size", "0"], "0 is not in the range x>=1"),
        (["train-nn", "--lr", "fast"], "'fast' is not a valid float"),
        (["train-nn", "--normalize", "yes"], "'yes' is none of true, false, 1, 0"),
        (["train-nn", "--input_shape", "3", "32"], "expected 3 values, found '3,32'"),
        (["train-nn", "--filter_inputs", "1,-2"], "'-2' is no whole number of at least 0"),
        (["infer-nn"], "Missing option '--trained_model'. The best_model.pth that"),
        (["infer-nn", "--trained_model", "m", "--samples", "a"], "'a' is no whole number"),
        (["train-nn", "--resume", "x", "--trained_model", "m"], "cannot be given together"),
    ],
)
def test_usage_errors_N15(monkeypatch, arguments, message):
    result, call = parsed(monkeypatch, arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert call is None


def test_help_lists_every_flag_with_its_default_N22():
    for command, table in (("train-nn", TRAIN_NN), ("infer-nn", INFER_NN)):
        text = " ".join(CliRunner().invoke(cli, [command, "--help"]).output.split())
        for name in table:
            assert f"--{name} " in text
        assert text.count("[default:") >= len(table)
    text = " ".join(CliRunner().invoke(cli, ["train-nn", "--help"]).output.split())
    for default in ("(8)", "(9,10,11)", "(15,16)", "(1e-05)", "(InitializerKaiming)", "(true)"):
        assert default in text


def test_errors_are_one_line_and_exit_code_2_C3(data, tmp_path, monkeypatch, capsys):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(document(data, tmp_path / "out", trials=0)))
    for arguments, message in (
        (["--configuration", str(path)], f"Error: {path}: trials: must be at least 1, found 0"),
        (["--configuration", str(tmp_path / "none.json")], "none.json: no such file"),
    ):
        monkeypatch.setattr(sys, "argv", ["mlpop", "train-nn", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 2
        error = capsys.readouterr().err.strip()
        assert message in error
        assert "\n" not in error


@pytest.mark.usefixtures("light")
def test_from_the_command_line_to_the_table_N15_N19(data, tmp_path, monkeypatch):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(document(data, tmp_path / "out")))
    run = CliRunner().invoke(
        cli,
        ["train-nn", "-c", str(path), "--convergence", "100", "--save_dir", str(tmp_path / "o")],
        catch_exceptions=False,
    )
    assert run.exit_code == 0
    (model,) = (tmp_path / "o").rglob("best_model.pth")
    effective = json.loads((model.parent / "config.json").read_text())
    assert effective["convergence"] == {f"{label}_threshold": 100.0 for label in LABELS}
    assert effective["trainer"]["save_dir"] == str(tmp_path / "o")
    assert len(json.loads((model.parent / "trials.json").read_text())) == 1
    arguments = ["infer-nn", "-c", str(path), "--trained_model", str(model), "--samples", "3", "1"]
    run = CliRunner().invoke(
        cli, [*arguments, "--save_dir", str(tmp_path / "o")], catch_exceptions=False
    )
    assert run.exit_code == 0
    (table,) = (tmp_path / "o").rglob("inference_results.csv")
    assert len(table.read_text().splitlines()) == 3
