"""Fixtures of the dialects' tests."""

from tests.api.conftest import *  # noqa: F403
