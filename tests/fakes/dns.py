"""A local authoritative DNS server: real sockets, UDP and TCP on one port, answers from a dict.

    with FakeDns({"example.org": [("MX", "10 mail.example.org")], "mail.example.org": [("A", "192.0.2.1")]}) as dns:
        resolver = Resolver([dns.address])
        dns.zone["broken.example"] = Trouble.SERVFAIL

The zone may change at any time. A name that is not in it gets NXDOMAIN, a name without the type asked for gets no
data; both carry an SOA record with `negative_ttl`. CNAMEs are followed within the zone.
"""

from __future__ import annotations

import enum
import selectors
import socket
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from dnslib import AAAA, CNAME, MX, NS, PTR, QTYPE, RCODE, RR, SOA, TXT, A, DNSRecord

Record = tuple[str, str] | tuple[str, str, int]
"""Type, value and, if it matters, TTL in seconds. MX values are "10 host", TXT values any text."""

DEFAULT_TTL = 300


class Trouble(enum.Enum):
    """What may stand in the zone instead of records."""

    SERVFAIL = enum.auto()
    REFUSED = enum.auto()
    NXDOMAIN = enum.auto()
    STALL = enum.auto()
    """No answer at all."""
    GARBAGE = enum.auto()
    """Octets that are no DNS message."""


class FakeDns:
    """See the module. `queries` lists what was asked, as (name, type, "udp" or "tcp")."""

    def __init__(self, zone: dict[str, Sequence[Record] | Trouble] | None = None, *, negative_ttl: int = 60) -> None:
        self.zone: dict[str, Sequence[Record] | Trouble] = dict(zone or {})
        self.negative_ttl = negative_ttl
        self.truncate_udp = False
        """Answer every UDP question with "ask by TCP"."""
        self.queries: list[tuple[str, str, str]] = []
        self._udp, self._tcp = _bind_both()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="fake-dns", daemon=True)

    @property
    def address(self) -> str:
        """Where it listens, as "127.0.0.1:port"."""
        host, port = self._udp.getsockname()
        return f"{host}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wake.send(b"x")
        self._thread.join(timeout=5)
        for one in (self._udp, self._tcp, self._wake, self._woken):
            one.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            for one in (self._udp, self._tcp, self._woken):
                selector.register(one, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._woken in ready:
                    return
                if self._udp in ready:
                    self._serve_udp()
                if self._tcp in ready:
                    self._serve_tcp()

    def _serve_udp(self) -> None:
        data, client = self._udp.recvfrom(4096)
        if answer := self._answer(data, "udp"):
            self._udp.sendto(answer, client)

    def _serve_tcp(self) -> None:
        connection, _ = self._tcp.accept()
        with connection:
            connection.settimeout(2)
            try:
                length = int.from_bytes(_read_exactly(connection, 2), "big")
                if answer := self._answer(_read_exactly(connection, length), "tcp"):
                    connection.sendall(len(answer).to_bytes(2, "big") + answer)
            except OSError:
                return

    def _answer(self, data: bytes, transport: str) -> bytes:
        question = DNSRecord.parse(data)
        name = str(question.q.qname).rstrip(".").lower()
        kind = QTYPE.get(question.q.qtype)
        self.queries.append((name, kind, transport))
        entry = self._find(name)
        if entry is Trouble.STALL:
            return b""
        if entry is Trouble.GARBAGE:
            return b"\xff" * 40
        reply = question.reply()
        if transport == "udp" and self.truncate_udp:
            reply.header.tc = 1
            return bytes(reply.pack())
        if isinstance(entry, Trouble):
            reply.header.rcode = getattr(RCODE, entry.name)
        else:
            self._fill(reply, name, kind)
        if reply.header.rcode == RCODE.NXDOMAIN or not reply.rr:
            times = (1, 3600, 600, 86400, self.negative_ttl)
            reply.add_auth(RR(name, QTYPE.SOA, ttl=self.negative_ttl, rdata=SOA("ns.test", "host.test", times)))
        packed = bytes(reply.pack())
        if transport == "udp" and len(packed) > 1232:
            reply.rr.clear()
            reply.header.tc = 1
            packed = bytes(reply.pack())
        return packed

    def _fill(self, reply: DNSRecord, name: str, kind: str) -> None:
        for _ in range(10):  # CNAMEs
            entry = self._find(name)
            if isinstance(entry, Trouble):
                reply.header.rcode = getattr(RCODE, entry.name, RCODE.SERVFAIL)
                return
            alias = None
            for record_kind, value, *ttl in entry:
                if record_kind in (kind, "CNAME"):
                    reply.add_answer(_make_record(name, record_kind, value, ttl[0] if ttl else DEFAULT_TTL))
                if record_kind == "CNAME" and kind != "CNAME":
                    alias = value.rstrip(".").lower()
            if alias is None:
                return
            name = alias

    def _find(self, name: str) -> Sequence[Record] | Trouble:
        if name in self.zone:
            return self.zone[name]
        if any(known.endswith(f".{name}") for known in list(self.zone)):
            return []  # an empty non-terminal (RFC 8020)
        return Trouble.NXDOMAIN


def _make_record(name: str, kind: str, value: str, ttl: int) -> RR:
    if kind == "MX":
        preference, host = value.split()
        data = MX(host, int(preference))
    elif kind == "TXT":
        octets = value.encode()
        data = TXT([octets[start : start + 255] for start in range(0, len(octets), 255)] or [b""])
    else:
        data = {"A": A, "AAAA": AAAA, "CNAME": CNAME, "NS": NS, "PTR": PTR}[kind](value)
    return RR(name, getattr(QTYPE, kind), ttl=ttl, rdata=data)


def _bind_both() -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on the same free port."""
    for _ in range(50):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            udp.bind(("127.0.0.1", 0))
            tcp.bind(udp.getsockname())
            tcp.listen(64)
        except OSError:
            udp.close()
            tcp.close()
        else:
            return udp, tcp
    raise RuntimeError("no port is free for both UDP and TCP")


def _read_exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise ConnectionError("the client closed early")
        data += piece
    return data
