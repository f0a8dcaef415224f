"""The engine's tests: no database, no settings."""

from __future__ import annotations

import os

from hypothesis import settings

# No deadline: a slow machine is not a bug. No database of examples: what was found becomes a test of its own.
# CI tries the same examples each time, so that a commit is judged by itself; everywhere else they are new ones.
settings.register_profile("engine", deadline=None, database=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("engine")
