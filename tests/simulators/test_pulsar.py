"""The pulsar simulator as a plug-in: labels, maps, determinism, failures."""

import json
import pickle
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.config.blocks.generator import FLUX_KIND, POPULATION_CHANNELS, SURVEY_CHANNELS
from mlpop.config.blocks.population import PopulationConfig
from mlpop.errors import ConfigError, SimulationFailed
from mlpop.population.stars.database import StellarDatabase
from mlpop.simulators import REGISTERED, Simulation, Simulator, load
from mlpop.simulators.pulsar import PulsarSimulator

LABELS = ("B_initial_log10_mean", "P_initial_log10_mean", "a_late")
THETA = (13.09, -0.67, -0.88)
N_STARS = 20_000
RATE = N_STARS * 100 / 3e7
DYNAMICS = {"NS_number": N_STARS, "seed": 3}
SMALL_TARGETS = {
    "PMPS": {"detected_real": 10},
    "SMPS": {"detected_real": 2},
    "HTRU_low_mid": {"detected_real": 12},
}
POPULATION = {"birth_rate_max": RATE, "surveys_radio": SMALL_TARGETS}


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stars") / "database"
    StellarDatabase.build(DynamicsConfig.parse(DYNAMICS), folder)
    return folder


@pytest.fixture(scope="module")
def simulator(database):
    return PulsarSimulator(LABELS, POPULATION, database)


def seed(number=1):
    return np.random.SeedSequence(7, spawn_key=(number,))


def assert_same(first, second):
    assert list(first.x) == list(second.x)
    for name, values in first.x.items():
        np.testing.assert_array_equal(values, second.x[name])
    assert first.info == second.info


def test_is_a_simulator(simulator):
    assert isinstance(simulator, Simulator)
    assert simulator.labels == LABELS
    assert simulator.channels == SURVEY_CHANNELS


def test_a_survey_of_one_s_own_is_a_channel_too(database, tmp_path):
    own = {"name": "mine", "reference": "none", "G0": 0.7, "t_obs": 1000.0, "t_samp": 100.0}
    own |= {"T_sys": 25.0, "f_central": 1400.0, "BW": 300.0, "channel_width": 1.0, "FWHM": 14.0}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**own, "SNR_th": 9.0}), encoding="utf-8")
    maps = {"PMPS": "survey_PMPS_results", "mine": "survey_mine_results"}
    simulator = PulsarSimulator(
        LABELS,
        {**POPULATION, "surveys": [str(path)]},
        database,
        generator={"surveys": maps},
    )
    path.unlink()
    assert len(simulator.channels) == 10
    assert simulator.channels[:2] == (
        "survey_PMPS_position_map_radec",
        "survey_mine_position_map_radec",
    )
    found = simulator(np.array(THETA), seed())
    assert tuple(found.x) == simulator.channels
    assert found.info["n_detected"]["mine"] > 10
    counts = found.x["survey_mine_position_map_radec"].sum()
    assert counts == pytest.approx(found.info["n_detected"]["mine"])
    with pytest.raises(ConfigError, match="mine is made from the catalogue mine, which is not"):
        PulsarSimulator(LABELS, POPULATION, database, generator={"surveys": maps})


def test_maps_and_info(simulator):
    found = simulator(np.array(THETA), seed())
    assert isinstance(found, Simulation)
    assert tuple(found.x) == simulator.channels
    assert {x.shape for name, x in found.x.items() if "ppdot" in name} == {(32, 32)}
    assert {x.shape for name, x in found.x.items() if "ppdot" not in name} == {(32, 16)}
    info = found.info
    assert info["status"] == "matched"
    assert not info["birth_rate_excess"]
    for survey, group in (("PMPS", "PMPS"), ("SMPS", "SMPS"), ("HTRU", "HTRU_low_mid")):
        counts = found.x[f"survey_{survey}_position_map_radec"].sum()
        assert counts == pytest.approx(info["n_detected"][group])
        assert info["n_detected_at_match"][group] == SMALL_TARGETS[group]["detected_real"]
    assert json.loads(json.dumps(info)) == info


def test_details_are_the_pulsars_and_change_no_bit(simulator):
    usual, detailed = simulator(THETA, seed()), simulator.in_detail(THETA, seed())
    assert_same(usual, detailed)
    assert usual.details == {}
    for survey, group in (("PMPS", "PMPS"), ("SMPS", "SMPS"), ("HTRU", "HTRU_low_mid")):
        table = detailed.details[f"pulsars_{survey}"]
        stars = table[table[:, 0] > 0]
        assert len(stars) == usual.info["n_detected"][group]
        assert (stars[:, [1, 4, 5]] > 0).all()
        plane = np.histogram2d(
            np.log10(stars[:, 0]), np.log10(stars[:, 1]), 32, ((-3, 2), (-21, -9))
        )[0]
        # smoothing keeps the number
        assert usual.x[f"survey_{survey}_ppdot_map"].sum() == pytest.approx(plane.sum())


