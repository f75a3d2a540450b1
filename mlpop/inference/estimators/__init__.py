"""Neural estimators of posterior, likelihood and ratio."""
