"""The stellar database: what it holds, how it is built, shared, exported, imported and refused."""

import gzip
import json
import multiprocessing
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.errors import DataError
from mlpop.population.galaxy.coordinates import to_cartesian, to_sky
from mlpop.population.galaxy.dispersion import dispersion_measures
from mlpop.population.galaxy.sky import t_sky_408
from mlpop.population.stars import build as stars_build
from mlpop.population.stars import csv_file as stars_csv
from mlpop.population.stars.build import DYNAMIC_COLUMNS, UNITS
from mlpop.population.stars.database import StellarDatabase, find_or_build
from mlpop.population.surveys import survey
from mlpop.population.surveys.survey import surveys

N = 3000


def config_of(**changes):
    return DynamicsConfig.parse({"NS_number": N, "seed": 11, **changes})


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return StellarDatabase.build(config_of(), tmp_path_factory.mktemp("stars") / "db")


@pytest.fixture(scope="module")
def exported(database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    database.export_csv(folder / "final_pop_dyn.csv")
    return folder


@pytest.fixture
def csv_folder(exported, tmp_path):
    for name in ("final_pop_dyn.csv", "configuration.json"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    return tmp_path


def test_columns_and_header(database):
    assert len(database) == N
    assert set(database.columns) == set(UNITS)
    for column in database.columns.values():
        assert column.shape == (N,)
        assert column.dtype == np.float32
        assert np.isfinite(column).all()
        assert not column.flags.writeable
    assert database.t_age_max == 3e7
    assert database.header["config"]["h_c"] == 0.18
    assert database.header["orbits"]["energy_error"]["p99"] < 1e-6
    assert database.header["orbits"]["momentum_error"]["p99"] < 1e-11


def test_derived_columns_follow_from_the_dynamic_ones(database):
    c = {name: column.astype(np.float64) for name, column in database.columns.items()}
    x, y, v_x, v_y = to_cartesian(c["r"], c["phi"], c["v_r"], c["v_phi"])
    sky = to_sky(x, y, c["z"], v_x, v_y, c["v_z"])
    for name in ("l", "b", "d", "ra", "dec", "pm_ra", "pm_dec", "v_ls"):
        np.testing.assert_allclose(c[name], getattr(sky, name), rtol=2e-7, atol=1e-5)
    np.testing.assert_allclose(c["T_sky408"], t_sky_408(c["l"], c["b"]), rtol=1e-6)
    np.testing.assert_allclose(c["DM"], dispersion_measures(c["l"], c["b"], c["d"]), rtol=1e-6)


def test_population_looks_like_the_galaxy():
    stars = StellarDatabase.generate(config_of(NS_number=20_000))
    columns = stars.columns
    assert stats.kstest(columns["age"], stats.uniform(0, 3e7).cdf).pvalue > 1e-3
    young = columns["age"] < 2e5
    assert young.sum() > 80
    # The youngest stars have not moved yet: still near the plane and rotating clockwise.
    assert np.median(np.abs(columns["z"][young])) == pytest.approx(0.18 * np.log(2), rel=0.35)
    assert np.median(columns["v_phi"]) == pytest.approx(-200, abs=40)
    # Specification 7.4: 82 % of stars born on arms lie in the four Parkes surveys' areas.
    parkes = tuple(s for key, s in surveys().items() if key.startswith(("PMPS", "SMPS", "HTRU")))
    assert (stars.coverage(parkes) > 0).mean() == pytest.approx(0.82, abs=0.015)
    edm = StellarDatabase.generate(config_of(NS_number=20_000, sample_edm=True))
    assert (edm.coverage(parkes) > 0).mean() == pytest.approx(0.84, abs=0.015)


def test_build_and_generate_give_the_same_bits(database):
    in_memory = StellarDatabase.generate(config_of())
    assert in_memory.digest == database.digest
    assert in_memory.folder is None
    for name in UNITS:
        np.testing.assert_array_equal(in_memory.columns[name], database.columns[name])


def test_seed_changes_the_stars(database):
    other = StellarDatabase.generate(config_of(seed=12, NS_number=100))
    assert not np.array_equal(other.columns["age"], database.columns["age"][:100])


def test_fewer_stars_are_the_first_ones(database):
    few = StellarDatabase.generate(config_of(NS_number=500))
    for name in UNITS:
        np.testing.assert_array_equal(few.columns[name], database.columns[name][:500])


@pytest.mark.parametrize("kick_model", ["km_maxwell", "km_double_maxwell", "km_log-normal"])
def test_size_of_pieces_does_not_matter(monkeypatch, kick_model):
    config = config_of(NS_number=1000, kick_model=kick_model)
    whole = StellarDatabase.generate(config)
    monkeypatch.setattr(stars_build, "CHUNK", 129)
    assert StellarDatabase.generate(config).digest == whole.digest


def test_number_of_threads_does_not_matter(database):
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        assert StellarDatabase.generate(config_of()).digest == database.digest
    finally:
        numba.set_num_threads(before)


def test_height_override_moves_only_heights():
    config = config_of(NS_number=1000)
    thick = StellarDatabase.generate(config.with_override({"h_c": 0.4}))
    thin = StellarDatabase.generate(config)
    np.testing.assert_array_equal(thick.columns["age"], thin.columns["age"])
    assert np.abs(thick.columns["z"]).mean() > np.abs(thin.columns["z"]).mean()


def test_solar_position_is_used():
    moved = StellarDatabase.generate(config_of(NS_number=100, R_sun=8.0))
    usual = StellarDatabase.generate(config_of(NS_number=100))
    np.testing.assert_array_equal(moved.columns["r"], usual.columns["r"])
    assert not np.array_equal(moved.columns["d"], usual.columns["d"])


def test_opening_is_fast(database):
    StellarDatabase.open(database.folder)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        StellarDatabase.open(database.folder)
        times.append(time.perf_counter() - start)
    assert min(times) < 5e-3


def test_pickle_carries_the_folder_not_the_stars(database):
    text = pickle.dumps(database)
    assert len(text) < 1000
    again = pickle.loads(text)
    assert again.digest == database.digest
    np.testing.assert_array_equal(again.columns["DM"], database.columns["DM"])


def test_pickle_of_stars_in_memory():
    made = StellarDatabase.generate(config_of(NS_number=10))
    again = pickle.loads(pickle.dumps(made))
    assert again.digest == made.digest
    np.testing.assert_array_equal(again.columns["r"], made.columns["r"])


def test_progress_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(stars_build, "CHUNK", 40)
    told = []
    StellarDatabase.build(
        config_of(NS_number=100), tmp_path / "db", lambda done, of: told.append((done, of))
    )
    assert told == [(40, 100), (80, 100), (100, 100)]


def test_failed_build_leaves_nothing(tmp_path):
    def stop(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        StellarDatabase.build(config_of(NS_number=100), tmp_path / "db", stop)
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_not_overwritten(database):
    with pytest.raises(DataError, match="exists already"):
        StellarDatabase.build(config_of(NS_number=10), database.folder)


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/db: cannot be written"):
        StellarDatabase.build(config_of(NS_number=10), tmp_path / "file" / "db")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "header.json").unlink(), "no stellar database: header.json is missing"),
        (lambda f: (f / "header.json").write_text("{"), "header.json: cannot be read"),
        (lambda f: (f / "header.json").write_text("[]"), "not the header of a stellar database"),
        (lambda f: (f / "DM.npy").unlink(), r"DM\.npy: column is missing"),
        (
            lambda f: (f / "DM.npy").write_bytes((f / "DM.npy").read_bytes()[:-4]),
            r"DM\.npy: \d+ bytes, but 50 stars take 328: the file is damaged",
        ),
    ],
)
def test_damaged_database_is_refused(tmp_path, harm, message):
    folder = tmp_path / "db"
    StellarDatabase.build(config_of(NS_number=50), folder)
    harm(folder)
    with pytest.raises(DataError, match=message):
        StellarDatabase.open(folder)


