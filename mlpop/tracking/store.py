"""Where runs are kept: the safe creation of the tracking store, and whether it answers."""

import functools
import logging
import os
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mlpop.config.messages import show
from mlpop.errors import TrackingError
from mlpop.io.embedded_store import is_readable
from mlpop.io.locks import NotLocked, locked
from mlpop.io.moved_store import artifacts_beside, bring_along, refuse_stale
from mlpop.tracking.address import (
    VARIABLE,
    project_root,
    refusal,
    resolve_uri,
    sqlite_file,
    sqlite_uri,
    without_credentials,
)
from mlpop.tracking.owner import is_alive

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

logger = logging.getLogger(__name__)

SQLITE_MAGIC = b"SQLite format 3\x00"
CREATION_TIMEOUT = 180.0  # [s] the slowest creation seen on a busy machine took 10 s
PREFLIGHT_TRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "AWS_MAX_ATTEMPTS": "2"}
ANSWER_TIMEOUT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}  # [s] a try; MLflow's default: 120
DATABASE = "(database "  # before the reason, see `_name_databases`
AUTOFLUSH = "(raised as a result of Query-invoked autoflush"  # SQLAlchemy, before the reason
NO_JSON = "not in a valid JSON format"  # as MLflow's client tells of an answer
PROTOBUF = "google.protobuf"  # reads for MLflow what the answers hold

_few_retries_lock = threading.Lock()
_few_retries_before: list[dict[str, str | None]] = []