def test_the_same_bits_for_the_same_seed_in_any_process(simulator):
    first = simulator(THETA, seed())
    assert_same(first, simulator(THETA, seed()))
    data = pickle.dumps(simulator)
    assert len(data) < 20_000
    assert_same(first, pickle.loads(data)(list(THETA), seed()))
    other = simulator(THETA, seed(2))
    assert other.info["n_created"] != first.info["n_created"]


def test_theta_matters(simulator):
    weak, strong = (simulator((mean, -0.67, -0.88), seed()) for mean in (12.5, 13.6))
    name = "survey_HTRU_ppdot_map"
    mean_bin = [(x := s.x[name]) @ np.arange(32) @ np.ones(32) / x.sum() for s in (weak, strong)]
    assert mean_bin[1] > mean_bin[0] + 1


def test_limit_is_a_simulation_that_says_so(database):
    targets = {**SMALL_TARGETS, "PMPS": {"detected_real": 10**6}}
    limited = PulsarSimulator(LABELS, {**POPULATION, "surveys_radio": targets}, database)
    info = limited(THETA, seed()).info
    assert info["status"] == "limit"
    assert info["birth_rate_excess"]
    assert info["n_created"] == N_STARS
    assert info["birth_rate_at_match"]["PMPS"] is None
    assert info["birth_rate_at_match"]["SMPS"] < RATE
    assert set(info["dropped"]) == {"PMPS", "SMPS", "HTRU"}
    assert all(counts["not_finite"] == 0 for counts in info["dropped"].values())


def test_exhaustion_fails_the_simulation(database):
    reference = {**POPULATION, "batch_rule": "reference"}
    with pytest.raises(SimulationFailed, match="20000 stars of the database were used up"):
        PulsarSimulator(LABELS, reference, database)(THETA, seed())


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        ((13.0, np.nan, -1.0), "must be finite, found P_initial_log10_mean = nan"),
        ((13.0, -1.0, -np.inf), "must be finite, found a_late = -inf"),
        ((13.0, -1.0), r"must have shape \(3,\)"),
        ((13.0, -1.0, 0.3), "a_late: must be less than 0"),
        ((99.0, -1.0, -1.0), "B_initial_log10_mean: must be at most 25"),
    ],
)
def test_impossible_theta_fails_with_a_reason(simulator, theta, message):
    with pytest.raises(SimulationFailed, match=message):
        simulator(theta, seed())


@pytest.mark.parametrize("theta", [(0.0, 10.0, -100.0), (25.0, -10.0, -1e-6), (17.0, -3.0, -0.5)])
def test_extreme_theta_gives_maps(simulator, theta):
    found = simulator(theta, seed())
    assert all(np.isfinite(values).all() for values in found.x.values())
    if theta[0] == 0.0:
        assert found.info["status"] == "limit"
        assert found.x["survey_PMPS_ppdot_map"].sum() < 10


def test_full_mode_maps_every_star(database):
    full = PulsarSimulator(LABELS, POPULATION, database, run_mode="full")
    assert full.channels == (*POPULATION_CHANNELS, FLUX_KIND)
    found = full(THETA, seed())
    assert tuple(found.x) == full.channels
    assert found.info["n_created"] == N_STARS
    assert found.x["position_map_radec"].sum() == pytest.approx(N_STARS)
    assert all(np.isfinite(values).all() for values in found.x.values())
    assert_same(found, pickle.loads(pickle.dumps(full))(THETA, seed()))


def test_labels_of_the_dynamics_make_their_own_stars():
    dynamics = {"NS_number": 3000}
    labels = ["h_c", "a_late", "sigma_k"]
    population = {**POPULATION, "birth_rate_max": 0.01}
    moving = PulsarSimulator(labels, population, dynamics=dynamics)
    assert moving.prepare() is None
    first, again = (moving((0.05, -0.9, 30.0), seed()) for _ in range(2))
    assert_same(first, again)
    whole = PulsarSimulator(labels, population, dynamics=dynamics, run_mode="full")
    thin, thick = (whole((h_c, -0.9, 30.0), seed()).x["position_map_xz"] for h_c in (0.05, 2.5))
    # The four middle columns of 32 are |z| < 2.5 kpc, before smoothing.
    assert thin[:, 14:18].sum() > 0.9 * thin.sum()
    assert thick[:, 14:18].sum() < 0.8 * thick.sum()
    with pytest.raises(SimulationFailed, match="h_c: must be greater than 0"):
        moving((-1.0, -0.9, 30.0), seed())


