"""The engine's tests: no database, no settings."""

from __future__ import annotations

from hypothesis import settings

# No deadline: a slow machine is not a bug. No database of examples: what was found becomes a test of its own.
settings.register_profile("engine", deadline=None, database=None)
settings.load_profile("engine")