def test_database_of_another_time_is_refused(tmp_path):
    folder = tmp_path / "db"
    StellarDatabase.build(config_of(NS_number=50), folder)
    header = json.loads((folder / "header.json").read_text())
    (folder / "header.json").write_text(json.dumps({**header, "schema": 0}))
    with pytest.raises(DataError, match="schema 0, but this version of mlpop reads schema 1"):
        StellarDatabase.open(folder)


def test_a_new_survey_leaves_cached_databases_as_they_are(tmp_path, monkeypatch):
    config = config_of(NS_number=50)
    before = find_or_build(config, tmp_path)
    known = tuple(surveys().values())
    folder = tmp_path / "surveys"
    folder.mkdir()
    for path in survey.FOLDER.glob("*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    for place in range(10):
        (folder / f"A{place}.json").write_bytes((folder / "SMPS.json").read_bytes())
    monkeypatch.setattr(survey, "FOLDER", folder)
    survey.shipped.cache_clear()
    survey.surveys.cache_clear()
    try:
        after = find_or_build(config, tmp_path)
        assert (after.folder, after.digest) == (before.folder, before.digest)
        np.testing.assert_array_equal(after.coverage(known), before.coverage(known))
        every = after.coverage(tuple(surveys().values()))
        smps = after.coverage((surveys()["SMPS"],))
        np.testing.assert_array_equal(every & 1, smps)
        assert every.dtype == np.uint32
    finally:
        monkeypatch.undo()
        survey.shipped.cache_clear()
        survey.surveys.cache_clear()


def test_unknown_column_is_a_key_error(database):
    with pytest.raises(KeyError, match="dm"):
        database.columns["dm"]


class TestCache:
    def test_second_time_is_found(self, tmp_path):
        told = []
        config = config_of(NS_number=50)
        first = find_or_build(config, tmp_path, lambda *numbers: told.append(numbers))
        second = find_or_build(config, tmp_path, lambda *numbers: told.append(numbers))
        assert told == [(50, 50)]
        assert first.folder == second.folder
        assert first.header["content_key"] == config.content_key()
        other = find_or_build(config_of(NS_number=51), tmp_path)
        assert other.folder != first.folder

    def test_place_comes_from_the_environment(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MLPOP_CACHE_DIR", str(tmp_path / "here"))
        assert find_or_build(config_of(NS_number=5)).folder.parent == tmp_path / "here" / "stars"

    def test_damaged_entry_is_built_again(self, tmp_path, caplog):
        config = config_of(NS_number=50)
        folder = find_or_build(config, tmp_path).folder
        (folder / "DM.npy").unlink()
        (folder.parent / f".{folder.name}.partial-killed").mkdir()
        again = find_or_build(config, tmp_path)
        assert again.columns["DM"].shape == (50,)
        assert "built again" in caplog.text
        assert not list(folder.parent.glob(".*"))

    def test_only_one_of_many_builds(self, tmp_path):
        told = []

        def ask(_):
            return find_or_build(
                config_of(NS_number=60), tmp_path, lambda *numbers: told.append(numbers)
            )

        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(ask, range(4)))
        assert told == [(60, 60)]
        assert len({database.digest for database in found}) == 1

    def test_processes_share_one_build(self, tmp_path):
        config = config_of(NS_number=60)
        context = multiprocessing.get_context("spawn")
        with context.Pool(2) as pool:
            found = pool.starmap(find_or_build, [(config, tmp_path)] * 2)
        assert found[0].digest == found[1].digest == StellarDatabase.generate(config).digest
        assert len(list((tmp_path / "stars").glob("*/header.json"))) == 1

    def test_cache_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match="cannot be written"):
            find_or_build(config_of(NS_number=5), tmp_path / "file")


