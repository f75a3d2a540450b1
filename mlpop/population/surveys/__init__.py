"""Radio surveys: what they see of a sky of pulsars."""
