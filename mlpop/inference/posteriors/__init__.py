"""Posteriors of trained estimators: sampled, evaluated, stored."""
