"""What simulates, and the sets that come of it."""
