"""What the folder of a campaign is for: written down once, compared by every later launch."""

import hashlib
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpop.compute.campaign.shard_task import CAMPAIGN_FILE
from mlpop.compute.seeds import Purpose
from mlpop.datasets.remote.dataset import RemoteDataset
from mlpop.datasets.shards import SHARDS_FOLDER
from mlpop.errors import DataError
from mlpop.io.files import read_json_object, sha256_of, write_json
from mlpop.io.records import OBJECT, BrokenRecord, read_record

logger = getLogger(__name__)

MOST_SHARDS = 1000
"""Of a larger set shards hold more simulations than asked for: a few MB, and fewer files."""


def size_of_shards(folder: Path, simulations: int, asked: int) -> int:
    """Return how many simulations a shard of a set holds.

    Args:
        folder: of the dataset; a set that was begun with `asked` in a shard goes on so.
        simulations: in the set.
        asked: in a shard, at least.
    """
    claim = folder / CAMPAIGN_FILE
    with suppress(BrokenRecord):
        if claim.is_file() and _read_claim(claim).get("simulations_per_task") == asked:
            return asked
    return max(asked, -(-simulations // MOST_SHARDS))


def claim_folder(
    folder: Path,
    theta: NDArray[np.float64],
    labels: tuple[str, ...],
    seeds: tuple[int, Purpose, int],
    simulations_per_task: int,
    identity: str,
    remote: RemoteDataset | None,
) -> str:
    """Write down what the folder is for, or compare with what it says; return its digest.

    Raises:
        DataError: the folder, or the place in the object store, holds another campaign.
    """
    root_seed, purpose, round_index = seeds
    claim = {
        "labels": list(labels),
        "simulations": len(theta),
        "theta": hashlib.sha256(theta.tobytes()).hexdigest(),
        "root_seed": root_seed,
        "purpose": purpose.name,
        "round": round_index,
        "simulations_per_task": simulations_per_task,
        "simulator": identity,
    }
    path = folder / CAMPAIGN_FILE
    try:
        found = _read_claim(path) if path.exists() else None
    except BrokenRecord as error:
        found = None
        _set_aside(folder / SHARDS_FOLDER, str(error))
    if found is None:
        write_json(path, claim)
    else:
        _compare(found, claim, str(path))
    if remote is not None:
        with tempfile.TemporaryDirectory(prefix="mlpop-") as scratch:
            if remote.pull_file(CAMPAIGN_FILE, Path(scratch)):
                stored_claim = read_json_object(Path(scratch, CAMPAIGN_FILE))
                _compare(stored_claim, claim, str(remote.uri / CAMPAIGN_FILE))
            else:
                remote.push_file(path)
    return sha256_of(path)


def _read_claim(path: Path) -> Mapping[str, Any]:
    return read_record(path, str(path), OBJECT)


def _set_aside(shards: Path, reason: str) -> None:
    """Move shards away of which nobody knows any more what they are."""
    if not shards.is_dir():
        return
    number = 1 + sum(1 for _ in shards.parent.glob(f"{shards.name}.unknown*"))
    aside = shards.rename(shards.with_name(f"{shards.name}.unknown{number}"))
    logger.warning(
        "%s: what the shards beside it hold is not known any more: they are now in %s, which may "
        "be deleted, and all is simulated again",
        *(reason, aside),
    )


def _compare(found: Mapping[str, Any], claim: Mapping[str, Any], place: str) -> None:
    different = [name for name, value in claim.items() if found.get(name) != value]
    if different:
        changes = "; ".join(f"{k}: {found.get(k)} there, {claim[k]} now" for k in different)
        raise DataError(
            f"{place}: the folder holds the simulations of another campaign ({changes}); use "
            "another folder, or remove this one"
        )
