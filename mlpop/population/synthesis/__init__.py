"""A whole synthetic population, star by star until the surveys are full."""
