"""`manage.py sink`: a mail server that shows what it gets, to try sending on one's own machine.

It is aiosmtpd as it comes, and so a server that we did not write: what it takes, others take too.
"""

import asyncio
from email import message_from_bytes
from email.policy import SMTP as SMTP_POLICY
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session
from django.core.management.base import BaseCommand, CommandError, CommandParser

_MAX_OCTETS = 36 * 1024 * 1024


class ShowMail:
    """aiosmtpd's handler: takes every mail, and says who wrote what to whom."""

    def __init__(self, say: Any) -> None:
        self._say = say

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content or b""
        octets = content if isinstance(content, bytes) else content.encode()
        mail = message_from_bytes(octets, policy=SMTP_POLICY)
        signatures = len(mail.get_all("DKIM-Signature", []))
        self._say(
            f"{envelope.mail_from} -> {', '.join(envelope.rcpt_tos)}: {mail['Subject']!s}"
            f" ({len(octets)} octets, {signatures} DKIM signatures)"
        )
        return "250 2.0.0 Shown"


class Command(BaseCommand):
    """Listens on loopback until Ctrl-C."""

    help = "Takes mail on 127.0.0.1 and shows it: a smarthost to try MAILHOST_DELIVERY=relay with."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=1025, help="The port to listen on (1025).")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            asyncio.run(serve(options["port"], self.stdout.write))
        except OSError as error:
            raise CommandError(
                f"Port {options['port']} cannot be listened on ({error.strerror}): give --port."
            ) from None
        except KeyboardInterrupt:
            return


async def serve(port: int, say: Any) -> None:
    """Take mail on a port of loopback until cancelled; port 0 takes a free one."""
    loop = asyncio.get_running_loop()

    def make_session() -> SMTP:
        return SMTP(ShowMail(say), data_size_limit=_MAX_OCTETS, enable_SMTPUTF8=True, loop=loop)

    server = await loop.create_server(make_session, "127.0.0.1", port)
    bound = server.sockets[0].getsockname()[1]
    say(f"Listening on 127.0.0.1:{bound}. Use it with MAILHOST_RELAY_URL=smtp://127.0.0.1:{bound}")
    async with server:
        await server.serve_forever()
