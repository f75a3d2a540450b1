"""Fields of the reference's files that say nothing of their own here, or have another name.

A file of the reference runs as it is: such fields are taken out, with one warning a file. One
that asks for something else than what mlpop does is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlpop.config.messages import Problem, show

TRAINING, TEST = "training_data_loader", "test_data_loader"

_AS_IN_TRAINING = {
    "statistic_path": None,
    "filter_inputs": None,
    "filter_labels": None,
    "normalize": False,
    "standardize": True,
}
"""Fields of the test data that must be those of training, with the defaults there."""


class Translation:
    """A raw configuration on its way to a block of mlpop.

    Attributes:
        values: what is left for the block.
        notes: fields that were taken out, and why that changes nothing.
        problems: fields that would have changed something.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = dict(values)
        self.notes: list[str] = []
        self.problems: list[Problem] = []

    def block(self, name: str) -> dict[str, Any] | None:
        """Return a copy of a block that is in the values from now on; None where there is none."""
        below = self.values.get(name)
        if not isinstance(below, Mapping):
            return None
        self.values[name] = copied = dict(below)
        return copied

    def renamed(self, block: dict[str, Any], path: str, old: str, new: str) -> None:
        """Read the field `old` of the block at `path` under its name here."""
        if old not in block:
            return
        value = block.pop(old)
        if block.setdefault(new, value) != value:
            self.problems.append(
                (f"{path}{old}", f"is another name of {new}, give only one of them")
            )
        self.notes.append(f"{path}{old} (here: {new})")


Translate = Callable[[Translation], None]


def sbi_fields(translation: Translation) -> None:
    """Take out what the reference's files for `sbi` and `infer` have more than those here."""
    training = translation.block(TRAINING) or {}
    test = translation.block(TEST)
    for path, block in ((TRAINING, training), (TEST, test or {})):
        translation.renamed(block, f"{path}.", "dataset_path_first_round", "dataset_path_round_0")
    if test is not None:
        _same_as_training(translation, test, training)
    observed = translation.block("observed_sample")
    if observed is not None and "filter_labels" in observed:
        columns = observed.pop("filter_labels")
        if columns is not None and not _are_columns(columns):
            translation.problems.append(
                ("observed_sample.filter_labels", f"must be a list, found {show(columns)}")
            )
        translation.notes.append("observed_sample.filter_labels (an observation has no labels)")
    trainer = translation.block("trainer")
    if trainer is not None and "mcmc_sampler" in trainer:
        sampler = trainer.pop("mcmc_sampler")
        sampler = {"type": sampler} if isinstance(sampler, str) else sampler
        if translation.values.setdefault("mcmc_sampler", sampler) != sampler:
            translation.problems.append(
                ("trainer.mcmc_sampler", "differs from mcmc_sampler; give only one of them")
            )
        translation.notes.append("trainer.mcmc_sampler (here: mcmc_sampler)")


def point_fields(translation: Translation) -> None:
    """Take out what the reference's files for networks have more than those here."""
    resume = translation.values.get("resume_training")
    if not isinstance(resume, Mapping):
        return
    asked = resume.get("resume", False)
    if asked is False:
        del translation.values["resume_training"]
        translation.notes.append("resume_training (resume is false)")
        return
    hint = "a training is continued by `mlpop train-nn --resume RUN_ID|last`"
    translation.values.pop("resume_training")
    found = "is true" if asked is True else f"must be true or false, found {show(asked)}"
    translation.problems.append(("resume_training.resume", f"{found}; {hint}"))


def _same_as_training(
    translation: Translation, test: dict[str, Any], training: Mapping[str, Any]
) -> None:
    same = []
    for name, default in _AS_IN_TRAINING.items():
        if name not in test:
            continue
        value, wanted = _plain(test.pop(name)), _plain(training.get(name, default))
        if value is None:
            continue
        if value == wanted and type(value) is type(wanted):
            same.append(f"{TEST}.{name}")
            continue
        translation.problems.append(
            (
                f"{TEST}.{name}",
                f"must be as in {TRAINING} ({show(wanted)}), or be left out, found {show(value)}",
            )
        )
    if same:
        translation.notes.append(f"{', '.join(same)} (as in {TRAINING})")


def _plain(value: Any) -> Any:
    """Return a field as it is compared: "" is null, `input:` before a column says nothing."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [c.removeprefix("input:") if isinstance(c, str) else c for c in value]
    return None if value == "" else value


def _are_columns(value: Any) -> bool:
    return isinstance(value, list) and all(type(column) in (int, str) for column in value)
