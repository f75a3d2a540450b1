"""Pictures of maps: colours, orientation, and how far they can be undone."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps

from mlpop.datasets.image import GREYS, read_red, to_pixels, write_image
from mlpop.errors import DataError


def test_colours_are_those_of_greys() -> None:
    theirs = colormaps["Greys"](np.arange(256))
    np.testing.assert_allclose(GREYS, theirs[:, 0], atol=1e-6)
    ramp = np.linspace(0, 5, 300).reshape(300, 1)
    expected = colormaps["Greys"](ramp / 5, bytes=True)[:, 0, :3]
    np.testing.assert_allclose(to_pixels(ramp)[0, :, :3].astype(int), expected, atol=1)


def test_picture_is_transposed_with_the_second_axis_upwards() -> None:
    values = np.zeros((5, 3))
    values[4, 0] = 1
    pixels = to_pixels(values)
    assert pixels.shape == (3, 5, 4)
    assert (pixels[..., 3] == 255).all()
    red = pixels[..., 0]
    assert red[2, 4] == 0, "high is dark; last of the first axis is right, first of the second low"
    assert np.count_nonzero(red == 255) == 14


def test_level_survives_and_amplitude_does_not(tmp_path: Path) -> None:
    values = np.random.default_rng(3).random((32, 16)) * 40 - 7
    write_image(tmp_path / "m.png", values)
    write_image(tmp_path / "n.png", values * 3 + 100)
    red = read_red(tmp_path / "m.png")
    assert red.shape == (16, 32)
    assert red.dtype == np.float32
    assert (red.min(), red.max()) == (0, 1)
    np.testing.assert_array_equal(red, read_red(tmp_path / "n.png"))
    level = (values - values.min()) / (values.max() - values.min())
    recovered = np.interp(red, GREYS[::-1], np.linspace(1, 0, 256))[::-1].T
    np.testing.assert_allclose(recovered, level, atol=0.012)


def test_flat_map_is_white() -> None:
    assert (to_pixels(np.full((4, 4), -7.0)) == 255).all()


def test_broken_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    write_image(path, np.random.default_rng(3).random((32, 16)))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"m\.png: cannot be read as a picture"):
        read_red(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_red(tmp_path / "none.png")