def test_stars_of_a_configuration_come_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPOP_CACHE_DIR", str(tmp_path))
    population = {**POPULATION, "birth_rate_max": 0.01}
    one = PulsarSimulator(LABELS, population, dynamics={"NS_number": 3000})
    assert not list(tmp_path.iterdir())
    built = one.prepare()
    assert built is not None
    assert len(built) == 3000
    named = PulsarSimulator(LABELS, population, database=built.folder)
    assert_same(one(THETA, seed()), named(THETA, seed()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": []}, "labels: must be different names.*none"),
        ({"labels": ["a_late", "a_late"]}, "'a_late' twice"),
        ({"labels": ["a_lat"]}, "labels: must be one of.*did you mean 'a_late'"),
        ({"labels": ["P_initial_mean"]}, "belongs to spin_period_model normal"),
        ({"labels": ["h_c"]}, "'h_c' changes the stars: give `dynamics`"),
        ({"population": {"a_late": 1}}, "population: a_late: must be less than 0"),
        ({"population": {"birth_rate_max": 1.0}}, r"needs 300000 stars.*has 20000.*to 0.0666"),
        ({"run_mode": "dyn"}, "run_mode: must be magrot_det or full"),
        ({"dynamics": DYNAMICS}, "give one of `database` and `dynamics`"),
        ({"database": None}, "give one of `database` and `dynamics`"),
        ({"database": "/nowhere"}, "simulator.args.database: /nowhere"),
        ({"database": None, "dynamics": {"NS_number": 10}}, "NS_number.*needs 20000 stars"),
        ({"generator": {"resolution_dyn": 3}}, "generator: resolution_dyn"),
        (
            {"population": {**POPULATION, "surveys_radio": {"PMPS": {"detected_real": 3}}}},
            "SMPS is made from the catalogue SMPS, which is not in",
        ),
        (
            {"population": {**POPULATION, "surveys_radio": {"PMSP": {"detected_real": 3}}}},
            "no catalogue named PMSP",
        ),
        (
            {
                "population": {**POPULATION, "detected_meerkat_SMPS": 3},
                "generator": {"flux_subsample": {"SMPS": 4}},
            },
            "detected_meerkat_SMPS is 3, but generator.flux_subsample.SMPS is 4",
        ),
    ],
)
def test_what_is_refused(database, arguments, message):
    given = {"labels": LABELS, "population": POPULATION, "database": database} | arguments
    with pytest.raises(ConfigError, match=message):
        load("pulsar", given)


@pytest.mark.parametrize(
    ("label", "kick_model", "allowed"),
    [("vk_c", "km_maxwell", "sigma_k"), ("sigma_k", "km_exp", "vk_c")],
)
def test_kick_labels_belong_to_their_model_7_1(label, kick_model, allowed):
    dynamics = {**DYNAMICS, "kick_model": kick_model}
    with pytest.raises(ConfigError, match=f"'{label}' has no effect.*allowed: h_c, {allowed}"):
        PulsarSimulator([label], POPULATION, dynamics=dynamics)
    PulsarSimulator([allowed], POPULATION, dynamics=dynamics)


def test_one_survey_makes_five_maps(database):
    population = {**POPULATION, "surveys_radio": {"SMPS": {"detected_real": 2}}}
    generator = {"surveys": {"SMPS": "survey_SMPS_results"}}
    one = PulsarSimulator(LABELS, population, database, generator=generator)
    assert len(one.channels) == 5
    assert tuple(one(THETA, seed()).x) == one.channels


def test_census_numbers_of_the_population_reach_the_flux_maps(database):
    one = PulsarSimulator(LABELS, {**POPULATION, "detected_meerkat_PMPS": 1}, database)
    assert one.generator.flux_subsample == {"PMPS": 1, "SMPS": 170, "HTRU": 668}
    found = one(THETA, seed()).x["survey_PMPS_ppdot_map_fluxes"]
    # One star lifts the map by (log S + 7) in all, whatever the smoothing.
    assert 0 < (found + 7).sum() < 7


def test_validated_blocks_are_accepted(database):
    population = PopulationConfig.parse(POPULATION)
    one = PulsarSimulator(LABELS, population, database)
    two = PulsarSimulator(LABELS, POPULATION, str(database))
    assert_same(one(THETA, seed()), two(THETA, seed()))


def test_registered_simulators_load():
    assert set(REGISTERED) == {"pulsar", "gaussian_linear", "two_moons"}
    assert isinstance(load("two_moons"), Simulator)
    assert isinstance(load("mlpop.simulators.two_moons:TwoMoons"), Simulator)
    assert load("gaussian_linear", {"dimension": 3}).labels == ("theta_1", "theta_2", "theta_3")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pulsars", "simulator.type: unknown simulator 'pulsars'; .*did you mean 'pulsar'"),
        ("no.such.module:Class", "'no.such.module:Class' cannot be imported: No module named"),
        ("mlpop.errors:Missing", "'mlpop.errors' has no attribute 'Missing'"),
        ("mlpop.errors:MlpopError", "labels must be a tuple"),
        ("two_moons:", "cannot be imported"),
        ("mlpop.simulators.base:REGISTERED", "is not a class"),
    ],
)
def test_what_cannot_be_loaded(kind, message):
    with pytest.raises(ConfigError, match=message):
        load(kind)


def test_wrong_arguments_are_refused():
    with pytest.raises(ConfigError, match="simulator.args: 'two_moons' refuses them"):
        load("two_moons", {"dimension": 3})


def test_simulator_of_an_installed_package_has_a_name(monkeypatch):
    point = EntryPoint("moons", "mlpop.simulators.two_moons:TwoMoons", "mlpop.simulators")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: (point,))
    assert type(load("moons")) is type(load("two_moons"))
    with pytest.raises(ConfigError, match="allowed: gaussian_linear, moons, pulsar, two_moons"):
        load("sun")
