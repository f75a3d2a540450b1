"""What the shards of a dataset hold, simulation by simulation, in a few bytes each."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpop.datasets.shards import STATUSES, USABLE, ShardRecord, SimulationRow
from mlpop.errors import DataError

MANIFEST_COLUMNS = ("index", "seed", "status", "attempts", "seconds", "message")


@dataclass(frozen=True, eq=False)
class Survey:
    """The simulations of a dataset; their records are read again, shard by shard.

    Attributes:
        shards: records of all shards.
        order: places in `shards` in the order of their simulations; None where the simulations of
            shards are mixed.
        usable: (N,) whether simulation k gave maps.
        counts: simulations by status.
        failures: simulations by status and reason, those that failed.
        extra: names of what simulators report, besides what every manifest has.
    """

    shards: Collection[ShardRecord]
    order: NDArray[np.intp] | None
    usable: NDArray[np.bool_]
    counts: Mapping[str, int]
    failures: Mapping[str, int]
    extra: tuple[str, ...]

    def rows(self) -> Iterator[tuple[ShardRecord, SimulationRow]]:
        """Yield the simulations in the order of their index, each with its shard."""
        if self.order is None:
            mixed = ((shard, row) for shard in self.shards for row in shard.rows)
            yield from sorted(mixed, key=lambda pair: pair[1].index)
            return
        shards = self.shards
        if (self.order != np.arange(len(self.order))).any():
            unordered = list(self.shards)
            shards = [unordered[k] for k in self.order]
        for shard in shards:
            for row in sorted(shard.rows, key=lambda row: row.index):
                yield shard, row

    def reasons(self) -> str:
        """Return the commonest reasons of failures, for a message."""
        common = Counter(self.failures).most_common(3)
        return "commonest reasons: " + "; ".join(f"{count} x {name}" for name, count in common)


def surveyed(folder: Path, shards: Collection[ShardRecord], number: int) -> Survey:
    """Look through the shards of a dataset of `number` simulations in a folder.

    Raises:
        DataError: simulations are missing or twice in the shards, or there are others.
    """
    status = np.full(number, -1, dtype=np.int8)
    holder = np.full(number, -1, dtype=np.int32)
    names: list[str] = []
    ranges = np.zeros((len(shards), 2), dtype=np.int64)
    beyond: list[int] = []
    failures: Counter[str] = Counter()
    extra: set[str] = set()
    for place, shard in enumerate(shards):
        names.append(shard.name)
        found = [row.index for row in shard.rows]
        ranges[place] = (min(found), max(found)) if found else (0, -1)
        for row in shard.rows:
            extra.update(flatten(row.info))
            if row.status not in USABLE:
                failures[f"{row.status}: {row.message or 'no message'}"] += 1
            if not 0 <= row.index < number:
                beyond.append(row.index)
                continue
            if holder[row.index] >= 0:
                raise DataError(
                    f"{folder}: simulation {row.index} is in {names[holder[row.index]]} and in "
                    f"{shard.name}"
                )
            holder[row.index], status[row.index] = place, STATUSES.index(row.status)
    missing = np.flatnonzero(holder < 0)
    if len(missing):
        named = ", ".join(map(str, missing[:10])) + (" ..." if len(missing) > 10 else "")
        raise DataError(f"{folder}: no finished shard holds the simulations {named}")
    if beyond:
        raise DataError(
            f"{folder}: the shards hold simulation {min(beyond)}, theta has {number} rows: "
            "they belong to another set of parameters"
        )
    order = np.argsort(ranges[:, 0], kind="stable")
    apart = bool((ranges[order][1:, 0] > ranges[order][:-1, 1]).all())
    counts = {str(name): int((status == k).sum()) for k, name in enumerate(STATUSES)}
    usable = np.isin(status, [STATUSES.index(name) for name in USABLE])
    left = sorted(extra - set(MANIFEST_COLUMNS))
    return Survey(shards, order if apart else None, usable, counts, failures, tuple(left))


def flatten(info: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `info` without nesting: names of inner values are joined by colons."""
    flat: dict[str, Any] = {}
    for key, value in info.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}:")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
