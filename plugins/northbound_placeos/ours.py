"""Which topics are this installation's, so that they may be cleared when what they tell of is gone."""

from __future__ import annotations

import logging
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from northbound import Address, Intake, MetadataAddress

log = logging.getLogger(__name__)

#: A checkpoint has 4 KiB.
_CHECKPOINT_BYTES: Final = 4000


class Ours:
    """Knows an address by the form of PlaceOS's ids, and by an organisation that is or was one of this installation.

    The organisations are kept in the source's checkpoint, for what vanishes while the service is down. It has to be
    committed before anything of a new organisation is: ``changed`` says that it is not yet.
    """

    def __init__(self, intake: Intake) -> None:
        self._orgs = _remembered(intake.checkpoint)
        self._fallback = intake.org
        self._first_level = intake.hierarchy[0]
        self.changed = False
        self._told = False

    def learn(self, orgs: AbstractSet[str]) -> None:
        """Take in which organisations there are."""
        if not self._orgs >= orgs:
            self._orgs |= orgs
            self.changed = True

    def checkpoint(self) -> bytes:
        """Return what to commit: the organisations, as many as fit."""
        self.changed = False
        kept: list[str] = []
        size = 2
        for name in sorted(self._orgs):
            size += len(msgspec.json.encode(name)) + 1
            if size > _CHECKPOINT_BYTES:
                break
            kept.append(name)
        if len(kept) < len(self._orgs) and not self._told:
            self._told = True
            log.warning(
                "of %d organisations the checkpoint holds %d: what a restart finds gone of the others stays retained",
                len(self._orgs),
                len(kept),
            )
        return msgspec.json.encode(kept)

    def owns(self, address: Address | MetadataAddress) -> bool:
        """Return whether a topic is of this installation."""
        ours = address.org in self._orgs or address.org == self._fallback
        if isinstance(address, Address):
            return ours and address.system.startswith("sys-") and address.driver.startswith("driver-")
        # PlaceOS's own service writes the name of the first level in place of the organisation.
        ours = ours or address.org == self._first_level
        return ours and address.id.startswith(("zone-", "sys-", "driver-"))


def _remembered(checkpoint: bytes | None) -> set[str]:
    if checkpoint is None:
        return set()
    try:
        return set(msgspec.json.decode(checkpoint, type=list[str]))
    except (msgspec.DecodeError, msgspec.ValidationError):
        return set()
