"""report.html: the whole story of an experiment on one page."""
