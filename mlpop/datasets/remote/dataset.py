"""A dataset in an object store: its shards as packed files, and the files that describe it.

    s3://bucket/.../round_1_0123456789ab/
        campaign.json theta.npy manifest.csv dataset_full.csv ...
        shards/shard-00000.zip ...

Its local mirror is a dataset like any other; workers write to both.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path

from mlpop.config.fields import S3Uri
from mlpop.datasets.layout import FULL_CSV
from mlpop.datasets.packed_shards import PACKED_NAME, packed, packed_name, unpack_shard
from mlpop.datasets.shards import SHARDS_FOLDER, ShardRecord
from mlpop.errors import DataError
from mlpop.io.errors import NoSuchObject
from mlpop.io.s3 import ObjectStore

CONTENT = "shard-digest"  # name of a shard's content digest in its object's metadata
THREADS = 4

logger = getLogger(__name__)


@dataclass(frozen=True)
class RemoteDataset:
    """A dataset in an object store; can be pickled."""

    uri: S3Uri
    store: ObjectStore = field(default_factory=ObjectStore)

    def shard_uri(self, number: int) -> S3Uri:
        """Return the name of the object of shard `number`."""
        return self.uri / SHARDS_FOLDER / packed_name(number)

    def shard_numbers(self) -> set[int]:
        """Return the numbers of the shards that are stored.

        Raises:
            StoreAway, TrackingError: the store cannot be used.
        """
        folder = self.uri / SHARDS_FOLDER
        names = (PACKED_NAME.fullmatch(item.uri.name) for item in self.store.list(folder))
        return {int(name[1]) for name in names if name}

    def push_shard(self, shard: Path, record: ShardRecord) -> None:
        """Store a finished shard, unless one of the same content is stored.

        Raises:
            StoreAway, TrackingError: the store cannot be used.
            DataError: the shard is damaged.
        """
        uri = self.shard_uri(record.number)
        stored = self.store.head(uri)
        if stored is not None and stored.metadata.get(CONTENT) == record.digest:
            return
        with packed(shard) as file:
            self.store.upload(file, uri, {CONTENT: record.digest})

    def pull_shard(
        self, number: int, folder: Path, accept: Callable[[ShardRecord], bool]
    ) -> ShardRecord | None:
        """Put a stored shard into the local dataset; None if there is none that is good.

        Raises:
            StoreAway, TrackingError: the store cannot be used.
            DataError: `accept` refuses the stored shard, or the disk refuses.
        """
        uri = self.shard_uri(number)
        local = folder / SHARDS_FOLDER / f".{packed_name(number)}"
        try:
            self.store.download(uri, local)
        except NoSuchObject:
            return None
        try:
            record = unpack_shard(local, folder, number=number)
        except DataError as error:
            logger.warning("%s: %s; the shard will be made again", uri, error)
            return None
        finally:
            local.unlink(missing_ok=True)
        if not accept(record):
            raise DataError(
                f"{uri}: holds other simulations or other seeds than this campaign; use another "
                "place, or remove this one"
            )
        return record

    def pull_shards(
        self, numbers: Iterable[int], folder: Path, accept: Callable[[ShardRecord], bool]
    ) -> dict[int, ShardRecord]:
        """Put stored shards into the local dataset, several at a time; see `pull_shard`."""
        with ThreadPoolExecutor(THREADS, "pull-shards") as pool:
            records = list(pool.map(lambda n: self.pull_shard(n, folder, accept), sorted(numbers)))
        return {record.number: record for record in records if record is not None}

    def push_shards(self, shards: Mapping[Path, ShardRecord]) -> None:
        """Store finished shards, several at a time; see `push_shard`."""
        with ThreadPoolExecutor(THREADS, "push-shards") as pool:
            list(pool.map(lambda item: self.push_shard(*item), shards.items()))

    def push_file(self, path: Path) -> None:
        """Store a file of the dataset's folder.

        Raises:
            StoreAway, TrackingError: the store cannot be used.
        """
        self.store.upload(path, self.uri / path.name)

    def push_files(self, folder: Path) -> None:
        """Store the files at the top of the local dataset; last of all its index file.

        Raises:
            StoreAway, TrackingError: the store cannot be used.
        """
        files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
        first = [path for path in files if path.name != FULL_CSV]
        with ThreadPoolExecutor(THREADS, "push-files") as pool:
            list(pool.map(self.push_file, first))
        if len(first) < len(files):
            self.push_file(folder / FULL_CSV)

    def pull_file(self, name: str, folder: Path) -> bool:
        """Put a stored file into the local dataset; False if there is none.

        Raises:
            StoreAway, TrackingError: the store cannot be used.
            DataError: it is damaged, or the disk refuses.
        """
        try:
            self.store.download(self.uri / name, folder / name)
        except NoSuchObject:
            return False
        return True
