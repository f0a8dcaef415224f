"""One destination: what waits for it in this process, and a few connections that are used for many mails each."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from django.conf import settings
from django.utils import timezone

from apps.core.loops import DATABASE_AWAY, Database
from apps.delivery.loop.recorder import Recorder
from apps.delivery.loop.routes import Hop, NoRoute, Router
from apps.delivery.services import ClaimedDelivery, DeliveryResult, deliver_locally
from apps.delivery.services.claim import clear_stamp
from apps.delivery.services.prepare import PreparedMail, prepare_mails
from mailhost.smtp.client import SendResult, SessionFailed, SmtpSession
from mailhost.smtp.replies import Outcome, Stage

log = structlog.get_logger(__name__)

MAX_CONNECTIONS = 4
MAILS_A_CONNECTION = 100
GROUP_MAILS = 8
GROUP_OCTETS = 4 * 1024 * 1024
QUICK_SECONDS = 1.0
IDLE_SECONDS = 2.0
LOCAL_BATCH = 50


@dataclass(frozen=True, slots=True)
class Workshop:
    """What every channel works with."""

    database: Database
    recorder: Recorder
    router: Router
    forget: Callable[[UUID], None]
    """Tells the dispatcher that a delivery is no longer this process's."""


class Channel:
    """Queue and connections of one destination. `add` is all that the dispatcher calls."""

    def __init__(self, destination: str, workshop: Workshop) -> None:
        self.destination = destination
        self._workshop = workshop
        self._queue: deque[ClaimedDelivery] = deque()
        self._news = asyncio.Event()
        self._workers: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def backlog(self) -> int:
        """Deliveries that wait here for a connection."""
        return len(self._queue)

    @property
    def is_idle(self) -> bool:
        return not self._queue and not self._workers

    def add(self, deliveries: Sequence[ClaimedDelivery]) -> None:
        """Queue deliveries, and open another connection when those there are have enough to do."""
        self._queue.extend(deliveries)
        self._news.set()
        wanted = min(MAX_CONNECTIONS, -(-len(self._queue) // GROUP_MAILS))
        for _ in range(wanted - len(self._workers)):
            worker = asyncio.create_task(_Connection(self).run(), name=f"delivery {self.destination}")
            self._workers.add(worker)
            worker.add_done_callback(self._on_worker_done)

    def _on_worker_done(self, worker: "asyncio.Task[None]") -> None:
        self._workers.discard(worker)
        if not worker.cancelled() and worker.exception() is not None:
            log.error("delivery.connection_crashed", destination=self.destination, exc_info=worker.exception())
        if self._queue and not self._workers and not worker.cancelled():
            self.add([])

    def take_group(self, limit: int) -> list[ClaimedDelivery]:
        """The next few mails of a connection, bounded in number and size."""
        group: list[ClaimedDelivery] = []
        octets = 0
        while self._queue and len(group) < limit:
            octets += self._queue[0].size
            if group and octets > GROUP_OCTETS:
                break
            group.append(self._queue.popleft())
        return group

    def put_back(self, deliveries: Sequence[ClaimedDelivery]) -> None:
        """Return what was taken and not sent."""
        self._queue.extendleft(reversed(deliveries))
        self._news.set()

    def take_all(self) -> list[ClaimedDelivery]:
        """Everything that waits, when nobody can be reached or the process ends."""
        everything = list(self._queue)
        self._queue.clear()
        return everything

    async def wait_for_more(self) -> bool:
        """Whether mail came within the time for which an unused connection is kept."""
        self._news.clear()
        if self._queue or self._closing:
            return bool(self._queue)
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                await self._news.wait()
        except TimeoutError:
            return False
        return not self._closing

    async def close(self, grace: float) -> list[ClaimedDelivery]:
        """Let mails on the wire finish within `grace` seconds; what waited is given back to the caller."""
        self._closing = True
        waiting = self.take_all()
        workers = set(self._workers)
        self._news.set()
        if workers:
            await asyncio.wait(workers, timeout=grace)
        for worker in self._workers:
            worker.cancel()
        return waiting


class _Connection:
    """One connection's life: groups of mails until none comes for a while, reconnecting where needed.

    While a group is being sent to a server that answers at once, the next one is signed and stamped.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._workshop = channel._workshop
        self._session: SmtpSession | None = None
        self._hop: Hop | None = None
        self._group_size = 1
        self._ahead: asyncio.Task[list[PreparedMail]] | None = None

    async def run(self) -> None:
        try:
            while (mails := await self._next_mails()) is not None:
                await self._send_prepared(mails)
        finally:
            if self._ahead is not None:
                await self._put_back(await self._ahead)
            if self._session is not None:
                await asyncio.shield(self._session.quit())

    async def _next_mails(self) -> list[PreparedMail] | None:
        """What to send next over a connection that stands; None when nothing came for a while."""
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            mails = await ahead
            if not mails or not await self._ensure_session([mail.delivery for mail in mails]):
                return []
            return mails
        group = self._channel.take_group(self._group_size)
        if not group:
            return [] if await self._channel.wait_for_more() else None
        return await self._prepare(group) if await self._ensure_session(group) else []

    async def _prepare(self, group: list[ClaimedDelivery]) -> list[PreparedMail]:
        """Sign and stamp; what cannot be signed is recorded, what was lost to somebody else forgotten."""
        try:
            preparation = await self._workshop.database.call(prepare_mails, deliveries=group, now=timezone.now())
        except DATABASE_AWAY as error:
            # Nothing is on the wire. The leases run out if the database stays away.
            log.warning("delivery.prepare_waits", mails=len(group), error=str(error))
            await asyncio.sleep(1)
            self._channel.put_back(group)
            return []
        for failure in preparation.failures:
            self._workshop.recorder.add(failure)
        known = {mail.delivery.id for mail in preparation.mails}
        known |= {failure.delivery.id for failure in preparation.failures}
        for delivery in group:
            if delivery.id not in known:
                self._workshop.forget(delivery.id)
        return preparation.mails

    async def _send_prepared(self, mails: list[PreparedMail]) -> None:
        """Send one after the other; what is left when the connection breaks or stalls goes back into the queue."""
        if self._group_size == GROUP_MAILS and mails:
            following = self._channel.take_group(self._group_size)
            if following:
                self._ahead = asyncio.create_task(self._prepare(following))
        while mails:
            session = self._session
            if session is None or not session.is_open:
                await self._put_back(mails)
                return
            sending = asyncio.ensure_future(session.send(mails[0].envelope))
            try:
                if not (await asyncio.wait([sending], timeout=QUICK_SECONDS))[0]:
                    # A slow server holds this mail and nothing else: its neighbours may take other connections.
                    self._group_size = 0
                    await self._put_back(mails[1:])
                    mails = mails[:1]
                result = await sending
            finally:
                if not sending.done():  # this task is being ended: not a word more on a connection in mid-mail
                    session.abort()
                    sending.cancel()
            if result.is_stale:
                # The server had closed an unused connection before it answered anything: not a try at all.
                await self._put_back(mails)
                return
            self._workshop.recorder.add(self._make_result(mails[0].delivery, result))
            mails = mails[1:]
        self._group_size = min(max(self._group_size * 2, 1), GROUP_MAILS)

    async def _put_back(self, mails: list[PreparedMail]) -> None:
        """Stamped, but never on the wire: the stamp goes, so that a crash does not call them uncertain."""
        if not mails:
            return
        deliveries = [mail.delivery for mail in mails]
        with contextlib.suppress(*DATABASE_AWAY):
            await self._workshop.database.call(clear_stamp, deliveries=deliveries)
        self._channel.put_back(deliveries)

    async def _ensure_session(self, group: list[ClaimedDelivery]) -> bool:
        """A connection that can take mail; without one, all that waits for this destination has failed this try."""
        session = self._session
        if session is not None and session.is_open and session.transactions < MAILS_A_CONNECTION:
            return True
        if session is not None:
            self._session = None
            await session.quit()
        try:
            self._session = await self._connect(group[0].destination)
        except NoRoute as error:
            self._fail_all(group, error.outcome, None, error.enhanced_code, error.text)
        except SessionFailed as error:
            reply = error.reply
            self._fail_all(group, Outcome.TEMPORARY, reply.code, reply.enhanced or "", reply.text, error.remote_ip)
        return self._session is not None

    async def _connect(self, destination: str) -> SmtpSession:
        """The first host that greets us; raises NoRoute, or SessionFailed of the last host tried."""
        failure: SessionFailed | None = None
        for hop in await self._workshop.router.find_hops(destination):
            self._hop = hop
            sources = [ip for ip in settings.MAILHOST_OUTBOUND_IPS if (":" in str(ip)) == (":" in hop.address)]
            try:
                return await SmtpSession.open(
                    hop.address,
                    hop.port,
                    helo_name=settings.MAILHOST_HOSTNAME,
                    tls=hop.tls,
                    server_name=hop.name,
                    source_address=str(sources[0]) if sources else None,
                    credentials=hop.credentials,
                )
            except SessionFailed as error:
                failure = error
        raise failure or NoRoute(Outcome.TEMPORARY, "4.4.1", "There is no host to connect to")

    def _fail_all(
        self,
        group: list[ClaimedDelivery],
        outcome: Outcome,
        code: int | None,
        enhanced_code: str,
        text: str,
        ip: str | None = None,
    ) -> None:
        host = self._hop.name if self._hop is not None else ""
        for delivery in [*group, *self._channel.take_all()]:
            result = DeliveryResult(
                delivery, outcome, timezone.now(), code, enhanced_code, text, host, ip or None, is_local=True
            )
            self._workshop.recorder.add(result)

    def _make_result(self, delivery: ClaimedDelivery, result: SendResult) -> DeliveryResult:
        hop = self._hop
        return DeliveryResult(
            delivery=delivery,
            outcome=Outcome.UNCERTAIN if result.after_data else result.outcome,
            at=timezone.now(),
            code=result.reply.code,
            enhanced_code=result.reply.enhanced or "",
            text=result.reply.text,
            host=hop.name if hop is not None else "",
            ip=result.remote_ip or None,
            tls=f"{result.tls.version} {result.tls.cipher}" if result.tls is not None else "",
            by_relay=hop is not None and hop.by_relay,
            is_local=result.is_local,
            about_sender=result.stage is Stage.MAIL,
        )


class LocalChannel(Channel):
    """The mailboxes of this installation: no connection, one transaction per batch."""

    def add(self, deliveries: Sequence[ClaimedDelivery]) -> None:
        self._queue.extend(deliveries)
        if not self._workers:
            worker = asyncio.create_task(self._deliver(), name="delivery local")
            self._workers.add(worker)
            worker.add_done_callback(self._on_worker_done)

    async def _deliver(self) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(LOCAL_BATCH, len(self._queue)))]
            try:
                await self._workshop.database.call(deliver_locally, deliveries=batch, now=timezone.now())
            except DATABASE_AWAY as error:
                log.warning("delivery.local_waits", mails=len(batch), error=str(error))
                self.put_back(batch)
                await asyncio.sleep(1)
                continue
            for delivery in batch:
                self._workshop.forget(delivery.id)
