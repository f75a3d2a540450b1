"""What is incomplete, ambiguous, out of range or empty in a catalogue is refused, or said."""

import os
import tarfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlpop.commands.observe import outside_the_maps
from mlpop.config.blocks.surveys import MAP_SURVEYS
from mlpop.config.files.observe import ObserveConfig
from mlpop.errors import DataError
from mlpop.io.files import sha256_of
from mlpop.population.catalogue.observed_catalogue import download_catalogue, read_catalogue
from mlpop.population.catalogue.psrcat import galactic
from mlpop.population.catalogue.selection import observed_selection

HEADER = "PSRJ,P0,P1,RAJD,DECJD,Gl,Gb,ASSOC,TYPE,BINARY,SURVEY"
EVERY = "pksmb,pkssw,htru_pks"


def row(number: int, *, survey: str = EVERY, ra: float = 250.0, assoc: str = "", **spin) -> str:
    """Return a row of a pulsar at a place in the region of every survey."""
    dec = -45.0 + 0.01 * number
    gl, gb = (float(v[0]) for v in galactic(np.array([ra]), np.array([dec])))
    p0, p1 = spin.get("p0", 0.5), spin.get("p1", 1e-15)
    return f'J{number:04d},{p0},{p1},{ra},{dec},{gl},{gb},"{assoc}",,,"{survey}"'


def table(tmp_path: Path, *rows: str, header: str = HEADER) -> Path:
    path = tmp_path / "atnf.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def record(name: str, *lines: str) -> str:
    lines = lines or ("RAJ 10:00:00", "DECJ -60:00:00", "P0 0.5", "P1 1e-15")
    return "\n".join([f"PSRJ     {name}", *lines, f"SURVEY   {EVERY}", "@-----", ""])


def doubts_of(path: Path) -> str:
    return " ".join(read_catalogue(path).attrs["doubts"])


def config_of(path: Path, **values) -> ObserveConfig:
    return ObserveConfig.parse({"source": str(path), "save_dir": str(path.parent), **values})


def test_a_good_catalogue_gives_rise_to_no_doubt(tmp_path: Path) -> None:
    assert doubts_of(table(tmp_path, *(row(k) for k in range(5)))) == ""


WHOLE_DB = "#CATALOGUE 9.1\n" + "".join(record(f"J{k}") for k in range(3))


@pytest.mark.parametrize("cut", [2, 12, 30, 60, 75])
def test_a_database_that_ends_inside_a_record_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "psrcat.db"
    path.write_text(WHOLE_DB[: WHOLE_DB.rindex("@") - cut])
    with pytest.raises(DataError, match="ends in line .* inside the record of J2"):
        read_catalogue(path)


def test_a_version_and_a_digest_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "psrcat.db"
    path.write_text(WHOLE_DB)
    attrs = read_catalogue(path).attrs
    assert (attrs["version"], attrs["sha256"]) == ("9.1", sha256_of(path))


@pytest.mark.parametrize("lost", ["@-----\n", "@-----\nPSRJ     J1\n"])
def test_records_that_run_together_are_refused(tmp_path: Path, lost: str) -> None:
    path = tmp_path / "psrcat.db"
    path.write_text(WHOLE_DB.replace(lost, "", 1))
    with pytest.raises(DataError, match="two records run together"):
        read_catalogue(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("RAJ 25:00:00", "RAJ must be below 24"),
        ("RAJ -10:00:00", "RAJ must be below 24"),
        ("RAJ 10:75:00", "RAJ must be below 24 and its minutes and seconds below 60"),
        ("DECJ -95:00:00", "DECJ must be below 90"),
        ("DECJ 10:00:99", "DECJ must be below 90"),
        ("DECJ 10:00:00:00", "DECJ must be below 90"),
    ],
)
def test_odd_places_are_refused(tmp_path: Path, line: str, message: str) -> None:
    place = {"RAJ": "RAJ 10:00:00", "DECJ": "DECJ -60:00:00"} | {line.split()[0]: line}
    path = tmp_path / "psrcat.db"
    path.write_text(record("J1") + record("J2", *place.values(), "P0 0.5"))
    with pytest.raises(DataError, match=f"J2: {message}"):
        read_catalogue(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",250.0,", ",370.0,", "RAJD of J0002 is 370, which must lie between 0 and 360"),
        (",250.0,", ",-1.0,", "RAJD of J0002 is -1"),
        (",-44.98,", ",-144.98,", "DECJD of J0002 is -144.98"),
        (",0.5,", ",-0.5,", "P0 of J0002 is -0.5"),
        (",0.5,", ",0,", "P0 of J0002 is 0"),
        (",1e-15,", ",2.1,", "P1 of J0002 is 2.1"),
    ],
)
def test_spins_and_places_out_of_range_are_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = table(tmp_path, row(1), row(2).replace(old, new), row(3))
    with pytest.raises(DataError, match=f"{message}.*so of 1 of 3 pulsars: J0002"):
        read_catalogue(path)


