"""An observed sky beside predictions of it."""
