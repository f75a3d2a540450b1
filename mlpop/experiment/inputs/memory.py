"""Whether what an experiment asks for fits into this machine."""

import math
from collections.abc import Sequence

import psutil

from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import ConfigError

COPIES = 3
"""Of a training set in memory at a time, where it is no set of maps, or is compressed by what is
fitted to it: as simulated, as scaled, and as the networks see it. Other maps lie on disk."""

OF_ONE = 400
"""What is kept of a simulation besides its numbers: where it lies, how it ended [byte]."""


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
    labels = len(config.prior_ranges.labels)
    numbers = labels * 2 + math.prod(shape or (1,))
    total = psutil.virtual_memory().total
    on_disk = shape is not None and len(shape) > 2
    kept = OF_ONE + 8 * labels * COPIES
    of_training = 4 * numbers * COPIES
    if on_disk and not config.compression_input.fit:
        of_training = kept
    sets = [("training_data_loader", training.num_sim, rounds, of_training)]
    if test.testing:
        sets.append(("test_data_loader", test.num_sim, 1, kept if on_disk else 4 * numbers))
    for block, num_sim, times, of_a_round in sets:
        of_one = of_a_round * times
        if num_sim * of_one > total:
            appended = f" in each of {times} rounds" if times > 1 else ""
            raise ConfigError(
                f"{block}.num_sim: {num_sim:.10g} simulations{appended} need "
                f"{num_sim * of_one / 2**30:.3g} GiB of memory, this machine has "
                f"{total / 2**30:.3g}: take at most {total // of_one}, or another machine"
            )
