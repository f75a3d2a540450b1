"""Trainings of point estimates: set up, tried, drawn."""
