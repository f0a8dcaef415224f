"""Refusals as real servers word them, and what they mean."""

# ruff: noqa: E501 (a table is read in lines)

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhost.dsn.classify import BounceReason, Classification, classify_refusal

HARD = [
    (550, "5.1.1", "The email account that you tried to reach does not exist. Please try double-checking", "unknown_recipient"),
    (550, "5.1.1", "<x@example.org>: Recipient address rejected: User unknown in virtual mailbox table", "unknown_recipient"),
    (550, "5.1.1", "unknown or illegal alias: x@example.org", "unknown_recipient"),
    (550, "5.1.10", "RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", "unknown_recipient"),
    (550, "5.4.1", "Recipient address rejected: Access denied. [AM0.prod.outlook.com]", "unknown_recipient"),
    (550, "5.7.1", "No such user here", "unknown_recipient"),
    (550, None, "Requested action not taken: mailbox unavailable", "unknown_recipient"),
    (550, None, "No Such User Here", "unknown_recipient"),
    (550, None, "sorry, no mailbox here by that name", "unknown_recipient"),
    (550, None, "<spam@blocked.example>: user unknown", "unknown_recipient"),
    (550, None, "Unrouteable address", "unknown_recipient"),
    (554, None, "delivery error: dd This user doesn't have a yahoo.com account (x@yahoo.com) [0]", "unknown_recipient"),
    (550, None, "Invalid recipient x@example.org", "unknown_recipient"),
    (553, None, "5xx", "unknown_recipient"),
    (0, "5.1.1", "", "unknown_recipient"),
    (550, "5.2.1", "The email account that you tried to reach is disabled.", "recipient_disabled"),
    (550, None, "This account has been disabled or discontinued [#102].", "recipient_disabled"),
    (550, "5.2.1", "", "recipient_disabled"),
    (550, None, "The account has expired", "recipient_disabled"),
    (550, "5.1.2", "bad destination host 'DNS Hard Error looking up example.org'", "unknown_domain"),
    (556, "5.1.10", "Recipient address has null MX", "unknown_domain"),
    (521, None, "this host does not accept mail", "unknown_domain"),
]  # fmt: skip

SOFT = [
    (552, "5.2.2", "The email account that you tried to reach is over quota.", "mailbox_full"),
    (452, "4.2.2", "The recipient's mailbox is full", "mailbox_full"),
    (554, "5.2.2", "mailbox full; sz=52428800/52428800", "mailbox_full"),
    (550, "5.1.1", "user over quota; cannot receive new mail", "mailbox_full"),
    (552, "5.3.4", "Message size exceeds fixed maximum message size", "message_too_large"),
    (552, None, "message exceeds size limit", "message_too_large"),
    (550, "5.7.26", "This mail has been blocked because the sender is unauthenticated. Gmail requires SPF or DKIM", "authentication"),
    (550, "5.7.1", "Email rejected per DMARC policy for example.org", "authentication"),
    (550, "5.7.606", "Access denied, banned sending IP [192.0.2.1]", "blocked"),
    (554, "5.7.1", "Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", "blocked"),
    (550, None, "SC-001 (COL004-MC1F1) Unfortunately, messages from 192.0.2.1 weren't sent. part of their network is on our block list", "blocked"),
    (554, "5.7.1", "[CS] Message blocked. Our system has detected that this message is likely unsolicited mail.", "content"),
    (550, "5.1.1", "rejected: this looks like spam to an unknown user", "content"),
    (552, "5.7.0", "This message was blocked because its content presents a potential security issue.", "policy"),
    (450, "4.2.1", "The user you are trying to contact is receiving mail at a rate that prevents additional messages", "rate_limited"),
    (421, "4.7.28", "Our system has detected an unusual rate of unsolicited mail", "content"),
    (421, "4.7.0", "[TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume", "policy"),
    (450, "4.2.0", "<x@example.org>: Recipient address rejected: Greylisted, see http://postgrey.example", "greylisted"),
    (451, "4.7.1", "Greylisting in action, please come back later", "greylisted"),
    (554, "5.4.14", "Hop count exceeded - possible mail loop", "loop"),
    (550, "5.7.1", "Unable to relay", "relaying"),
    (554, "5.7.1", "<x@example.org>: Relay access denied", "relaying"),
    (450, "4.1.1", "User unknown", "unknown_recipient"),
    (550, "4.1.1", "User unknown", "unknown_recipient"),
    (450, None, "mailbox unavailable", "unknown_recipient"),
    (0, "4.4.7", "delivery time expired", "expired"),
    (0, "5.4.7", "", "expired"),
    (553, "5.6.7", "", "protocol"),
    (451, None, "Requested action aborted: local error in processing", "temporary"),
    (421, None, "Service not available", "temporary"),
    (499, None, "", "temporary"),
    (550, None, "", "other"),
    (554, None, "Transaction failed", "other"),
    (550, "5.7.1", "rejected by policy", "policy"),
    (550, "5.1.8", "<x@example.org>: Sender address rejected: Domain not found", "policy"),
    (550, None, "Sender verify failed: no such user", "policy"),
    (550, "5.1.0", "From address is not valid: user unknown", "policy"),
    (0, None, "", "other"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "enhanced", "text", "reason"), HARD)
def test_a_permanent_refusal_of_the_recipient_is_hard(code: int, enhanced: str | None, text: str, reason: str) -> None:
    assert classify_refusal(code, enhanced, text) == Classification("hard", BounceReason(reason))


@pytest.mark.parametrize(("code", "enhanced", "text", "reason"), SOFT)
def test_everything_else_is_soft(code: int, enhanced: str | None, text: str, reason: str) -> None:
    assert classify_refusal(code, enhanced, text) == Classification("soft", BounceReason(reason))


@given(st.integers(0, 999), st.one_of(st.none(), st.text(max_size=12)), st.text(max_size=300))
def test_any_reply_is_classified(code: int, enhanced: str | None, text: str) -> None:
    found = classify_refusal(code, enhanced, text)
    assert found.kind == "soft" or code >= 500 or (enhanced or "").startswith("5")


def test_long_replies_take_no_longer_than_they_should() -> None:
    started = time.perf_counter()
    for word in ("user ", "address mailbox ", "host client server ", "size message ", "exceeded "):
        classify_refusal(550, "5.0.0", word * 10_000)
    assert time.perf_counter() - started < 2
