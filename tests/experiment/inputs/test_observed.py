"""An observed sample is the same after it was copied, with all that no network sees."""

from pathlib import Path

import numpy as np

from mlpop.experiment.inputs.observed import ObservedSample, copy_observed, load_observed_copy


def test_copies_keep_everything(tmp_path: Path) -> None:
    stars = np.arange(6, dtype=np.float32).reshape(2, 3)
    x = np.ones((1, 2, 2), np.float32)
    for details in ({}, {"pulsars_PMPS": stars, "pulsars_HTRU": stars + 1}):
        observed = ObservedSample(x, ("m",), {"a": 1.0}, Path("/nowhere.csv"), details)
        folder = tmp_path / str(len(details))
        names = [path.name for path in copy_observed(observed, folder)]
        assert names == ["x_o.npy", "x_o.json", *(f"x_o_{name}.npy" for name in details)]
        found = load_observed_copy(folder)
        np.testing.assert_array_equal(found.x, x)
        assert (found.channels, found.truth, found.source) == (("m",), {"a": 1.0}, observed.source)
        assert list(found.details) == list(details)
        for name, values in details.items():
            np.testing.assert_array_equal(found.details[name], values)
