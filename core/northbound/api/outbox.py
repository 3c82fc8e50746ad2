"""What one session is still to be sent, and what becomes of it when the client does not keep up.

Messages of QoS 0 stand in chunks: the packets of one batch that are the same for many receivers, joined once and
shared by all of them. Messages of QoS 1 and 2 stand one by one, since each gets a packet identifier here. Both queues
are bounded. Beyond the bound a *value* (``newest_only``) takes the place of the older value of its topic, in the older
one's place in line, so a slow client is behind in time, never without end in number; other messages wait up to a
bound, and are dropped and counted beyond it. When a client catches up, it is back to the queues.

Retained values stand in neither: a *feed* reads each one when it can be sent. That is safe as long as the queues are
empty then, since a value in a queue may be older than the one a feed reads. A value among the newest cannot.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Final

from northbound.api.counters import Counters
from northbound.api.feeds import IN_VAIN, Feed
from northbound.mqtt.deliveries import Deliveries, Delivery, spoken
from northbound.mqtt.publication import Form, Publication

_MESSAGE: Final = 200  # bytes that one that waits costs beside its topic and payload

# An empty deque has 600 bytes, and most connections never use all three. Nothing is ever put in here.
_NO_CHUNKS: Final[deque[Chunk]] = deque()
_NO_DELIVERIES: Final[deque[Delivery]] = deque()
_NO_FEEDS: Final[deque[Feed]] = deque()


class Chunk:
    """Packets of QoS 0 in one form, joined once for all that share it."""

    __slots__ = ("_data", "apart", "form", "largest", "publications", "size")

    def __init__(self, publications: Sequence[Publication], how: Form) -> None:
        self.publications = publications
        self.form = how
        #: whether each receiver needs packets of its own, because of what may have expired
        self.apart = any(item.expires is not None for item in publications)
        self._data: bytes | None = None
        self.largest = 0
        self.size = sum([item.size for item in publications])

    def data(self) -> bytes:
        """Return all packets as one."""
        if self._data is None:
            packets = [item.parts(self.form)[0] for item in self.publications]
            self.largest = max(map(len, packets))
            self._data = packets[0] if len(packets) == 1 else b"".join(packets)
        return self._data


class Outbox:
    """``wake`` is called when there is something to write after there was nothing; None while nobody is connected."""

    __slots__ = (
        "_conflated",
        "_counters",
        "_newest",
        "_newest_assured",
        "_queue_bytes",
        "_queue_messages",
        "_ready",
        "assured",
        "away_bytes",
        "deliveries",
        "feeds",
        "quick",
        "quick_bytes",
        "searching",
        "wake",
    )

    def __init__(self, counters: Counters, *, queue_bytes: int, queue_messages: int, conflated: int) -> None:
        self.deliveries = Deliveries()
        self.quick: deque[Chunk] = _NO_CHUNKS
        self.quick_bytes = 0
        self.assured: deque[Delivery] = _NO_DELIVERIES
        self.feeds: deque[Feed] = _NO_FEEDS
        self.wake: Callable[[], None] | None = None
        self.away_bytes = 0  # what waits while nobody is connected; messages that others wait for, too, count in full
        self._newest: OrderedDict[object, Delivery] = (
            OrderedDict()
        )  # topic of a value, or the message itself → what to send
        self._newest_assured: OrderedDict[object, Delivery] = OrderedDict()
        self._counters = counters
        self._queue_bytes = queue_bytes
        self._queue_messages = queue_messages
        self._conflated = conflated
        self._ready = False
        self.searching = False  # the last ``write`` ended in the middle of a feed: it goes on with the next, at once

    def __len__(self) -> int:
        """Return the number of messages that wait; retained values that a feed will read are not among them."""
        quick = sum(len(chunk.publications) for chunk in self.quick)
        return quick + len(self.assured) + len(self._newest) + len(self._newest_assured)

    @property
    def behind(self) -> bool:
        """Whether values are being conflated."""
        return bool(self._newest or self._newest_assured)

    # -- a connection begins and ends -----------------------------------------------------------------------------

    def attach(self, wake: Callable[[], None], version: int) -> None:
        """Send to a connection from now on; what waits is put in the words of its version."""
        self.wake = wake
        self.away_bytes = 0
        self._ready = False
        if self.assured:
            self.assured = deque([(item, spoken(how, version)) for item, how in self.assured])
        for key, (item, how) in self._newest_assured.items():
            self._newest_assured[key] = (item, spoken(how, version))
        for feed in self.feeds:
            feed.version = version

    def detach(self) -> None:
        """Wait for the next connection; messages of QoS 0 do not."""
        self.wake = None
        self.searching = False
        self.quick = _NO_CHUNKS
        self.quick_bytes = 0
        self._newest.clear()
        self.feeds = deque([feed for feed in self.feeds if feed.qos]) or _NO_FEEDS
        self._weigh()

    def _weigh(self) -> None:
        waiting = (*self.assured, *self._newest_assured.values(), *self.deliveries.unsettled)
        self.away_bytes = sum([item.size + _MESSAGE for item, _ in waiting])

    def keep_only(self, allowed: Callable[[str], bool]) -> None:
        """Drop what waits and may no longer be seen."""
        if self.quick:
            left = [([item for item in chunk.publications if allowed(item.topic)], chunk.form) for chunk in self.quick]
            self.quick = deque([Chunk(items, how) for items, how in left if items])
            self.quick_bytes = sum(chunk.size for chunk in self.quick)
        self.assured = deque([delivery for delivery in self.assured if allowed(delivery[0].topic)])
        for key, (item, _) in list(self._newest_assured.items()):
            if not allowed(item.topic):
                del self._newest_assured[key]
        for key, (item, _) in list(self._newest.items()):
            if not allowed(item.topic):
                del self._newest[key]
        if self.wake is None:
            self._weigh()

    # -- what there is to send ------------------------------------------------------------------------------------

    def add_quick(self, chunk: Chunk) -> None:
        """Queue messages of QoS 0 for a client that is connected."""
        if self.wake is None:
            return
        if self._newest or (self.quick and self.quick_bytes + chunk.size > self._queue_bytes):
            for item in chunk.publications:
                self._conflate(self._newest, item, chunk.form)
        else:
            if self.quick is _NO_CHUNKS:
                self.quick = deque()
            self.quick.append(chunk)
            self.quick_bytes += chunk.size
        if not self._ready:
            self._ready = True
            self.wake()

    def add(self, publications: Sequence[Publication], how: Form) -> None:
        """Queue messages of QoS 1 or 2, also for a client that is away."""
        if self.wake is None:
            self.away_bytes += sum([item.size + _MESSAGE for item in publications])
        assured = self.assured
        if assured is _NO_DELIVERIES:
            assured = self.assured = deque()
        if not self._newest_assured and len(assured) + len(publications) <= self._queue_messages:
            assured.extend([(item, how) for item in publications])
        else:
            for item in publications:
                if not self._newest_assured and len(assured) < self._queue_messages:
                    assured.append((item, how))
                else:
                    self._conflate(self._newest_assured, item, how)
        if self.wake is not None and not self._ready:
            self._ready = True
            self.wake()

    def add_feed(self, feed: Feed) -> None:
        """Queue the present values of a filter, in the place of what is left of the last time it was asked for."""
        self.drop_feed(feed.text)
        if self.feeds is _NO_FEEDS:
            self.feeds = deque()
        self.feeds.append(feed)
        if self.wake is not None and not self._ready:
            self._ready = True
            self.wake()

    def drop_feed(self, text: str) -> None:
        """Send no more of a filter's present values."""
        if self.feeds:
            self.feeds = deque([feed for feed in self.feeds if feed.text != text]) or _NO_FEEDS

    def _conflate(self, newest: OrderedDict[object, Delivery], item: Publication, how: Form) -> None:
        key: object = item.topic if item.newest_only else item
        if key in newest:
            self._counters.conflated += 1
            if self.wake is None:
                self.away_bytes -= newest[key][0].size + _MESSAGE
        elif len(newest) >= self._conflated:
            self._counters.dropped_queue_full += 1
            if self.wake is None:
                self.away_bytes -= item.size + _MESSAGE
            return
        newest[key] = (item, how)

    # -- sending --------------------------------------------------------------------------------------------------

    def write(self, out: list[bytes], now: float, room: int) -> None:
        """Append packets of about ``room`` bytes; called again until it appends nothing and is not ``searching``."""
        self._ready = self.searching = False
        deliveries = self.deliveries
        if deliveries.again:
            room = deliveries.send_again(out, now, room)
        if self.assured or self._newest_assured:
            room = self._write_assured(out, now, room)
        if self.quick:
            room = self._write_quick(out, now, room)
        if self._newest and not self.quick and room > 0:
            room -= self._write_newest(out, now, room // 2 if self.feeds else room)
        if self.feeds and not self.quick and not self.assured and room > 0:
            room = self._write_feeds(out, now, room)
            if not self.feeds:
                self.feeds = _NO_FEEDS
            elif room <= 0:
                self.searching = True
            if self._newest and room > 0:  # the feeds took less than was left to them
                self._write_newest(out, now, room)
        if deliveries.expired or deliveries.too_large:
            self._counters.dropped_expired += deliveries.expired
            self._counters.dropped_too_large += deliveries.too_large
            deliveries.expired = deliveries.too_large = 0

    def _write_assured(self, out: list[bytes], now: float, room: int) -> int:
        deliveries, newest = self.deliveries, self._newest_assured
        sent = 0
        if self.assured:
            room, sent = deliveries.send_many(self.assured, out, now, room)
        if newest and not self.assured:
            free = deliveries.free
            while newest and free > 0 and room > 0:
                if size := deliveries.send(newest.popitem(last=False)[1], out, now):
                    room -= size
                    free -= 1
                    sent += 1
        self._counters.delivered += sent
        return room

    def _write_quick(self, out: list[bytes], now: float, room: int) -> int:
        deliveries, quick = self.deliveries, self.quick
        one_by_one = deliveries.alias_room > 0
        while quick and room > 0:
            chunk = quick.popleft()
            self.quick_bytes -= chunk.size
            if not one_by_one and not chunk.apart:
                data = chunk.data()
                if chunk.largest <= deliveries.largest:
                    out.append(data)
                    room -= len(data)
                    self._counters.delivered += len(chunk.publications)
                    continue
            for item in chunk.publications:
                if size := deliveries.send((item, chunk.form), out, now):
                    room -= size
                    self._counters.delivered += 1
        return room

    def _write_newest(self, out: list[bytes], now: float, room: int) -> int:
        newest, send, written = self._newest, self.deliveries.send, 0
        while newest and written < room:
            if size := send(newest.popitem(last=False)[1], out, now):
                written += size
                self._counters.delivered += 1
        return written

    def _write_feeds(self, out: list[bytes], now: float, room: int) -> int:
        deliveries, feeds = self.deliveries, self.feeds
        free = deliveries.free
        while feeds and room > 0:
            feed = feeds[0]
            if feed.qos and free <= 0:
                return room
            if not feed.qos and not deliveries.alias_room:
                room, written, too_large = feed.write(out, room, deliveries.largest)
                self._counters.delivered += written
                deliveries.too_large += too_large
            delivery = None
            if room > 0 and not feed.done:
                delivery, room = feed.next(room)
            if delivery is None:
                if feed.done:
                    feeds.popleft()
                continue
            size = deliveries.send(delivery, out, now)
            if size:
                room -= size
                free -= delivery[1].qos > 0
                self._counters.delivered += 1
            else:
                room -= IN_VAIN
        return room
