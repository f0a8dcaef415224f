"""Mail from other servers: is the recipient ours, and into the mailboxes with it (design: life of an incoming mail)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import psycopg
import structlog
from django.db import InterfaceError, OperationalError, connection, transaction

from apps.delivery.services import ArrivedReport, record_reports
from apps.mail.services import Deposit, DepositResult, deposit_messages
from apps.mailboxes.selectors import Recipient, RecipientState, find_recipients
from apps.mailboxes.services import Usage, add_usage
from mailhost.dsn.parse import DeliveryReport, FeedbackReport, parse_report
from mailhost.message.parse import ParsedMessage, parse_message
from mailhost.smtp.replies import Reply

log = structlog.get_logger(__name__)

ACCEPTED = Reply(250, "2.0.0", "OK: stored")
_DATABASE_AWAY = (OperationalError, InterfaceError)
TRY_AGAIN = Reply(451, "4.3.0", "Temporary trouble here, please try again later")
_NO_SUCH_USER = Reply(550, "5.1.1", "No such mailbox here")
_REFUSALS = {
    RecipientState.UNKNOWN: _NO_SUCH_USER,
    RecipientState.DELETED: _NO_SUCH_USER,
    RecipientState.SUSPENDED: Reply(550, "5.2.1", "This mailbox is disabled"),
    RecipientState.INVALID: Reply(553, "5.1.3", "That is not a mail address"),
}


@dataclass(frozen=True, slots=True)
class RecipientVerdict:
    """The answer at RCPT: a mailbox, or the reply that refuses."""

    mailbox_id: UUID | None
    refusal: Reply | None


@dataclass(frozen=True, slots=True)
class IncomingMail:
    """A mail as it came over SMTP; `raw` is what is stored, our Received field on top of it."""

    raw: bytes
    mail_from: str
    recipients: list[str]
    client_ip: str
    helo: str
    tls: bool
    smtputf8: bool
    received_at: datetime


def resolve_recipients(*, addresses: Sequence[str], now: datetime) -> list[RecipientVerdict]:
    """Whether each address takes mail, in order, by one query (RFC 5321, section 3.3); 451 while the database is
    away."""
    try:
        return [_judge(recipient) for recipient in find_recipients(addresses)]
    except _DATABASE_AWAY as error:
        _note_database_away(error)
        return [RecipientVerdict(None, TRY_AGAIN)] * len(addresses)


def _note_database_away(error: Exception) -> None:
    """A broken connection is let go, so that the next call makes a new one, from whatever thread it comes."""
    log.error("inbound.database_away", error=str(error))
    connection.close_if_unusable_or_obsolete()


def _note_failure(event: str, error: Exception, **facts: int) -> None:
    """Without what PostgreSQL quotes of the failing row: that is people's mail."""
    if isinstance(error.__cause__, psycopg.Error):
        log.warning(event, error=f"{type(error).__name__}: {error.__cause__.diag.message_primary}", **facts)
    else:
        log.warning(event, error=type(error).__name__, exc_info=True, **facts)


def _judge(recipient: Recipient) -> RecipientVerdict:
    if recipient.state == RecipientState.ACCEPTS and recipient.mailbox is not None:
        return RecipientVerdict(recipient.mailbox.id, None)
    return RecipientVerdict(None, _REFUSALS[recipient.state])


def accept_mails(*, mails: Sequence[IncomingMail], now: datetime) -> list[Reply]:
    """Store a group of mails in one transaction; the reply for each, 250 only after COMMIT.

    When the group fails each mail gets a transaction of its own, and only the culprit suffers: it is stored with its
    parsed fields emptied and a defect noted, or answered 451. When the database itself is away all that is not
    stored yet get 451: a duplicate is allowed, a loss is not.
    """
    parsed = [_parse(mail) for mail in mails]
    replies: list[Reply] = []
    try:
        try:
            return _store_group(mails, parsed, now)
        except _DATABASE_AWAY:
            raise
        except Exception as error:  # whatever one stranger's mail sets off, its neighbours are stored
            _note_failure("inbound.group_failed", error, mails=len(mails))
        for mail, fields in zip(mails, parsed, strict=True):
            replies.append(_store_alone(mail, fields, now))
    except _DATABASE_AWAY as error:
        _note_database_away(error)
    return replies + [TRY_AGAIN] * (len(mails) - len(replies))


def _parse(mail: IncomingMail) -> ParsedMessage:
    try:
        return parse_message(mail.raw)
    except Exception:  # it never raises; if it does, the raw octets are the mail
        log.exception("inbound.not_parsed", octets=len(mail.raw))
        return _empty_fields()


def _empty_fields() -> ParsedMessage:
    return ParsedMessage(defects=["The parsed fields could not be stored."])


def _store_group(mails: Sequence[IncomingMail], parsed: Sequence[ParsedMessage], now: datetime) -> list[Reply]:
    deposits = [
        Deposit(recipients=mail.recipients, raw=mail.raw, parsed=fields, mail_from=mail.mail_from)
        for mail, fields in zip(mails, parsed, strict=True)
    ]
    reports = [
        parse_report(mail.raw) if fields.automatic == "report" else None
        for mail, fields in zip(mails, parsed, strict=True)
    ]
    with transaction.atomic():
        usage: Usage = {}
        results = deposit_messages(deposits=deposits, now=now, usage=usage)
        arrived = _match_reports(reports, results)
        for mailbox_id, counters in record_reports(reports=arrived, now=now).items():
            usage.setdefault(mailbox_id, {}).update(counters)
        add_usage(deltas=usage, now=now)
    return [_reply(result) for result in results]


def _match_reports(
    reports: Sequence[DeliveryReport | FeedbackReport | None], results: Sequence[list[DepositResult]]
) -> list[ArrivedReport]:
    """The reports of a group, with the mailboxes that they were stored in."""
    return [
        ArrivedReport(result.mailbox_id, report)
        for report, outcomes in zip(reports, results, strict=True)
        for result in outcomes
        if report is not None and result.mailbox_id is not None
    ]


def _reply(results: list[DepositResult]) -> Reply:
    """250 when at least one recipient has the mail; the others were deleted since RCPT and get nothing."""
    if any(result.message_id is not None for result in results):
        return ACCEPTED
    return _REFUSALS[results[0].state] if results else TRY_AGAIN


def _store_alone(mail: IncomingMail, parsed: ParsedMessage, now: datetime) -> Reply:
    """One mail by itself; if its parsed fields are the trouble, without them: the raw octets are the mail."""
    for fields in (parsed, _empty_fields()):
        try:
            return _store_group([mail], [fields], now)[0]
        except _DATABASE_AWAY:
            raise
        except Exception as error:  # as above
            _note_failure("inbound.mail_failed", error, octets=len(mail.raw))
    return TRY_AGAIN
