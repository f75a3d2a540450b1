"""Given tests must be other simulations than those that networks learn from."""

import logging
from collections.abc import Sequence

from mlpop.datasets.index import DatasetIndex
from mlpop.errors import ConfigError

logger = logging.getLogger(__name__)

FIELD = "test_data_loader.dataset_path_round_0"
ADVICE = (
    "networks know these, so that coverage and ranks of such tests say nothing; give simulations "
    "that were not trained on, or set test_data_loader.simulate"
)


def check_apart(training: DatasetIndex, tests: DatasetIndex, labels: Sequence[str]) -> None:
    """Refuse the training set as tests; warn of tests whose theta are those of the training set.

    Raises:
        ConfigError: both are one file.
    """
    if training.path.samefile(tests.path):
        raise ConfigError(f"{FIELD}: {tests.path} is the training set: {ADVICE}")
    asked = [row.tobytes() for row in tests.label_values(labels)]
    # the training set may be a thousand times larger: none of its rows is kept
    known = set(asked).intersection(row.tobytes() for row in training.label_values(labels))
    shared = [k for k, row in enumerate(asked) if row in known]
    if shared:
        logger.warning(
            "%s: %d of %d tests in %s have exactly the theta of a training simulation (row %d is "
            "the first). If they are the same simulations: %s.",
            *(FIELD, len(shared), len(tests), tests.path, shared[0], ADVICE),
        )
