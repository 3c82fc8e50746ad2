"""Twins: local servers that behave like a provider, its authentication and its limits included.

A twin is strict on purpose: what the provider refuses, it refuses, in the provider's way. Every limit says where it is
from. Each is ``async with SomeTwin(...) as twin:`` and keeps a :class:`~northbound.testing.twins.record.Record` of
what it took and refused.
"""
