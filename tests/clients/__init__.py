"""Unchanged libraries from PyPI under `patch()`, with the servers that they talk to."""
