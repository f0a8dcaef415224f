"""Logs: what happened, and never what was in the variables when it did."""

import logging
import sys

import pytest
import structlog

from config.logs import build_logging


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_shows_no_local_variables(log_format: str) -> None:
    lines = build_logging(log_format=log_format, level="info")["formatters"]["lines"]
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=lines["processors"], foreign_pre_chain=lines["foreign_pre_chain"]
    )
    secret = "".join(["mh_", "secret"])
    try:
        raise ValueError("a sentence")
    except ValueError:
        record = logging.LogRecord("probe", logging.ERROR, __file__, 1, "failed", None, sys.exc_info())

    written = formatter.format(record)
    assert "ValueError: a sentence" in written
    assert secret not in written


def test_a_wake_up_and_a_strangers_host_write_no_line_and_a_failed_task_does() -> None:
    levels = build_logging(log_format="console", level="info")["loggers"]
    assert levels["celery.worker.strategy"]["level"] == levels["celery.app.trace"]["level"] == "WARNING"
    assert levels["django.security.DisallowedHost"]["level"] == "CRITICAL"
