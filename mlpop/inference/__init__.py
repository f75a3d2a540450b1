"""From simulations to a calibrated posterior: prior, estimators, proposals, posteriors, tests."""
