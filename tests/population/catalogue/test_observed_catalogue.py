"""Reading the catalogue in each of its forms."""

import math
import sys
import tarfile
import types
from pathlib import Path

import numpy as np
import pandas as pd
import psrqpy
import pytest
from astropy import units as u
from astropy.coordinates import BarycentricMeanEcliptic, SkyCoord

from mlpop.errors import DataError
from mlpop.population.catalogue.observed_catalogue import (
    download_catalogue,
    read_catalogue,
    read_table,
)
from mlpop.population.catalogue.psrcat import COLUMNS, NUMBER_COLUMNS, TEXT_COLUMNS, galactic

REAL = Path(__file__).parents[3].parent / "shared" / "data" / "psrcat.db"
REAL_FILES = [path for path in (REAL,) if path.is_file()]

DATABASE = """\
#CATALOGUE 9.99
# a comment
PSRB     B0531+21                      sr68
PSRJ     J0534+2200
RAJ      05:34:31.973             5    mcn71
DECJ     +22:00:52.06             6    mcn71
PMRA     -11.34                   6    lin23
PMDEC    2.65                     14   lin23
F0       29.946923                1    lps93
F1       -3.77535E-10             2    lps93
DM       56.77118                 24   bkk+16
S1400    14                       3    lylg95
W50      3.0                           lylg95
DIST_A   2.00                     50   rc07
DIST_DM  1.304                         ymw17
TYPE     HE[cdt69],NRAD
ASSOC    SNR:Crab[ccl+69],GRS:4FGL_J0534.5+2200[fermi23]
SURVEY   misc,ar4,gb4
@-----------------------------------------------------------------
PSRJ     J1012-0100
ELONG    153.25                   5    abc
ELAT     -10.5                    6    abc
PMELONG  5.0                      1    abc
PMELAT   -7.0                     1    abc
P0       0.5                      1    abc
P1       1.2D-15                  1    abc
S1400    weak                          abc
DIST_DM  +25.00                        ymw17
DIST_AMN 1.0                           abc
DIST_AMX 3.0                           abc
SURVEY   pks70
SURVEY   pkssw,htru_pks
@-----------------------------------------------------------------
PSRJ     J1801-00
RAJ      18:01
DECJ     -00:30
P0       1.25
BINARY   ELL1                          abc
SURVEY   pksmb
@-----------------------------------------------------------------
"""

LONG_CSV = """\
#;NAME;PSRJ;;RAJD;;DECJD;;Gl;Gb;P0;;;P1;;;S1400;;;ASSOC;SURVEY;
;;;;(deg);;(deg);;(deg);(deg);(s);;;;;;(mJy);;;;;
1;B0531+21;J0534+2200;rs68;83.633218;;22.014464;;184.557559;-5.784271;0.033392;1e-9;lps93;\
4.20972e-13;2e-17;lps93;14.0;3;lylg95;SNR:Crab[ccl+69],GRS:x;misc,ar4;
2;J1801-00;J1801-00;x;270.25;;-0.5;;27.2;10.7;1.25;NAN;x;NAN;NAN;x;*;NAN;x;NAN;pksmb;

"""

PLAIN_CSV = """\
PSRJ,P0,P1,RAJD,DECJD,GL,GB,ASSOC,SURVEY
J0534+2200,0.033392,4.20972e-13,83.633218,22.014464,184.557559,-5.784271,"SNR:Crab,GRS:x","a,b"
J1801-00,1.25,,270.25,-0.5,27.2,10.7,,pksmb
"""


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "psrcat.db"
    path.write_text(DATABASE)
    return path


def test_every_column_and_every_pulsar_is_there(database):
    table = read_catalogue(database)
    assert tuple(table.columns) == COLUMNS
    assert table["PSRJ"].tolist() == ["J0534+2200", "J1012-0100", "J1801-00"]
    assert all(table[name].dtype == np.float64 for name in NUMBER_COLUMNS)
    assert all(isinstance(v, str) for name in TEXT_COLUMNS for v in table[name])


def test_spin_is_derived_from_the_frequency(database):
    table = read_catalogue(database).set_index("PSRJ")
    assert table["P0"]["J0534+2200"] == pytest.approx(0.0333924, rel=1e-5)
    assert table["P1"]["J0534+2200"] == pytest.approx(4.20972e-13, rel=1e-5)
    assert table["P1"]["J1012-0100"] == 1.2e-15
    assert math.isnan(table["P1"]["J1801-00"])


def test_positions_are_derived(database):
    table = read_catalogue(database).set_index("PSRJ")
    crab = table.loc["J0534+2200"]
    assert crab["RAJD"] == pytest.approx(83.6332208, abs=1e-6)
    assert crab["DECJD"] == pytest.approx(22.0144611, abs=1e-6)
    assert crab["Gl"] == pytest.approx(184.557558, abs=1e-5)
    assert crab["Gb"] == pytest.approx(-5.784272, abs=1e-5)
    assert table["RAJD"]["J1801-00"] == pytest.approx(270.25)
    assert table["DECJD"]["J1801-00"] == pytest.approx(-0.5)


