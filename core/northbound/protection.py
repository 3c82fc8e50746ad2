"""The privacy policies of a running service: their secret, their audit log, and what their detectors have to learn."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Final

from northbound import policies
from northbound.loading import Configuration, SourceInstance
from northbound.privacy.audit import AuditLog
from northbound.privacy.detector import Detector
from northbound.privacy.messages import MessagePolicy
from northbound.privacy.policy import Policy
from northbound.status import RuleStatus

log = logging.getLogger(__name__)

#: How often the audit log is written: what a crash may take from it.
AUDIT_SECONDS: Final = 1.0
#: How often detectors look at their files and sources again.
REFRESH_SECONDS: Final = 60.0
#: How long a source may take to say whom it knows.
PEOPLE_SECONDS: Final = 60.0
_FIRST_PAUSE_SECONDS: Final = 1.0


class Protection:
    """What stands between the sources and the store, and between the store and a connector.

    ``before`` is that of the configuration this one takes the place of: detectors that did not change are used again,
    with what they have learnt, and rules of the same names count on. ``ready`` is set when all have learnt what they
    need; before, their rules let nothing through.
    """

    def __init__(self, configuration: Configuration, before: Protection | None = None) -> None:
        self._configuration = configuration
        self.ready = asyncio.Event()
        known = {} if before is None else before.unchanged(configuration)
        self._taught = frozenset(known) if before is not None and before.ready.is_set() else frozenset[str]()
        self._policies, words = policies.for_service(configuration, known)
        if words:
            log.warning("%s", words)
        options = configuration.privacy
        path = policies.audit_path(configuration)
        self._audit = (
            None if path is None else AuditLog(path, max_bytes=int(options.audit_max_bytes), files=options.audit_files)
        )
        self._written: asyncio.Future[None] | None = None

    @property
    def site(self) -> Policy | None:
        """The rules before the store."""
        return self._policies.site

    def of_connector(self, name: str) -> MessagePolicy | None:
        """Return the rules of one connector; ``None`` where it has none of its own."""
        policy = self._policies.connectors.get(name)
        site = self._configuration.site
        return None if policy is None else MessagePolicy(policy, site.scheme, site.payloads)

    def must_wait(self, name: str | None = None) -> bool:
        """Whether a rule asks a detector that has yet to learn whom it looks for.

        Of one connector's rules, or of those before the store.
        """
        policy = self._policies.site if name is None else self._policies.connectors.get(name)
        return policy is not None and any(
            detector.learns_from is not None and detector.name not in self._taught
            for rule in policy.rules
            for detector in rule.detectors
        )

    def status(self) -> list[RuleStatus]:
        """Return each rule's count."""
        return [
            RuleStatus(name=rule.name, action=rule.kind, connector=connector, acted=policy.counts[rule.name])
            for connector, policy in self._all()
            for rule in policy.rules
        ]

    def unchanged(self, configuration: Configuration) -> dict[str, Detector]:
        """Return the detectors that are the same in another configuration, what they learn from included."""
        old, new = self._configuration, configuration
        found: dict[str, Detector] = {}
        for instance in old.detectors:
            detector = self._policies.detectors[instance.name]
            teachers = [[s for s in c.sources if s.name == detector.learns_from] for c in (old, new)]
            if instance in new.detectors and teachers[0] == teachers[1]:
                found[instance.name] = detector
        return found

    def count_on(self, before: Protection) -> None:
        """Count on from where the rules of the same names stopped."""
        counted = {connector: policy.counts for connector, policy in before._all()}
        for connector, policy in self._all():
            for name in policy.counts:
                policy.counts[name] += counted.get(connector, {}).get(name, 0)

    async def learn(self) -> None:
        """Ask the sources that detectors learn from whom they know, until all have answered."""
        pause = _FIRST_PAUSE_SECONDS
        waiting = self._learners()
        while waiting:
            waiting = [(detector, source) for detector, source in waiting if not await self._teach(detector, source)]
            if waiting:
                await asyncio.sleep(pause)
                pause = min(pause * 2, REFRESH_SECONDS)
        self.ready.set()

    async def run(self) -> None:
        """Write the audit log and keep the detectors up to date, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_audit(), name="privacy: audit log")
            tasks.create_task(self._keep_learning(), name="privacy: detectors")

    async def _keep_audit(self) -> None:
        while True:
            await asyncio.sleep(AUDIT_SECONDS)
            await self._write()

    async def _keep_learning(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self._refresh()

    async def close(self) -> None:
        """Write what the rules have done since, and close the audit log."""
        await self._write()
        if self._audit is not None:
            self._audit.close()

    def _all(self) -> Iterable[tuple[str | None, Policy]]:
        if self._policies.site is not None:
            yield None, self._policies.site
        yield from self._policies.connectors.items()

    def _learners(self) -> list[tuple[Detector, SourceInstance]]:
        sources = {source.name: source for source in self._configuration.sources}
        return [
            (detector, sources[detector.learns_from])
            for detector in self._policies.detectors.values()
            if detector.learns_from is not None
        ]

    async def _write(self) -> None:
        if self._written is not None:  # by a call that was cancelled; its thread goes on all the same
            await asyncio.shield(self._written)
        acts = [(connector, act) for connector, policy in self._all() for act in policy.take_acts()]
        if self._audit is not None and (acts or self._audit.error):
            now = time.time_ns() // 1_000_000
            self._written = asyncio.get_running_loop().run_in_executor(None, self._audit.write, now, acts)
            await asyncio.shield(self._written)

    async def _refresh(self) -> None:
        for name, detector in self._policies.detectors.items():
            try:
                await asyncio.to_thread(detector.refresh)
            except OSError as error:
                log.warning("detector %s: %s: %s; what it knew goes on", name, error.filename, error.strerror)
            except Exception as error:  # noqa: BLE001 - a third party's detector may raise anything; its words may be private
                log.error("detector %s: %s; what it knew goes on", name, type(error).__name__)  # noqa: TRY400
            if type(detector).refresh is not Detector.refresh:
                self._forget(detector)
        for detector, source in self._learners():
            await self._teach(detector, source)

    async def _teach(self, detector: Detector, source: SourceInstance) -> bool:
        """Let a detector learn from a source; returns whether that went well."""
        try:
            async with asyncio.timeout(PEOPLE_SECONDS):
                people = await source.create().people()
            await asyncio.to_thread(detector.learn, people)
        except Exception as error:  # noqa: BLE001 - a third party's source may raise anything; its words may be private
            log.warning(
                "%s does not say whom it knows (%s), which detector %s needs",
                source.name,
                type(error).__name__,
                detector.name,
            )
            return False
        self._forget(detector)
        log.info("detector %s looks for %d people that %s knows", detector.name, len(people), source.name)
        return True

    def _forget(self, detector: Detector) -> None:
        """Let the policies that ask ``detector`` forget what it found in topics."""
        for _, policy in self._all():
            if any(detector in rule.detectors for rule in policy.rules):
                policy.forget()
