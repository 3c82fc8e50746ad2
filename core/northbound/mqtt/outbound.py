"""Messages on their way to the broker: the window, packet identifiers, aliases, acknowledgements.

A batch is one call of ``publish``. Batches stand in one queue in the order of the calls, and messages leave it in that
order, as far as the window of the broker has room; what is unacknowledged is known by its packet identifier. Per
message there is one tuple and one dictionary entry, and nothing is awaited.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from northbound.errors import DeliveryError, PartialDelivery, Rejected
from northbound.mqtt.encoder import publish_head
from northbound.mqtt.errors import ProtocolError
from northbound.mqtt.exchange import Exchange
from northbound.mqtt.options import MAX_WINDOW, ServerLimits
from northbound.mqtt.packets import Puback, Publish, Pubrec
from northbound.mqtt.properties import MAX_VARINT, NONE
from northbound.mqtt.reasons import publish_error

_LARGEST = MAX_VARINT + 5
# Before version 5 a broker cannot announce its bound. Mosquitto drops QoS 2 beyond 20 in flight when its queue is full,
# or hangs up (seen with 2.0.11); QoS 1 it takes without a bound.
_EXACTLY_ONCE = 20


class Batch:
    """One call of ``publish``: its messages, how many are unsettled, which failed and why."""

    __slots__ = ("closed", "failures", "left", "messages", "next", "on_done")

    def __init__(self, messages: Sequence[Publish], on_done: Callable[[], object] | None = None) -> None:
        self.messages = messages
        self.left = len(messages)
        self.next = 0  # the first that is not sent
        self.failures: dict[int, DeliveryError] = {}
        self.on_done = on_done
        self.closed = False  # nobody waits for it any more

    def settle(self) -> None:
        """One more message is acknowledged, or has failed."""
        self.left -= 1
        if not self.left and self.on_done is not None:
            self.on_done()

    def fail(self, index: int, error: DeliveryError) -> None:
        """Settle one message with an error."""
        self.failures[index] = error
        self.settle()

    @property
    def error(self) -> DeliveryError | None:
        """What ``publish`` raises: nothing, the one error that befell all, or a ``PartialDelivery``."""
        if not self.failures:
            return None
        first = next(iter(self.failures.values()))
        if len(self.failures) == len(self.messages) and all(item is first for item in self.failures.values()):
            return first
        return PartialDelivery(self.failures)


_Entry = tuple[Batch, int, float]  # whose message, which, when it was sent


class Outbound(Exchange[_Entry]):
    """The sending half of a session."""

    def __init__(self, version: int, max_inflight: int, *, aliases: bool = True) -> None:
        super().__init__(version)
        self._max_inflight = max_inflight
        self._use_aliases = aliases
        self._queue: deque[Batch] = deque()
        self._aliases: dict[str, int] = {}
        self._limits = ServerLimits()
        self._room = 0
        self._largest = _LARGEST
        self._alias_room = 0

    @property
    def window(self) -> int:
        """The number of messages that may be in flight."""
        return self._room

    def oldest(self) -> float | None:
        """Return when the message that has waited longest for its acknowledgement was sent."""
        times = [next(iter(table.values()))[2] for table in (self._inflight, self._released) if table]
        return min(times) if times else None

    # -- a connection begins and ends -----------------------------------------------------------------------------

    def begin(self, limits: ServerLimits, out: list[bytes], now: float, *, resumed: bool) -> None:
        """Take the limits of a new connection; with ``resumed`` send what is unsettled again (section 4.4)."""
        self._limits = limits
        self._room = max(1, min(self._max_inflight, limits.receive_maximum, MAX_WINDOW))
        self._largest = limits.maximum_packet_size or _LARGEST
        self._alias_room = limits.topic_alias_maximum if self._use_aliases else 0
        self._aliases.clear()
        if not resumed:
            self.forget()
            return
        for table in (self._inflight, self._released):
            for packet_id, (batch, index, _sent) in table.items():
                table[packet_id] = (batch, index, now)
        self.resume(out)

    def lose(self, error: DeliveryError, *, keep: bool) -> None:
        """Tell every caller that its unsettled messages failed; with ``keep`` what was sent stays for a resumption."""
        unsettled: dict[Batch, list[int]] = {}
        for table in (self._inflight, self._released):
            for batch, index, _sent in table.values():
                if not batch.closed:
                    unsettled.setdefault(batch, []).append(index)
        for batch in self._queue:
            unsettled.setdefault(batch, []).extend(range(batch.next, len(batch.messages)))
        self._queue.clear()
        if not keep:
            self.forget()
        for batch, indices in unsettled.items():
            for index in indices:
                batch.failures[index] = error
            batch.closed = True
            done, batch.on_done = batch.on_done, None
            if done is not None:
                done()

    # -- sending ------------------------------------------------------------------------------------------------

    def add(self, batch: Batch) -> None:
        """Put a batch at the end of the queue."""
        self._queue.append(batch)

    def abandon(self, batch: Batch) -> None:
        """Nobody waits for the batch any more: send no more of it. What is in flight keeps its identifier."""
        batch.on_done, batch.closed = None, True
        if batch in self._queue:
            self._queue.remove(batch)

    def write(self, out: list[bytes], now: float, room: int) -> None:
        """Append what the window allows, until about ``room`` bytes are written."""
        if self._again:
            room = self._write_again(out, now, room)
        queue, inflight = self._queue, self._inflight
        free, make = self._room - len(inflight) - len(self._released), self._head
        while queue and room > 0:
            batch = queue[0]
            index, messages = batch.next, batch.messages
            for message in islice(messages, index, None):
                packet_id = 0
                if message.qos:
                    if free <= 0 or (message.qos == 2 and self._full_of_exactly_once()):
                        batch.next = index
                        return
                    packet_id = self.next_id()
                try:
                    head = make(message, packet_id)
                except Rejected as error:
                    batch.fail(index, error)
                    index += 1
                    continue
                payload = message.payload
                out.append(head)
                out.append(payload)
                room -= len(head) + len(payload)
                if packet_id:
                    free -= 1
                    inflight[packet_id] = (batch, index, now)
                    if message.qos == 2:
                        self._exactly_once.add(packet_id)
                else:
                    batch.settle()
                index += 1
                if room <= 0:
                    break
            batch.next = index
            if index >= len(messages):
                queue.popleft()

    def _full_of_exactly_once(self) -> bool:
        return self._version < 5 and len(self._exactly_once) + len(self._released) >= _EXACTLY_ONCE

    def _head(self, message: Publish, packet_id: int) -> bytes:
        """Return all of the packet but its payload. Raises ``Rejected`` for what this broker would refuse."""
        limits = self._limits
        if message.qos > limits.maximum_qos:
            raise Rejected(f"the broker takes QoS {limits.maximum_qos} at most; the message has QoS {message.qos}")
        if message.retain and not limits.retain_available:
            raise Rejected("the broker takes no retained messages")
        alias, known = 0, True
        if self._alias_room:  # the first topics of a connection get an alias (section 3.3.2.3.4)
            alias = self._aliases.get(message.topic, 0)
            if not alias and len(self._aliases) < self._alias_room:
                alias, known = len(self._aliases) + 1, False
        if message.properties is not NONE and message.properties.topic_alias is not None:
            raise Rejected("the message cannot be sent: a topic alias is given by the session, not by the message")
        try:
            if alias:
                head = publish_head(message, self._version, packet_id, alias=alias, alias_known=known)
            else:
                head = publish_head(message, self._version, packet_id)
        except ProtocolError as error:
            raise Rejected(f"the message cannot be sent: {error}") from None
        size = len(head) + len(message.payload)
        if size > self._largest:
            raise Rejected(f"the message has {size} bytes as a packet; the broker takes {self._largest} at most")
        if not known:
            self._aliases[message.topic] = alias
        return head

    def _write_again(self, out: list[bytes], now: float, room: int) -> int:
        """Send unsettled messages of the last connection with DUP, in their order [MQTT-4.4.0-1]."""
        free = self._room - self.inflight + len(self._again)
        while self._again and room > 0 and free > 0:
            packet_id, _ = self._again.popitem()
            batch, index, _sent = self._inflight[packet_id]
            message = batch.messages[index]
            head = publish_head(message, self._version, packet_id, duplicate=True)
            size = len(head) + len(message.payload)
            if size > self._largest:
                del self._inflight[packet_id]
                self._exactly_once.discard(packet_id)
                continue
            self._inflight[packet_id] = (batch, index, now)
            out.append(head)
            out.append(message.payload)
            room -= size
            free -= 1
        return 0 if self._again else room

    # -- acknowledgements ---------------------------------------------------------------------------------------

    def settled(self, entry: _Entry) -> None:
        """Settle the message within its batch."""
        entry[0].settle()

    def refused(self, entry: _Entry, packet: Puback | Pubrec) -> None:
        """Settle it with the broker's words."""
        entry[0].fail(entry[1], publish_error(packet.reason, packet.properties.reason_string))

    def released(self, entry: _Entry, now: float) -> _Entry:
        """Wait for PUBCOMP from now on."""
        return entry[0], entry[1], now