def test_periods_in_milliseconds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be given in seconds"):
        read_catalogue(table(tmp_path, *(row(k, p0=500.0) for k in range(3))))


@pytest.mark.parametrize("cut", [5, 15, 40])
def test_a_csv_that_is_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    path = table(tmp_path, *(row(k) for k in range(3)))
    path.write_text(path.read_text()[:-cut])
    with pytest.raises(DataError, match="may be cut off"):
        read_catalogue(path)


def test_a_file_without_a_last_line_end_is_doubted(tmp_path: Path) -> None:
    path = table(tmp_path, row(1, survey="pksmb"))
    path.write_text(path.read_text().replace('"pksmb"', "pksmb").rstrip("\n"))
    assert "does not end with a line end" in doubts_of(path)


def test_half_a_sky_is_doubted(tmp_path: Path) -> None:
    whole = [row(k, ra=k * 0.6) for k in range(600)]
    assert "right ascension" not in doubts_of(table(tmp_path, *whole))
    text = doubts_of(table(tmp_path, *whole[:510]))
    assert "None of 510 pulsars lies between 20.36 h and 0.00 h of right ascension" in text


def crowded(count: int = 900) -> list[str]:
    """Rows of a sky that is crowded at 17 h, as the real one, with a cluster."""
    rng = np.random.default_rng(2)
    places = np.concatenate([rng.uniform(0, 360, count // 3), rng.normal(255, 15, count // 2)])
    places = np.sort(np.append(places, np.full(count - len(places), 267.02)))
    return [row(k, ra=float(round(ra, 4))) for k, ra in enumerate(places)]


@pytest.mark.parametrize("where", [0.1, 0.4, 0.5, 0.97])
def test_a_missing_part_of_the_sky_is_doubted_wherever_it_was(
    tmp_path: Path, where: float
) -> None:
    rows = crowded()
    assert "right ascension" not in doubts_of(table(tmp_path, *rows))
    first = int(where * len(rows))
    lacking = [*rows[:first], *rows[first + 100 :]]
    assert "the file may be cut off, or lack a part" in doubts_of(table(tmp_path, *lacking))


WHOLE_SKY = 600


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (",0.5,1e-15,", ",2.0,1e-15,", "not frequencies"),
        (",0.5,1e-15,", ",0.5,-1e-15,", "not of the frequency"),
        (",pksmb,pkssw,htru_pks", ",pksmb", "more than one entry in SURVEY"),
    ],
)
def test_other_quantities_than_those_of_the_catalogue_are_doubted(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    rows = [row(k, ra=k * 0.6).replace('"', "") for k in range(WHOLE_SKY)]
    if old.startswith(",pks"):
        rows = [text.replace(old, new) for text in rows]
    else:
        rows = [row(k, ra=k * 0.6).replace(old, new) for k in range(WHOLE_SKY)]
    assert words in doubts_of(table(tmp_path, *rows))


@pytest.mark.parametrize("p1", [4e-8, 1.2e-10])
def test_period_derivatives_in_other_units_are_refused(tmp_path: Path, p1: float) -> None:
    with pytest.raises(DataError, match="P1 are above .* must be given in s/s"):
        read_catalogue(table(tmp_path, *(row(k, p1=p1) for k in range(3))))


@pytest.mark.parametrize(("name", "value"), [("P1", 0.0), ("P1", 1e-99), ("Gb", 99.0 - 9.5)])
def test_a_number_that_stands_for_an_absent_one_is_doubted(
    tmp_path: Path, name: str, value: float
) -> None:
    rng = np.random.default_rng(1)
    path = table(tmp_path, *(row(k, ra=k * 0.6) for k in range(WHOLE_SKY)))
    values = pd.read_csv(path)
    for column in ("P0", "P1"):
        values[column] *= 1.0 + rng.random(WHOLE_SKY)
    values.to_csv(path, index=False)
    assert "taken for measured" not in doubts_of(path)
    values.loc[::10, name] = value
    values.to_csv(path, index=False)
    assert f"{name} of 60 of 600 pulsars is {value:g}" in doubts_of(path)


@pytest.mark.parametrize(
    ("name", "words"), [("TYPE", "binaries"), ("ASSOC", "globular clusters"), ("DM", "dispersion")]
)
def test_a_whole_catalogue_with_an_empty_column_says_so(
    tmp_path: Path, name: str, words: str
) -> None:
    path = table(tmp_path, *(row(k, ra=k * 0.6) for k in range(WHOLE_SKY)))
    values = pd.read_csv(path).assign(TYPE="HE", BINARY="BT", ASSOC="SNR:x", DM=10.0)
    values[name] = np.nan
    values.to_csv(path, index=False)
    text = doubts_of(path)
    assert f"The file has no column {name}, or nothing in it" in text
    assert words in text


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["x" * 30 + ",pksm", "pksmb", "a,b"], "J0000"),
        (["mol1,htru_pks,mol2,pks70,pkshl,pksm", "misc,FermiBlind,htru_pks,mol2,pks70"], "J0001"),
        (["aaaaaaaaaa,bbbbbbbbbb,pk", "aaaaaaaaaa,cccccccccc,pk", "pksmb"], "J0000, J0001"),
        (["pks70,htru_p", "mol1,mol2,pk", "htru_pks", "pksmb"], "J0000, J0001"),
    ],
)
def test_texts_that_may_be_cut_off_are_named(tmp_path: Path, texts: list[str], names: str) -> None:
    path = table(tmp_path, *(row(k, survey=text) for k, text in enumerate(texts)))
    text = doubts_of(path)
    assert f"have a SURVEY of {len(texts[0])} characters" in text
    assert names in text
    assert "Use the full psrcat.db" in text


