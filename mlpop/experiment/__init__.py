"""Launches: the round loop and the commands beside it; effects happen here."""
