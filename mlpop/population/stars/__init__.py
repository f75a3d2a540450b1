"""Neutron stars before their pulsar life matters: births, kicks, the stellar database."""
