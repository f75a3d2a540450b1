"""What all rounds of an experiment share, on disk."""

from pathlib import Path

from mlpop.errors import DataError
from mlpop.experiment.data import LearningProblem
from mlpop.inference.preprocessing import Preprocessing
from mlpop.inference.prior import Prior
from mlpop.maps.files import read_json_object, write_json

PROBLEM = "problem.json"


def save_problem(path: Path, problem: LearningProblem) -> None:
    """Write what all rounds share; a compressor goes into a folder beside the file."""
    write_json(
        path,
        {
            "prior": problem.prior.to_dict(),
            "channels": list(problem.channels),
            "preprocessing": problem.preprocessing.save(path.parent),
        },
    )


def load_problem(path: Path) -> LearningProblem:
    """Undo `save_problem`.

    Raises:
        DataError: the file is broken, or the compressor beside it is.
    """
    values = read_json_object(path)
    try:
        return LearningProblem(
            Prior.from_dict(values["prior"]),
            tuple(str(name) for name in values["channels"]),
            Preprocessing.load(path.parent, values["preprocessing"]),
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read: {error!r}") from None
