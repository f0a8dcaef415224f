"""Fixtures of the dialects' tests."""

from tests.api.conftest import *  # noqa: F403
from tests.api.dialects.agentry import agent, anywhere, make_agent, stranger_agent  # noqa: F401
from tests.api.dialects.inkbox import inkbox, inkbox_domain, make_inkbox, stranger_inkbox  # noqa: F401
