"""Maps of populations: axes in physical units, the right cell at the right place."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mlpop.config.blocks.generator import SURVEY_CHANNELS
from mlpop.errors import DataError
from mlpop.plots import population
from mlpop.plots.population import age_line, field_line, kind_of, map_title

PPDOT = "survey_PMPS_ppdot_map"
FLUXES = "survey_HTRU_ppdot_map_fluxes"


def star(i: int, j: int, shape: tuple[int, int] = (32, 32)) -> NDArray[np.float64]:
    values = np.zeros(shape)
    values[i, j] = 1.0
    return values


def test_a_star_lies_at_its_period_and_derivative_golden_4() -> None:
    """P = 0.5 s, Pdot = 1e-14 is bin (17, 18) at 32 bins."""
    axes = population({PPDOT: star(17, 18)}).axes[0]
    mesh = axes.collections[0]
    corners = mesh.get_coordinates()
    row, column = np.unravel_index(np.argmax(mesh.get_array()), (32, 32))
    (x_low, y_low), (x_high, y_high) = corners[row, column], corners[row + 1, column + 1]
    assert x_low < 0.5 < x_high
    assert y_low < 1e-14 < y_high
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xlim() == (1e-3, 1e2)
    assert axes.get_ylim() == (1e-21, 1e-9)


def test_a_star_lies_at_its_place_on_the_sky_golden_5() -> None:
    """RA = 128.836, Dec = -45.176 is bin (11, 3) at 32 x 16 bins."""
    maps = {"survey_SMPS_position_map_radec": star(11, 3, (32, 16))}
    axes = population(maps).axes[0]
    mesh = axes.collections[0]
    row, column = np.unravel_index(np.argmax(mesh.get_array()), (16, 32))
    corners = mesh.get_coordinates()
    assert corners[row, column, 0] < 128.836 < corners[row + 1, column + 1, 0]
    assert corners[row, column, 1] < -45.176 < corners[row + 1, column + 1, 1]


@pytest.mark.parametrize("channel", SURVEY_CHANNELS)
def test_every_channel_of_the_generator_can_be_drawn(channel: str) -> None:
    shape = (32, 32) if kind_of(channel).is_ppdot else (32, 16)
    figure = population({channel: star(3, 4, shape)})
    figure.canvas.draw()
    survey = channel.split("_")[1]
    assert figure.axes[0].get_title().startswith(survey)


def test_titles_tell_flux_maps_apart() -> None:
    assert map_title(PPDOT) == "PMPS"
    assert map_title(FLUXES) == "HTRU, fluxes"


def test_an_empty_map_can_be_drawn() -> None:
    population({PPDOT: np.zeros((32, 32)), FLUXES: np.full((32, 32), -7.0)}).canvas.draw()


def test_dipole_field_of_the_crab() -> None:
    """P = 0.0334 s, Pdot = 4.21e-13: 3.8e12 G and 1.26 kyr, the textbook values."""
    assert field_line(0.0333924, np.log10(3.8e12)) == pytest.approx(4.21e-13, rel=0.02)
    assert age_line(0.0333924, 1257.0) == pytest.approx(4.20972e-13, rel=0.01)


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        ({}, "no map"),
        ({"survey_PMPS_pdot": np.zeros((4, 4))}, "no survey map is called 'survey_PMPS_pdot'"),
        ({PPDOT: np.zeros(4)}, r"found shape \(4,\)"),
        ({PPDOT: np.full((4, 4), np.nan)}, "NaN or infinity"),
    ],
)
def test_what_is_no_map_is_refused(maps: dict[str, NDArray[np.float64]], words: str) -> None:
    with pytest.raises(DataError, match=words):
        population(maps)
