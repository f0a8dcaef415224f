"""The facilitator: it checks signed payments and carries them out on the chain (x402 version 2, POST /verify, /settle).

A client of our own around the package's schemas: the package's has no bound on the size of an answer, follows
redirects, and waits as long as bytes keep trickling in. The operator chooses the facilitator, so it may be anywhere,
in a private network too.
"""

import asyncio
import base64
import json
import logging
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import httpcore
from django.conf import settings
from pydantic import ValidationError
from x402 import ERR_SETTLEMENT_PENDING
from x402.schemas import BaseX402Model, PaymentPayload, SettleResponse, SupportedResponse, VerifyResponse

from apps.mailboxes.errors import FacilitatorAway

logger = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds for one question, from the look-up of the name to the last byte of the answer."""
MAX_ANSWER = 64 * 1024
RETRY_AFTER = 5
_AT_ONCE = 3
_REFUSED = range(400, 500)
_DENIED = (401, 403, 404, 405, 407, 408, 429)
"""Statuses that say something of us or of the moment, not of the payment."""

_TROUBLE = (
    TimeoutError,
    OSError,
    ValueError,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)

_slots = threading.BoundedSemaphore(_AT_ONCE)
"""So many of a web process's threads may wait for the facilitator: one that hangs must not take them all."""

Answer = TypeVar("Answer", bound=BaseX402Model)
_Exchanged = tuple[int, bytes]


def verify(payload: PaymentPayload, terms: dict[str, Any]) -> VerifyResponse:
    """Whether the payment is good for the terms; raises FacilitatorAway."""
    status, body = _ask("POST", "/verify", _make_body(payload, terms))
    answer = _read(VerifyResponse, body)
    if answer is None or (answer.is_valid and status != 200) or not _is_verdict(status):
        raise _away("verify", status)
    return answer


def settle(payload: PaymentPayload, terms: dict[str, Any]) -> SettleResponse:
    """Carry the payment out; what `is_pending` says yes to is asked again later. Raises FacilitatorAway, after which
    nobody knows whether it is carried out."""
    status, body = _ask("POST", "/settle", _make_body(payload, terms))
    answer = _read(SettleResponse, body)
    if answer is None or (answer.success and status != 200) or not _is_verdict(status):
        raise _away("settle", status)
    return answer


def is_pending(answer: SettleResponse) -> bool:
    """Whether the chain has the payment and has not confirmed it yet."""
    return not answer.success and answer.error_reason == ERR_SETTLEMENT_PENDING


def list_supported() -> SupportedResponse:
    """What the facilitator settles; raises FacilitatorAway."""
    status, body = _ask("GET", "/supported", None)
    answer = _read(SupportedResponse, body)
    if status != 200 or answer is None:
        raise _away("supported", status)
    return answer


def _make_body(payload: PaymentPayload, terms: dict[str, Any]) -> bytes:
    sent = payload.model_dump(by_alias=True, exclude_none=True)
    return json.dumps({"x402Version": 2, "paymentPayload": sent, "paymentRequirements": terms}).encode()


def _is_verdict(status: int) -> bool:
    return status == 200 or (status in _REFUSED and status not in _DENIED)


def _read(kind: type[Answer], body: bytes) -> Answer | None:
    """The answer; None when it is none, such as a proxy's page."""
    try:
        return kind.model_validate(json.loads(body))
    except (ValidationError, ValueError, RecursionError):
        return None


def _away(question: str, problem: object) -> FacilitatorAway:
    logger.warning("the x402 facilitator did not answer %s: %s", question, problem)
    return FacilitatorAway(retry_after=RETRY_AFTER)


def _ask(method: str, path: str, body: bytes | None) -> _Exchanged:
    """One request: its own connection, no redirects, everything within TIMEOUT. Raises FacilitatorAway."""
    if settings.MAILHOST_X402_FACILITATOR is None:
        raise _away(path, "MAILHOST_X402_FACILITATOR is not set")
    with _take_slot(path):
        try:
            return asyncio.run(_within_time(method, path, body))
        except _TROUBLE as error:
            raise _away(path, repr(error)) from None


@contextmanager
def _take_slot(path: str) -> Iterator[None]:
    if not _slots.acquire(blocking=False):
        raise _away(path, "too many payments at once wait for it")
    try:
        yield
    finally:
        _slots.release()


@cache
def _make_ssl_context() -> ssl.SSLContext:
    return ssl.create_default_context()


async def _within_time(method: str, path: str, body: bytes | None) -> _Exchanged:
    async with asyncio.timeout(TIMEOUT):
        return await _exchange(method, path, body)


async def _exchange(method: str, path: str, body: bytes | None) -> _Exchanged:
    base = urlsplit(str(settings.MAILHOST_X402_FACILITATOR))
    host = base.netloc.rpartition("@")[2]
    headers = [("Host", host), ("Accept", "application/json"), ("Content-Type", "application/json")]
    if base.username is not None:
        login = f"{unquote(base.username)}:{unquote(base.password or '')}"
        headers.append(("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}"))
    url = f"{base.scheme}://{host}{base.path.rstrip('/')}{path}"
    answer = bytearray()
    async with (
        httpcore.AsyncConnectionPool(ssl_context=_make_ssl_context()) as pool,
        pool.stream(method, url, headers=headers, content=body) as response,
    ):
        async for chunk in response.aiter_stream():
            answer += chunk
            if len(answer) > MAX_ANSWER:
                raise ValueError(f"the answer has more than {MAX_ANSWER} bytes")
    return response.status, bytes(answer)
