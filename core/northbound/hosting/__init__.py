"""Listening: addresses as people write them, and ``northbound.hosting.server``, which serves an application by HTTP.

A facade that plugins may import beside ``northbound``: a source that is posted to needs the API's server, with the same
bounds on slow clients and the same end. The server is a module of its own, since uvicorn takes time to import and only
who listens needs it.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Final, NamedTuple

import pydantic

__all__ = ["ListenAddress", "ListenAddresses"]

_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\[\]:/\s]+)):(?P<port>[0-9]{1,5})")
_HOW: Final = "write host:port, such as '127.0.0.1:8080' or '[::1]:8080'; port 0 is any free one"


class ListenAddress(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> ListenAddress:
        """Return what ``"127.0.0.1:8080"`` or ``"[::1]:8080"`` says; raises ``ValueError``."""
        match = _ADDRESS.fullmatch(text)
        if match is None or int(match["port"]) > 65_535:
            raise ValueError(_HOW)
        if match["six"]:
            ipaddress.IPv6Address(match["six"])
        return cls(match["six"] or match["host"], int(match["port"]))

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _address(text: str) -> str:
    ListenAddress.parse(text)
    return text


_Address = Annotated[str, pydantic.AfterValidator(_address)]
#: One address or several, as a configuration names them.
ListenAddresses = Annotated[
    tuple[_Address, ...], pydantic.BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...])
]
