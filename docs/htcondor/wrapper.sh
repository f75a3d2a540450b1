#!/bin/sh
# Runs `mlpop sbi` in a job of HTCondor, in the folder of the run (initialdir of job.submit).
set -eu
. "${MLPOP_VENV:-.venv}/bin/activate"
# Instead of this shell, so that condor_rm's signal reaches mlpop, which then ends its workers.
exec mlpop sbi "$@"
