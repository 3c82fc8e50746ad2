"""The server's side of TLS without sockets. asyncio's own drops the alert that tells a client why it is refused."""

from __future__ import annotations

import contextlib
import ssl

_MOST = 65_536


class TlsServer:
    """Bytes of the network in, bytes of the application out, and the reverse."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self.object = context.wrap_bio(self._in, self._out, server_side=True)
        self.established = False
        self.finished = False  # the other side has said that nothing more comes

    def receive(self, data: bytes) -> bytes:
        """Take what came from the network; return what the application gets. Raises ``ssl.SSLError``.

        Also after an error :meth:`pending` holds what is to be sent: an alert, with a refused handshake.
        """
        self._in.write(data)
        if not self.established:
            try:
                self.object.do_handshake()
            except ssl.SSLWantReadError:
                return b""
            self.established = True
        out = []
        while True:
            try:
                piece = self.object.read(_MOST)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                piece = b""
            if not piece:
                self.finished = True
                break
            out.append(piece)
        return b"".join(out)

    def send(self, data: bytes) -> None:
        """Encrypt ``data`` into :meth:`pending`."""
        for at in range(0, len(data), _MOST):
            self.object.write(data[at : at + _MOST])

    def finish(self) -> None:
        """Say that nothing more comes (close_notify)."""
        if self.established:
            with contextlib.suppress(ssl.SSLError):  # the other side has not said so yet, or nothing any more
                self.object.unwrap()

    def pending(self) -> bytes:
        """Return what is to be written to the network."""
        return self._out.read()
