"""The inbound door: what the SMTP listener asks is put to the inbound services, many questions at a time."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from apps.core.ids import new_id
from apps.inbound.services import IncomingMail, RecipientVerdict, accept_mails, resolve_recipients
from apps.smtp.coalescer import BatchFailed, Coalescer
from mailhost.smtp.listener import ReceivedMail, SessionInfo, received_header
from mailhost.smtp.replies import Reply

MAX_MAILS = 100
MAX_MAIL_OCTETS = 8 * 1024 * 1024
MAX_LOOKUPS = 200
# Longer than any commit takes, shorter than a client waits (RFC 5321 4.5.3.2.3 and 4.5.3.2.6): then it is told to
# come again, and at worst the mail is stored twice.
LOOKUP_SECONDS = 60.0
DEPOSIT_SECONDS = 300.0

_TRY_AGAIN = Reply(451, "4.3.0", "Temporary trouble here, please try again later")

Resolve = Callable[[Sequence[str], datetime], Sequence[RecipientVerdict]]
Accept = Callable[[Sequence[IncomingMail], datetime], Sequence[Reply]]


def _resolve(addresses: Sequence[str], now: datetime) -> Sequence[RecipientVerdict]:
    return resolve_recipients(addresses=addresses, now=now)


def _accept(mails: Sequence[IncomingMail], now: datetime) -> Sequence[Reply]:
    return accept_mails(mails=mails, now=now)


class InboundReceiver:
    """A `mailhost.smtp.listener.Receiver`. Lookups and deposits each have a thread and a database connection."""

    def __init__(
        self,
        *,
        resolve: Resolve = _resolve,
        accept: Accept = _accept,
        lookup_seconds: float = LOOKUP_SECONDS,
        deposit_seconds: float = DEPOSIT_SECONDS,
    ) -> None:
        self._lookup_seconds = lookup_seconds
        self._deposit_seconds = deposit_seconds
        self._lookups = Coalescer[str, RecipientVerdict](
            "smtp-lookup", lambda addresses: resolve(addresses, datetime.now(UTC)), max_items=MAX_LOOKUPS
        )
        self._deposits = Coalescer[IncomingMail, Reply](
            "smtp-deposit",
            lambda mails: accept(mails, datetime.now(UTC)),
            max_items=MAX_MAILS,
            max_size=MAX_MAIL_OCTETS,
            size_of=lambda mail: len(mail.raw),
        )

    async def check_sender(self, session: SessionInfo, address: str) -> Reply | None:
        """Anybody may send to us; judging the sender comes with the message."""
        return None

    async def check_recipient(self, session: SessionInfo, address: str) -> Reply | None:
        """Is the address ours and alive?"""
        try:
            async with asyncio.timeout(self._lookup_seconds):
                verdict = await self._lookups.submit(address)
        except (BatchFailed, TimeoutError):
            return _TRY_AGAIN
        return verdict.refusal

    async def receive(self, session: SessionInfo, mail: ReceivedMail) -> Reply:
        """Store it; the answer comes after COMMIT."""
        header = received_header(session, mail, mail_id=new_id().hex)
        incoming = IncomingMail(
            raw=header + mail.raw,
            mail_from=mail.mail_from,
            recipients=mail.recipients,
            client_ip=session.client_ip,
            helo=session.helo,
            tls=session.tls is not None,
            smtputf8=mail.smtputf8,
            received_at=mail.received_at,
        )
        try:
            async with asyncio.timeout(self._deposit_seconds):
                return await self._deposits.submit(incoming)
        except (BatchFailed, TimeoutError):
            return _TRY_AGAIN

    def close(self) -> None:
        """Stop the threads."""
        self._lookups.close()
        self._deposits.close()
