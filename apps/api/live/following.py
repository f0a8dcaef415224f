"""Following the event log as one stream: first what is there behind a place, then what comes."""

from collections.abc import AsyncIterator
from uuid import UUID

from apps.api.live.feeds import PAGE, LiveEvent, Stream
from apps.api.live.hub import Live
from apps.events.selectors import Place, place_of, read_feeds

_NO_ID = UUID(int=0)


class SlowReader(Exception):
    """The stream's reader does not read as fast as events come."""


async def follow(live: Live, stream: Stream, place: Place, *, idle_seconds: float) -> AsyncIterator[list[LiveEvent]]:
    """Events behind `place` in commit order; an empty list after so long without any. Ends when the stream is over.

    Raises SlowReader when too many events wait for the next step of this generator.
    """
    standing = live.feeds.join(stream)
    is_caught_up = False
    while not is_caught_up:
        settled, rows = await live.call(read_feeds, marks={stream.organization_id: place}, limit=PAGE)
        ready = [LiveEvent(row, place_of(row)) for row in rows if row.position < settled]
        if ready:
            yield ready
            place = ready[-1].place
        if stream.is_over:
            return
        if len(ready) < PAGE:
            place = max(place, Place(settled, _NO_ID))
            standing = standing or live.feeds.begin(stream, place)
            is_caught_up = place >= standing and not stream.has_overflowed
        if not is_caught_up and stream.has_overflowed:
            # More came than fits while this was read. What waited is gone from the queue, but not from the log.
            stream.has_overflowed = False
            standing = live.feeds.begin(stream, place)
    while not stream.is_over:
        if stream.has_overflowed:
            raise SlowReader
        events = [event for event in stream.queue if event.place > place]
        stream.queue.clear()
        if events:
            place = events[-1].place
            yield events
        elif not await stream.wait(idle_seconds):
            yield []
