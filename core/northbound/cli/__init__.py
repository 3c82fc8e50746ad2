"""The command line: one file per noun. ``main`` is the entry point; everything else is loaded by the command used."""

from northbound.cli.program import main

__all__ = ["main"]
