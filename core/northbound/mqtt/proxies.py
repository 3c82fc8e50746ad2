"""A connection through a proxy: HTTP CONNECT (RFC 9110, section 9.3.6) and SOCKS5 (RFC 1928, RFC 1929).

SOCKS5 is python-socks'. Its HTTP CONNECT takes the first piece that arrives for the whole answer, so that an answer in
two pieces leaves the rest of it in front of the broker's bytes; that one is written out here.
"""

from __future__ import annotations

import asyncio
import base64
import socket
from typing import Final

from python_socks import ProxyError, ProxyType
from python_socks.async_.asyncio import Proxy

from northbound.errors import NotConnected, Unauthorised
from northbound.mqtt.addresses import ProxyAddress

#: Of the head of a proxy's answer. No more is read, and of what it says no more is repeated than ``_LONGEST_REASON``.
_LARGEST_HEAD: Final = 16 * 1024
_LONGEST_REASON: Final = 80
_NEVER: Final = 3600.0  # the caller bounds the time


async def tunnel(proxy: ProxyAddress, host: str, port: int) -> socket.socket:
    """Return a socket that leads to ``host`` and ``port``; the proxy resolves the name.

    Raises ``Unauthorised`` where the proxy refuses user and password, ``NotConnected`` for everything else.
    """
    try:
        return await (_connect(proxy, host, port) if proxy.scheme == "http" else _socks(proxy, host, port))
    except socket.gaierror:
        raise NotConnected(f"the proxy's name {proxy.host} cannot be resolved; check the address and DNS") from None
    except ConnectionRefusedError as error:
        raise NotConnected(f"the proxy {proxy.where} refuses the connection; check its address and port") from error
    except OSError as error:
        raise NotConnected(f"the proxy {proxy.where} cannot be reached: {error.strerror or error}") from error


async def _socks(proxy: ProxyAddress, host: str, port: int) -> socket.socket:
    client = Proxy(ProxyType.SOCKS5, proxy.host, proxy.port, proxy.username, proxy.password, rdns=True)
    try:
        return await client.connect(dest_host=host, dest_port=port, timeout=_NEVER)
    except ProxyError as error:
        said = _printable(str(error))
        if "uthentication" in said:
            raise Unauthorised(
                f"the proxy {proxy.where} refuses the credentials ({said}); check user name and password in its URL"
            ) from None
        raise NotConnected(f"the proxy {proxy.where} did not connect to {host}:{port}: {said}") from None
    except OSError as error:  # ProxyConnectionError is one, and hides which
        raise (error.__cause__ if isinstance(error.__cause__, OSError) else error) from None


async def _connect(proxy: ProxyAddress, host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    named = f"[{host}]" if ":" in host else host.encode("idna").decode()
    lines = [f"CONNECT {named}:{port} HTTP/1.1", f"Host: {named}:{port}"]
    if proxy.username is not None:
        login = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {login}")
    stream = await _dialled(proxy)
    try:
        await loop.sock_sendall(stream, "\r\n".join((*lines, "", "")).encode())
        head = await _head(loop, stream, proxy)
        _check(head, proxy, f"{host}:{port}")
    except BaseException:  # raised again: the socket does not stay open
        stream.close()
        raise
    return stream


async def _dialled(proxy: ProxyAddress) -> socket.socket:
    """Return a connection to the proxy itself, at the first of its addresses that answers."""
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM):
        stream = socket.socket(family, kind, protocol)
        try:
            stream.setblocking(False)
            await loop.sock_connect(stream, address)
        except OSError as error:
            stream.close()
            failure = error
        except BaseException:  # raised again: the socket does not stay open
            stream.close()
            raise
        else:
            return stream
    raise failure or OSError("its name has no address")


async def _head(loop: asyncio.AbstractEventLoop, stream: socket.socket, proxy: ProxyAddress) -> bytes:
    """Return the proxy's answer up to the empty line."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = await loop.sock_recv(stream, 4096)
        answer += piece
        if not piece or len(answer) > _LARGEST_HEAD:
            raise NotConnected(f"{proxy.where} does not answer as an HTTP proxy; check its address and port")
    return answer


def _check(answer: bytes, proxy: ProxyAddress, target: str) -> None:
    head, _, rest = answer.partition(b"\r\n\r\n")
    version, _, said = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    words = _printable(said)
    code = said[:3]
    if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdigit()):
        raise NotConnected(f"{proxy.where} does not answer as an HTTP proxy; check its address and port")
    if code == "407":
        raise Unauthorised(
            f"the proxy {proxy.where} refuses the credentials ({words}); check user name and password in its URL"
        )
    if not code.startswith("2"):
        hint = "; it may not allow that port" if code in {"403", "405"} else ""
        raise NotConnected(f"the proxy {proxy.where} did not connect to {target}: {words}{hint}")
    if rest:  # neither TLS nor MQTT lets the server speak first
        raise NotConnected(f"the proxy {proxy.where} sent more than its answer; it does not make a tunnel")


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text[:_LONGEST_REASON]).strip()
