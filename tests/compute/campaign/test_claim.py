"""A record of what a folder is for that says nothing: its shards are not trusted, nothing ends."""

import logging
from pathlib import Path

import pytest
from campaigns import Campaign, theta_of

from mlpop.compute.backends.serial import SerialBackend
from mlpop.compute.campaign.claim import CAMPAIGN_FILE, size_of_shards
from mlpop.errors import DataError

MODES = theta_of(0, 0, 0)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 5000])
def test_a_torn_claim_is_made_again_with_all_simulations(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    campaign = Campaign(tmp_path)
    first = campaign.run(SerialBackend(), MODES)
    (campaign.folder / CAMPAIGN_FILE).write_bytes(content)
    assert size_of_shards(campaign.folder, 3, 2) == 2
    with caplog.at_level(logging.WARNING):
        again = campaign.run(SerialBackend(), MODES)
    assert [record.arrays for record in again] == [record.arrays for record in first]
    assert all(campaign.count(k) == 2 for k in range(len(MODES)))
    assert "is not known any more" in caplog.text
    assert (campaign.folder / "shards.unknown1").is_dir()


def test_another_campaign_is_still_refused(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    campaign.run(SerialBackend(), MODES)
    (campaign.folder / CAMPAIGN_FILE).write_text("{}")
    with pytest.raises(DataError, match="the folder holds the simulations of another campaign"):
        campaign.run(SerialBackend(), MODES)
    assert all(campaign.count(k) == 1 for k in range(len(MODES)))
