"""The configuration files: one model a kind of file."""
