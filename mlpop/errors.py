"""Every error that mlpop raises on purpose: one clear message, exit code 2."""


class MlpopError(Exception):
    """Base of all errors a user can mend; the command line prints its message alone."""


class ConfigError(MlpopError):
    """A configuration field is unknown, mistyped, out of range or contradicts another."""


class DataError(MlpopError):
    """A file, a column or an array is missing or is not what it should be."""


class SimulationFailed(MlpopError):
    """One simulation could not be made; recorded as a row of its dataset's manifest."""


class TrainingError(MlpopError):
    """A network could not be trained, for instance because its loss became NaN."""


class TrackingError(MlpopError):
    """The tracking store or the object store cannot be used."""


class ComputeError(MlpopError):
    """A compute backend could not be started or lost its workers for good."""


class Stopped(SystemExit):
    """mlpop itself was told to stop, by SIGTERM or SIGHUP; code of the user calls `sys.exit`."""
