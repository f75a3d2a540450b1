"""How many simulated pulsars get a measured flux, whichever block says it."""

from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.blocks.population import PopulationConfig
from mlpop.config.blocks.surveys import SURVEYS
from mlpop.errors import ConfigError

PREFIX = "detected_meerkat_"


def with_census(generator: GeneratorConfig, population: PopulationConfig) -> GeneratorConfig:
    """Let the observed sample, and the documented keys detected_meerkat_*, set the subsamples.

    Raises:
        ConfigError: the generator says something else.
    """
    given = {
        survey: (f"{PREFIX}{survey}", int(getattr(population, PREFIX + survey)))
        for survey in SURVEYS
        if PREFIX + survey in population.model_fields_set
    }
    if population.observed is not None:
        for survey, number in (population.observed.fluxes or {}).items():
            given.setdefault(survey, (f"observed.fluxes.{survey}", number))
    if not given:
        return generator
    subsample = dict(generator.flux_subsample)
    for survey, (name, number) in given.items():
        if "flux_subsample" in generator.model_fields_set and subsample.get(survey) != number:
            raise ConfigError(
                f"population.{name} is {number}, but generator.flux_subsample.{survey} "
                f"is {subsample.get(survey)}: give one of them"
            )
    numbers = {survey: number for survey, (_, number) in given.items()}
    return generator.model_copy(update={"flux_subsample": subsample | numbers})