@dataclass(frozen=True)
class Store:
    """An open tracking store.

    Attributes:
        uri: tracking URI, absolute if it is a local file.
        root: the folder with `MLproject` at or above the working directory, else that directory.
        client: MLflow's client bound to `uri`.
    """

    uri: str
    root: Path
    client: "MlflowClient"

    @property
    def database(self) -> Path | None:
        """The sqlite file of an embedded store, None for a server."""
        return sqlite_file(self.uri)

    @property
    def is_default(self) -> bool:
        """Whether a bare `mlflow ui` in the project root opens this store."""
        return self.database == self.root / "mlflow.db"

    @property
    def spill_folder(self) -> Path:
        """Where curves wait on this machine while the store cannot be reached."""
        return self.root / "mlruns" / ".spill"

    @property
    def safe_uri(self) -> str:
        """`uri` without user name and password, for messages."""
        return without_credentials(self.uri)

    def experiment_id(self, name: str) -> str:
        """Find or create the MLflow experiment that new runs go into.

        Under `mlflow run` it is the experiment of the given run, and `name` is not used; so it
        is with `MLFLOW_EXPERIMENT_ID` and `MLFLOW_EXPERIMENT_NAME`.

        Raises:
            TrackingError: the experiment was deleted, does not exist, or cannot be created.
        """
        with translated(f"experiment '{name}' in {self.safe_uri}"):
            if run_id := os.environ.get("MLFLOW_RUN_ID"):
                return self.client.get_run(run_id).info.experiment_id
            if experiment_id := os.environ.get("MLFLOW_EXPERIMENT_ID", "").strip():
                return self._given(experiment_id)
            return self._find_or_create(os.environ.get("MLFLOW_EXPERIMENT_NAME") or name)

    def _given(self, experiment_id: str) -> str:
        """Return the id that `MLFLOW_EXPERIMENT_ID` gives, if it can have new runs."""
        field = f"MLFLOW_EXPERIMENT_ID: experiment {show(experiment_id)} in {self.safe_uri}"
        try:
            found = self.client.get_experiment(experiment_id)
        except Exception as error:
            raise TrackingError(f"{field}: {in_a_line(error)}; unset it") from error
        if found.lifecycle_stage != "active":
            raise TrackingError(f"{field} is deleted; restore or unset it")
        return str(found.experiment_id)

    def _find_or_create(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            database = self.database
            if database is None:
                try:
                    return self.client.create_experiment(name)
                except Exception:
                    # another client may have been faster
                    found = self.client.get_experiment_by_name(name)
                    if found is None:
                        raise
            else:
                with store_lock(database):
                    found = self.client.get_experiment_by_name(name)
                    if found is None:
                        return str(_open_sqlite(database).create_experiment(name))
        if found.lifecycle_stage != "active":
            raise TrackingError(
                f"experiment '{name}' (id {found.experiment_id}) in {self.safe_uri} is deleted; "
                f"restore it with `mlflow experiments restore -x {found.experiment_id}` "
                "or use another name"
            )
        return str(found.experiment_id)


def connect(start: Path | None = None) -> Store:
    """Open the tracking store, creating the embedded one if it does not exist yet.

    It also becomes MLflow's own current store, so that fluent calls go to the same place. The
    environment says no more than before: another project in this process has a store of its own.

    Args:
        start: the folder whose project is meant, by default the working directory.

    Raises:
        TrackingError: the store cannot be read, written, created or reached, or what answers is
            no MLflow.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    root = project_root(start)
    uri = resolve_uri(root)
    database = sqlite_file(uri)

    import mlflow

    if database is not None:
        _create(database)
    try:
        chosen = os.environ.get(VARIABLE)
        mlflow.set_tracking_uri(uri)
        if not chosen:
            # MLflow sets it for its children, and it would hold for every later project
            os.environ.pop(VARIABLE, None)
        client = mlflow.MlflowClient(tracking_uri=uri)
        if database is None:
            with few_retries():
                _require_mlflow(client)
    except Exception as error:
        raise TrackingError(refusal(uri, in_a_line(error), root)) from error
    return Store(uri, root, client)


def connect_to_read(start: Path | None = None) -> Store:
    """Open the tracking store for a command that only reads, without MLflow where that will do.

    MLflow is imported, and an embedded store opened by it, when the client is first used. A store
    that is not there yet, or that is none which can be read without MLflow, is opened at once.

    Args:
        start: the folder whose project is meant, by default the working directory.

    Raises:
        TrackingError: the store cannot be read, created or reached.
    """
    root = project_root(start)
    uri = resolve_uri(root)
    database = sqlite_file(uri)
    if database is None or not is_readable(database):
        return connect(start)
    bring_along(database, is_alive)
    return Store(uri, root, cast("MlflowClient", _LateClient(uri, root)))


class _LateClient:
    """An MLflow client that is made when it is needed."""

    def __init__(self, tracking_uri: str, root: Path) -> None:
        self.tracking_uri, self._root = tracking_uri, root

    def __getattr__(self, name: str) -> Any:
        self._client = self.__dict__.get("_client") or connect(self._root).client
        return getattr(self._client, name)


def _require_mlflow(client: "MlflowClient") -> None:
    """Refuse a server that answers whatever it is asked, as pages and other services do."""
    try:
        client.search_experiments(max_results=1)
        if client.get_experiment_by_name(f"mlpop-{uuid.uuid4().hex}") is None:
            return
        reason = "it says that it has an experiment that nobody made"
    except Exception as error:
        if NO_JSON not in str(error) and not type(error).__module__.startswith(PROTOBUF):
            raise
        reason = "its answers are not those of MLflow"
    raise TrackingError(f"no MLflow answers there: {reason}")


def check_artifacts(store: Store, experiment_id: str) -> None:
    """Write, read back and delete a small file where the artifacts of an experiment are kept.

    A job of hours must not find out at its end that its results cannot be stored.

    Raises:
        TrackingError: the place cannot be written or read.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    location = str(store.client.get_experiment(experiment_id).artifact_location)
    refuse_stale(location, store.database)
    name = f"preflight-{uuid.uuid4().hex}"
    token = uuid.uuid4().hex
    with (
        translated(f"artifacts of experiment {experiment_id} at {without_credentials(location)}"),
        few_retries(),
        tempfile.TemporaryDirectory() as folder,
    ):
        repository = get_artifact_repository(location, tracking_uri=store.uri)
        sent = Path(folder, name)
        sent.write_text(token)
        repository.log_artifact(str(sent))
        back = Path(folder, "back")
        back.mkdir()
        received = Path(repository.download_artifacts(name, str(back)))
        if received.read_text() != token:
            raise TrackingError(f"{location}: a file read back differs from the one written")
        try:
            repository.delete_artifacts(name)
        except Exception as error:
            # a store that keeps what it is given is still a store
            logger.debug("cannot delete %s/%s: %s", location, name, error)


@contextmanager
def few_retries() -> Iterator[None]:
    """Let calls to a server that does not answer fail in seconds (MLflow's default: 4 minutes)."""
    with _few_retries_lock:
        ours = ANSWER_TIMEOUT | PREFLIGHT_TRIES
        _few_retries_before.append({name: os.environ.get(name) for name in ours})
        # who says how long an answer takes knows the server
        os.environ.update(ours | {k: os.environ[k] for k in ANSWER_TIMEOUT if k in os.environ})
    try:
        yield
    finally:
        # blocks of several threads may overlap: the last to leave restores what the first found
        with _few_retries_lock:
            before = _few_retries_before.pop()
            if not _few_retries_before:
                for name, value in before.items():
                    if value is None:
                        os.environ.pop(name, None)
                    else:
                        os.environ[name] = value


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn any failure of a store into a `TrackingError` that names it.

    Args:
        what: the store, run or place that the block works on.
    """
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(f"{what}: {in_a_line(error, what)}") from error


def in_a_line(error: Exception, what: str = "") -> str:
    """Return what a store's client says of a failure, without the pages that follow.

    Args:
        error: the failure.
        what: was worked on; a database that it names is not named again.
    """
    # MLflow, SQLAlchemy, boto3 and requests each raise their own kinds
    lines = str(error).strip().splitlines() or [type(error).__name__]
    database = next((e[len(DATABASE) : -1] for e in lines if e.startswith(DATABASE)), "")
    first = next((e for e in lines if not e.startswith((DATABASE, AUTOFLUSH))), lines[0])
    if database and database not in what:
        first = f"{database}: {first}"
    # what a server answers is nothing for a terminal to obey
    line = "".join(letter if letter.isprintable() else "?" for letter in first)
    # of a server that is away MLflow tells the address three times before it says why
    return without_credentials(line.partition("(Caused by ")[2].removesuffix(")") or line)[:500]


@functools.cache
def _name_databases() -> None:
    """Let every failure of sqlite say which file it is of: one that is full must be found."""
    from sqlalchemy import Engine, ExceptionContext, event

    @event.listens_for(Engine, "handle_error")
    def name(context: ExceptionContext) -> None:
        if context.dialect.name == "sqlite" and context.sqlalchemy_exception and context.engine:
            context.sqlalchemy_exception.add_detail(f"{DATABASE[1:]}{context.engine.url.database}")


def _create(database: Path) -> None:
    folder = database.resolve().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        head = b""
        if database.is_file():
            with database.open("rb") as file:
                head = file.read(len(SQLITE_MAGIC))
    except OSError as error:
        raise TrackingError(f"{database}: cannot be read or created: {error}") from error
    if head and not head.startswith(SQLITE_MAGIC):
        raise TrackingError(
            f"{database}: is not an sqlite database (a checkout without symbolic links puts a "
            "text file here): if it is that, delete it, else set MLFLOW_TRACKING_URI to another"
        )
    for place in (database.resolve() if head else folder, folder):
        if not os.access(place, os.W_OK):
            raise TrackingError(f"{place}: is not writable; runs cannot be recorded there")
    if next((database.parent / "mlruns").glob("[0-9]*/meta.yaml"), None) is not None:
        logger.warning(
            "%s holds runs of MLflow's old file store; a bare `mlflow ui` will refuse to start "
            "until they are moved away",
            database.parent / "mlruns",
        )
    with store_lock(database), translated(f"tracking store {database}"):
        new = not database.is_file() or not database.stat().st_size
        try:
            _open_sqlite(database)
        except Exception as error:
            if new:
                # half of the tables would keep every later launch from making the others
                for part in (database.resolve(), Path(f"{database.resolve()}-journal")):
                    part.unlink(missing_ok=True)
                raise TrackingError(
                    f"{database}: cannot be created: {in_a_line(error, str(database))}; mend "
                    "that and start again, or set MLFLOW_TRACKING_URI to a database elsewhere"
                ) from error
            raise TrackingError(
                f"{database}: cannot be opened by this MLflow: "
                f"{in_a_line(error, str(database))}; if its creation was interrupted and it "
                "holds no runs yet, delete it; if it comes from an older MLflow, run "
                f"`mlflow db upgrade {sqlite_uri(database)}`"
            ) from error
        bring_along(database, is_alive)


def _open_sqlite(database: Path) -> "SqlAlchemyStore":
    _name_databases()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # MLflow would put artifacts beside the working directory of the moment
    artifacts = artifacts_beside(database)
    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").addFilter(_not_raised_too)
    # MLflow takes quotes out of a path, too
    root = artifacts.as_uri() if "%" in str(artifacts) else str(artifacts)
    return SqlAlchemyStore(sqlite_uri(database), root)


def _not_raised_too(record: logging.LogRecord) -> bool:
    # MLflow logs these with a traceback and all values, then raises them: one sentence is enough
    return not str(record.msg).startswith("SQLAlchemy database error")


@contextmanager
def store_lock(database: Path) -> Iterator[None]:
    """Keep other processes from creating, or taking over, something in an embedded store."""
    try:
        with locked(Path(f"{database.resolve()}.lock"), timeout=CREATION_TIMEOUT):
            yield
    except NotLocked as error:
        raise TrackingError(
            f"{error}; MLFLOW_TRACKING_URI=sqlite:////<folder>/mlflow.db is a database elsewhere"
        ) from error
