"""Every field of an experiment is a parameter in MLflow, of the runs in which it acts."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import pytest
import torch
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mlpop.config.blocks.presets import MODEL_DEFAULTS
from mlpop.config.blocks.training import PulsarArgs
from mlpop.config.fields import OneOf
from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.parameters import (
    LAUNCH,
    MEMBER,
    ROUND,
    experiment_parameters,
    member_parameters,
    round_parameters,
    supply_parameters,
)
from mlpop.inference.estimators.spec import EmbeddingSpec, EstimatorSpec
from mlpop.inference.posteriors.conditioned import ConditionedPosterior
from mlpop.inference.prior import Prior
from mlpop.inference.proposals.truncation import Support
from mlpop.tracking.params import logged_value
from mlpop.training.member_task import MemberTask

REPOSITORY = Path(__file__).parents[2]
Values = dict[str, Any]

LABEL = "mean_spectral_index"
POPULATION = "simulator.args.population"
STARS = "dyn_data_loader.database"
SNLE = {
    "trainer.type": "snle",
    "compression_input.use_compression": True,
    "compression_input.fit": True,
}
GIVEN = {
    "training_data_loader.simulate": False,
    "training_data_loader.dataset_path_round_0": "data",
    "training_data_loader.statistic_path": "data/statistics_full.json",
    "test_data_loader.simulate": False,
    "test_data_loader.dataset_path_round_0": "data",
}
DASK = {"enable_dask": True}
RUNNING = {"compute.scheduler_address": None, "compute.scheduler_file": None}
TLS = {"compute.tls": {"ca_file": "ca.pem", "cert": "cert.pem", "key": "key.pem"}}
OBSERVED = {"observed_sample": {"dataset_path": "sky"}}
RESUMED = {
    "resume_training": {"resume": True, "last_round": 0, "save_dir": "a", "log_dir": "b"},
    "trainer.num_rounds": 3,
}
CHANNELS = json.loads((REPOSITORY / "experiments" / "smoke.json").read_text())[
    "training_data_loader"
]["filter_inputs"]
OBSERVED_JSON = {
    f"{POPULATION}.observed": {
        "detected_real": {"PMPS": 1037, "SMPS": 218, "HTRU": 1023},
        "thin_to": {"PMPS": 1013, "SMPS": 213, "HTRU": 1006},
        "fluxes": {"PMPS": 900, "SMPS": 150, "HTRU": 900},
        "catalogue": {"version": "2.6.0"},
    }
}
COUNTS = {
    "generator.counts": True,
    "training_data_loader.filter_counts": ["survey_PMPS_count", "survey_HTRU_count"],
}
HEALPIX = {f"{STARS}.tsky_model": "healpix", f"{STARS}.tsky_map": "sky.fits"}

BESIDE: Mapping[str, Mapping[str, Any]] = {
    "mcmc_sampler": SNLE,
    "compression_input.rescale": SNLE,
    "compression_input.num_components": SNLE | {"compression_input.compression_type": "pca"},
    "trainer.type": SNLE | {"trainer.type": "snpe"},
    "density_estimator.args.num_transforms": {"density_estimator.type": "nsf"},
    "density_estimator.args.num_bins": {"density_estimator.type": "nsf"},
    "density_estimator.classifier_nre": SNLE | {"trainer.type": "snre"},
    "training_data_loader.normalize": {"training_data_loader.standardize": False},
    "training_data_loader.dataset_path_round_0": GIVEN,
    "training_data_loader.statistic_path": GIVEN,
    "test_data_loader.dataset_path_round_0": GIVEN,
    "test_data_loader.simulate": {"test_data_loader.testing": False},
    "training_data_loader.filter_counts": COUNTS,
    "arch.count_layers": COUNTS,
    "observed_sample.dataset_path": OBSERVED,
    "observed_sample.filter_inputs": OBSERVED,
    "resume_training.last_round": RESUMED,
    "resume_training.save_dir": RESUMED,
    "resume_training.log_dir": RESUMED,
    "trainer.append_simulations": {"trainer.truncated_prior": True},
    f"{POPULATION}.observed": OBSERVED_JSON,
    "compute.cluster": DASK,
    "compute.tls": TLS,
    "compute.adaptive": {"compute.adaptive": {"minimum": 1, "maximum": 3}},
    "compute.worker_lifetime_stagger": {"compute.worker_lifetime": 100.0},
    f"{STARS}.tsky_map": HEALPIX,
    f"{POPULATION}.tsky_map": {
        f"{POPULATION}.tsky_model": "healpix",
        f"{POPULATION}.tsky_map": "sky.fits",
    },
    f"{POPULATION}.B_initial_log10_min": {f"{POPULATION}.magnetic_field_model": "smooth_tophat"},
    f"{POPULATION}.B_initial_log10_max": {f"{POPULATION}.magnetic_field_model": "smooth_tophat"},
} | {
    f"{STARS}.{name}": {f"{STARS}.kick_model": model}
    for model, names in {
        "km_exp": ("vk_c", "vk_extent"),
        "km_double_maxwell": ("sigma_k_comp1", "sigma_k_comp2", "kick_weight_comp1"),
        "km_log-normal": ("vk_ln_mean", "vk_ln_sigma"),
    }.items()
    for name in names
}
"""Field or block -> what must stand beside it for it to act, or to be valid."""

OTHER: Mapping[str, Any] = {
    "arch.type": "ModelConvSBIdeep",
    "arch.count_layers": [12],
    "arch.args.input_shape": [6, 16, 16],
    "arch.args.filters": [4, 8],
    "density_estimator.args.z_score_x": "independent",
    "compression_input.sha256": "0" * 64,
    "prior_ranges.low": [-2.6],
    "prior_ranges.high": [-0.9],
    "prior_ranges.distributions": {
        LABEL: {"type": "truncated_normal", "args": {"loc": -1.5, "scale": 0.3}}
    },
    "training_data_loader.filter_inputs": [
        f"survey_{survey}_ppdot_map{kind}"
        for kind in ("_fluxes", "")
        for survey in ("PMPS", "SMPS", "HTRU")
    ],
    "training_data_loader.filter_counts": ["survey_SMPS_count"],
    "training_data_loader.filter_labels": [LABEL],
    "observed_sample.filter_inputs": CHANNELS,
    "observed_sample.synthetic.theta": {LABEL: -1.7},
    "resume_training.last_round": 1,
    "trainer.truncation_sampler": "auto",
    "trainer.truncation_region": "box",
    "simulator.type": "mypackage.simulators:Own",
    "simulator.args": {"population": {"birth_rate_max": 0.05}},
    "generator.p_limits": [1e-2, 100.0],
    "generator.pdot_limits": [1e-20, 1e-9],
    "generator.sky_maps": {"b_dm": {"first": {"column": "b_abs"}, "second": {"column": "DM"}}},
    "generator.flux_subsample": {"PMPS": 10, "SMPS": 170, "HTRU": 668},
    "generator.surveys": {
        "PMPS": "survey_PMPS_results",
        "SMPS": "survey_SMPS_results",
        "HTRU": "survey_HTRU_high_results",
    },
    "mcmc_sampler.type": "hmc",
    "compute.keep_detections": False,
    "compute.cluster": "slurm",
    "compute.htcondor.flavour": None,
    "compute.htcondor.job_extra_directives": {"+MaxRuntime": 86400},
    "compute.htcondor.job_script_prologue": ["module load python"],
    "compute.jobs.job_script_prologue": ["module load python"],
    f"{POPULATION}.k_coefficients": [1.0, 1.0, 0.9],
    f"{POPULATION}.thin_to": {"PMPS": 10},
    f"{POPULATION}.surveys_radio": {"PMPS": {"detected_real": 7, "in_stop_rule": True}},
    f"{POPULATION}.NS_radius": 1.3e6,
    f"{POPULATION}.observed.detected_real": {"PMPS": 1040, "SMPS": 218, "HTRU": 1023},
    f"{POPULATION}.observed.thin_to": {"PMPS": 1000, "SMPS": 213, "HTRU": 1006},
    f"{POPULATION}.observed.fluxes": {"PMPS": 800, "SMPS": 150, "HTRU": 900},
    f"{POPULATION}.observed.catalogue": {"version": "2.7.0"},
    f"{POPULATION}.surveys": [
        str(REPOSITORY / "mlpop" / "population" / "surveys" / "FAST_GPPS.json")
    ],
    f"{STARS}.arm_number": 4,
    f"{STARS}.t_age_min": 2.0,
}
"""Field -> another value, where none can be told from its type."""

TOGETHER: Mapping[str, Mapping[str, Any]] = {
    "compression_input.use_compression": {
        "compression_input.use_compression": True,
        "compression_input.fit": True,
    },
    "prior_ranges.labels": {
        "prior_ranges": {"labels": ["L_radio_log10_sigma"], "low": [0.1], "high": [1.0]},
        "observed_sample": {"synthetic": {"theta": {"L_radio_log10_sigma": 0.7}}},
    },
    "training_data_loader.simulate": {
        name: value for name, value in GIVEN.items() if name.startswith("training")
    },
    "observed_sample.path": {"observed_sample": {"path": "x.npy"}},
    "dyn_data_loader.dataset_path": {"dyn_data_loader": {"dataset_path": "stars"}},
    f"{STARS}.tsky_model": HEALPIX,
    "resume_training.resume": RESUMED,
    "simulator.args.run_mode": {
        "simulator.args.run_mode": "full",
        "training_data_loader.filter_inputs": ["ppdot_map"],
        "arch.args.input_shape": [1, 32, 32],
    },
    "generator.resolution_ppdot": {
        "generator.resolution_ppdot": 34,
        "arch.args.input_shape": [6, 34, 34],
    },
}
"""Field -> all that has to change with it."""


def leaves(
    model: type[BaseModel] = SbiConfig, prefix: str = ""
) -> Iterator[tuple[str, FieldInfo]]:
    """Yield path and field of every field that is no block, arguments of `pulsar` too."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        block = next((kind for kind in parts(field.annotation) if is_block(kind)), None)
        if path == "simulator.args":
            yield path, field
            block = PulsarArgs
        if block is not None:
            yield from leaves(block, f"{path}.")
        else:
            yield path, field


