"""A program for test_pool.py: a pool of two SMTP processes that keep no mail. Prints its port; MAILS is its log."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import django

django.setup()  # the daemon's heartbeat is a model

from apps.smtp.daemon import run_loop, serve  # noqa: E402
from apps.smtp.pool import ProcessPool  # noqa: E402
from mailhost.smtp.listener import ReceivedMail, SessionInfo, bind_socket  # noqa: E402
from mailhost.smtp.replies import Reply  # noqa: E402


class Receiver:
    """Answers with the process's id, after as long as the subject says."""

    async def check_sender(self, session: SessionInfo, address: str) -> Reply | None:
        return None

    async def check_recipient(self, session: SessionInfo, address: str) -> Reply | None:
        return None

    async def receive(self, session: SessionInfo, mail: ReceivedMail) -> Reply:
        await asyncio.sleep(float(mail.raw.partition(b"Subject: ")[2].split(b"\r\n")[0] or 0))
        with Path(sys.argv[1]).open("ab") as file:
            file.write(b"%d\n" % os.getpid())
        return Reply(250, "2.0.0", f"pid {os.getpid()}")


def main() -> None:
    first = bind_socket("127.0.0.1", 0, is_shared=True)
    port = first.getsockname()[1]
    second = bind_socket("127.0.0.1", port, is_shared=True)
    print(port, flush=True)
    pool = ProcessPool(
        [first, second], lambda sock: run_loop(serve(sock, Receiver(), hostname="mx.example.com")), grace=6
    )
    pool.run()


main()
