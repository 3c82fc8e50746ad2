"""Looks at what a connector signs in with: whether its files were replaced, and whether it soon ends."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Final

from northbound.connector import Connector
from northbound.credentials import Credential, Print, fingerprint

log = logging.getLogger(__name__)

#: How often a connector is asked for its credentials, and so a date of expiry read again.
ASK_SECONDS: Final = 60.0
#: So long before a credential ends that nobody renews, the log says so.
WARN_BEFORE: Final = timedelta(days=14)


class Renewal:
    """The credentials of one connector. Never raises: a defect of the connector is logged."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self.credentials: tuple[Credential, ...] = ()
        self._used: tuple[Print, ...] = ()
        self._seen: tuple[Print, ...] = ()
        self._asked = 0.0
        self._warned: set[Credential] = set()

    def note(self) -> None:
        """Remember the files as they are now: the connection that is opened next is made of these."""
        self._ask()
        self._used = self._seen = self._prints()

    def replaced(self) -> bool:
        """Return whether files are no longer those that were noted.

        Only when they have not changed since the last call: a certificate and its key are two files, and neither is
        written in a moment.
        """
        if time.monotonic() - self._asked >= ASK_SECONDS:
            self._ask()
        now = self._prints()
        settled, self._seen = now == self._seen, now
        return settled and now != self._used

    def _prints(self) -> tuple[Print, ...]:
        return tuple(found for credential in self.credentials for found in fingerprint(credential.files))

    def _ask(self) -> None:
        self._asked = time.monotonic()
        name = self._connector.name
        try:
            self.credentials = tuple(self._connector.credentials())
        except Exception:  # a third party's connector may raise anything
            log.exception("%s: the connector does not say what it signs in with", name)
            return
        for credential in self.credentials:
            if credential.expires is None or credential.renewed or credential in self._warned:
                continue
            left = credential.expires - datetime.now(UTC)
            if left < WARN_BEFORE:
                self._warned.add(credential)
                log.warning("%s: the %s %s", name, credential.name, _when(left))


def _when(left: timedelta) -> str:
    hours = left.total_seconds() / 3600
    if hours <= 0:
        return "has expired"
    return f"expires in {hours / 24:.0f} days" if hours >= 48 else f"expires in {hours:.1f} hours"
