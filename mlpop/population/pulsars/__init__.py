"""A pulsar: birth spin and field, their evolution, its radio emission."""