def test_ecliptic_entries_become_equatorial(database):
    row = read_catalogue(database).set_index("PSRJ").loc["J1012-0100"]
    place = SkyCoord(
        153.25 * u.deg,
        -10.5 * u.deg,
        pm_lon_coslat=5.0 * u.mas / u.yr,
        pm_lat=-7.0 * u.mas / u.yr,
        frame=BarycentricMeanEcliptic(),
    ).icrs
    assert row["RAJD"] == pytest.approx(place.ra.deg, abs=1e-4)
    assert row["DECJD"] == pytest.approx(place.dec.deg, abs=1e-4)
    assert row["PMRA"] == pytest.approx(place.pm_ra_cosdec.value, abs=1e-4)
    assert row["PMDEC"] == pytest.approx(place.pm_dec.value, abs=1e-4)


def test_galactic_coordinates_agree_with_astropy():
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 360, 500), np.degrees(np.arcsin(rng.uniform(-1, 1, 500)))
    truth = SkyCoord(ra * u.deg, dec * u.deg).galactic
    longitude, latitude = galactic(ra, dec)
    turn = np.mod(longitude - truth.l.deg + 180.0, 360.0) - 180.0
    assert np.abs(turn * np.cos(np.radians(latitude))).max() < 2e-5
    assert np.abs(latitude - truth.b.deg).max() < 2e-5


def test_distance_is_measured_or_within_its_limits(database):
    table = read_catalogue(database).set_index("PSRJ")
    assert table["DIST"]["J0534+2200"] == 2.0
    assert table["DIST_DM"]["J0534+2200"] == 1.304
    assert table["DIST"]["J1012-0100"] == 3.0
    assert math.isnan(table["DIST"]["J1801-00"])


def test_two_lines_of_surveys_are_joined(database):
    table = read_catalogue(database).set_index("PSRJ")
    assert table["SURVEY"]["J1012-0100"] == "pks70,pkssw,htru_pks"


def test_a_strange_flux_is_absent_with_a_warning(database, caplog):
    table = read_catalogue(database).set_index("PSRJ")
    assert math.isnan(table["S1400"]["J1012-0100"])
    assert "J1012-0100: S1400 must be a number, but is 'weak'" in caplog.text


def test_long_csv(tmp_path):
    path = tmp_path / "atnf.csv"
    path.write_text(LONG_CSV)
    table = read_catalogue(path)
    assert tuple(table.columns) == COLUMNS
    assert table["PSRJ"].tolist() == ["J0534+2200", "J1801-00"]
    assert table["P0"].tolist() == [0.033392, 1.25]
    assert table["P1"][0] == 4.20972e-13
    assert math.isnan(table["P1"][1])
    assert math.isnan(table["S1400"][1])
    assert table["ASSOC"].tolist() == ["SNR:Crab[ccl+69],GRS:x", ""]
    assert table["SURVEY"].tolist() == ["misc,ar4", "pksmb"]
    assert table["BINARY"].tolist() == ["", ""]


def test_plain_csv(tmp_path):
    path = tmp_path / "mine.CSV"
    path.write_text(PLAIN_CSV)
    table = read_catalogue(path)
    assert table["Gl"].tolist() == [184.557559, 27.2]
    assert table["ASSOC"].tolist() == ["SNR:Crab,GRS:x", ""]
    assert math.isnan(table["P1"][1])
    assert math.isnan(table["DM"][0])


def test_table_without_units_keeps_its_first_row(tmp_path):
    path = tmp_path / "tpa.csv"
    path.write_text("PSRJ,ch6flux,\nJ0001+01,1.0,\n")
    table = read_table(path)
    assert table.to_dict("list") == {"PSRJ": ["J0001+01"], "ch6flux": ["1.0"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RAJ 1:2:3\nP0 1.0\n@--\n", r"psrcat.db:1: record: has no PSRJ"),
        ("PSRJ J1\nP0 fast\n@--\n", "J1: P0 must be a number, but is 'fast'"),
        ("PSRJ J1\nP0 -1.0\n@--\n", "J1: P0 must be positive"),
        ("PSRJ J1\nRAJ 1h2m\nDECJ 3:4\n@--\n", "RAJ must be like 12:34:56.7, but is '1h2m'"),
        ("PSRJ J1\nP0 1\n@--\nPSRJ J1\nP0 1\n@--\n", "J1 is there more than once"),
        ("# nothing\n", "holds no pulsar"),
    ],
)
def test_a_wrong_database_is_refused(tmp_path, text, message):
    path = tmp_path / "psrcat.db"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_catalogue(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PLAIN_CSV.replace("SURVEY", "SURVEYS"), "lacks the column SURVEY; found PSRJ, P0"),
        (
            PLAIN_CSV.replace("1.25", "1.2.5"),
            "J1801-00: P0 must be a finite number, but is '1.2.5'",
        ),
        (PLAIN_CSV.replace(",pksmb", ",pksmb,7"), ":3: has 10 entries, but the header has 9"),
        (PLAIN_CSV.replace("J1801-00", ""), "row 2 has no PSRJ"),
        (PLAIN_CSV.replace("RAJD", "P0"), "column 'P0' is there 2 times"),
        (PLAIN_CSV.split("\n")[0], "holds no pulsar"),
        ("", "is empty"),
    ],
)
def test_a_wrong_csv_is_refused(tmp_path, text, message):
    path = tmp_path / "atnf.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_catalogue(path)


