"""The dynamics configuration: what it accepts, what it refuses, and its content key."""

import importlib.metadata

import pytest

from mlpop.config.blocks import dynamics
from mlpop.config.blocks.dynamics import DYNAMICS_LABELS, KICK_PARAMETERS, DynamicsConfig
from mlpop.errors import ConfigError

KEY_DEFAULT = "c14919a9a09f6e777788fe856e0ad5687ef3a90902198a4c931ea9378dbe796f"
KEY_OTHER = "b9964bb428d363e057b2b951f5211f7a1124622d452e0f995c3c93f1f56b1b6e"


def test_defaults_are_those_of_the_specification():
    config = DynamicsConfig()
    expected = {
        "NS_number": 300_000,
        "t_age_min": 1.0,
        "t_age_max": 3e7,
        "galactic_model": "gmM19",
        "sample_edm": False,
        "spiral_arms": "saYMW17",
        "arm_number": 5,
        "radial_model": "rmYK04",
        "R_sun": 8.3,
        "z_sun": 0.02,
        "r_extent": 20.0,
        "h_c": 0.18,
        "z_extent": 5.0,
        "kick_model": "km_maxwell",
        "sigma_k": 265.0,
        "vk_extent": 2500.0,
        "resolution": 10_000,
    }
    assert {name: getattr(config, name) for name in expected} == expected


def test_content_key_is_golden():
    # A change here means that every cached database is built anew: raise SCHEMA_VERSION too if
    # the same settings now give other stars.
    assert DynamicsConfig().content_key() == KEY_DEFAULT
    assert (
        DynamicsConfig.parse({"kick_model": "km_exp", "sample_edm": True}).content_key()
        == KEY_OTHER
    )


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"NS_number": 5},
        {"h_c": 0.2},
        {"sigma_k": 260.0},
        {"kick_model": "km_exp"},
        {"sample_edm": True},
        {"galactic_model": "gmFK06"},
        {"dyn_time_step": 1e4},
        {"R_sun": 8.5},
    ],
)
def test_content_key_follows_what_matters(change):
    assert DynamicsConfig.parse(change).content_key() != DynamicsConfig().content_key()


def test_content_key_counts_the_content_of_a_sky_map_not_its_path(tmp_path):
    keys = []
    for name, content in (("a", b"map"), ("b", b"map"), ("c", b"other")):
        (tmp_path / name).write_bytes(content)
        values = {"tsky_model": "healpix", "tsky_map": str(tmp_path / name)}
        keys.append(DynamicsConfig.parse(values).content_key())
    assert keys[0] == keys[1]
    assert keys[0] != keys[2]


def test_content_key_of_a_missing_sky_map(tmp_path):
    values = {"tsky_model": "healpix", "tsky_map": str(tmp_path / "none.fits")}
    with pytest.raises(ConfigError, match=r"tsky_map: .*none\.fits: cannot be read"):
        DynamicsConfig.parse(values).content_key()


def test_content_key_counts_the_package_of_ne2025_and_its_parameters(monkeypatch):
    keys = {DynamicsConfig().content_key()}
    for source in ({"mwprop": "2.0.5", "parameters": "a"}, {"mwprop": "2.0.6", "parameters": "a"}):
        monkeypatch.setattr(dynamics, "ne2025_source", lambda source=source: source)
        keys.add(DynamicsConfig(ed_model="ne2025").content_key())
        edited = source | {"parameters": "b"}
        monkeypatch.setattr(dynamics, "ne2025_source", lambda edited=edited: edited)
        keys.add(DynamicsConfig(ed_model="ne2025").content_key())
    assert len(keys) == 5


def test_ne2025_without_its_package_is_refused(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    config = DynamicsConfig(ed_model="ne2025")
    with pytest.raises(ConfigError, match=r"ed_model: .*mwprop.*mlpop\[ne2025\].*'ymw16'"):
        config.content_key()
    DynamicsConfig().content_key()


@pytest.mark.parametrize("kick_model", sorted(KICK_PARAMETERS))
def test_every_dump_can_be_parsed_again(kick_model):
    config = DynamicsConfig.parse({"kick_model": kick_model})
    assert DynamicsConfig.parse(config.model_dump(mode="json")) == config
    again = DynamicsConfig.parse(config.settings())
    assert again.content_key() == config.content_key()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sigma_kick": 1.0}, "did you mean 'sigma_k'"),
        ({"sigma_k": -1.0}, "sigma_k: .*greater than 0, found -1"),
        ({"sigma_k": "265"}, "sigma_k: .*number"),
        ({"arm_number": 3}, "arm_number: .*4.*5, found 3"),
        ({"t_age_min": 0.5}, "t_age_min"),
        ({"t_age_max": 2e10}, "t_age_max"),
        ({"t_age_min": 5.0, "t_age_max": 5.0}, "t_age_min must be below t_age_max, found 5 and 5"),
        ({"z_sun": 9.0}, "z_sun must be below R_sun"),
        ({"r_extent": 5.0}, "r_extent must be at least 10 kpc"),
        ({"kick_weight_comp1": 1.1, "kick_model": "km_double_maxwell"}, "kick_weight_comp1"),
        ({"resolution": 99}, "resolution"),
        ({"tsky_model": "healpix"}, "tsky_map must name the map file"),
        ({"tsky_map": "x.fits"}, "be null if not"),
        ({"vk_c": 100.0}, "vk_c has no effect with kick_model 'km_maxwell': remove it"),
        ({"sample_edm": True, "arm_number": 4}, "arm_number has no effect with sample_edm = true"),
        ({"NS_number": 0}, "NS_number"),
    ],
)
def test_refused_values_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        DynamicsConfig.parse(values, source="dyn.json")


def test_with_override_takes_what_the_models_read():
    config = DynamicsConfig.parse({"kick_model": "km_exp", "seed": 7})
    assert config.sweepable() == {"h_c", "vk_c"}
    other = config.with_override({"h_c": 0.3, "vk_c": 200.0})
    assert (other.h_c, other.vk_c, other.seed, other.kick_model) == (0.3, 200.0, 7, "km_exp")
    assert config.h_c == 0.18


def test_with_override_refuses_what_has_no_effect():
    with pytest.raises(ConfigError, match="sigma_k cannot be overridden.*allowed: h_c, vk_c"):
        DynamicsConfig.parse({"kick_model": "km_exp"}).with_override({"sigma_k": 200.0})
    with pytest.raises(ConfigError, match="theta: h_c: .*greater than 0"):
        DynamicsConfig().with_override({"h_c": 0.0})


def test_dynamics_labels_are_those_of_all_kick_models():
    models = [DynamicsConfig.parse({"kick_model": name}) for name in KICK_PARAMETERS]
    assert frozenset().union(*(config.sweepable() for config in models)) == DYNAMICS_LABELS
