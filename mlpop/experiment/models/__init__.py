"""Trained posteriors and point estimators as MLflow models, and their way back."""