@pytest.mark.parametrize("name", ["none.db", "none.csv"])
def test_a_missing_file_is_refused(tmp_path, name):
    with pytest.raises(DataError, match=f"{name}: no such file"):
        read_catalogue(tmp_path / name)


def test_psrqpy_gives_the_same_table(database, monkeypatch):
    text = DATABASE.replace("S1400    weak                          abc\n", "")
    text = text.replace("1.2D-15", "1.2E-15").replace("SURVEY   pks70\n", "")
    database.write_text(text)
    original = psrqpy.QueryATNF
    monkeypatch.setattr(
        psrqpy, "QueryATNF", lambda checkupdate: original(loadfromdb=str(database))
    )
    ours = read_catalogue(database).set_index("PSRJ").sort_index()
    theirs = download_catalogue().set_index("PSRJ").sort_index()
    for name in set(TEXT_COLUMNS) - {"PSRJ", "BINCOMP"}:
        assert theirs[name].tolist() == ours[name].tolist(), name
    for name in ("P0", "P1", "RAJD", "DECJD", "Gl", "Gb", "PMRA", "PMDEC", "DM", "S1400"):
        np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-4, atol=1e-4, err_msg=name)


def test_psrqpy_without_network_is_one_clear_error(monkeypatch):
    def fail(checkupdate=False):
        raise RuntimeError("no route to host")

    monkeypatch.setattr(psrqpy, "QueryATNF", fail)
    monkeypatch.setattr("psrqpy.utils.CACHEDIR", "no such folder")
    advice = r"no route to host; .* copy psrcat\.db from https://www\.atnf.* --set source="
    with pytest.raises(DataError, match=advice):
        download_catalogue()


@pytest.mark.parametrize("downloads", [1, 2])
def test_psrqpy_downloads_into_an_empty_cache_too(database, tmp_path, monkeypatch, downloads):
    text = DATABASE.replace("S1400    weak                          abc\n", "")
    database.write_text(text.replace("1.2D-15", "1.2E-15"))
    tarball = tmp_path / "served.tar.gz"
    with tarfile.open(tarball, "w:gz") as archive:
        archive.add(database, "psrcat_tar/psrcat.db")
    answer = types.SimpleNamespace(content=tarball.read_bytes(), raise_for_status=lambda: None)
    monkeypatch.setattr("psrqpy.utils.requests", types.SimpleNamespace(get=lambda url: answer))
    for module in ("psrqpy.utils", "psrqpy.search"):
        monkeypatch.setattr(f"{module}.CACHEDIR", str(tmp_path / "cache"))
    for _ in range(downloads):
        table = download_catalogue()
    assert "J0534+2200" in set(table["PSRJ"])
    assert table.attrs["doubts"] == read_catalogue(database).attrs["doubts"]
    next((tmp_path / "cache").glob("*.tar.gz")).unlink()
    (doubt,) = set(download_catalogue().attrs["doubts"]) - set(table.attrs["doubts"])
    assert "psrqpy downloaded nothing" in doubt
    assert str(tmp_path / "cache") in doubt


def test_psrqpy_with_other_columns_is_refused(monkeypatch):
    raw = pd.DataFrame({"PSRJ": ["J1"], "P0": [1.0]})
    monkeypatch.setitem(
        sys.modules,
        "psrqpy",
        types.SimpleNamespace(
            QueryATNF=lambda checkupdate: types.SimpleNamespace(pandas=raw), utils=psrqpy.utils
        ),
    )
    with pytest.raises(DataError, match="lacks P1, RAJD"):
        download_catalogue()


@pytest.mark.parametrize("path", REAL_FILES)
def test_the_real_catalogue(path):
    table = read_catalogue(path)
    assert len(table) == 3320
    assert table[["RAJD", "DECJD", "Gl", "Gb"]].notna().all(axis=None)
    crab = table.set_index("PSRJ").loc["J0534+2200"]
    assert crab["P0"] == pytest.approx(0.0334, abs=1e-4)
    assert table["P0"].isna().sum() < 50
