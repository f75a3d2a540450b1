"""Training of networks: losses, the loop, its checkpoints, the task of one member."""