def parts(hint: Any) -> Iterator[Any]:
    """Yield the branches of a union, and what is annotated."""
    if get_origin(hint) is Annotated:
        yield from parts(get_args(hint)[0])
    elif get_origin(hint) in (Union, UnionType):
        for branch in get_args(hint):
            yield from parts(branch)
    else:
        yield hint


def is_block(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseModel)


def choices(field: FieldInfo) -> list[Any]:
    """Return the names that a field takes, none where it takes others."""
    literals = [kind for kind in parts(field.annotation) if get_origin(kind) is Literal]
    tables = [item for item in field.metadata if isinstance(item, OneOf)]
    return [
        name
        for names in (*map(get_args, literals), *(table.names for table in tables))
        for name in names
    ]


FIELDS = {path: field for path, field in leaves() if len(choices(field)) != 1}
"""All but those that can only be what they are."""


def another(path: str, field: FieldInfo, value: Any) -> Any:
    """Return a valid value of a field that is not `value`."""
    if path in OTHER:
        return OTHER[path]
    if named := [name for name in choices(field) if name != value]:
        return named[0]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 2
    if isinstance(value, float):
        return value * 0.95 if value else 0.25
    if isinstance(value, list) and not value:
        return ["--nice"]
    if isinstance(value, dict) and not value:
        return {"queue": "normal"}
    kinds = list(parts(field.annotation))
    if value is None and int in kinds:
        return 3
    if value is None and float in kinds:
        return 0.75
    assert value is None or isinstance(value, str), f"OTHER must say what {path} may be"
    return {"compute.worker_memory": "3GB", "compute.htcondor.memory": "3GB"}.get(
        path, "3GB" if path.endswith(("memory", ".disk")) else "another"
    )


