"""A rule made ready: its detectors, its action, and where it looks."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from northbound.message import Kind
from northbound.privacy.actions import Action, Generalise, Measures
from northbound.privacy.detector import Detector
from northbound.privacy.options import ActionName, RuleOptions
from northbound.privacy.paths import Cursor, parse_path
from northbound.privacy.plain import plain
from northbound.topics import TopicMatcher


class Rule:
    """One rule of a policy."""

    def __init__(self, options: RuleOptions, detectors: Sequence[Detector], action: Action) -> None:
        self.name = options.name
        self.kind: ActionName = options.action
        #: Whether it names something to detect; if not, topic levels and words of a log are none of its business.
        self.detects = bool(detectors)
        if not detectors and isinstance(action, Generalise):
            detectors = [Measures(action)]
        self.detectors = tuple(detectors)
        self.action = action
        self.scope = options.scope
        self.null = options.null
        self.placeholder = options.placeholder
        self.message_time = action if options.message_time and isinstance(action, Generalise) else None
        self._kinds = frozenset(options.kinds) if options.kinds else None
        self._topics = TopicMatcher(options.topics) if options.topics else None
        self._states = re.compile("|".join(map(_glob, options.states)), re.IGNORECASE) if options.states else None
        self._levels = frozenset(options.levels) if options.levels else None
        self._paths = tuple(map(parse_path, options.paths)) if options.paths else None
        #: Whether it acts on all there is at its places, having nothing to detect.
        self.whole = not self.detectors
        #: Whether it puts something in place of a text, by which one sees that it has acted.
        self.replaces = action.replaces and options.scope == "text"

    @property
    def everywhere(self) -> bool:
        """Whether it looks at every message."""
        return self._kinds is None and self._topics is None and self._states is None

    @property
    def unbounded(self) -> bool:
        """Whether it looks at every place of every message."""
        return self.everywhere and self._levels is None and self._paths is None

    def selects(self, kind: Kind, topic: str, state: str | None) -> bool:
        """Whether it looks at messages of this topic; ``state`` is the status key of a state."""
        if self._kinds is not None and kind not in self._kinds:
            return False
        if self._states is not None and (state is None or not self._names(self._states, state)):
            return False
        return self._topics is None or self._topics.matches(topic)

    @staticmethod
    def _names(states: re.Pattern[str], state: str) -> bool:
        if states.match(state):
            return True
        shown = plain(state)
        return shown is not None and states.match(shown.text) is not None

    def looks_at_level(self, name: str) -> bool:
        """Whether it looks at the topic level of that name."""
        if self._levels is not None:
            return name in self._levels
        return self._paths is None and self.detects

    @property
    def looks_at_values(self) -> bool:
        """Whether it looks at values at all."""
        return self._paths is not None or self._levels is None

    def cursor(self) -> Cursor | None:
        """Return where its paths begin; ``None`` where it looks at the whole value."""
        return None if self._paths is None else Cursor.start(self._paths)

    def __repr__(self) -> str:
        return f"<Rule {self.name!r}>"


def _glob(text: str) -> str:
    """Return the expression of a glob. Keys such as ``desk[1]`` are common: only ``*`` and ``?`` mean something."""
    return fnmatch.translate(text.replace("[", "[[]"))
