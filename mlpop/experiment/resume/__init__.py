"""Going on from the tree of MLflow runs."""
