"""Places in the object store, and a gateway to it that can be cut."""

import uuid
from collections.abc import Iterator

import pytest
from object_store import BUCKET, Gateway, ObjectStoreServer

from mlpop.config.fields import S3Uri


@pytest.fixture
def place(object_store: ObjectStoreServer) -> S3Uri:
    """An empty folder in the object store."""
    return S3Uri(f"s3://{BUCKET}/{uuid.uuid4().hex}")


@pytest.fixture
def gateway(object_store: ObjectStoreServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """The way to the object store in this test."""
    gateway = Gateway(object_store.ports["s3"])
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", gateway.endpoint)
    yield gateway
    gateway.close()
