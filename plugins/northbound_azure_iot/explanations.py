"""The likely cause of a failure, in words: over MQTT a hub refuses or hangs up and never says why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from northbound import NotConnected, Unauthorised
from northbound.mqtt import ClosedUnanswered
from northbound_azure_iot.identity import Identity

_PUBLIC = (".azure-devices.net", ".azure-devices.cn", ".azure-devices.us")


def explain(error: Exception, identities: Sequence[Identity]) -> str | None:
    """Return the likely cause of an error of ``open``; ``None`` where the error says it."""
    words = str(error)
    names = ", ".join(identity.name for identity in identities[:3])
    if isinstance(error, Unauthorised):
        if "provisioning" in words:
            return (
                "look at the enrolment in the provisioning service: whether it exists, is enabled, and has this key or "
                "certificate, and whether the id_scope is that of the same service"
            )
        return _refused(identities, names)
    if "takes no message at all" in words:
        return (
            "look at 'Total number of messages used' and 'Throttling errors' among the hub's metrics; a used-up quota "
            "ends at midnight UTC, or with another unit of the hub"
        )
    if "cannot be resolved" in words:
        hub = identities[0].hub
        hint = "" if hub.endswith(_PUBLIC) else f"; {hub or 'the name'} does not end in .azure-devices.net"
        return f"the hub's name is wrong, or DNS does not know it from here{hint}"
    if isinstance(error, ClosedUnanswered) or (isinstance(error, NotConnected) and "closed the connection" in words):
        return (
            f"the device id is in use elsewhere ({names}: the newer connection ends the older one), or the hub ended "
            "it because its daily quota is used up or it is sent too much: its metrics tell"
        )
    return None


def _refused(identities: Sequence[Identity], names: str) -> str:
    hub = identities[0].hub
    causes = [f"{names} is not a device of {hub}, or it is disabled"]
    ways = {identity.way for identity in identities}  # which of the devices was refused is not known
    if "a SAS token" in ways:
        clock = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        causes += [
            "the key is another device's, or was regenerated",
            f"this machine's clock is wrong, so that the token has expired already (it says {clock})",
        ]
    if "a ready-made token" in ways:
        causes.append("the shared_access_signature has expired, or is for another device")
    if "a certificate" in ways:
        causes.append(
            "the certificate is not the one whose thumbprint the device has, or its CA is not verified in the hub, or "
            "its common name is not the device's id"
        )
    causes.append(f"{hub} is another hub's name than the device's")
    return "one of: " + "; ".join(causes)