def test_associations_that_may_be_cut_off_are_named(tmp_path: Path) -> None:
    path = table(tmp_path, row(1, assoc="x" * 36 + ",GC:"), row(2))
    assert "have a ASSOC of 40 characters" in doubts_of(path)


@pytest.mark.parametrize(
    ("lacking", "step"),
    [
        (("TYPE", "BINARY"), "not in a binary (not checked)"),
        (("BINARY",), "not in a binary (as far as known without BINARY)"),
        (("TYPE",), "not in a binary (as far as known without TYPE)"),
    ],
)
def test_a_file_that_cannot_tell_binaries_says_so(
    tmp_path: Path, lacking: tuple[str, ...], step: str
) -> None:
    path = table(tmp_path, *(row(k) for k in range(3)))
    pd.read_csv(path).drop(columns=list(lacking)).to_csv(path, index=False)
    selection = observed_selection(config_of(path))
    assert selection.rows[1].step == step
    assert f"The file has no column {' and '.join(sorted(lacking))}" in selection.doubts[0]


def test_a_tag_that_matches_nothing_is_refused_with_those_that_are_there(tmp_path: Path) -> None:
    path = table(tmp_path, row(1, survey="pksmb,htru_pks"), row(2, survey="pksmb"))
    doubts = " ".join(observed_selection(config_of(path)).doubts)
    assert "regions.SMPS.token: no pulsar of" in doubts
    assert "'pkssw'" in doubts
    assert "pksmb (2)" in doubts
    many = [row(k, survey="pksmb,htru_pks", ra=0.6 * k) for k in range(600)]
    with pytest.raises(DataError, match=r"regions\.SMPS\.token: .*'pkssw'.*pksmb \(600\)"):
        observed_selection(config_of(table(tmp_path, *many)))


