"""What went wrong below MQTT, in words, and what to do."""

from __future__ import annotations

import socket
import ssl

from northbound.errors import DeliveryError, NotConnected, Unauthorised
from northbound.mqtt.options import ClientOptions


def network_error(error: OSError, options: ClientOptions) -> DeliveryError:
    """Say what went wrong below MQTT, and what to do."""
    where = f"{options.host}:{options.port}"
    name = options.server_hostname or options.host
    if isinstance(error, ssl.SSLCertVerificationError):
        return NotConnected(
            f"the certificate of {where} cannot be trusted for {name}: {error.verify_message}; "
            "check the name and the CA that is configured"
        )
    if isinstance(error, ssl.SSLError):
        text = error.reason or str(error)
        if "ALERT" in text and ("CERTIFICATE" in text or "UNKNOWN_CA" in text):
            return Unauthorised(f"{where} refuses this side's certificate ({text}); check certificate and key")
        return NotConnected(f"TLS with {where} failed ({text}); check that the port speaks TLS")
    if isinstance(error, socket.gaierror):
        return NotConnected(f"the host name {options.host} cannot be resolved; check the address and DNS")
    if isinstance(error, ConnectionRefusedError):
        return NotConnected(f"{where} refuses the connection; check that the broker runs and the port is right")
    return NotConnected(f"{where} cannot be reached: {error.strerror or error}")
