"""Inkbox's API, as its documents and its SDK of the same time (0.2.13) speak it."""