@pytest.mark.parametrize("fault", [{"p1": ""}, {"ra": 20.0}, {"p0": 0.001}])
def test_maps_that_are_empty_are_named(tmp_path: Path, fault: dict) -> None:
    path = table(tmp_path, *(row(k, **fault) for k in range(3)))
    doubts = " ".join(observed_selection(config_of(path)).doubts)
    assert "regions.PMPS: no pulsar with the tag 'pksmb'" in doubts
    assert "its maps are empty" in doubts


def test_two_places_of_one_pulsar_are_named(tmp_path: Path) -> None:
    path = table(tmp_path, row(1), row(2).replace("1e-15,250.0", "1e-15,255.0"))
    assert "Gl and Gb of 1 pulsars are not where their RAJD and DECJD are" in doubts_of(path)


def test_fluxes_of_unknown_pulsars_are_named(tmp_path: Path) -> None:
    path = table(tmp_path, row(1), row(2))
    tpa = tmp_path / "tpa.csv"
    tpa.write_text("PSRJ,ch6flux\nJ0001,1.0\nJ0002,2.0\nJ9999,1.0\n")
    regions = {name: survey.region.model_dump() for name, survey in MAP_SURVEYS.items()}
    regions["SMPS"]["b_abs_min"] = None
    config = config_of(path, fluxes="tpa", tpa_table=str(tpa), regions=regions)
    (doubt,) = observed_selection(config).doubts
    assert doubt.startswith("1 of 3 pulsars of the TPA table are not in the catalogue")


def test_pulsars_outside_of_the_maps_are_named(tmp_path: Path) -> None:
    path = table(tmp_path, row(1), row(2, p0=200.0), row(3, p1=1e-8))
    config = config_of(path)
    text = " ".join(outside_the_maps(observed_selection(config), config.generator))
    assert "2 of 3 pulsars of PMPS lie outside" in text
    assert "J0002, J0003" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"SQLite format 3\x00" + b"\x00" * 80, "is an SQLite database.*psrcat 2.*text form"),
        (b"\x1f\x8b\x08" + b"x" * 40, "is a gzip archive"),
        (b"PK\x03\x04" + b"x" * 40, "is a zip archive"),
        (b"PSRJ J1\x00\n", "is no text: it holds NUL bytes"),
    ],
)
@pytest.mark.parametrize("name", ["psrcat.db", "psrcat.csv"])
def test_other_kinds_of_files_are_called_by_their_name(
    tmp_path: Path, content: bytes, message: str, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    if name.endswith(".csv"):
        message = message.partition(".*")[0]
    with pytest.raises(DataError, match=message):
        read_catalogue(path)


def test_a_device_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "psrcat.db"
    path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match="is no regular file"):
        read_catalogue(path)


