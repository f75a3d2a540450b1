"""The command line: every command and its flags, nothing else."""
