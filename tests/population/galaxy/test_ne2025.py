"""NE2025: every component against its package, lines of sight, the table and its cache.

The arms are tabulated around the Sun only, which takes seconds; all of it is marked slow.
"""

import warnings

import numba
import numpy as np
import pytest

from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.errors import DataError
from mlpop.population.galaxy import dispersion, ne2025, ne2025_model
from mlpop.population.galaxy.dispersion import dispersion_measures
from mlpop.population.stars.database import StellarDatabase

pytest.importorskip("mwprop", reason="of the extra mlpop[ne2025]")
NEAR = 1.6
"""How far from the Sun the arms are tabulated [kpc]."""


def package(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(f"mwprop.nemod.{name}")


@pytest.fixture(scope="module")
def density():
    return package("density")


@pytest.fixture(scope="module")
def parts():
    return ne2025_model._package()


@pytest.fixture(scope="module")
def near(parts):
    """The model with the arms around the Sun."""
    values, arms = parts
    heights = ne2025_model.arm_heights(values["galaxy"])
    half, cell = ne2025_model.HALF, ne2025_model.CELL
    nodes = np.linspace(-half, half, round(2 * half / cell) + 1)
    table = np.zeros((nodes.size, nodes.size, heights.size))
    for i in np.flatnonzero(np.abs(nodes) < NEAR):
        for j in np.flatnonzero(np.abs(nodes - values["r_sun"]) < NEAR):
            table[i, j] = ne2025_model.arms_at(nodes[i], nodes[j], arms, heights)
    return ne2025_model.assembled(values, ne2025_model.arms_table(table, heights))


@pytest.fixture
def only_near(near, monkeypatch):
    monkeypatch.setattr(dispersion, "found_or_tabulated", lambda: near)


def of_package(l_deg, b_deg, d):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = package("NE2025").ne2025(l_deg, b_deg, d, -1, classic=False, dmd_only=True)
    return float(found[1]["DM"])


def test_discs_are_those_of_the_package(near, density):
    rng = np.random.default_rng(1)
    no_arms = near.arms._replace(plane=np.zeros_like(near.arms.plane))
    for x, y, z in rng.normal(0.0, [8.0, 8.0, 0.4], (300, 3)):
        expected = density.ne_outer(x, y, z)[0] + density.ne_inner(x, y, z)[0]
        assert ne2025.smooth(x, y, z, near.disc, no_arms) == pytest.approx(expected, rel=1e-12)


def test_local_interstellar_medium_is_that_of_the_package(near, density):
    rng = np.random.default_rng(2)
    hits = 0
    for x, y, z in rng.uniform([-1.8, 7.0, -0.5], [3.0, 10.0, 0.5], (600, 3)):
        expected, _, weight, *_ = density.ne_lism(x, y, z)
        found = ne2025.local_density(x, y, z, near.local)
        assert found == (expected if weight else -1.0)
        hits += bool(weight)
    assert 60 < hits < 540
    assert near.local.height == pytest.approx(0.5)


def test_voids_are_those_of_the_package(near, density):
    rng = np.random.default_rng(3)
    voids, hits = near.ellipsoids[1:], 0
    for number in rng.integers(len(voids), size=300):
        matrix = voids[number, 3:12].reshape(3, 3)
        place = voids[number, :3] + np.linalg.solve(matrix, rng.normal(0.0, 0.6, 3))
        expected, _, _, inside = density.nevoidN(*place)
        found = 0.0
        for void in voids:
            q = np.sum((void[3:12].reshape(3, 3) @ (place - void[:3])) ** 2)
            if q <= (1.0 if void[13] else 3.0):
                found = void[12] * (1.0 if void[13] else np.exp(-q))
        assert found == pytest.approx(expected if inside else 0.0, rel=1e-9)
        hits += inside
    assert 100 < hits < 300


def test_clumps_are_those_of_the_package(near, density):
    rng = np.random.default_rng(4)
    nothing = near._replace(
        disc=near.disc._replace(n1=0.0, n2=0.0, n_centre=0.0),
        arms=near.arms._replace(plane=np.zeros_like(near.arms.plane)),
        local=near.local._replace(reach=0.0),
        ellipsoids=near.ellipsoids[:1],
    )
    for number in rng.integers(len(near.clumps), size=12):
        x, y, z = near.clumps[number, :3] - [0.0, near.disc.r_sun, 0.0]
        size = near.clumps[number, 4]
        d = np.sqrt(x * x + y * y + z * z)
        l_deg, b_deg = np.degrees([np.arctan2(x, -y), np.arcsin(z / d)])
        b_deg += np.degrees(0.5 * size / d)
        start, end = max(0.0, d - 3.0 * size), d + rng.uniform(-0.5, 3.0) * size
        t = np.linspace(start, end, 2001)
        t = 0.5 * (t[1:] + t[:-1])
        flat = np.cos(np.radians(b_deg))
        xs, ys = t * flat * np.sin(np.radians(l_deg)), -t * flat * np.cos(np.radians(l_deg))
        along = zip(xs, ys + near.disc.r_sun, t * np.sin(np.radians(b_deg)), strict=True)
        expected = 1e3 * (end - start) * np.mean([density.neclumpN(*p)[0] for p in along])
        found = ne2025.dispersion(l_deg, b_deg, end, nothing)
        found -= ne2025.dispersion(l_deg, b_deg, start, nothing)
        assert found == pytest.approx(expected, rel=3e-3)


def test_arms_of_each_height_make_those_of_the_package(parts):
    values, arms = parts
    heights = ne2025_model.arm_heights(values["galaxy"])
    np.testing.assert_allclose(heights, [0.184, 0.23, 0.299, 0.345])
    seen = 0
    for x, y in [(0.0, 8.0), (3.0, 5.0), (-4.0, 4.0), (-2.0, -6.0), (6.0, 1.0), (17.0, 0.5)]:
        plane = ne2025_model.arms_at(x, y, arms, heights)
        for z in (0.1, -0.45):
            expected = arms(x, y, z)
            assert plane @ (1.0 / np.cosh(z / heights) ** 2) == pytest.approx(expected, abs=1e-9)
            seen += expected > 1e-3
    assert seen >= 6
    assert plane.tolist() == [0.0] * 4


def test_documented_line_of_sight(near):
    """J0323+3944 as the package's own test has it, at its distance of 0.95 kpc."""
    assert ne2025.dispersion(152.180, -14.338, 0.95, near) == pytest.approx(16.2718, rel=1e-3)


@pytest.mark.parametrize(
    "line",
    [
        (0.0, 0.0, 1.2),
        (264.0, -4.0, 0.6),
        (75.0, 5.0, 1.2),
        (330.0, 20.0, 1.0),
        (40.0, -60.0, 0.3),
    ],
)
def test_near_lines_are_those_of_the_package(near, line):
    assert ne2025.dispersion(*map(float, line), near) == pytest.approx(
        of_package(*line), rel=5e-3, abs=0.02
    )


@pytest.mark.parametrize(
    "line", [(0.0, 0.0), (30.0, 1.0), (-81.5, -0.6), (77.0, 1.1), (120.0, 80)]
)
def test_dispersion_grows_with_distance_and_is_continuous(near, only_near, line):
    d = np.linspace(0.0, 1.4, 281)
    dm = dispersion_measures(*(np.full_like(d, x) for x in line), d, "ne2025")
    assert dm[0] == 0.0
    assert (np.diff(dm) > 0.0).all()
    # 5 pc of the densest clump
    assert np.diff(dm).max() < 5.0 * near.clumps[:, 3].max()
    ends = dispersion_measures(*([float(x)] * 2 for x in line), [25.0, 34.0], "ne2025")
    assert ends[0] == ends[1] > dm[-1]


def test_a_star_does_not_depend_on_the_others_nor_on_threads(only_near):
    rng = np.random.default_rng(5)
    l_deg, b_deg, d = rng.uniform([0, -90, 0], [360, 90, 20], (200, 3)).T
    together = dispersion_measures(l_deg, b_deg, d, "ne2025")
    order = rng.permutation(200)
    again = dispersion_measures(l_deg[order], b_deg[order], d[order], "ne2025")
    np.testing.assert_array_equal(again, together[order])
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        np.testing.assert_array_equal(dispersion_measures(l_deg, b_deg, d, "ne2025"), together)
    finally:
        numba.set_num_threads(before)


def test_stars_of_ne2025_differ_in_their_dispersion_alone(only_near):
    first, other = (
        StellarDatabase.generate(
            DynamicsConfig.parse({"NS_number": 300, "seed": 11, "ed_model": model})
        )
        for model in ("ymw16", "ne2025")
    )
    differ = [k for k in first.columns if not np.array_equal(first.columns[k], other.columns[k])]
    assert differ == ["DM"]
    assert first.digest != other.digest
    assert other.header["ne2025"] == DynamicsConfig(ed_model="ne2025").electrons()["ne2025"]
    assert "ne2025" not in first.header


def test_the_table_is_made_once(monkeypatch, tmp_path, parts):
    monkeypatch.setenv("MLPOP_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(ne2025_model, "CELL", 6.4)
    ne2025_model.found_or_tabulated.cache_clear()
    try:
        made = ne2025_model.found_or_tabulated()
        ne2025_model.found_or_tabulated.cache_clear()
        monkeypatch.setattr(ne2025_model, "_tabulated", None)
        np.testing.assert_array_equal(
            ne2025_model.found_or_tabulated().arms.plane, made.arms.plane
        )
    finally:
        ne2025_model.found_or_tabulated.cache_clear()
    assert made.arms.plane.max() > 0.01
    assert len(list((tmp_path / "ne2025").glob("arms-*.npy"))) == 1


def test_a_package_set_to_ne2001_is_refused(monkeypatch):
    monkeypatch.setattr(package("config_nemod"), "eval_NE2025", False)
    with pytest.raises(DataError, match=r"set to NE2001.*import mwprop\.nemod\.NE2025"):
        ne2025_model._package()


@pytest.mark.slow
def test_far_lines_are_those_of_the_package():
    lines = [
        (0, 0, 8.5),
        (0, 0, 10),
        (30, 0, 5),
        (-47.9, -20.8, 8.3),
        (36.5, 4, 4.6),
        (45, 5, 3.8),
    ]
    found = dispersion_measures(*np.array(lines, dtype=float).T, "ne2025")
    np.testing.assert_allclose(found, [of_package(*line) for line in lines], rtol=5e-3)
    d = np.linspace(0.0, 30.0, 1501)
    for line in [(0.0, 0.0), (30.0, 1.0), (-81.5, -0.6), (77.0, 1.1), (120.0, 80.0)]:
        dm = dispersion_measures(*(np.full_like(d, x) for x in line), d, "ne2025")
        assert (np.diff(dm) >= -1e-3).all()