@pytest.mark.parametrize("day", ["2019-01-01", "2024-06-30"])
def test_an_old_copy_of_psrqpy_is_called_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, day: str
) -> None:
    import psrqpy.utils

    (tmp_path / "psrcat.db").write_text(WHOLE_DB)
    kept = tmp_path / psrqpy.utils.DEFAULTCACHENAME
    with tarfile.open(kept, "w:gz") as archive:
        archive.add(tmp_path / "psrcat.db", "psrcat_tar/psrcat.db")
    when = time.mktime(time.strptime(day + " 12", "%Y-%m-%d %H"))
    os.utime(kept, (when, when))
    for module in ("psrqpy.utils", "psrqpy.search"):
        monkeypatch.setattr(f"{module}.CACHEDIR", str(tmp_path))

    def away(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("requests.get", away)
    attrs = download_catalogue().attrs
    (doubt,) = (text for text in attrs["doubts"] if "psrqpy" in text)
    assert "could not be downloaded" in doubt
    assert f"the copy of {day}" in doubt
    assert "version 9.1" in doubt
    assert (attrs["version"], attrs["sha256"]) == ("9.1", sha256_of(kept))


@pytest.mark.parametrize("survey", ["pksmb pks70", "pksmb;pks70", "htru_pks|pksmb"])
def test_lists_without_commas_are_named(tmp_path: Path, survey: str) -> None:
    text = doubts_of(table(tmp_path, row(1), row(2, survey=survey)))
    assert "SURVEY of 1 pulsars has entries that commas do not separate" in text
    assert "J0002" in text


@pytest.mark.parametrize("name", ["B0001+01", "0001+0001", "PSR J0001+0001"])
def test_names_that_no_table_can_give_are_named(tmp_path: Path, name: str) -> None:
    text = doubts_of(table(tmp_path, row(1).replace("J0001", name), row(2)))
    assert "1 names in PSRJ do not begin with J" in text
    assert name in text


@pytest.mark.parametrize("name", ["J0101", "B0001"])
def test_a_pulsar_under_two_names_is_named(tmp_path: Path, name: str) -> None:
    assert f"twice under two names: J0001, {name}" in doubts_of(
        table(tmp_path, row(1), row(1).replace("J0001", name), row(2))
    )


def test_names_that_differ_in_the_case_of_their_j_are_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="j0001 is there more than once"):
        read_catalogue(table(tmp_path, row(1), row(1, p0=0.6).replace("J0001", "j0001")))


@pytest.mark.parametrize("sign", ["+", "/", ";", ":"])
def test_tags_that_no_comma_separates_are_named(tmp_path: Path, sign: str) -> None:
    text = doubts_of(table(tmp_path, row(1), row(2, survey=EVERY.replace(",", sign))))
    assert "SURVEY of 1 pulsars has entries that commas do not separate" in text


@pytest.mark.parametrize("tag", ["PKSMB", "Pksmb"])
def test_tags_in_other_letters_are_told(tmp_path: Path, tag: str) -> None:
    path = table(tmp_path, row(1), row(2), row(3, survey=tag))
    (text,) = (d for d in observed_selection(config_of(path)).doubts if tag in d)
    assert f"regions.PMPS.token: 1 pulsars have the tag {tag}, which is not 'pksmb'" in text


@pytest.mark.parametrize("text", ["0_5", "٠.5", "0,5", "1e-0_1", "0x1"])
@pytest.mark.parametrize("column", ["P0", "S1400"])
def test_what_is_no_number_for_others_is_none_here(tmp_path: Path, text: str, column: str) -> None:
    header = f"{HEADER},S1400"
    good = row(1) + ",1.0"
    cells = good.replace(",0.5,", f',"{text}",', 1) if column == "P0" else f'{row(1)},"{text}"'
    with pytest.raises(DataError, match=f"J0001: {column} must be a finite number"):
        read_catalogue(table(tmp_path, cells, header=header))


@pytest.mark.parametrize("place", ["10.5", "nan:00", "10.5:30", "1_0:00", "inf"])
def test_an_ambiguous_place_is_refused(tmp_path: Path, place: str) -> None:
    path = tmp_path / "psrcat.db"
    path.write_text(
        "#CATALOGUE 9.1\n" + record("J1", f"RAJ {place}", "DECJ -60:00:00", "P0 0.5", "P1 1e-15")
    )
    with pytest.raises(DataError, match="J1: RAJ must be"):
        read_catalogue(path)


@pytest.mark.parametrize("separator", ["\t", "|", ";"])
@pytest.mark.parametrize("ending", ["csv", "tsv", "txt"])
def test_other_signs_separate_as_commas_do(tmp_path: Path, separator: str, ending: str) -> None:
    rows = [line.replace(f'"{EVERY}"', "pksmb").replace('""', "") for line in (row(1), row(2))]
    path = tmp_path / f"atnf.{ending}"
    path.write_text("\n".join([HEADER, *rows]).replace(",", separator) + "\n")
    assert len(read_catalogue(path)) == 2
