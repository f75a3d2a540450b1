import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlpop.errors import TrackingError
from mlpop.tracking import connect, connect_to_read, status
from mlpop.tracking.address import resolve_uri, unusable, without_credentials

PASSWORD = "s3cret"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"https://me:{PASSWORD}@host:1/x", "https://host:1/x"),
        (f"postgresql://me:p@ss:{PASSWORD}@host/db", "postgresql://host/db"),
        (
            f"request to http://me:{PASSWORD}@host/api: 'http://me:{PASSWORD}@host'",
            "request to http://host/api: 'http://host'",
        ),
        (f"http://host/?a=1&access_token={PASSWORD}", "http://host/?a=1&access_token=..."),
        ("sqlite:////a/b@c.db", "sqlite:////a/b@c.db"),
        ("git@host:mlpop", "git@host:mlpop"),
    ],
)
def test_credentials_are_hidden(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("mlruns", "plain folders"),
        ("./mlruns", "plain folders"),
        ("file:///mlruns", "plain folders"),
        ("C:\\mlruns", "plain folders"),
        ("  ", "spaces"),
        (" http://host", "spaces"),
        ("sqlite:///a\nb.db", "cannot be printed"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///", "is a folder"),
        ("sqlite:////", "is a folder"),
        ("sqlite:////tmp", "is a folder"),
        ("sqlite:x.db", "sqlite:////folder/file"),
        ("http://", "no name of a server"),
        ("http:///x", "no name of a server"),
        ("http://host:port", "no address"),
        ("http://host:99999", "no address"),
        ("http://[::1", "no address"),
        ("s3://bucket/x", "place for artifacts"),
        ("uc://x", "uc:"),
        ("databricks-uc", "plain folders"),
        ("nonsense://x", "nonsense:"),
    ],
)
def test_what_is_no_address_is_refused_by_its_name(
    uri: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for opened in (connect, connect_to_read, status):
        with pytest.raises(TrackingError, match=f"^MLFLOW_TRACKING_URI=.*{reason}.* unset it"):
            opened()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "uri",
    [
        "http://host",
        "https://me:word@host:5000/prefix/",
        "HTTP://host",
        "sqlite:///x.db",
        "sqlite:////tmp/x.db",
        "postgresql+psycopg2://host/db",
        "mysql://host/db",
        "databricks",
        "databricks://profile",
    ],
)
def test_addresses_of_every_kind_of_store_are_taken(uri: str) -> None:
    assert unusable(uri) is None


def test_slash_behind_a_database_is_taken_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}//x.db/")
    assert resolve_uri(tmp_path) == f"sqlite:///{tmp_path}/x.db"


PAGE = "<html>\nWelcome</html>"


class Pages(http.server.BaseHTTPRequestHandler):
    """What stands at an address instead of MLflow: the path says the status, `body` the answer."""

    body = PAGE

    def do_POST(self) -> None:
        code = int(self.path.split("/")[1])
        self.send_response(code)
        if code == 302:
            self.send_header("Location", "/200/login")
        self.end_headers()
        self.wfile.write(self.body.encode())

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def pages() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"me:{PASSWORD}@127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("code", [200, 302, 401, 404, 500])
def test_server_that_is_no_mlflow_is_named_without_the_password(
    code: int, pages: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{pages}/{code}")
    with pytest.raises(
        TrackingError, match=rf"MLFLOW_TRACKING_URI=.*/{code}: .* unset"
    ) as refused:
        connect()
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    "body",
    [
        PAGE,
        "",
        "ok",
        "{}",
        "[]",
        "null",
        "5",
        '"hello"',
        '{"status": "ok"}',
        '{"experiments": []}',
        '{"experiments": 5}',
        '{"experiments": [{"experiment_id": "0", "name": "a"}]}',
        '{"experiment": {"experiment_id": "1", "name": "a", "lifecycle_stage": "active"}}',
        '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}',
        "[" * 3000,
        '{"experiments": ' + "[" * 200 + "]" * 200 + "}",
        "\x1b]0;title\x07",
    ],
)
def test_server_that_answers_anything_is_no_mlflow(
    body: str, pages: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Pages, "body", body)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{pages}/200")
    for opened in (connect, connect_to_read, status):
        with pytest.raises(TrackingError, match=r"/200: no MLflow answers there: .* unset") as no:
            opened()
        assert len(str(no.value).splitlines()) == 1
        assert len(str(no.value)) < 800
        assert PASSWORD not in str(no.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [400, 401, 404])
def test_what_a_server_says_does_nothing_to_the_terminal(
    code: int, pages: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pages, "body", "<html>Welcome to \x1b]0;title\x07 our pages")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{pages}/{code}")
    with pytest.raises(TrackingError, match=r"\?\]0;title\?") as refused:
        connect()
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("user", [f"me:{PASSWORD}", f"me:p@ss:{PASSWORD}"])
def test_database_that_cannot_be_opened_is_named_without_the_password(
    user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"mssql+pymssql://{user}@127.0.0.1/db")
    with pytest.raises(TrackingError, match=r"MLFLOW_TRACKING_URI=mssql.*: .*; give") as refused:
        connect()
    assert PASSWORD not in str(refused.value)


def test_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mlpop.tracking.store.ANSWER_TIMEOUT", {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1"}
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        begin = time.monotonic()
        with pytest.raises(TrackingError, match="MLFLOW_TRACKING_URI"):
            connect()
    assert time.monotonic() - begin < 60


def test_command_refuses_an_address_before_anything_slow_is_imported(tmp_path: Path) -> None:
    code = """
import os, sys
from click.testing import CliRunner
from mlpop.cli.main import cli
from mlpop.errors import TrackingError
for arguments in (["sbi"], ["train-nn"], ["observe", "-c", "x.json"], ["sbi", "--resume", "last"]):
    assert isinstance(CliRunner().invoke(cli, arguments).exception, TrackingError), arguments
assert not {"torch", "mlflow"} & sys.modules.keys()
"""
    environment = os.environ | {"MLFLOW_TRACKING_URI": "nonsense://x"}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, check=True)
