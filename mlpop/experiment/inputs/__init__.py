"""What an experiment is given, checked before anything is written."""
