"""Tables beside the catalogue in other units are refused: fluxes, and corrected periods."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlpop.errors import DataError
from mlpop.population.catalogue.tables import (
    check_fluxes,
    corrected,
    read_corrections,
    read_tpa,
)

CATALOGUE = pd.DataFrame({"PSRJ": ["J1", "J2"], "P0": [0.5, 1.0], "P1": [1e-15, np.nan]})


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(("scale", "word"), [(1e-6, "below"), (1e6, "above")])
def test_fluxes_in_other_units_are_refused(tmp_path: Path, scale: float, word: str) -> None:
    rows = "".join(f"J{k},{k * scale}\n" for k in range(1, 6))
    with pytest.raises(DataError, match=f"half of the ch6flux are {word} .* in mJy"):
        read_tpa(written(tmp_path, f"PSRJ,ch6flux\n{rows}"))


@pytest.mark.parametrize("flux", ["0.01", "1", "300", ""])
def test_fluxes_in_their_units_are_taken(tmp_path: Path, flux: str) -> None:
    assert len(read_tpa(written(tmp_path, f"PSRJ,ch6flux\nJ1,{flux}\n"))) == 1


@pytest.mark.parametrize(
    "text", ["factor\nJ1,1e300", "factor\nJ1,1e-3", "P0\nJ1,1000", "P0\nJ2,1e-6"]
)
def test_a_correction_that_is_no_harmonic_is_refused(tmp_path: Path, text: str) -> None:
    corrections = read_corrections(written(tmp_path, f"PSRJ,{text}\n"))
    with pytest.raises(DataError, match=r"corrected period of J\d: is .* times .* in seconds"):
        corrected(CATALOGUE, corrections)


@pytest.mark.parametrize(("text", "factor"), [("factor\nJ1,2", 2.0), ("P0\nJ1,0.25", 0.5)])
def test_a_harmonic_is_corrected(tmp_path: Path, text: str, factor: float) -> None:
    table = corrected(CATALOGUE, read_corrections(written(tmp_path, f"PSRJ,{text}\n")))
    assert table["P0"].tolist() == [0.5 * factor, 1.0]
    assert table["P1"][0] == 1e-15 * factor


@pytest.mark.parametrize(("scale", "word"), [(1e-4, "below"), (1e4, "above")])
def test_fluxes_of_the_catalogue_in_other_units_are_refused(scale: float, word: str) -> None:
    with pytest.raises(DataError, match=f"half of the S1400 are {word} .* in mJy"):
        check_fluxes(scale * np.array([np.nan, 0.3, 1.0, 9.0]), "half of the S1400")
    check_fluxes(np.array([np.nan, 0.3, 1.0, 9.0]), "half of the S1400")
