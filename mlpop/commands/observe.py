"""`mlpop observe`: from the pulsar catalogue to `dataset_atnf.csv` and its maps."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.blocks.observed_file import ObservedNumbers
from mlpop.config.files.observe import ObserveConfig
from mlpop.datasets.layout import DETAILS, GENERATOR_JSON, OBSERVED_JSON
from mlpop.datasets.observed import write_observed
from mlpop.errors import DataError
from mlpop.experiment.output_tree import check_writable
from mlpop.io.files import write_csv, write_json
from mlpop.maps.sky import not_in_sky_map
from mlpop.population.catalogue.doubts import named
from mlpop.population.catalogue.selection import (
    CutRow,
    Selection,
    flux_catalogues,
    observed_selection,
    survey_catalogues,
)
from mlpop.tracking import graceful_signals, open_run, parameters, where_to_look

logger = logging.getLogger(__name__)

EXPERIMENT = "observe"
CUTS_CSV = "cuts.csv"


def observe_catalogue(config: ObserveConfig) -> Path:
    """Select the observed sample and write its maps; log it as a run of kind `observe`.

    Returns:
        The index file.

    Raises:
        DataError: the catalogue or a table cannot be read, or the maps cannot be written.
    """
    check_writable(config.save_dir, "save_dir")
    selection = observed_selection(config)
    found = observed_numbers(selection)
    generator = _with_own_fluxes(config.generator, selection)
    for line in cut_table(selection.rows):
        logger.info("%s", line)
    for note in selection.notes:
        logger.info("note: %s", note)
    told = [*selection.doubts, *outside_the_maps(selection, generator)]
    for doubt in told:
        logger.warning("%s", doubt)
    with graceful_signals():
        params = parameters(config.model_dump(mode="json")) | {
            "catalogue.version": selection.version,
            "catalogue.sha256": selection.sha256,
            "catalogue.pulsars": selection.rows[0].pulsars,
        }
        with open_run("observe", EXPERIMENT, params=params) as run:
            csv = write_observed(
                config.save_dir,
                survey_catalogues(selection),
                flux_catalogues(selection),
                generator,
                {survey: len(table) for survey, table in selection.counts.items()},
            )
            cuts = config.save_dir / CUTS_CSV
            write_csv(cuts, CutRow._fields, [list(row) for row in selection.rows])
            numbers = config.save_dir / OBSERVED_JSON
            write_json(numbers, found.model_dump(mode="json"))
            run.log_metrics(_final_counts(selection))
            run.set_note("\n".join(f"- {note}" for note in [*told, *selection.notes]))
            folder = csv.parent
            run.commit(
                {csv.name: csv, CUTS_CSV: cuts, numbers.name: numbers}
                | {GENERATOR_JSON: folder / GENERATOR_JSON}
                | {p.name: p for p in sorted(folder.glob("survey_*_0.*"))}
                | {f"{DETAILS}/{p.name}": p for p in sorted((folder / DETAILS).glob("*.npy"))}
            )
        logger.info("wrote %s", csv)
        logger.info(
            'an experiment takes the numbers of %s by "observed" in simulator.args.population',
            numbers,
        )
        logger.info("%s", where_to_look(run.store, run.experiment_id, run.run_id))
    return csv


def observed_numbers(selection: Selection) -> ObservedNumbers:
    """Return the numbers that an experiment on this sample needs; surveys without pulsars lack."""

    def numbers(samples: Mapping[str, pd.DataFrame]) -> dict[str, int]:
        return {survey: len(table) for survey, table in samples.items() if len(table)}

    if not numbers(selection.counts):
        cuts = "; ".join(f"{row.step}: {row.pulsars}" for row in selection.rows)
        raise DataError(
            "no pulsar of any survey is left: there is nothing to observe; pulsars after every "
            f"cut: {cuts}; look at regions (their tags must be those of the column SURVEY) and at "
            f"the catalogue{''.join(f'; {doubt}' for doubt in selection.doubts)}"
        )
    return ObservedNumbers(
        detected_real=numbers(selection.counts),
        thin_to=numbers(selection.maps),
        fluxes=None if selection.fluxes is None else numbers(selection.fluxes),
        catalogue={
            "version": selection.version,
            "sha256": selection.sha256,
            "pulsars": selection.rows[0].pulsars,
        },
    )


def _with_own_fluxes(generator: GeneratorConfig, selection: Selection) -> GeneratorConfig:
    """Let the subsample of simulated fluxes be as large as that observed, unless it is given."""
    if selection.fluxes is None or "flux_subsample" in generator.model_fields_set:
        return generator
    found = observed_numbers(selection).fluxes or {}
    return generator.model_copy(update={"flux_subsample": {**generator.flux_subsample, **found}})


def cut_table(rows: Sequence[CutRow]) -> list[str]:
    """Return lines that say what every cut left, in aligned columns."""
    width = max(len(row.step) for row in rows)
    head = f"{'after':<{width}}  {'survey':<8}{'pulsars':>8}{'with P1':>9}"
    return [head] + [
        f"{row.step:<{width}}  {row.survey:<8}{row.pulsars:>8}{row.with_p1:>9}" for row in rows
    ]


def outside_the_maps(selection: Selection, generator: GeneratorConfig) -> list[str]:
    """Return a sentence for every survey with pulsars that lie outside of its maps."""
    found = []
    catalogues = survey_catalogues(selection) if generator.sky_maps else {}
    for survey in generator.surveys:
        table = selection.maps[survey]
        inside = np.ones(len(table), dtype=bool)
        for name, limits in (("P0", generator.p_limits), ("P1", generator.pdot_limits)):
            inside &= table[name].between(*limits).to_numpy()
        if not inside.all():
            found.append(
                f"{int((~inside).sum())} of {len(table)} pulsars of {survey} lie outside of the "
                "P-Pdot maps (generator.p_limits, generator.pdot_limits) and are left out there: "
                f"{named(table['PSRJ'][~inside].tolist())}."
            )
        for name in generator.sky_maps:
            left_out = not_in_sky_map(catalogues[survey], survey, generator, name)
            if left_out.any():
                found.append(
                    f"{int(left_out.sum())} of {len(table)} pulsars of {survey} lie outside of "
                    f"generator.sky_maps.{name} ({generator.sky_maps[name]}), or have no such "
                    f"value, and are left out there: {named(table['PSRJ'][left_out].tolist())}."
                )
    return found


def _final_counts(selection: Selection) -> dict[str, float]:
    counts = {f"pulsars/{name}": float(len(table)) for name, table in selection.counts.items()}
    counts |= {f"in_maps/{name}": float(len(table)) for name, table in selection.maps.items()}
    if selection.fluxes is not None:
        counts |= {f"fluxes/{name}": float(len(t)) for name, t in selection.fluxes.items()}
    return counts
