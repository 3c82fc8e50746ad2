"""What a detector is: something that finds one kind of personal data in a text.

A detector is asked about single texts: a string of a value at any depth, an object key, one level of a topic. Where a
text hides something (percent-encoding, Unicode forms, escapes), the policy asks about the plain form as well and takes
what is found back to the original: a detector sees plain text and needs to know none of this.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import pydantic

from northbound.fields import NoOptions


class Found(NamedTuple):
    """A match, as a slice of the text.

    ``canonical`` is what equal things have in common (an address in lower case, a number without its spaces): it is
    what is hashed, so that joins hold across spellings. ``None``: the text as it is.
    """

    start: int
    end: int
    canonical: str | None = None


class Detector:
    """Finds one kind of personal data. ``config`` is an instance of ``Config``, ``name`` is how rules call it.

    It must be deterministic, keep no state between texts, and take time linear in the length of the text.
    """

    Config: ClassVar[type[pydantic.BaseModel]] = NoOptions
    #: Every text with a match holds at least one of these, or its key does, whatever the case (ASCII). They let a
    #: message without any of them pass at once. Empty: any text may hold a match.
    literals: tuple[str, ...] = ()
    #: Where a match may hold none of the literals, it holds one of these instead: patterns of RE2 over UTF-8, whatever
    #: the case. For what is told by a common character (a full stop) and what stands around it.
    literal_patterns: tuple[str, ...] = ()
    #: Whether JSON numbers are looked at too, as the text that JSON writes.
    numbers: bool = False

    def __init__(self, config: Any, *, name: str) -> None:
        self.config = config
        self.name = name

    def find(self, text: str, key: str) -> Iterable[Found]:
        """Give the matches in ``text``, in order and apart from each other.

        ``key`` is the innermost object key the text stands under, at any depth of arrays, that tells what it is (below
        ``id``, ``value``, ``text`` and the like the one above them); at the top of a value the status key; for a key
        or a level of a topic itself ``""``.
        """
        raise NotImplementedError

    def mask(self, text: str) -> str:
        """Return a match with only what may be shown; the text of a rule without ``keep_first`` and ``keep_last``.

        A masked text must not be a match again.
        """
        return "***" if text else text

    def refresh(self) -> None:
        """Read anew what may have changed outside (a file of names). Called now and then; raises ``OSError``."""

    @property
    def learns_from(self) -> str | None:
        """The name of the source whose people it looks for; ``None`` where it knows by itself what to look for."""
        return None

    def learn(self, people: Sequence[str]) -> None:
        """Take in whom that source knows, in place of what it said before. Until then :meth:`find` must raise."""
        raise NotImplementedError
