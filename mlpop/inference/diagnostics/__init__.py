"""Tests of a posterior: coverage, calibration, typicality of x_o."""
