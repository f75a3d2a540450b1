"""The observed sample: the ATNF catalogue and its selection."""
