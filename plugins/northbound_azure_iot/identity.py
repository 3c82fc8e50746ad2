"""One device or module: what it is called, what it signs in with, and where it was told to go."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Literal

from northbound import Credential
from northbound.mqtt import ClientOptions
from northbound_azure_iot import provisioning, tokens
from northbound_azure_iot.link import Link
from northbound_azure_iot.memory import Memory
from northbound_azure_iot.options import ConnectorOptions, IdentityOptions
from northbound_azure_iot.provisioning import Assignment
from northbound_azure_iot.tokens import Token

#: iot-mqtt-connect-to-iot-hub: "{iotHub-hostname}/{device-id}/?api-version=2021-04-12".
API_VERSION: Final = "2021-04-12"
#: A token is replaced when this share of its life is over, and at least so long before its end as connecting may take.
_RENEW_AT: Final = 0.85
_RENEW_BEFORE: Final = 120.0
#: How a device signs in, in words.
Way = Literal["a certificate", "a ready-made token", "a SAS token"]


class Identity:
    """Of one connection. ``hub`` and ``client_id`` are known once :meth:`resolve` has been awaited."""

    def __init__(self, options: ConnectorOptions, own: IdentityOptions, memory: Memory) -> None:
        self._options = options
        self._own = own
        self._memory = memory
        self._link = Link(options, own)
        self._key = own.symmetric_key.get_secret_value() if own.symmetric_key is not None else None
        self._module = own.module_id
        self._gateway = options.gateway_host
        self._assignment: Assignment | None = None
        self.token: Token | None = None
        if own.connection_string is not None:
            found = tokens.parse_connection_string(own.connection_string.get_secret_value())
            self._assignment = Assignment(found.host, found.device_id)
            self._module, self._key = found.module_id, found.key
            self._gateway = self._gateway or found.gateway_host
        elif own.registration_id is None:
            self._assignment = Assignment(options.host or "", own.device_id or "")
        elif own.certificate is None and self._key is None and options.group_key is not None:
            self._key = tokens.derived_key(options.group_key.get_secret_value(), own.registration_id)
        if self._key is not None:
            tokens.prepare()

    # -- names --------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Device, or device and module; the registration as long as the device is not known."""
        return self.client_id or self._own.registration_id or ""

    @property
    def client_id(self) -> str:
        """``device`` or ``device/module``; empty as long as it is not assigned."""
        if self._assignment is None:
            return ""
        device = self._assignment.device_id
        return f"{device}/{self._module}" if self._module else device

    @property
    def hub(self) -> str:
        """The hub's name; empty as long as none is assigned."""
        return self._assignment.hub if self._assignment is not None else ""

    @property
    def server(self) -> str:
        """Host and port of the connection: the gateway's where there is one."""
        return f"{self._gateway or self.hub or self._options.provisioning_host}:{self._link.port}"

    @property
    def _resource(self) -> str:
        device, _, module = self.client_id.partition("/")
        return f"devices/{device}/modules/{module}" if module else f"devices/{device}"

    @property
    def events_topic(self) -> str:
        """What the topics of messages begin with; the bag follows. Ids are never encoded there."""
        return f"{self._resource}/messages/events/"

    # -- provisioning -------------------------------------------------------------------------------------------

    @property
    def provisioned(self) -> bool:
        """Whether hub and device come from the provisioning service."""
        return self._own.registration_id is not None

    @property
    def way(self) -> Way:
        """How it signs in, in words."""
        if self._own.certificate is not None:
            return "a certificate"
        return "a ready-made token" if self._own.shared_access_signature is not None else "a SAS token"

    async def resolve(self, *, anew: bool = False) -> bool:
        """Find out hub and device; returns whether the provisioning service was asked.

        ``anew`` asks it in any case. Raises as :func:`northbound_azure_iot.provisioning.register` does.
        """
        registration_id = self._own.registration_id
        if registration_id is None:
            return False
        if not anew:
            self._assignment = self._assignment or self._memory.assignment(registration_id)
            if self._assignment is not None:
                return False
        options, scope = self._options, self._options.id_scope or ""
        password = None
        if self._key is not None:
            resource = provisioning.resource(scope, registration_id)
            password = tokens.sign(resource, self._key, options.token_lifetime.total_seconds()).text
        username = provisioning.username(scope, registration_id)
        client_options = self._link.client_options(
            options.provisioning_host, self._link.provisioning_port, registration_id, username, password
        )
        self._assignment = await provisioning.register(client_options)
        self._memory.assigned(registration_id, self._assignment)
        return True

    # -- signing in ---------------------------------------------------------------------------------------------

    def client_options(self) -> ClientOptions:
        """Return what to connect with; where there is a key, with a new token."""
        username = f"{self.hub}/{self.client_id}/?api-version={API_VERSION}"
        password = None
        if self._key is not None:
            lifetime = self._options.token_lifetime.total_seconds()
            self.token = tokens.sign(f"{self.hub}/{self._resource}", self._key, lifetime)
            password = self.token.text
        elif self._own.shared_access_signature is not None:
            password = self._own.shared_access_signature.get_secret_value()
        host = self._gateway or self.hub
        return self._link.client_options(host, self._link.port, self.client_id, username, password)

    def renewal_in(self) -> float | None:
        """Return after how many seconds the connection needs a new token; ``None`` where it never does."""
        if self.token is None:
            return None
        lifetime = self._options.token_lifetime.total_seconds()
        before = min(lifetime * (1 - _RENEW_AT), max(_RENEW_BEFORE, self._options.connect_timeout.total_seconds()))
        return max(0.0, self.token.expires - before - time.time())

    def credentials(self) -> Sequence[Credential]:
        """Return the token or the certificate, and the files."""
        own = self._own
        found = []
        if own.certificate is not None:
            key = [own.private_key] if own.private_key is not None else []
            found.append(Credential.of_certificate("certificate", own.certificate, *key))
        elif own.shared_access_signature is not None:
            expires = tokens.expiry_of(own.shared_access_signature.get_secret_value())
            found.append(Credential("SAS token", None if expires is None else datetime.fromtimestamp(expires, UTC)))
        elif self._key is not None:
            ends = None if self.token is None else datetime.fromtimestamp(self.token.expires, UTC)
            found.append(Credential("SAS token", ends, renewed=True))
        return found