def beside(path: str) -> dict[str, Any]:
    """Return what must stand beside a field, by the longest entry of BESIDE or its model."""
    found: dict[str, Any] = {}
    for known in sorted(BESIDE, key=len):
        if path == known or path.startswith(f"{known}."):
            found = dict(BESIDE[known])
    name = path.removeprefix(f"{POPULATION}.")
    if path.startswith(f"{POPULATION}.") and not found:
        for model, defaults in MODEL_DEFAULTS.items():
            owners = [choice for choice, keys in defaults.items() if name in keys]
            if owners and len(owners) < len(defaults):
                found[f"{POPULATION}.{model}"] = owners[0]
    return found


@pytest.fixture(scope="module")
def document() -> Values:
    """A pulsar experiment whose label every model of the population has."""
    values: Values = json.loads((REPOSITORY / "experiments" / "smoke.json").read_text())
    values["training_data_loader"]["num_sim"] = 100  # enough for the losses that compare
    values["prior_ranges"] = {"labels": [LABEL], "low": [-2.5], "high": [-1.0]}
    values["observed_sample"] = {"synthetic": {"theta": {LABEL: -1.6}}}
    return values


def task_of(config: SbiConfig) -> MemberTask:
    """Return the training of a network of a round, without its data."""
    embedding = None
    if config.arch is not None and not config.compression_input.use_compression:
        embedding = EmbeddingSpec(type=config.arch.type, args=config.arch.arguments())
    return MemberTask(
        folder="member_00",
        theta_path="theta.npy",
        x_path="x.npy",
        validation=(0,),
        spec=EstimatorSpec(embedding=embedding, x_shape=(6, 32, 32), dimension=1),
        options=config.trainer,
        init_seed=1,
        training_seed=2,
    )


