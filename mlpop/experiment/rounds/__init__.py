"""One round: proposal, simulations, training, posterior at x_o, tests."""
