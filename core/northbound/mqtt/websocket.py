"""MQTT inside a WebSocket (MQTT 5.0, section 6): a transport for the driver, over any other transport.

The WebSocket is the ``websockets`` package's protocol without I/O. What the driver writes at once is one binary
message, so that a batch costs one header and one masking; what arrives is handed on frame by frame, since packets may
be split and joined over messages at will. Back-pressure is that of the transport below, in both directions.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterable
from typing import Any, Final, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from northbound.errors import DeliveryError, NotConnected, Unauthorised
from northbound.mqtt.errors import ClosedUnanswered
from northbound.mqtt.network import network_error
from northbound.mqtt.options import ClientOptions

_SUBPROTOCOL: Final = Subprotocol("mqtt")
#: What one frame may hold beside one packet of the size that is accepted: servers join packets.
_JOINED: Final = 1024 * 1024
_DATA: Final = {Opcode.BINARY, Opcode.CONT}

# The codec would log every frame at DEBUG: the password of CONNECT, and values that must reach no log.
_SILENT: Final = logging.getLogger(f"{__name__}.codec")
_SILENT.setLevel(logging.CRITICAL)


class WebSocket(asyncio.Protocol, asyncio.Transport):
    """The protocol of the transport below and the transport of ``above``. ``opened`` is done when the server agrees.

    ``above`` hears of a connection only then. It bounds the time: nothing here waits.
    """

    def __init__(self, options: ClientOptions, above: asyncio.Protocol, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        path, _, query = (options.websocket or "").partition("?")
        self._where = f"{options.host}:{options.port}{path}"
        self._options = options
        self._above = above
        address = WebSocketURI(options.ssl is not None, options.host, options.port, path, query)
        limit = options.maximum_packet_size + _JOINED
        self._codec = ClientProtocol(address, subprotocols=[_SUBPROTOCOL], max_size=(None, limit), logger=_SILENT)
        self._below: asyncio.Transport | None = None
        self._full = False
        self._closing = False
        self._heard = False
        self.opened: asyncio.Future[None] = loop.create_future()

    # -- called by the transport below --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the WebSocket."""
        self._below = cast("asyncio.Transport", transport)  # uvloop's is of another class
        self._codec.send_request(self._codec.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take frames apart; hand what they carry to the driver."""
        if self._closing and self._codec.state is not State.CLOSING:
            return
        codec = self._codec
        codec.receive_data(data)
        for event in codec.events_received():
            if isinstance(event, Response):
                self._answered()
            else:
                self._frame(cast("Frame", event))
        if codec.handshake_exc is not None and not self.opened.done():
            self._refuse(self._words(codec.handshake_exc))
        # Answers to pings of a server that does not read would pile up. It is the driver's writes that count.
        self._flush(drop=self._full)
        ended = codec.close_rcvd is not None or (codec.state is State.CLOSING and not self._closing)
        if ended and self._below is not None and not self._below.is_closing():
            self._below.close()  # a server that has said its last word may take its time

    def _answered(self) -> None:
        if self._codec.handshake_exc is not None or self.opened.done():
            return
        if self._codec.subprotocol != _SUBPROTOCOL:  # MQTT 5.0, [MQTT-6.0.0-4]
            self._refuse(NotConnected(f"the WebSocket of {self._where} does not speak MQTT; check the path"))
            return
        self.opened.set_result(None)
        self._above.connection_made(self)

    def _frame(self, frame: Frame) -> None:
        if frame.opcode in _DATA:
            if frame.data:
                self._heard = True
                self._above.data_received(bytes(frame.data))
        elif frame.opcode is Opcode.TEXT:  # MQTT 5.0, [MQTT-6.0.0-1]
            self._codec.fail(1003, "MQTT is binary")

    def pause_writing(self) -> None:
        """Pass it on."""
        self._full = True
        if self.opened.done() and not self._closing:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._full = False
        if self.opened.done() and not self._closing:
            self._above.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so above, with the server's words where it gave some."""
        if not self.opened.done():
            self._refuse(self._lost(exc))
        elif not self.opened.cancelled() and self.opened.exception() is None:
            self._above.connection_lost(exc or self._ending())

    def _ending(self) -> DeliveryError | None:
        """Return what the WebSocket says of its end; None for a good one, or none at all."""
        said, done = self._codec.close_rcvd, self._codec.close_sent
        if self._codec.parser_exc is not None or (said is None and done is not None and done.code != 1000):
            return NotConnected(f"{self._where} does not keep to the WebSocket protocol; the connection was given up")
        if said is None or said.code in {1000, 1001, 1005}:
            return None
        words = f"the broker closed the WebSocket with {said.code} {said.reason}".rstrip()
        return NotConnected(words) if self._heard else ClosedUnanswered(words)

    def _lost(self, exc: Exception | None) -> DeliveryError:
        if isinstance(exc, ssl.SSLError):
            return network_error(exc, self._options)
        return NotConnected(f"{self._where} closed the connection without answering; check that it speaks WebSocket")

    def _refuse(self, error: DeliveryError) -> None:
        self._closing = True
        self.opened.set_exception(error)
        self.opened.exception()  # the dialler may have gone
        if self._below is not None:
            self._below.abort()

    def _words(self, error: Exception) -> DeliveryError:
        if isinstance(error, InvalidStatus):
            status = error.response.status_code
            if status in {401, 403}:
                return Unauthorised(
                    f"the WebSocket of {self._where} is refused with HTTP status {status}; check path and credentials"
                )
            return NotConnected(f"{self._where} answers with HTTP status {status}, not as a WebSocket; check the path")
        if isinstance(error, InvalidMessage) or not isinstance(error, InvalidHandshake):
            return NotConnected(f"{self._where} does not answer as a WebSocket; check the port and the path")
        return NotConnected(f"the WebSocket of {self._where} cannot be agreed on: {str(error)[:200]}")

    # -- called by the driver, as its transport -----------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send what is written at once as one message."""
        if self._closing or self._codec.state is not State.OPEN:
            return
        self._codec.send_binary(data)
        self._flush()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send all of it as one message."""
        self.write(b"".join(list_of_data))

    def _flush(self, *, drop: bool = False) -> None:
        for chunk in self._codec.data_to_send():
            if chunk and not drop and self._below is not None:
                self._below.write(chunk)

    def close(self) -> None:
        """Close in good order: with a close frame, and then when the server has answered it."""
        if self._closing:
            return
        self._closing = True
        if self._codec.state is State.OPEN:
            self._codec.send_close(1000)
            self._flush()
        elif self._below is not None:
            self._below.close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        if self._below is not None:
            self._below.abort()

    def is_closing(self) -> bool:
        """Return whether it is closed or about to be."""
        return self._closing or self._below is None or self._below.is_closing()

    def pause_reading(self) -> None:
        """Read nothing from the server until :meth:`resume_reading`."""
        if self._below is not None:
            self._below.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._below is not None:
            self._below.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the driver is asked to stop writing."""
        if self._below is not None:
            self._below.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return the bytes that are not yet sent."""
        return self._below.get_write_buffer_size() if self._below is not None else 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the transport below knows."""
        return self._below.get_extra_info(name, default) if self._below is not None else default
