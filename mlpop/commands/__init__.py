"""What each command does, one file a command, read from top to bottom."""
