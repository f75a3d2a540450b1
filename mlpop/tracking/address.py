"""Which tracking store is meant: judged by its address alone, before anything slow is imported.

`MLFLOW_TRACKING_URI` decides if it is set, as anywhere in MLflow. Otherwise the store is
embedded in the project: the file that a bare `mlflow ui` typed in the project root opens too.
"""

import hashlib
import os
import re
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit

from mlpop.errors import TrackingError

VARIABLE = "MLFLOW_TRACKING_URI"
PROJECT_FILE = "MLproject"
UNREADABLE = set("%?#")
"""What one of those who read the URI of a database takes for something else."""
SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
OBJECT_STORES = ("s3", "gs", "wasbs", "abfss", "hdfs", "dbfs", "ftp", "sftp")
ALLOWED = "give sqlite:////<folder>/mlflow.db, http(s)://<server>, or postgresql://<server>/<name>"

_USER_AND_PASSWORD = re.compile(r"(?<=://)[^/\s'\"]*@")
_SECRET_IN_QUERY = re.compile(r"(?i)([?&][^=&\s]*(?:pass|token|secret|key)[^=&\s]*=)[^&\s'\"]+")


def project_root(start: Path | None = None) -> Path:
    """Return the folder with `MLproject` at or above `start` (default: the working directory)."""
    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        if (folder / PROJECT_FILE).is_file():
            return folder
    return here


def resolve_uri(root: Path) -> str:
    """Return the tracking URI: `MLFLOW_TRACKING_URI` if set, else the store of `root`.

    A relative sqlite path is made absolute against the working directory, as MLflow does.

    Raises:
        TrackingError: the variable holds what cannot be the address of a store.
    """
    uri = os.environ.get(VARIABLE, "")
    if not uri:
        return sqlite_uri(root / "mlflow.db")
    if reason := unusable(uri):
        raise TrackingError(refusal(uri, reason, root))
    database = sqlite_file(uri)
    if database is None or (uri.startswith("sqlite:////") and set(uri) & UNREADABLE):
        return uri
    return sqlite_uri(database)


def check_address() -> None:
    """Refuse, in milliseconds, an address that cannot be one.

    Raises:
        TrackingError: `MLFLOW_TRACKING_URI` holds what cannot be the address of a store.
    """
    uri = os.environ.get(VARIABLE, "")
    if uri and (reason := unusable(uri)):
        raise TrackingError(refusal(uri, reason, project_root()))


def refusal(uri: str, reason: str, root: Path) -> str:
    """Return the message for an address that is not used: what was found, and what to do."""
    shown = without_credentials(uri)
    for secret in re.split("[:@]", "".join(_USER_AND_PASSWORD.findall(uri))):
        # libraries quote the half of an address that they did not understand
        reason = reason.replace(secret, "...") if len(secret) > 2 else reason
    return (
        f"{VARIABLE}={shown if shown.isprintable() else ascii(shown)}: "
        f"{without_credentials(reason)}; {ALLOWED}, or unset it to use {root / 'mlflow.db'}"
    )


def unusable(uri: str) -> str | None:
    """Return why `uri` cannot be the address of a tracking store; None if it can."""
    if uri != uri.strip() or not uri.isprintable():
        return "there are spaces around it, or characters in it that cannot be printed"
    if uri == "databricks":
        return None
    try:
        parts = urlsplit(uri)
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        return f"this is no address: {error}"
    dialect = parts.scheme.partition("+")[0]
    if dialect == "sqlite":
        return _unusable_sqlite(uri)
    if len(parts.scheme) < 2 or parts.scheme == "file":
        return "MLflow 3.17 no longer keeps runs in plain folders"
    if dialect in DATABASES or parts.scheme == "databricks":
        return None
    if parts.scheme in SERVERS:
        return None if host else "there is no name of a server behind http://"
    if parts.scheme in OBJECT_STORES:
        return "this is a place for artifacts; runs need a database or a server"
    if any(plugin.name == parts.scheme for plugin in entry_points(group="mlflow.tracking_store")):
        return None
    return f"MLflow keeps no runs at addresses that begin with {parts.scheme}:"


def _unusable_sqlite(uri: str) -> str | None:
    path = uri.removeprefix("sqlite:///")
    if uri == "sqlite://" or path == ":memory:":
        return "this is a database in memory, whose runs are gone when the command ends"
    if path == uri:
        return "a file is written sqlite:///file or, with its whole path, sqlite:////folder/file"
    if not path or path.endswith("/.") or Path(path).is_dir():
        return "this is a folder; name a file in it"
    return None


def sqlite_file(uri: str) -> Path | None:
    """Return the absolute path of the database that a `sqlite:` URI names, else None."""
    if not uri.startswith("sqlite:///"):
        return None
    path = uri.removeprefix("sqlite:///")
    if set(path) & UNREADABLE:
        from sqlalchemy.engine import make_url

        # as the library reads it that opens the file: some of its versions take quotes away
        path = make_url(uri).database or ""
    database = Path(path).absolute()
    if database.parent.is_symlink() and database.parent.parent == _links():
        return database.parent.readlink() / database.name
    return database


def without_credentials(text: str) -> str:
    """Return an address, or a text with addresses, without user names, passwords and tokens."""
    return _SECRET_IN_QUERY.sub(r"\1...", _USER_AND_PASSWORD.sub("", text))


def sqlite_uri(database: Path) -> str:
    """Return the URI of a database that all who read it understand alike.

    Quotes (`%20`) are taken away by SQLAlchemy 2.1, but not by 2.0, nor by MLflow where it makes
    the folder; so nothing is quoted. A folder whose name would be read as a quote or a query is
    named by a symbolic link in mlpop's cache.
    """
    if not set(str(database)) & UNREADABLE:
        return f"sqlite:///{database}"
    link = _links() / hashlib.sha256(os.fsencode(database.parent)).hexdigest()[:16]
    if set(f"{link}{database.name}") & UNREADABLE:
        raise TrackingError(
            f"{database}: MLflow cannot open a database whose path holds %, ? or #; set "
            "MLPOP_CACHE_DIR to a folder without them, or MLFLOW_TRACKING_URI to another database"
        )
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            link.symlink_to(database.parent, target_is_directory=True)
    except OSError as error:
        raise TrackingError(f"{link}: cannot be made: {error.strerror or error}") from error
    return f"sqlite:///{link / database.name}"


def _links() -> Path:
    from mlpop.io.cache import cache_folder  # it brings numba, which takes its time

    return cache_folder().absolute() / "projects"
