"""A whole installation that delivers to a mail server of the tests'."""

from collections.abc import Iterator

import pytest

from tests.e2e.installation import Installation
from tests.fakes.smtp import SmtpSink


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with SmtpSink() as server:
        yield server


@pytest.fixture
def relaying(sink: SmtpSink) -> Iterator[Installation]:
    """An installation that hands everything to the sink as its smarthost; not started yet."""
    installation = Installation(
        MAILHOST_DELIVERY="relay",
        MAILHOST_RELAY_URL=f"smtp://127.0.0.1:{sink.port}",
        MAILHOST_WORKER_PROCESSES="2",
    )
    try:
        yield installation
    finally:
        installation.remove()
