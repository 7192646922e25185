"""Evaluation logs of other projects, read as evidence; see `read.open_log`."""
