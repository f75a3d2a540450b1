"""What MLflow's pages show of a run: descriptions, links to them, tables."""
