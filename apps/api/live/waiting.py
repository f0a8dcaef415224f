"""Waiting for a mail: what is there already is looked at first, then what comes, until one is the right one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from apps.accounts.models import ApiKey
from apps.api.live.http import ClientGone, Receive, end_task, wait_for_departure
from apps.api.live.hub import Live
from apps.api.live.inboxes import Waiter
from apps.api.live.regexes import SEARCHED
from apps.api.live.search import Mark, Search, Wanted
from apps.core.ids import id_floor
from apps.events.selectors import Place, read_late, read_received, settled_position
from apps.mail.models import MessageBody
from apps.mail.selectors import Incoming, get_incoming, list_incoming
from mailhost.message.html import html_to_text

T = TypeVar("T")
Found = TypeVar("Found")

PAGE = 200
_LATE = 1_000
_DAY_MS = 24 * 3600 * 1000
_NO_ID = UUID(int=0)
GRACE_SECONDS = 15.0
"""What looking through mail that is there already may take beyond the time that its reader wants to wait."""


Mails = Sequence[tuple[Incoming, int | None]]
"""Mails with their positions in the log; None for what has settled."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a search begins, and the first mail that is there already."""

    wanted: Wanted
    mark: Mark
    settled: int
    """The log below this position was settled before the mail was read."""
    late: Mails
    """What a cursor's reader could not see yet, although its ids lie before the cursor."""
    page: Mails


def plan_search(*, wanted: Wanted, after: Mark | None, since: datetime) -> Plan:
    """Begin behind `after`, or else with mail that came at `since` or later. On a database thread."""
    settled = settled_position()
    late: Mails = []
    if after is None:
        mark = Mark(UUID(int=max(0, id_floor(since).int - 1)), settled)
    else:
        mark = after
        positions = read_late(mailbox_id=wanted.mailbox_id, position=mark.position, newest=mark.newest, limit=_LATE)
        mails = get_incoming(message_id for message_id in positions if not mark.has_noted(message_id))
        late = sorted(((mail, positions[mail.id]) for mail in mails.values()), key=lambda pair: pair[0].id)
    page = read_page(mailbox_id=wanted.mailbox_id, after=mark.newest, settled=settled)
    return Plan(wanted, mark, settled, late, page)


def read_page(*, mailbox_id: UUID, after: UUID, settled: int) -> Mails:
    """The next mail that is there behind an id. On a database thread."""
    mails = list_incoming(mailbox_id=mailbox_id, after=after, limit=PAGE)
    if not mails:
        return []
    # Read behind the mails, so that whatever of them had not settled is among these.
    floor = UUID(int=max(0, mails[0].id.int - (_DAY_MS << 80)))
    _, fresh = read_received(marks={mailbox_id: Place(settled, _NO_ID)}, floor=floor, limit=_LATE)
    positions = {one.message_id: one.place.position for one in fresh}
    return [(mail, positions.get(mail.id)) for mail in mails]


class MailFinder(Generic[Found]):
    """Looks for the mail that is wanted. `load` makes of it what is answered, None when it is gone again; `search`
    says afterwards what was looked at."""

    def __init__(
        self, live: Live, plan: Plan, *, search: Search, load: Callable[[UUID], Awaitable[Found | None]]
    ) -> None:
        self._live = live
        self._plan = plan
        self._search = search
        self._load = load

    async def find(self, waiter: Waiter, *, deadline: float) -> Found | None:
        """The mail, None when it has not come by `deadline` (the loop's clock); raises what ends the wait early."""
        found = await self._look_through()
        if found is not None:
            return found
        try:
            async with asyncio.timeout_at(deadline):
                return await self._await_more(waiter)
        except TimeoutError:
            return None

    async def _look_through(self) -> Found | None:
        """Mail that is there already."""
        found = await self._first(self._plan.late)
        # Whatever has an id below the next mail's was seen by now, unless it came later than this.
        if found is None:
            self._search.settle(self._plan.settled)
        page = self._plan.page
        while found is None:
            found = await self._first(page)
            if len(page) < PAGE:
                break
            page = await self._live.call(
                read_page,
                mailbox_id=self._plan.wanted.mailbox_id,
                after=self._search.newest,
                settled=self._plan.settled,
            )
        return found

    async def _await_more(self, waiter: Waiter) -> Found:
        while True:
            batch = await waiter.next_batch()
            found = await self._first([pair for pair in batch.mails if self._search.is_new(pair[0].id)])
            if found is not None:
                return found
            self._search.settle(batch.boundary)

    async def _first(self, mails: Mails) -> Found | None:
        for mail, position in mails:
            found = await self._load(mail.id) if await self._is_wanted(mail) else None
            self._search.note(mail.id, position)
            if found is not None:
                return found
        return None

    async def _is_wanted(self, mail: Incoming) -> bool:
        wanted = self._plan.wanted
        if not wanted.accepts(mail):
            return False
        if wanted.pattern is None:
            return True
        texts = await self._live.loader(read_texts).load(mail.id)
        return texts is not None and await self._live.bench.search(wanted.organization_id, wanted.pattern, texts)


async def hold(live: Live, key: ApiKey, waiter: Waiter, receive: Receive, work: Awaitable[T], seconds: float) -> T:
    """Await `work` for so long, unless the key ends first; raises ClientGone when its reader has left, and
    TimeoutError."""
    watched = live.keys.add(key, waiter.end)
    departure = asyncio.ensure_future(wait_for_departure(receive))
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({departure, task}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone if departure.done() else TimeoutError
    finally:
        live.keys.remove(watched)
        await end_task(task)
        await end_task(departure)


def read_texts(*, ids: Sequence[UUID]) -> dict[UUID, list[str]]:
    """What an expression is searched in: the text, and the HTML as text. On a database thread."""
    rows = MessageBody.objects.filter(message_id__in=ids).values_list("message_id", "text", "html")
    return {message_id: _both_texts(text, html) for message_id, text, html in rows}


def _both_texts(text: str, html: str) -> list[str]:
    texts = [text[:SEARCHED]]
    if html:
        texts.append(html_to_text(html[: 4 * SEARCHED])[:SEARCHED])
    return texts
