"""The likely cause of a connection that does not come about, in words; what ``check --connect`` adds to the error."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from northbound import DeliveryError, NotConnected, Unauthorised
from northbound.mqtt import ClosedUnanswered, ConnectRefused, CredentialsRefused
from northbound_mqtt.options import BrokerOptions

#: OpenSSL's X509_V_ERR_… codes (x509_vfy.h).
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNKNOWN_ISSUER: Final = {2, 18, 19, 20, 21}
_OTHER_NAME: Final = {62, 64}

#: By the reason code of CONNACK: MQTT 5.0, section 3.2.2.2.
_REFUSED: Final[Mapping[int, str]] = {
    133: "the client id is not one the broker takes: its length, its characters, or it is bound to another login",
    134: "user name or password are wrong, or the user is not (yet) known to the broker",
    135: "the login is wrong, or it may not connect: from here, with this client id, or without a certificate",
    136: "the broker runs and is not ready: it starts, stops, or a part of it is missing",
    137: "the broker is overloaded, or at its limit of connections",
    138: "the broker has locked this client out, often for having connected too often: wait, and look there",
    140: "the broker wants another way to sign in than user and password",
    149: "the broker takes no CONNECT of this size: a long password, user name or will",
    151: "a quota of the account is used up: of connections, sessions or traffic",
    152: "somebody, or a rule at the broker, ended this connection",
    154: "the broker retains nothing, and availability_topic wants its word retained",
    155: "the broker takes a lower QoS than the will has",
    156: "the broker is another one for now",
    157: "the broker has moved",
    159: "connections are opened too fast: another program may use the same account",
}

#: What is often the matter with one provider, by its preset, where it refuses the login.
_AT: Final[Mapping[str, str]] = {
    "hivemq-cloud": "a user of the cluster's own 'Access Management' is wanted, not the account's; and TLS with SNI",
    "emqx-serverless": "the user is made under 'Authentication' of the deployment; the account's login is another one",
    "myqtthub": "client id, user and password must all be those of one registered device, and in one domain",
    "azure-event-grid": "the user must be the client's authentication name, and its certificate the registered one",
    "rabbitmq": "users other than of '/' are written 'vhost:user'; 'guest' may only come from the same machine",
    "nats": "the account must have JetStream, and the user may be allowed for other kinds of connection only",
    "mosquitto": "Mosquitto says the same of a wrong password and of an unknown user",
}


def likely_cause(error: Exception, options: BrokerOptions) -> str | None:
    """Return it; None where the type of the error says it all."""
    for found in _chain(error):
        for kind, explain in _KINDS:
            if isinstance(found, kind) and (words := explain(found, options)):
                return words
    return None


def _refused(error: Exception, options: BrokerOptions) -> str | None:
    words = _REFUSED.get(getattr(error, "code", 0))
    hint = _AT.get(options.preset or "") if isinstance(error, CredentialsRefused) else None
    return f"{words}; {hint}" if words and hint else words or hint


def _certificate(error: Exception, _options: BrokerOptions) -> str | None:
    code = getattr(error, "verify_code", 0)
    if code in {_NOT_YET_VALID, _EXPIRED}:
        when = "has expired" if code == _EXPIRED else "is not valid yet"
        return f"the broker's certificate {when}, or the clock of this machine is wrong"
    if code in _UNKNOWN_ISSUER:
        return "the broker's certificate is of a private CA, or a proxy opens TLS: set ca to the file of that CA"
    if code in _OTHER_NAME:
        return "the certificate is for another name: write the host as it stands there, or set server_name"
    return None


def _unanswered(_error: Exception, options: BrokerOptions) -> str | None:
    if not options.address.tls:
        return "that port may speak TLS (8883, 443 and 8884 do as a rule): write mqtts:// or wss://"
    if options.certificate is None:
        return "the broker may want a client certificate: set certificate and private_key"
    return "the broker may not know this certificate, or may want SNI: look at its log"


def _own_certificate(error: Exception, options: BrokerOptions) -> str | None:
    if "this side's certificate" not in str(error):
        return None
    if options.certificate is None:
        return "the broker wants a client certificate: set certificate and private_key"
    return "the broker does not know the CA of this certificate, or it has expired or was revoked"


def _pinned(error: Exception, _options: BrokerOptions) -> str | None:
    return "the broker has a new certificate, or someone is in between" if "pinned" in str(error) else None


def _on_the_way(error: Exception, options: BrokerOptions) -> str | None:
    """Return what a proxy or the HTTP before a WebSocket has against it."""
    words = str(error)
    if options.proxy is not None and words.startswith("the proxy "):
        if isinstance(error, Unauthorised):
            return "it is the proxy that refuses, not the broker: it wants a user of its own"
        return "it is the proxy, not the broker: many allow CONNECT to port 443 only, and to some hosts"
    if "HTTP status 404" in words or "does not speak MQTT" in words:
        return "the broker's WebSocket is at another path: /mqtt as a rule, /ws at RabbitMQ, / at some"
    return None


_KINDS: Final[tuple[tuple[type[Exception], Callable[[Exception, BrokerOptions], str | None]], ...]] = (
    (CredentialsRefused, _refused),
    (ConnectRefused, _refused),
    (ClosedUnanswered, _unanswered),
    (ssl.SSLCertVerificationError, _certificate),
    (Unauthorised, _own_certificate),
    (DeliveryError, _on_the_way),
    (NotConnected, _pinned),
)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__
