"""What is known of zones, systems, drivers and modules, and so where a module *is*. Pure and incremental.

Why it is a facade of its own, which plugins may import beside ``northbound`` and ``northbound.mqtt``. A source that
reads a building's own database has to turn rows into places, and to know what a changed row does to all the topics that
hang on it: a renamed module re-numbers its neighbours, a zone that gets another parent moves a thousand modules.
Every such source needs the same answers, none of them depends on PlaceOS, and a plugin author who only sends states
needs none of it; so it is neither a part of the plugin nor one more dozen of names in ``northbound``.

How PlaceOS has it, and so we: a module is in the systems that list it, under its resolved name, with an index that
counts from 1 per name in the order of the system's list; a system is in the zones it lists, by their tags. A module in
three systems has three places.

A :class:`Directory` is given rows and answers with what they changed: :class:`Moved` (a module's places that are gone
and those that are new) and :class:`Described` (an entity's metadata under one organisation, or that it is gone there).
A row costs what depends on it, never the installation.
"""

from northbound.directory.index import Changes, Directory
from northbound.directory.records import Described, Driver, Entity, Module, Moved, Place, System, Zone

__all__ = [
    "Changes",
    "Described",
    "Directory",
    "Driver",
    "Entity",
    "Module",
    "Moved",
    "Place",
    "System",
    "Zone",
]
