"""A local x402 facilitator over HTTP, and wallets whose signatures it can check.

    with FakeFacilitator() as facilitator:
        settings.MAILHOST_X402_FACILITATOR = facilitator.url
        header = Wallet().sign(challenge)

It settles each authorization once, as a chain does. A test may let it refuse (`refuse`), answer something else
(`answers`), drop the connection after settling (`lose_answers`), or wait (`hold`). `calls` lists what it was asked.
A signature here is a hash over what is signed: enough to tell what was changed on the way.
"""

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from x402 import x402ClientSync
from x402.http import x402HTTPClientSync
from x402.schemas import PaymentRequirements


def sign_authorization(authorization: dict[str, str], extra: dict[str, Any], network: str, asset: str) -> str:
    """What stands for an EIP-712 signature."""
    signed = json.dumps([authorization, extra, network, asset], sort_keys=True)
    return "0x" + hashlib.sha512(signed.encode()).hexdigest() + "1b"


class Wallet:
    """An address that pays what it is asked: the package's own client, with a signer that needs no Ethereum."""

    scheme = "exact"

    def __init__(self) -> None:
        self.address = "0x" + secrets.token_hex(20)
        self.valid_seconds: int | None = None
        self.changes: dict[str, str] = {}
        """Replace parts of the authorizations before they are signed."""
        client = x402ClientSync()
        client.register("eip155:*", self)
        self.http = x402HTTPClientSync(client)

    def find_default_asset(self, asset: str, network: str) -> dict[str, Any]:
        """Which tokens the package's client spends without being told to: here all are six-decimal dollars."""
        return {"asset": asset, "decimals": 6, "symbol": "USDC"}

    def create_payment_payload(self, requirements: PaymentRequirements) -> dict[str, Any]:
        now = int(time.time())
        authorization = {
            "from": self.address,
            "to": requirements.pay_to,
            "value": requirements.amount,
            "validAfter": "0",
            "validBefore": str(now + (self.valid_seconds or requirements.max_timeout_seconds)),
            "nonce": "0x" + secrets.token_hex(32),
            **self.changes,
        }
        signature = sign_authorization(authorization, requirements.extra, requirements.network, requirements.asset)
        return {"authorization": authorization, "signature": signature}

    def sign(self, challenge: str) -> str:
        """The PAYMENT-SIGNATURE header for the PAYMENT-REQUIRED header of a 402."""
        headers, _ = self.http.handle_402_response({"PAYMENT-REQUIRED": challenge}, None, "")
        return headers["PAYMENT-SIGNATURE"]


class FakeFacilitator:
    """See the module."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Message] = []
        self.refuse: dict[str, str] = {}
        """Question (verify, settle) -> the reason why not."""
        self.answers: dict[str, tuple[int, bytes]] = {}
        """Question -> status and body, instead of an answer."""
        self.lose_answers = False
        self.hold: dict[str, threading.Event] = {}
        """Question -> what it waits for before it answers."""
        self.asked = threading.Semaphore(0)
        """Released with each question, before any waiting."""
        self.on_call: Callable[[str], None] = lambda question: None
        self.kinds = [{"x402Version": 2, "scheme": "exact", "network": "eip155:84532"}]
        self.settled: dict[str, str] = {}
        """Nonce -> transaction."""
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Nobody listens there any more."""
        for event in self.hold.values():
            event.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def count(self, question: str) -> int:
        return self.calls.count(question)

    def answer(self, question: str, body: dict[str, Any]) -> tuple[int, bytes]:
        """Status and body for one question."""
        if question in self.answers:
            return self.answers[question]
        if question == "supported":
            return 200, json.dumps({"kinds": self.kinds, "extensions": [], "signers": {}}).encode()
        terms, payload = body["paymentRequirements"], body["paymentPayload"]["payload"]
        payer = payload["authorization"]["from"]
        with self._lock:
            reason = self.refuse.get(question) or self._find_fault(payload, terms)
            if question == "verify":
                verdict = {"isValid": reason is None, "invalidReason": reason, "payer": payer}
                return 200, json.dumps(verdict).encode()
            transaction = "" if reason else "0x" + secrets.token_hex(32)
            if not reason:
                self.settled[payload["authorization"]["nonce"].lower()] = transaction
        settled = {"success": not reason, "errorReason": reason, "payer": payer, "transaction": transaction}
        return 200, json.dumps(settled | {"network": terms["network"]}).encode()

    def _find_fault(self, payload: dict[str, Any], terms: dict[str, Any]) -> str | None:
        authorization = payload["authorization"]
        signature = sign_authorization(authorization, terms["extra"], terms["network"], terms["asset"])
        if payload["signature"] != signature:
            return "invalid_exact_evm_signature"
        if authorization["nonce"].lower() in self.settled:
            return "invalid_exact_evm_nonce_already_used"
        if (authorization["to"], authorization["value"]) != (terms["payTo"], terms["amount"]):
            return "invalid_exact_evm_authorization_value_mismatch"
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    fake: FakeFacilitator


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _serve(self, body: dict[str, Any]) -> None:
        fake, question = self.server.fake, self.path.strip("/")
        fake.calls.append(question)
        fake.bodies.append(body)
        fake.headers.append(self.headers)
        fake.asked.release()
        fake.on_call(question)
        if question in fake.hold:
            fake.hold[question].wait(30)
        status, answer = fake.answer(question, body)
        if fake.lose_answers and question == "settle":
            self.close_connection = True
            return
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
        except OSError:
            pass  # the client gave up waiting

    def log_message(self, format: str, *args: Any) -> None:
        pass
