"""The cuts from the catalogue to the observed samples, one pulsar for each way to fall out."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlpop.commands.observe import observed_numbers
from mlpop.config.blocks.surveys import MAP_SURVEYS, Region
from mlpop.config.files.observe import ObserveConfig
from mlpop.errors import DataError
from mlpop.population.catalogue.doubts import unknown_types
from mlpop.population.catalogue.observed_catalogue import read_catalogue
from mlpop.population.catalogue.selection import (
    CutRow,
    flux_catalogues,
    observed_selection,
    select,
    survey_catalogues,
)
from mlpop.population.catalogue.tables import read_corrections, read_tpa

REAL = Path(__file__).parents[3].parent / "shared" / "data" / "psrcat.db"
REAL_FILES = [path for path in (REAL,) if path.is_file()]

HEADER = "PSRJ,P0,P1,RAJD,DECJD,Gl,Gb,ASSOC,SURVEY,TYPE,BINARY,S1400"
EVERY = "pksmb,pkssw,htru_pks"
ROWS = {
    "good": f'0.5,1e-15,250,-40,310,3,,"{EVERY}",,,2.0',
    "high": f'0.6,2e-15,240,-40,310,6,,"{EVERY}",,,0',
    "east": f'0.7,3e-15,290,5,40,1,,"{EVERY}",,,',
    "west": f'0.7,3e-15,110,-20,245,1,,"{EVERY}",,,1.0',
    "far": f'0.8,1e-15,80,-20,100,1,,"{EVERY}",,,1.0',
    "centre": f'0.8,1e-15,266,-29,359.9,0,SNR:x,"{EVERY}",,,1.0',
    "no_p1": f'0.9,,250,-40,310,3,,"{EVERY}",,,1.0',
    "no_p0": f',1e-15,250,-40,310,3,,"{EVERY}",,,1.0',
    "second_gc": f'0.5,1e-15,270,-30,0.5,1,"XRS:a[b],GC:Ter5[c]","{EVERY}",,,1.0',
    "m28": f'0.5,1e-15,276,-24,8,-1,GC:M28(NGC6626)[l],"{EVERY}",,,1.0',
    "lmc": f'0.5,1e-15,80,-69,280,-3,EXGAL:LMC,"{EVERY}",,,1.0',
    "fast": f'0.01,1e-15,250,-40,310,3,,"{EVERY}",,,1.0',
    "recycled": f'0.5,1e-19,250,-40,310,3,,"{EVERY}",,,1.0',
    "speeding_up": f'0.5,-1e-15,250,-40,310,3,,"{EVERY}",,,1.0',
    "binary": f'0.5,1e-15,250,-40,310,3,,"{EVERY}",,ELL1,1.0',
    "typed_binary": f'0.5,1e-15,250,-40,310,3,,"{EVERY}","HE,BINARY[x]",,1.0',
    "other_survey": '0.5,1e-15,250,-40,310,3,,"pksmbx,htru_low",,,1.0',
    "smps_only": "0.5,1e-15,250,-10,310,40,,pkssw,,,3.0",
}

DEFAULT_REGIONS = {name: survey.region for name, survey in MAP_SURVEYS.items()}
WHOLE = DEFAULT_REGIONS["SMPS"].model_copy(update={"b_abs_min": None, "b_abs_max": None})
REGIONS = {**DEFAULT_REGIONS, "SMPS": WHOLE}
"""Those of the published samples: SMPS without its latitudes."""


@pytest.fixture
def catalogue_file(tmp_path):
    path = tmp_path / "catalogue.csv"
    path.write_text("\n".join([HEADER, *(f"{name},{row}" for name, row in ROWS.items())]))
    return path


@pytest.fixture
def catalogue(catalogue_file):
    return read_catalogue(catalogue_file)


def names(samples):
    return {survey: set(table["PSRJ"]) for survey, table in samples.items()}


def test_each_cut_takes_what_it_must(catalogue):
    selection = select(catalogue, REGIONS)
    maps = {
        "PMPS": {"good", "east", "centre"},
        "SMPS": {"good", "high", "east", "centre", "smps_only"},
        "HTRU": {"good", "high", "west", "centre"},
    }
    assert names(selection.maps) == maps
    assert names(selection.counts) == {survey: {*kept, "no_p1"} for survey, kept in maps.items()}
    assert selection.fluxes is None
    assert flux_catalogues(selection) is None
    assert any("No flux maps" in note for note in selection.notes)


def test_rows_after_every_cut(catalogue):
    rows = select(catalogue, REGIONS).rows
    assert rows[:6] == [
        CutRow("catalogue", "all", 18, 17),
        CutRow("not in a binary", "all", 16, 15),
        CutRow("P0 measured", "all", 15, 14),
        CutRow("not in a globular cluster or another galaxy", "all", 12, 11),
        CutRow("P0 > 0.01 s", "all", 11, 10),
        CutRow("P1 > 1e-19 or not measured", "all", 9, 8),
    ]
    assert rows[6:8] == [
        CutRow("SURVEY has pksmb", "PMPS", 7, 6),
        CutRow("in the region -100 < l < 50, |b| < 5", "PMPS", 4, 3),
    ]
    assert rows[-3:] == [
        CutRow("P1 measured", "PMPS", 3, 3),
        CutRow("P1 measured", "SMPS", 5, 5),
        CutRow("P1 measured", "HTRU", 4, 4),
    ]


@pytest.mark.parametrize(
    ("gl", "gb", "surveys"),
    [
        (310.0, 3.0, {"PMPS", "HTRU"}),
        (-50.0, 3.0, {"PMPS", "HTRU"}),
        (310.0, 6.0, {"SMPS", "HTRU"}),
        (310.0, -6.0, {"SMPS", "HTRU"}),
        (40.0, 3.0, {"PMPS"}),
        (50.0, 3.0, set()),
        (260.0, -3.0, {"HTRU"}),
        (240.0, -3.0, set()),
        (310.0, 5.0, {"HTRU"}),
        (310.0, -15.0, {"SMPS"}),
        (310.0, 30.0, set()),
        (310.0, -29.9, {"SMPS"}),
    ],
)
def test_regions_generator_golden_15(catalogue, gl, gb, surveys):
    star = catalogue[catalogue["PSRJ"] == "good"].assign(Gl=gl, Gb=gb)
    found = {survey for survey, table in select(star, DEFAULT_REGIONS).maps.items() if len(table)}
    assert found == surveys


def test_types_are_taken_out_and_counted(catalogue):
    typed = catalogue.copy()
    typed.attrs = dict(catalogue.attrs)
    kinds = {"good": "RRAT[x]", "centre": "HE,AXP", "high": "HE", "no_p1": "HE,RRATS"}
    for name, kind in kinds.items():
        typed.loc[typed["PSRJ"] == name, "TYPE"] = kind
    selection = select(typed, REGIONS, types_excluded=("RRAT", "AXP"))
    assert names(selection.maps) == {
        "PMPS": {"east"},
        "SMPS": {"high", "east", "smps_only"},
        "HTRU": {"high", "west"},
    }
    rows = [row for row in selection.rows if row.step.startswith("TYPE") and row.survey == "PMPS"]
    assert rows == [
        CutRow("TYPE is not RRAT", "PMPS", 3, 2),
        CutRow("TYPE is not AXP", "PMPS", 2, 1),
    ]
    assert names(select(typed, REGIONS).maps)["PMPS"] == {"good", "east", "centre"}
    whole = pd.concat([typed] * 40, ignore_index=True)
    (unknown,) = unknown_types(whole, ("RRAT", "CCO"))
    assert "no pulsar has the TYPE 'CCO'; types: AXP, BINARY, HE" in unknown
    (nothing,) = unknown_types(whole.assign(TYPE=""), ("RRAT", "AXP"))
    assert "the file says nothing of types: no RRAT and no AXP could be taken out" in nothing


def test_pulsars_without_a_p1_are_said(catalogue):
    notes = [note for note in select(catalogue, REGIONS).notes if "no measured P1" in note]
    assert [note[:40] for note in notes] == [
        "1 of 4 pulsars of PMPS have no measured ",
        "1 of 6 pulsars of SMPS have no measured ",
        "1 of 5 pulsars of HTRU have no measured ",
    ]
    assert "Kolmogorov-Smirnov" in notes[0]


def test_one_mjy_weighs_minus_three_generator_golden_16(catalogue, tmp_path):
    path = tmp_path / "tpa.csv"
    path.write_text("PSRJ,ch6flux,ch6err\ngood,1.0,0.1\nsmps_only,0.4,0.1\nwest,5.0,\nno_p1,9,9\n")
    selection = select(catalogue, REGIONS, fluxes="tpa", tpa=read_tpa(path))
    fluxes = flux_catalogues(selection)
    assert np.log10(fluxes["PMPS"]["S_radio_obs_mean_1400"]).tolist() == [-3.0]
    assert names(selection.fluxes) == {
        "PMPS": {"good"},
        "SMPS": {"good", "smps_only"},
        "HTRU": {"good", "west"},
    }


def test_flux_sample_of_htru_is_cut_in_the_sky(catalogue, tmp_path):
    """The reference joins HTRU before its sky cut (W20)."""
    path = tmp_path / "tpa.csv"
    path.write_text("PSRJ,ch6flux\ngood,1.0\neast,2.0\nfar,3.0\n")
    selection = select(catalogue, REGIONS, fluxes="tpa", tpa=read_tpa(path))
    assert names(selection.fluxes)["HTRU"] == {"good"}


def test_missing_fluxes_are_dropped(catalogue, tmp_path):
    path = tmp_path / "tpa.csv"
    path.write_text("PSRJ,ch6flux\ngood,1.0\ncentre,\nhigh,nan\n")
    selection = select(catalogue, REGIONS, fluxes="tpa", tpa=read_tpa(path))
    assert names(selection.fluxes) == dict.fromkeys(("PMPS", "SMPS", "HTRU"), {"good"})


def test_catalogue_fluxes_only_when_asked_and_said(catalogue):
    selection = select(catalogue, REGIONS, fluxes="S1400")
    assert names(selection.fluxes)["SMPS"] == {"good", "centre", "smps_only"}
    flux = flux_catalogues(selection)["SMPS"]["S_radio_obs_mean_1400"]
    np.testing.assert_allclose(np.sort(flux), [0.001, 0.002, 0.003])
    assert any("not the MeerKAT TPA census" in note for note in selection.notes)


def test_columns_for_the_maps(catalogue):
    columns = survey_catalogues(select(catalogue, REGIONS))
    assert set(columns) == {"PMPS", "SMPS", "HTRU"}
    pmps = columns["PMPS"]
    assert pmps["P"].tolist() == [0.5, 0.7, 0.8]
    assert pmps["P_dot"].tolist() == [1e-15, 3e-15, 1e-15]
    assert pmps["ra"].tolist() == [250.0, 290.0, 266.0]
    assert pmps["dec"].tolist() == [-40.0, 5.0, -29.0]
    assert (pmps["l"].tolist(), pmps["b"].tolist()) == ([310.0, 40.0, 359.9], [3.0, 1.0, 0.0])
    assert np.isnan(pmps["S_radio_obs_mean_1400"]).all()
    assert np.isnan(pmps["DM"]).all()


def test_fluxes_and_dispersions_stand_beside_their_pulsars(catalogue):
    measured = catalogue.assign(DM=np.arange(float(len(catalogue))))
    pmps = survey_catalogues(select(measured, REGIONS, fluxes="S1400"))["PMPS"]
    chosen = catalogue["PSRJ"].isin(["good", "east", "centre"]).to_numpy()
    np.testing.assert_array_equal(pmps["DM"], np.flatnonzero(chosen))
    np.testing.assert_allclose(pmps["S_radio_obs_mean_1400"], [0.002, np.nan, 0.001])


@pytest.mark.parametrize("text", ["PSRJ,factor\ngood,2\n", "PSRJ,P0\ngood,1.0\n"])
def test_corrected_periods_scale_p1_too(catalogue, tmp_path, text):
    path = tmp_path / "song2023.csv"
    path.write_text(text)
    before = catalogue.copy()
    selection = select(catalogue, REGIONS, corrections=read_corrections(path))
    good = selection.maps["PMPS"].set_index("PSRJ").loc["good"]
    assert good["P0"] == pytest.approx(1.0)
    assert good["P1"] == pytest.approx(2e-15)
    assert "1 periods were corrected" in " ".join(selection.notes)
    assert catalogue.equals(before)


def test_a_correction_comes_before_the_cuts(catalogue, tmp_path):
    path = tmp_path / "song2023.csv"
    path.write_text("PSRJ,factor\nfast,3\n")
    corrected = select(catalogue, REGIONS, corrections=read_corrections(path))
    assert "fast" in names(corrected.maps)["PMPS"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("PSRJ,factor\nJ9999+99,2\n", r"not in the catalogue: J9999\+99"),
        ("PSRJ,factor\nno_p0,2\n", "no_p0: the catalogue has no P0"),
        ("PSRJ,factor\ngood,-2\n", "good: factor must be positive, but is '-2'"),
        ("PSRJ,factor\ngood,\n", "good: factor must be positive, but is ''"),
        ("PSRJ,harmonic\ngood,2\n", "but has neither"),
        ("PSRJ,factor,P0\ngood,2,1\n", "but has factor and P0"),
        ("PSRJ,factor\ngood,2\ngood,3\n", "good is there more than once"),
    ],
)
def test_wrong_corrections_are_refused(catalogue, tmp_path, text, message):
    path = tmp_path / "song2023.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        select(catalogue, REGIONS, corrections=read_corrections(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("PSRJ,flux\ngood,1\n", "lacks the column ch6flux; found PSRJ, flux"),
        ("PSRJ,ch6flux\ngood,0\n", "good: ch6flux must be positive, but is 0.0 mJy"),
        ("PSRJ,ch6flux\ngood,x\n", "good: ch6flux must be a finite number"),
        ("PSRJ,ch6flux\nJ9999+99,1\n", "no pulsar of PMPS has a flux"),
    ],
)
def test_wrong_tpa_tables_are_refused(catalogue, tmp_path, text, message):
    path = tmp_path / "tpa.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        select(catalogue, REGIONS, fluxes="tpa", tpa=read_tpa(path))


def test_tpa_fluxes_need_the_table(catalogue):
    with pytest.raises(DataError, match="need the TPA table"):
        select(catalogue, REGIONS, fluxes="tpa")


def test_own_regions(catalogue):
    regions = {"PMPS": Region(token="pksmb", l_min=-180.0, l_max=180.0)}
    selection = select(catalogue, regions)
    assert names(selection.maps) == {"PMPS": {"good", "high", "east", "west", "far", "centre"}}


def test_selection_of_a_configuration(catalogue_file, tmp_path):
    (tmp_path / "tpa.csv").write_text("PSRJ,ch6flux\ngood,1.0\n")
    (tmp_path / "song.csv").write_text("PSRJ,factor\ngood,2\n")
    values = {
        "source": str(catalogue_file),
        "save_dir": str(tmp_path / "out"),
        "fluxes": "tpa",
        "tpa_table": str(tmp_path / "tpa.csv"),
        "corrections": str(tmp_path / "song.csv"),
        "regions": {name: region.model_dump() for name, region in REGIONS.items()},
    }
    selection = observed_selection(ObserveConfig.parse(values))
    assert len(selection.maps["HTRU"]) == 4
    assert flux_catalogues(selection)["HTRU"]["P"].tolist() == [1.0]


@pytest.mark.parametrize("path", REAL_FILES)
def test_the_real_sky(path):
    """The counts of release 1.67; before the sky cuts those of the data's README."""
    selection = select(read_catalogue(path), DEFAULT_REGIONS, fluxes="S1400")
    left = {(r.step, r.survey): (r.pulsars, r.with_p1) for r in selection.rows}
    assert left["SURVEY has pksmb", "PMPS"] == (1065, 1040)
    assert left["SURVEY has pkssw", "SMPS"] == (218, 202)
    assert left["SURVEY has htru_pks", "HTRU"] == (1053, 989)

    def sizes(samples):
        return {survey: len(table) for survey, table in samples.items()}

    assert sizes(selection.counts) == {"PMPS": 1010, "SMPS": 212, "HTRU": 1033}
    assert sizes(selection.maps) == {"PMPS": 986, "SMPS": 196, "HTRU": 983}
    # as published: no cut in latitude of SMPS; and as by default: without transients and magnetars
    published = select(read_catalogue(path), REGIONS, fluxes="S1400")
    assert sizes(published.counts) == {"PMPS": 1010, "SMPS": 218, "HTRU": 1033}
    assert sizes(published.maps) == {"PMPS": 986, "SMPS": 202, "HTRU": 983}
    assert sizes(published.fluxes) == {"PMPS": 968, "SMPS": 172, "HTRU": 940}
    kinds = ObserveConfig.parse({"source": "psrqpy", "save_dir": "out"}).types_excluded
    default = select(read_catalogue(path), DEFAULT_REGIONS, fluxes="S1400", types_excluded=kinds)
    assert sizes(default.counts) == {"PMPS": 988, "SMPS": 201, "HTRU": 1019}
    shipped = Path(__file__).parents[3] / "experiments" / "observed" / "psrcat_1.67.json"
    numbers = observed_numbers(default).model_dump(mode="json")
    assert json.loads(shipped.read_text(encoding="utf-8")) == numbers
    assert any("24 of 1010 pulsars of PMPS have no measured P1" in n for n in published.notes)
    assert any("with p = 0.57 (Kolmogorov-Smirnov)" in note for note in published.notes)


def test_default_regions_are_the_documented_ones():
    found = {
        s: (r.token, r.l_min, r.l_max, r.b_abs_min, r.b_abs_max)
        for s, r in DEFAULT_REGIONS.items()
    }
    assert found == {
        "PMPS": ("pksmb", -100.0, 50.0, None, 5.0),
        "SMPS": ("pkssw", -100.0, 50.0, 5.0, 30.0),
        "HTRU": ("htru_pks", -120.0, 30.0, None, 15.0),
    }
