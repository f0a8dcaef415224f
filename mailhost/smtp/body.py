"""Reading a message out of DATA: where it ends, whether it may be taken, and what it says. No I/O.

RFC 5321 2.3.8 (lines end in CRLF and nothing else), 4.1.1.4 (the end of the mail), 4.5.2 (transparency).
"""

from __future__ import annotations

from mailhost.smtp.commands import CommandRefused
from mailhost.smtp.replies import Reply

# RFC 5321 4.5.3.1.6 asks for 1,000 octets; programs that send HTML in one long line are common and meant well.
MAX_LINE = 64 * 1024

_END = b"\r\n.\r\n"


class BodyReader:
    """Takes the bytes after 354 as they come.

    Only CRLF "." CRLF ends the mail. A bare CR or LF anywhere in it refuses the whole mail: what another server
    took for one mail and we for two would let a stranger write the second in that server's name (SMTP smuggling,
    CVE-2023-51764 and its kin).
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        # The CRLF that ends the DATA command also begins the mail: an empty one is just ".\r\n".
        self._buffer = bytearray(b"\r\n")
        self._refusal: Reply | None = None
        self.octets = 0
        self.rest = b""

    def feed(self, data: bytes | bytearray) -> bool:
        """Take bytes; True once the end has come. What followed it is then in `rest`."""
        searched = max(0, len(self._buffer) - len(_END) + 1)
        self._buffer += data
        self.octets += len(data)
        end = self._buffer.find(_END, searched)
        if end >= 0:
            self.rest = bytes(self._buffer[end + len(_END) :])
            del self._buffer[end + 2 :]
        # The leading CRLF is ours; without the end, the last two octets may be its dot and CR.
        if len(self._buffer) - 2 > self._max_size + (0 if end >= 0 else 2):
            self.refuse(Reply(552, "5.3.4", f"The message is larger than {self._max_size} octets"))
        if self._refusal is not None:
            del self._buffer[: -len(_END) + 1]
        return end >= 0

    def refuse(self, reply: Reply) -> None:
        """Keep no more of this mail; its end is still looked for, as the answer must wait until then."""
        self._refusal = self._refusal or reply

    def finish(self) -> bytes:
        """The message, byte for byte as its sender meant it. Raises CommandRefused."""
        buffer, self._buffer = self._buffer, bytearray()
        if self._refusal is not None:
            raise CommandRefused(self._refusal.code, self._refusal.enhanced or "5.0.0", self._refusal.text)
        ends = buffer.count(b"\r\n")
        if buffer.count(b"\n") != ends or buffer.count(b"\r") != ends:
            raise CommandRefused(550, "5.6.11", "The message holds a bare CR or LF (RFC 5321 section 2.3.8)")
        if _has_long_line(buffer):
            raise CommandRefused(554, "5.6.0", f"The message holds a line of more than {MAX_LINE} octets")
        if b"\r\n." in buffer:
            buffer = buffer.replace(b"\r\n.", b"\r\n")
        return bytes(memoryview(buffer)[2:])


def _has_long_line(buffer: bytearray) -> bool:
    """Whether a line is longer than MAX_LINE, in as many steps as the limit fits into the buffer."""
    start = 0
    while len(buffer) - start > MAX_LINE:
        end = buffer.rfind(b"\n", start, start + MAX_LINE)
        if end < 0:
            return True
        start = end + 1
    return False
