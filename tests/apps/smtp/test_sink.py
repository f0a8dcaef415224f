"""The sink is a server that we did not write (aiosmtpd): our client's mail arrives there whole."""

import asyncio
import re

from apps.smtp.management.commands.sink import serve
from mailhost.envelope import Envelope
from mailhost.smtp.client import SmtpSession
from mailhost.smtp.replies import Outcome


async def deliver(count: int) -> tuple[list[str], list[Outcome]]:
    said: list[str] = []
    server = asyncio.create_task(serve(0, said.append))
    while not said:
        await asyncio.sleep(0.01)
    found = re.search(r"127\.0\.0\.1:(\d+)\.", said[0])
    assert found is not None
    session = await SmtpSession.open("127.0.0.1", int(found.group(1)), helo_name="mail.test")
    raw = "Subject: Grüße\r\nDKIM-Signature: v=1\r\n\r\n.leading dot\r\n".encode()
    envelope = Envelope("a@mail.test", "b@other.test", raw, smtputf8=True)
    outcomes = [(await session.send(envelope)).outcome for _ in range(count)]
    await session.quit()
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)
    return said, outcomes


def test_it_takes_what_our_client_sends_and_shows_it() -> None:
    said, outcomes = asyncio.run(deliver(3))
    assert outcomes == [Outcome.DELIVERED] * 3
    assert len(said) == 4
    assert "a@mail.test -> b@other.test: Grüße" in said[1]
    assert "1 DKIM signatures" in said[1]
