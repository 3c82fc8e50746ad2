"""Who hears a topic, worked out once for all topics that the same filters match.

Two caches make that cheap. The filters that match a topic change only when a filter comes or goes; who hears what
those filters match changes only when somebody subscribes to one of them. So a building's ten thousand topics under a
hundred dashboards' ``#`` need one audience. What a narrowed subscriber may hear depends on the topic: such
subscribers are grouped by their rights, and the access rules are asked once for each topic and group.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from northbound.api.identity import Access, Identity
from northbound.api.session import Granted, Session
from northbound.api.trie import FilterNode, FilterTrie

Node = FilterNode[Session, Granted]
# What is remembered is bounded, and begun anew beyond that: topics, answers of the access rules, audiences.
_MOST_TOPICS = 200_000
_MOST_ANSWERS = 500_000
_MOST_AUDIENCES = 20_000


class Group:
    """Receivers whose packets are the same bytes."""

    __slots__ = ("ids", "qos", "retain_as_published", "sessions", "version")

    def __init__(self, version: int, qos: int, ids: tuple[int, ...], *, retain_as_published: bool) -> None:
        self.version = version
        self.qos = qos
        self.retain_as_published = retain_as_published
        self.ids = ids
        self.sessions: list[Session] = []


class Shared:
    """A shared subscription: each message goes to one of its members, in turn (section 4.8.2)."""

    __slots__ = ("members", "turn")

    def __init__(self, members: dict[Session, Granted]) -> None:
        self.members = members
        self.turn = 0


class Audience:
    """``groups`` hear everything; ``narrowed`` hear what their rights allow; ``no_local`` do not hear themselves."""

    __slots__ = ("by_rights", "groups", "narrowed", "no_local", "shared")

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self.narrowed: dict[Hashable, tuple[Identity, list[Group]]] = {}
        self.no_local: dict[Session, list[Group]] = {}  # what each gets of its own messages
        self.shared: list[Shared] = []
        self.by_rights: dict[tuple[Hashable, ...], list[Group]] = {}


def _rights(access: Access, who: Identity) -> Hashable:
    """Return what is equal for people with equal rights. Access that cannot tell is asked for each subject."""
    rights = getattr(access, "rights", None)
    key: Hashable = rights(who) if rights is not None else (who.subject, who.org, who.role, who.scopes)
    return key


class _Merged:
    """Overlapping subscriptions of one session: one copy, the highest QoS, every identifier (section 3.3.4)."""

    __slots__ = ("ids", "narrowed", "qos", "retain_as_published")

    def __init__(self) -> None:
        self.qos = 0
        self.retain_as_published = False
        self.narrowed = True
        self.ids: tuple[int, ...] = ()

    def add(self, granted: Granted) -> None:
        self.qos = max(self.qos, granted.qos)
        self.retain_as_published |= granted.retain_as_published
        self.narrowed &= granted.narrowed
        if granted.identifier:  # one that was given twice is told twice [MQTT-3.3.4-5]; sorted, so that groups are few
            self.ids = tuple(sorted((*self.ids, granted.identifier)))


def _place(groups: dict[tuple[int, int, bool, tuple[int, ...]], Group], session: Session, merged: _Merged) -> None:
    version = 5 if session.version == 5 else 4
    key = (version, merged.qos, merged.retain_as_published, merged.ids)
    group = groups.get(key)
    if group is None:
        group = groups[key] = Group(version, merged.qos, merged.ids, retain_as_published=merged.retain_as_published)
    group.sessions.append(session)


class Audiences:
    """Subscriptions, and who hears what by them."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._trie: FilterTrie[Session, Granted] = FilterTrie()
        self._routes: dict[str, tuple[Node, ...]] = {}
        self._routes_of = 0  # the generation they are of
        self._audiences: dict[tuple[Node, ...], Audience] = {}
        self._users: dict[Node, set[tuple[Node, ...]]] = {}
        self._shared: dict[tuple[str, str], Shared] = {}
        self._allowed: dict[Hashable, dict[str, bool]] = {}
        self._answers = 0  # in all of those
        self.subscriptions = 0

    def __len__(self) -> int:
        """Return the number of distinct filters."""
        return len(self._trie)

    def forget_rights(self) -> None:
        """Ask the access rules anew."""
        self._allowed.clear()
        self._answers = 0
        self._audiences.clear()
        self._users.clear()

    # -- subscriptions --------------------------------------------------------------------------------------------

    def subscribe(self, session: Session, text: str, granted: Granted) -> bool:
        """Add or replace one; return whether it is new."""
        name, plain = _shared(text)
        node = self._trie.node(plain)
        members = node.members if name is None else node.shared.setdefault(name, {})
        new = session not in members
        members[session] = granted
        self.subscriptions += new
        self.changed(node)
        return new

    def unsubscribe(self, session: Session, text: str) -> None:
        """Take one out."""
        name, plain = _shared(text)
        node = self._trie.get(plain)
        members = None if node is None else node.members if name is None else node.shared.get(name)
        if node is None or members is None or members.pop(session, None) is None:
            return
        self.subscriptions -= 1
        self.changed(node)
        if name is not None and not members:
            del node.shared[name]
            self._shared.pop((name, plain), None)
        if node.empty:
            self._trie.discard(plain)

    def changed(self, node: Node) -> None:
        """Forget the audiences that a filter has a part in."""
        for nodes in self._users.pop(node, ()):
            self._audiences.pop(nodes, None)
            for other in nodes:
                if other is not node:
                    self._users[other].discard(nodes)

    def changed_for(self, texts: Iterable[str]) -> None:
        """Forget those of a session's filters, whose version is another now."""
        for text in texts:
            node = self._trie.get(_shared(text)[1])
            if node is not None:
                self.changed(node)

    # -- who hears ------------------------------------------------------------------------------------------------

    def of(self, topic: str) -> Audience | None:
        """Return who hears a topic, None where nobody does."""
        if self._routes_of != self._trie.generation or len(self._routes) > _MOST_TOPICS:
            self._routes.clear()
            self._routes_of = self._trie.generation
        nodes = self._routes.get(topic)
        if nodes is None:
            nodes = self._routes[topic] = self._trie.match(topic)
        if not nodes:
            return None
        audience = self._audiences.get(nodes)
        if audience is None:
            if len(self._audiences) >= _MOST_AUDIENCES:
                self._audiences.clear()
                self._users.clear()
            audience = self._audiences[nodes] = self._make(nodes)
            for node in nodes:
                self._users.setdefault(node, set()).add(nodes)
        return audience

    def groups(self, audience: Audience, topic: str) -> list[Group]:
        """Return those of an audience that may hear this topic, shared subscriptions apart."""
        if not audience.narrowed:
            return audience.groups
        rights = tuple([key for key, (who, _) in audience.narrowed.items() if self.may(key, who, topic)])
        found = audience.by_rights.get(rights)
        if found is None:
            found = audience.groups + [group for key in rights for group in audience.narrowed[key][1]]
            audience.by_rights[rights] = found
        return found

    def may(self, rights: Hashable, who: Identity, topic: str) -> bool:
        """Ask the access rules, once for each topic and rights."""
        known = self._allowed.get(rights)
        answer = None if known is None else known.get(topic)
        if answer is None:
            if self._answers >= _MOST_ANSWERS:
                self._allowed.clear()
                self._answers = 0
            answer = self._access.receive(who, topic)
            self._allowed.setdefault(rights, {})[topic] = answer
            self._answers += 1
        return answer

    def may_receive(self, session: Session, topic: str) -> bool:
        """Say whether a session may hear a topic at all."""
        return self.may(_rights(self._access, session.who), session.who, topic)

    def next_member(self, shared: Shared, topic: str) -> tuple[Session, Granted] | None:
        """Return whose turn it is: somebody connected who may hear it, else one whose session waits (QoS above 0)."""
        members = list(shared.members.items())
        away: tuple[Session, Granted] | None = None
        for offset in range(len(members)):
            session, granted = members[(shared.turn + offset) % len(members)]
            if granted.narrowed and not self.may_receive(session, topic):
                continue
            if session.link is not None:
                shared.turn = (shared.turn + offset + 1) % len(members)
                return session, granted
            if away is None and granted.qos:
                away = (session, granted)
        return away

    def _make(self, nodes: tuple[Node, ...]) -> Audience:
        audience = Audience()
        merged: dict[Session, _Merged] = {}
        local: dict[Session, _Merged] = {}  # without the subscriptions that are no_local
        quiet: set[Session] = set()
        for node in nodes:
            for session, granted in node.members.items():
                merged.setdefault(session, _Merged()).add(granted)
                if granted.no_local:
                    quiet.add(session)
                else:
                    local.setdefault(session, _Merged()).add(granted)
            for name, members in node.shared.items():
                shared = self._shared.setdefault((name, node.filter), Shared(members))
                shared.members = members
                audience.shared.append(shared)
        whole: dict[tuple[int, int, bool, tuple[int, ...]], Group] = {}
        narrowed: dict[Hashable, dict[tuple[int, int, bool, tuple[int, ...]], Group]] = {}
        for session, item in merged.items():
            if item.narrowed:
                rights = _rights(self._access, session.who)
                audience.narrowed.setdefault(rights, (session.who, []))
                _place(narrowed.setdefault(rights, {}), session, item)
            else:
                _place(whole, session, item)
        audience.groups = list(whole.values())
        for rights, groups in narrowed.items():
            audience.narrowed[rights][1].extend(groups.values())
        for session in quiet:
            own: dict[tuple[int, int, bool, tuple[int, ...]], Group] = {}
            if session in local:
                _place(own, session, local[session])
            audience.no_local[session] = list(own.values())
        return audience


def _shared(text: str) -> tuple[str | None, str]:
    """Return the name of a shared subscription, None where it is none, and the filter."""
    if not text.startswith("$share/"):
        return None, text
    _, name, plain = text.split("/", 2)
    return name, plain
