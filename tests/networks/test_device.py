import logging

import pytest
import torch

from mlpop.networks.device import network_device


def test_more_gpus_than_there_are_is_a_warning_N02_S06(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    logging.getLogger("mlpop").propagate = True
    with caplog.at_level(logging.WARNING, logger="mlpop"):
        assert network_device(2) == torch.device("cpu")
    assert "n_gpu: 2 asked for, 0 found; using the CPU" in caplog.text
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert network_device(2) == torch.device("cuda:0")
    assert network_device(0) == torch.device("cpu")
