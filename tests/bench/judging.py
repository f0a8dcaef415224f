"""What a verdict on the sender costs: a signed mail of 4 KB, answers of the DNS in the cache, one core.

    python tests/bench/judging.py [--rounds 2000] [--profile]

Prints CPU milliseconds for each verdict and verdicts a second, for RSA-2048, for Ed25519 and for both; then how long a
mail of 36 MB takes and how long others wait for their turn meanwhile.
"""

import argparse
import asyncio
import base64
import cProfile
import os
import pstats
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from mailhost.auth.dkim import DkimSigner, dkim_record, generate_dkim_key, sign_message  # noqa: E402
from mailhost.auth.judge import SenderVerdict, judge_sender  # noqa: E402
from mailhost.dns.resolver import Resolver  # noqa: E402
from tests.fakes.dns import FakeDns  # noqa: E402

KEYS = {"rsa": generate_dkim_key("rsa-sha256"), "ed": generate_dkim_key("ed25519-sha256")}
SIGNERS = {
    "rsa": DkimSigner("sender.example", "rsa", "rsa-sha256", KEYS["rsa"].private_pem),
    "ed": DkimSigner("sender.example", "ed", "ed25519-sha256", KEYS["ed"].private_pem),
}
ZONE = {
    "sender.example": [("TXT", "v=spf1 include:_spf.sender.example -all")],
    "_spf.sender.example": [("TXT", "v=spf1 ip4:198.51.100.0/24 ip4:192.0.2.0/24 ~all")],
    "mail.sender.example": [("TXT", "v=spf1 a -all"), ("A", "192.0.2.7")],
    "_dmarc.sender.example": [("TXT", "v=DMARC1; p=reject; rua=mailto:reports@sender.example")],
    "rsa._domainkey.sender.example": [("TXT", dkim_record(KEYS["rsa"].public_key, "rsa-sha256"))],
    "ed._domainkey.sender.example": [("TXT", dkim_record(KEYS["ed"].public_key, "ed25519-sha256"))],
}
HEADER = (
    b"Received: from mail.sender.example (mail.sender.example [192.0.2.7])\r\n\tby mx.here.example with ESMTPS id x\r\n"
    b"\tfor <ann@here.example>; Sun, 01 Mar 2026 12:30:05 +0000\r\n"
    b"Date: Sun, 01 Mar 2026 12:30:05 +0000\r\nFrom: Some Body <bob@sender.example>\r\nTo: Ann <ann@here.example>\r\n"
    b"Subject: A subject line of the usual length\r\nMessage-ID: <one@sender.example>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nReply-To: bob@sender.example\r\n\r\n"
)


def judge(raw: bytes, resolver: Resolver) -> "asyncio.Future[SenderVerdict]":
    return asyncio.ensure_future(
        judge_sender(
            raw=raw,
            client_ip="192.0.2.7",
            helo="mail.sender.example",
            mail_from="bob@sender.example",
            resolver=resolver,
            authserv_id="mx.here.example",
        )
    )


async def measure(raw: bytes, resolver: Resolver, rounds: int) -> float:
    """CPU milliseconds a verdict, the best of three runs."""
    verdict = await judge(raw, resolver)
    assert verdict.dmarc.aligned_by == ("spf", "dkim"), verdict
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        for _ in range(rounds):
            await judge(raw, resolver)
        best = min(best, time.process_time() - started)
    return best / rounds * 1000


async def measure_large(resolver: Resolver) -> None:
    async def watch() -> None:
        nonlocal longest
        while True:
            turn = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - turn - 0.001)

    body = base64.encodebytes(os.urandom(26 * 1024 * 1024)).replace(b"\n", b"\r\n")
    raw = sign_message(HEADER + body, [SIGNERS["rsa"]])
    longest = 0.0
    watching = asyncio.create_task(watch())
    started = time.perf_counter()
    verdict = await judge(raw, resolver)
    seconds = time.perf_counter() - started
    watching.cancel()
    assert verdict.dkim[0].result == "pass"
    megabytes = len(raw) / 1e6
    print(f"{megabytes:.0f} MB: {seconds * 1000:.0f} ms, others wait {longest * 1000:.1f} ms at most")


async def run(address: str, rounds: int, profile: bool) -> None:
    resolver = Resolver([address])
    raw = HEADER + b"The quick brown fox jumps over the lazy dog, again and again.\r\n" * 60
    for names in (["rsa"], ["ed"], ["rsa", "ed"]):
        signed = sign_message(raw, [SIGNERS[name] for name in names])
        each = await measure(signed, resolver, rounds)
        print(f"{'+'.join(names):8} {len(signed)} octets: {each:.3f} ms CPU, {1000 / each:,.0f} verdicts a second")
    await measure_large(resolver)
    if profile:
        signed = sign_message(raw, [SIGNERS["rsa"]])
        with cProfile.Profile() as profiler:
            await measure(signed, resolver, rounds)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    with FakeDns(ZONE) as server:
        asyncio.run(run(server.address, arguments.rounds, arguments.profile))