class TestCsv:
    def test_round_trip_gives_every_bit_back(self, database, exported, tmp_path):
        again = StellarDatabase.import_csv(exported / "final_pop_dyn.csv", None, tmp_path / "db")
        assert again.digest == database.digest
        for name in UNITS:
            np.testing.assert_array_equal(again.columns[name], database.columns[name])
        assert again.header["config"]["kick_model"] == "km_maxwell"
        assert again.header["content_key"] is None

    def test_documented_layout(self, exported):
        lines = (exported / "final_pop_dyn.csv").read_text().splitlines()
        assert lines[0] == ",age,r,phi,z,v_r,v_phi,v_z"
        assert lines[1] == ",yr,kpc,rad,kpc,km/s,km/s,km/s"
        assert len(lines) == N + 2
        frame = pd.read_csv(exported / "final_pop_dyn.csv", header=[0, 1], index_col=0)
        assert list(frame.columns.get_level_values(0)) == list(DYNAMIC_COLUMNS)
        assert frame.index.tolist() == list(range(N))
        settings = json.loads((exported / "configuration.json").read_text())
        needed = {"NS_number", "t_age_max", "kick_model", "sigma_k", "h_c", "seed_dyn"}
        assert needed <= set(settings)

    def test_pieces_do_not_matter(self, exported, database, tmp_path, monkeypatch):
        monkeypatch.setattr(stars_csv, "_BLOCK", 20_000)
        again = StellarDatabase.import_csv(exported / "final_pop_dyn.csv", None, tmp_path / "db")
        assert again.digest == database.digest

    def test_settings_of_the_reference_are_read(self, csv_folder):
        # All keys are there, even those of models that are not used, and numbers are floats.
        settings = {
            "NS_number": float(N),
            "t_age_max": 30000000,
            "kick_model": "km_exp",
            "vk_c": 170.0,
            "sigma_k": 200.0,
            "h_c": 0.2,
            "seed_dyn": None,
            "k_coefficients": [1, 1, 1],
            "surveys_radio": {"PMPS": {}},
        }
        path = csv_folder / "other.json"
        path.write_text(json.dumps(settings))
        made = StellarDatabase.import_csv(
            csv_folder / "final_pop_dyn.csv", path, csv_folder / "db"
        )
        assert made.header["config"]["vk_c"] == 170.0
        assert made.header["config"]["h_c"] == 0.2
        assert "sigma_k" not in made.header["config"]

    def test_columns_may_be_in_another_order(self, csv_folder, database):
        path = csv_folder / "final_pop_dyn.csv"
        rows = [line.split(",") for line in path.read_text().splitlines()]
        shuffled = [[row[0], *row[:0:-1], "7"] for row in rows]
        shuffled[0][-1], shuffled[1][-1] = "extra", "G"
        path.write_text("\n".join(",".join(row) for row in shuffled) + "\n")
        made = StellarDatabase.import_csv(path, None, csv_folder / "db")
        assert made.digest == database.digest

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (("v_phi", "vphi"), "columns are missing: v_phi; found: age, r, phi, z, v_r, vphi"),
            (("km/s", "kpc/yr"), "line 2: column 'v_r' must be in km/s, found 'kpc/yr'"),
            (("rad", "deg"), "line 2: column 'phi' must be in rad, found 'deg'"),
            (("v_r,v_phi", "v_r,v_r,v_phi"), "columns appear twice: v_r"),
        ],
    )
    def test_wrong_header_is_refused(self, csv_folder, change, message):
        self.refused(csv_folder, lambda text: text.replace(*change, 1), message)

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ("5,1e6,8,1,0,nan,1,1", "line 8: v_r must be finite, found nan"),
            ("5,1e6,8,1,0,inf,1,1", "line 8: v_r must be finite, found inf"),
            ("5,1e6,8,1", "Expected 8 columns, got 4"),
            ("5,1e6,-8,1,0,1,1,1", "line 8: r must be finite and not negative, found -8"),
            ("5,4e7,8,1,0,1,1,1", r"line 8: age must be in \(0, 3e\+07\] yr, found 4e\+07"),
            ("5,1e6,8,one,0,1,1,1", r"final_pop_dyn\.csv: cannot be read: .*'one'"),
            ("5,1e6,8,1,0,1,1,1,9,9", r"final_pop_dyn\.csv: cannot be read: .*Expected 8 columns"),
        ],
    )
    def test_wrong_row_is_refused(self, csv_folder, row, message):
        def change(text):
            lines = text.splitlines()
            lines[7] = row
            return "\n".join(lines) + "\n"

        self.refused(csv_folder, change, message)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda text: text[:-3], "the last line has no end: the file is truncated"),
            (
                lambda text: "\n".join(text.splitlines()[:-10]) + "\n",
                f"{N - 10} stars, but NS_number in its configuration is {N}",
            ),
            (lambda text: text + text.splitlines()[-1] + "\n", f"{N + 1} stars, but NS_number"),
            (lambda text: "", "columns are missing"),
        ],
    )
    def test_truncated_file_is_refused(self, csv_folder, change, message):
        self.refused(csv_folder, change, message)

    @pytest.mark.parametrize(
        ("encoding", "message"),
        [("utf-16", r"csv: is text in UTF-16; save it as UTF-8"), ("gzip", "csv: is a gzip")],
    )
    def test_file_of_another_kind_is_named(self, csv_folder, encoding, message):
        path = csv_folder / "final_pop_dyn.csv"
        text = path.read_text()
        path.write_bytes(
            gzip.compress(text.encode()) if encoding == "gzip" else text.encode(encoding)
        )
        with pytest.raises(DataError, match=message):
            StellarDatabase.import_csv(path, None, csv_folder / "db")

    def refused(self, folder, change, message):
        path = folder / "final_pop_dyn.csv"
        path.write_text(change(path.read_text()))
        with pytest.raises(DataError, match=message):
            StellarDatabase.import_csv(path, None, folder / "db")
        left = {entry.name for entry in folder.iterdir()}
        assert left == {"final_pop_dyn.csv", "configuration.json"}

    @pytest.mark.parametrize(
        ("remove", "change", "message"),
        [
            (["h_c", "sigma_k"], {}, "settings are missing: h_c, sigma_k"),
            (["kick_model"], {}, "settings are missing: kick_model"),
            ([], {"kick_model": "km_x"}, "kick_model: "),
            ([], {"h_c": -1.0}, "h_c: .*greater than 0"),
        ],
    )
    def test_wrong_settings_are_refused(self, csv_folder, remove, change, message):
        path = csv_folder / "configuration.json"
        settings = json.loads(path.read_text())
        kept = {key: value for key, value in settings.items() if key not in remove}
        path.write_text(json.dumps({**kept, **change}))
        with pytest.raises(DataError, match=message):
            StellarDatabase.import_csv(csv_folder / "final_pop_dyn.csv", None, csv_folder / "db")

    def test_missing_files(self, csv_folder):
        (csv_folder / "final_pop_dyn.csv").unlink()
        with pytest.raises(DataError, match=r"final_pop_dyn\.csv: cannot be read"):
            StellarDatabase.import_csv(csv_folder / "final_pop_dyn.csv", None, csv_folder / "db")
        (csv_folder / "configuration.json").unlink()
        with pytest.raises(DataError, match=r"configuration\.json: no such file"):
            StellarDatabase.import_csv(csv_folder / "final_pop_dyn.csv", None, csv_folder / "db")

    def test_export_does_not_overwrite(self, database, csv_folder):
        with pytest.raises(DataError, match="exists already"):
            database.export_csv(csv_folder / "final_pop_dyn.csv")
