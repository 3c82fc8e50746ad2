"""What the protocol itself can complain about, beside the delivery errors everyone knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from northbound.errors import NorthboundError, NotConnected, Unauthorised

if TYPE_CHECKING:
    from northbound.mqtt.packets import Packet


class ProtocolError(NorthboundError):
    """Bytes that are not MQTT, or values that cannot be written as MQTT.

    ``code`` is the MQTT 5 reason code for the peer (section 2.4). ``packets`` are the packets that were complete
    before the offending one in the same piece of input, so that nothing which arrived in good order is lost.
    """

    def __init__(self, code: int, words: str) -> None:
        self.code = code
        self.packets: list[Packet] = []
        super().__init__(words)


class ClosedUnanswered(NotConnected):
    """The broker closed the connection without a word, as some do that do not know the protocol version."""


class VersionRefused(NotConnected):
    """The broker does not speak the protocol version offered; another one may work."""


class ConnectRefused(NotConnected):
    """The broker answered CONNECT with a refusal that is not about credentials.

    ``code`` is the reason code of MQTT 5 (section 3.2.2.2); the return codes of 3.x are translated.
    """

    def __init__(self, code: int, words: str) -> None:
        self.code = code
        super().__init__(words)


class CredentialsRefused(Unauthorised):
    """The broker answered CONNECT with a refusal of the credentials or the client id; ``code`` as above."""

    def __init__(self, code: int, words: str) -> None:
        self.code = code
        super().__init__(words)
