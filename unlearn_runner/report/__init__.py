"""Reports of runs: folders in, one HTML page and tables out. Needs neither a model nor torch."""
