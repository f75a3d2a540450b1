"""Whether what an experiment asks for fits into this machine."""

import math
from collections.abc import Sequence

import psutil

from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import ConfigError

COPIES = 3
"""Of a training set in memory at a time: as simulated, as scaled, and as the networks see it."""


def check_memory(config: SbiConfig, shape: Sequence[int] | None) -> None:
    """Refuse sets of simulations that this machine cannot hold.

    Args:
        config: of the experiment; sets that are given are read as they are.
        shape: of one x, None where only a simulation can tell.

    Raises:
        ConfigError: naming the field, the memory needed, and what would fit.
    """
    training, test, trainer = config.training_data_loader, config.test_data_loader, config.trainer
    rounds = trainer.num_rounds if trainer.append_simulations else 1
    numbers = len(config.prior_ranges.labels) * 2 + math.prod(shape or (1,))
    total = psutil.virtual_memory().total
    sets = [("training_data_loader", training.num_sim, rounds, COPIES)]
    if test.testing:
        sets.append(("test_data_loader", test.num_sim, 1, 1))
    for block, num_sim, times, copies in sets:
        of_one = 4 * numbers * copies * times
        if num_sim * of_one > total:
            appended = f" in each of {times} rounds" if times > 1 else ""
            raise ConfigError(
                f"{block}.num_sim: {num_sim:.10g} simulations{appended} need "
                f"{num_sim * of_one / 2**30:.3g} GiB of memory, this machine has "
                f"{total / 2**30:.3g}: take at most {total // of_one}, or another machine"
            )
