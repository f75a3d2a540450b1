"""Studies: Optuna searches embedding, density estimator and training of an experiment."""
