"""MQTT packets as WebSocket messages: one of each (RFC 6455, section 5.2), and many of them in one write.

Section 6 of MQTT 5.0 lets packets share a message, and clients in wide use do not read them then: Eclipse Paho's C
library (1.3.12) reads the second only when the socket has something new, the old Paho JavaScript never. It is not the
number of messages that costs, but the number of writes; so packets keep to themselves, and writes do not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

_BINARY: Final = 0x82  # the only frame of a binary message
_MOST_KEPT: Final = 256 * 1024

_MEDIUM: Final = struct.Struct(">BBH").pack
_LONG: Final = struct.Struct(">BBQ").pack


def framed(pieces: Iterable[bytes]) -> bytes:
    """Return pieces of whole packets as WebSocket messages, a packet each.

    A packet begins with a piece and ends with one: it may be several, its fixed header within the first; or a piece may
    be several packets.
    """
    out: list[bytes] = []
    missing = 0  # of the packet that has begun
    for piece in pieces:
        if missing:
            out.append(piece)
            missing -= len(piece)
        elif piece:
            length = piece[1]
            size = length + 2 if length < 128 else _size(piece, 0)
            if size < len(piece):
                out.append(_each(piece) if len(piece) <= _MOST_KEPT else _framed_each(piece))
            else:
                out.append(_header(size))
                out.append(piece)
                missing = size - len(piece)
    return b"".join(out)


@lru_cache(4096)
def _header(size: int) -> bytes:
    if size < 126:
        return bytes((_BINARY, size))
    return _MEDIUM(_BINARY, 126, size) if size < 65_536 else _LONG(_BINARY, 127, size)


def _size(data: bytes, at: int) -> int:
    """Return the size of the packet that begins there (section 1.5.5)."""
    length = shift = 0
    end = at + 1
    while True:
        byte = data[end]
        end += 1
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return end - at + length


def _framed_each(data: bytes) -> bytes:
    out: list[bytes] = []
    at = 0
    while at < len(data):
        size = _size(data, at)
        out.append(_header(size))
        out.append(data[at : at + size])
        at += size
    return b"".join(out)


_each = lru_cache(8)(_framed_each)  # what many receivers share comes again at once, and the object knows its hash