def texts(params: Mapping[str, Any]) -> dict[str, str]:
    return {key: logged_value(value) for key, value in params.items()}


@cache
def of_all_runs(document: str) -> dict[str, dict[str, str]]:
    """Return the parameters of experiment, round and member as MLflow shows them."""
    config = SbiConfig.parse(json.loads(document))
    return {
        "experiment": texts(experiment_parameters(config)),
        "round": texts(round_parameters(config, 1, 7)),
        "member": texts(member_parameters(config, task_of(config))),
    }


def plain(text: str) -> Any:
    """Return what a parameter says; a text that is no JSON is itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def within(path: str, blocks: tuple[str, ...]) -> bool:
    return any(path == block or path.startswith(f"{block}.") for block in blocks)


@pytest.mark.parametrize("path", FIELDS)
def test_every_field_is_found_in_the_runs_where_it_acts(
    path: str, document: Values, changed: Any
) -> None:
    before = changed(document, beside(path))
    one = of_all_runs(json.dumps(before))
    text = one["experiment"].get(path)
    value = text if text is None or choices(FIELDS[path]) else plain(text)
    change = TOGETHER.get(path) or {path: another(path, FIELDS[path], value)}
    other = of_all_runs(json.dumps(changed(before, change)))
    shown = {
        run: {
            key
            for key in one[run].keys() | other[run].keys()
            if one[run].get(key) != other[run].get(key)
        }
        for run in one
    }
    assert any(within(key, (path,)) for key in shown["experiment"]), shown
    places = {"round": ROUND, "member": MEMBER}
    assert within(path, LAUNCH + ROUND + MEMBER), "say in parameters.py in which run it acts"
    for run, blocks in places.items():
        found = any(within(key, (path,)) for key in shown[run])
        assert found == within(path, blocks), (run, shown)


def test_round_says_what_it_learns_from(document: Values) -> None:
    prior = Prior.configured(SbiConfig.parse(document).prior_ranges)
    nothing = supply_parameters({}, "prior", None, prior, 100, 97)
    assert nothing["proposal"] == "prior"
    assert nothing["proposal_box"] == "the whole prior"
    assert (nothing["simulations"], nothing["trained_on"]) == (100, 97)
    box = torch.tensor([[0.2, 0.5]], dtype=torch.float64)
    support = Support(cast(ConditionedPosterior, None), 1.5, None, box)
    proposal = {"kind": "truncated", "method": "box", "epsilon": 1e-4, "threshold": 1.5}
    cut = supply_parameters(proposal, "truncated", support, prior, 100, 150)
    # a uniform prior from -2.5 to -1, physical units
    assert cut["proposal_box"] == [[-2.2, -1.75]]
    dates = Prior(("t",), (60000.0,), (60000.01,))
    cut = supply_parameters(proposal, "truncated", support, dates, 100, 150)
    (box_of_dates,) = cut["proposal_box"]
    assert box_of_dates == pytest.approx([60000.002, 60000.005], abs=1e-5, rel=0.0)
    assert (cut["proposal_method"], cut["proposal_epsilon"]) == ("box", 1e-4)
    assert cut["proposal_threshold"] == 1.5


def test_network_leaves_out_what_its_method_ignores(document: Values, changed: Any) -> None:
    config = SbiConfig.parse(changed(document, {"density_estimator.type": "nsf"}))
    found = member_parameters(config, task_of(config))
    assert "density_estimator.args.num_components" not in found
    assert "density_estimator.classifier_nre" not in found
    assert found["density_estimator.args.num_bins"] == 10
    assert "mcmc_sampler.num_chains" not in round_parameters(config, 0, 7)


def test_defaults_that_a_file_leaves_out_are_no_difference(document: Values, changed: Any) -> None:
    written = changed(document, {f"{STARS}.h_c": 0.18, f"{POPULATION}.d_max": 35.0})
    first, second = (SbiConfig.parse(values) for values in (document, written))
    assert experiment_parameters(first) == experiment_parameters(second)
