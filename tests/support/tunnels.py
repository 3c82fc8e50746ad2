"""Strict proxies on a free loopback port: HTTP CONNECT and SOCKS5, each with user and password or without.

They forward to wherever they are asked to, count what they were asked for, and refuse whatever the RFCs do not allow.
``pieces`` makes an HTTP proxy send its answer byte by byte. Names resolve as ``names`` say, and nothing else does, so
that a test sees who resolved.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
from collections.abc import Mapping
from typing import Self

_LARGEST_HEAD = 8192


class _Refused(Exception):
    """The client broke the protocol; the bytes are the answer, where there is one."""


class _Tunnel:
    scheme = ""

    def __init__(
        self,
        *,
        login: tuple[str, str] | None = None,
        names: Mapping[str, str] | None = None,
        refuse: bytes = b"",
        silent: bool = False,
    ) -> None:
        self.login = login
        self.names = {"127.0.0.1": "127.0.0.1", **(names or {})}
        self.asked: list[tuple[str, int]] = []
        self.faults: list[str] = []
        self.refuse = refuse
        self.silent = silent
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        login = f"{self.login[0]}:{self.login[1]}@" if self.login else ""
        return f"{self.scheme}://{login}127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LARGEST_HEAD)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._server.close()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._tunnel(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            host, port = await self.agree(reader, writer)
        except _Refused as fault:
            self.faults.append(str(fault))
            return
        self.asked.append((host, port))
        if self.silent:
            await asyncio.Event().wait()
        try:
            up = await asyncio.open_connection(self.names[host], port)
        except (OSError, KeyError):
            await self.answer(writer, ok=False)
            return
        await self.answer(writer, ok=not self.refuse)
        if self.refuse:
            up[1].close()
            return
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pipe(reader, up[1]))
                tasks.create_task(_pipe(up[0], writer))
        finally:
            up[1].close()

    async def agree(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int]:
        raise NotImplementedError

    async def answer(self, writer: asyncio.StreamWriter, *, ok: bool) -> None:
        raise NotImplementedError


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


class HttpProxy(_Tunnel):
    """HTTP CONNECT: RFC 9110, section 9.3.6; Basic credentials: RFC 7617."""

    scheme = "http"

    def __init__(self, *, pieces: bool = False, **settings) -> None:
        super().__init__(**settings)
        self.pieces = pieces

    async def agree(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int]:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            raise _Refused("the head is too large") from None
        request, *lines = head[:-4].decode("ascii").split("\r\n")
        method, _, rest = request.partition(" ")
        target, _, version = rest.partition(" ")
        fields: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(": ")
            if not colon or name.lower() in fields:
                raise _Refused(f"not a field, or one twice: {line!r}")
            fields[name.lower()] = value
        if method != "CONNECT" or version != "HTTP/1.1" or fields.get("host") != target:
            await self._say(writer, b"400 Bad Request")
            raise _Refused(f"not a CONNECT of RFC 9110: {request!r}, host {fields.get('host')!r}")
        if self.login is not None:
            wanted = "Basic " + base64.b64encode(":".join(self.login).encode()).decode()
            if not hmac.compare_digest(fields.get("proxy-authorization", ""), wanted):
                await self._say(writer, b'407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"')
                raise _Refused("wrong user or password")
        elif "proxy-authorization" in fields:
            raise _Refused("credentials that nobody asked for")
        host, colon, port = target.rpartition(":")
        if not colon or not port.isdigit():
            raise _Refused(f"not an authority: {target!r}")
        return host.strip("[]"), int(port)

    async def answer(self, writer: asyncio.StreamWriter, *, ok: bool) -> None:
        await self._say(
            writer, b"200 Connection established\r\nVia: 1.1 test" if ok else self.refuse or b"502 Bad Gateway"
        )

    async def _say(self, writer: asyncio.StreamWriter, status: bytes) -> None:
        answer = b"HTTP/1.1 " + status + b"\r\n\r\n"
        for piece in [answer[n : n + 1] for n in range(len(answer))] if self.pieces else [answer]:
            writer.write(piece)
            await writer.drain()
            if self.pieces:
                await asyncio.sleep(0)


class SocksProxy(_Tunnel):
    """SOCKS5: RFC 1928; user name and password: RFC 1929. ``refuse`` is the reply's code, one byte."""

    scheme = "socks5"

    async def agree(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int]:
        version, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        method = 2 if self.login else 0
        if version != 5 or method not in methods:
            writer.write(b"\x05\xff")
            raise _Refused(f"version {version}, methods {methods!r}: {method} is wanted")
        writer.write(bytes((5, method)))
        if self.login is not None:
            await self._sign_in(reader, writer, self.login)
        version, command, reserved, kind = await reader.readexactly(4)
        if (version, command, reserved) != (5, 1, 0):
            raise _Refused("not a CONNECT of RFC 1928")
        if kind == 1:
            host = ".".join(str(byte) for byte in await reader.readexactly(4))
        elif kind == 3:
            (length,) = await reader.readexactly(1)
            host = (await reader.readexactly(length)).decode("ascii")
        else:
            raise _Refused(f"address type {kind}")
        return host, int.from_bytes(await reader.readexactly(2), "big")

    async def _sign_in(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, login: tuple[str, str]
    ) -> None:
        (version,) = await reader.readexactly(1)
        given = []
        for _ in range(2):
            (length,) = await reader.readexactly(1)
            given.append(await reader.readexactly(length))
        right = version == 1 and all(
            hmac.compare_digest(mine, wanted.encode()) for mine, wanted in zip(given, login, strict=True)
        )
        writer.write(b"\x01\x00" if right else b"\x01\x01")
        if not right:
            raise _Refused("wrong user or password")

    async def answer(self, writer: asyncio.StreamWriter, *, ok: bool) -> None:
        code = b"\x00" if ok else self.refuse or b"\x04"  # host unreachable
        writer.write(b"\x05" + code + b"\x00\x01\x7f\x00\x00\x01\x00\x00")
        await writer.drain()
