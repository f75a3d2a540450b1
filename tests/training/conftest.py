"""Sums that do not depend on the number of threads."""

from collections.abc import Iterator

import pytest

from mlpop.networks.rng import one_thread


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield
